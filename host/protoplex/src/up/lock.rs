//! Lock of a data folder: one `up` at a time runs on it.

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

/// Lock of a data folder, held until this is dropped; the kernel releases it when the process ends, however that
/// comes.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Locks the folder.
///
/// # Errors
/// When another process holds it; says which.
pub fn take(data: &Path) -> Result<DataLock> {
    let path = data.join("lock");
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = file.with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut pid);
            bail!(
                "another `up` (process {}) runs on {}; stop it, or choose another folder with --data DIR",
                pid.trim(),
                data.display()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(DataLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_up_on_the_same_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = take(folder.path()).expect("free");
        let error = take(folder.path()).expect_err("held");
        let expected = format!("another `up` (process {})", std::process::id());
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(held);
        take(folder.path()).expect("free again");
    }
}
