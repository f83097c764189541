//! Files that survive a crash or a power cut whole: the one place of the host that renames. All functions block.

use rustix::fs::OFlags;
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Mode of files for their owner alone.
pub const PRIVATE_FILE: u32 = 0o600;
/// Mode of folders for their owner alone.
pub const PRIVATE_DIR: u32 = 0o700;
/// Mode of folders within the user's mask.
pub const SHARED_DIR: u32 = 0o777;

/// Writes a file as a whole, for its owner alone: whoever reads it, also after a crash, sees the old bytes or the new
/// ones. On the disk when it returns.
///
/// # Errors
/// The disk refuses; the file is as it was before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole_as(path, bytes, PRIVATE_FILE)
}

/// Writes a file as a whole, like [`write_whole`], with another mode, from the first byte on.
///
/// # Errors
/// The disk refuses; the file is as it was before.
pub fn write_whole_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder_of(path)?)?;
    if mode != PRIVATE_FILE {
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(bytes)?;
    put(file, path)
}

/// Gives a complete file its name. On the disk when it returns.
///
/// # Errors
/// The disk refuses; what had that name still has.
pub fn put(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_dir(folder_of(path)?)
}

/// Makes a folder and those above it that are missing, with this mode. On the disk when it returns: what is written
/// into it later is not lost with the folder.
///
/// # Errors
/// The disk refuses.
pub fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path)?;
    create_dir_all(above, mode)?;
    match DirBuilder::new().mode(mode).create(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }?;
    match sync_dir(above) {
        // A folder may be entered and not be read: then its owner sees to it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Moves a file that cannot be read out of the way, to the same name with `.damaged`, for somebody to look at. One that
/// was set aside before is replaced. Never for what can not be made again.
///
/// # Errors
/// The disk refuses.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(path);
    name.push(".damaged");
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    sync_dir(folder_of(path)?)?;
    Ok(aside)
}

/// Reads a file that an operator named, if it is a regular one of at most `bytes_max` bytes. Waits for nobody (a pipe
/// without a writer) and reads no more than that, whatever the file's length says.
///
/// # Errors
/// The file does not exist, is no regular file, or has more bytes than that.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open_without_waiting(File::options().read(true), path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let text = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let too_large = || {
        let text = format!("it is larger than {bytes_max} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if metadata.len() > bytes_max {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

/// Opens a file to append to, and makes it where there is none. Waits for nobody: a pipe that nobody reads is an error
/// (`ENXIO`). What is written to the file may wait, as always.
///
/// # Errors
/// The disk refuses.
pub fn append_to(path: &Path) -> io::Result<File> {
    let file = open_without_waiting(File::options().append(true).create(true), path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Opens a file, but does not wait for whoever is at the other end of it.
fn open_without_waiting(options: &mut fs::OpenOptions, path: &Path) -> io::Result<File> {
    options
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// Writes down which names a folder has.
///
/// # Errors
/// The disk refuses.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        let metadata = fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        write_whole(&path, b"one").expect("written");
        assert_eq!(mode_of(&path), 0o600);
        write_whole_as(&path, b"two", 0o644).expect("written");
        assert_eq!(mode_of(&path), 0o644);
        assert_eq!(fs::read(&path).expect("read"), b"two");
        let names = fs::read_dir(folder.path()).expect("listed");
        assert_eq!(names.count(), 1);
        assert!(write_whole(&folder.path().join("no/b"), b"").is_err());
    }

    #[test]
    fn a_bounded_read_takes_regular_files_within_the_limit_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, b"four").expect("written");
        assert_eq!(read_bounded(&path, 4).expect("it fits"), b"four");
        let kind =
            |path: &Path, bytes_max| read_bounded(path, bytes_max).map_err(|error| error.kind());
        assert_eq!(kind(&path, 3), Err(io::ErrorKind::FileTooLarge));
        let sparse = folder.path().join("sparse");
        let file = File::create(&sparse).expect("made");
        file.set_len(1 << 40).expect("a terabyte of nothing");
        assert_eq!(kind(&sparse, 9), Err(io::ErrorKind::FileTooLarge));
        // The length of such a file is 0, and more can be read.
        assert_eq!(
            kind(Path::new("/proc/self/status"), 9),
            Err(io::ErrorKind::FileTooLarge)
        );
        for odd in [Path::new("/dev/zero"), folder.path()] {
            assert_eq!(kind(odd, 9), Err(io::ErrorKind::InvalidInput));
        }
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("made");
        assert_eq!(kind(&pipe, 9), Err(io::ErrorKind::InvalidInput));
        assert!(append_to(&pipe).is_err(), "nobody reads it");
        let _reader = open_without_waiting(File::options().read(true), &pipe).expect("it opens");
        append_to(&pipe)
            .expect("there is a reader")
            .write_all(b"x")
            .expect("it is written");
    }

    #[test]
    fn folders_are_made_down_to_the_last_and_found_the_second_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("a/b");
        create_dir_all(&deep, PRIVATE_DIR).expect("made");
        create_dir_all(&deep, PRIVATE_DIR).expect("found");
        assert_eq!(
            (mode_of(&deep), mode_of(&folder.path().join("a"))),
            (0o700, 0o700)
        );
        let file = folder.path().join("file");
        write_whole(&file, b"").expect("written");
        assert!(create_dir_all(&file, PRIVATE_DIR).is_err());
    }

    #[test]
    fn a_damaged_file_is_kept_under_another_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        write_whole(&path, b"{").expect("written");
        let aside = set_aside(&path).expect("moved");
        assert_eq!(aside, folder.path().join("x.json.damaged"));
        assert!(!path.exists() && fs::read(aside).expect("read") == b"{");
    }
}
