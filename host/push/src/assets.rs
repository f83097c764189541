//! The files of a build: found in a folder, named by digest, typed, and compressed where that pays.

use crate::package::Blob;
use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use protoplex_disk::read_bounded;
use protoplex_http::normal::unescape;
use protoplex_wire::{
    Digest,
    manifest::{ASSET_BYTES_MAX, Asset, EncodedAsset},
};
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Fewest bytes that are compressed: below this a coded form and its `Vary` cost more than they save.
pub const GZIP_BYTES_MIN: usize = 256;
/// Percentage of the bytes that a coded form must save to be worth a second blob.
pub const GZIP_SAVING_PERCENT_MIN: usize = 5;
/// Most files of a folder; one with more was probably not meant.
pub const FILES_MAX: usize = 20_000;
/// Endings of files that editors and desktops leave behind, and nobody means to publish.
const LEFTOVERS: [&str; 4] = ["~", ".swp", ".swx", ".DS_Store"];

/// The one hidden folder that is meant for clients (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
/// Endings of files that hold keys and passwords.
const SECRET_ENDINGS: [&str; 7] = [".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".env"];
/// Names of files in which SSH keeps keys.
const SECRET_NAMES: [&str; 4] = ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"];
/// First bytes of a ZIP file: a document of Keynote is one, and has the ending of a key.
const ZIP: &[u8] = b"PK\x03\x04";

/// Content types that `mime_guess` does not know or gives an older name.
const TYPES: [(&str, &str); 12] = [
    ("js", "text/javascript"),
    ("mjs", "text/javascript"),
    ("wasm", "application/wasm"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("md", "text/markdown"),
    ("svg", "image/svg+xml"),
    ("ico", "image/x-icon"),
    ("avif", "image/avif"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("atom", "application/atom+xml"),
];

/// Files of a folder, ready for the manifest.
#[derive(Default)]
pub(crate) struct CollectedAssets {
    pub(crate) assets: BTreeMap<String, Asset>,
    pub(crate) blobs: BTreeMap<Digest, Blob>,
    pub(crate) faults: Vec<String>,
}

/// Collects the regular files under `directory`, hidden ones left out; a file's path in the build is `prefix` and its
/// path there. What looks like a secret is a fault: once published, it cannot be taken back.
pub(crate) fn collect(directory: &Path, prefix: &str) -> CollectedAssets {
    let mut collected = CollectedAssets::default();
    let mut files = Vec::new();
    if let Err(fault) = walk(directory, &mut files) {
        collected.faults.push(fault);
        return collected;
    }
    files.sort();
    for file in files {
        let relative = file.strip_prefix(directory).unwrap_or(&file);
        let Some(relative) = relative.to_str() else {
            let text = format!("the name of {} is not UTF-8; rename it", file.display());
            collected.faults.push(text);
            continue;
        };
        let path = format!("{prefix}{relative}");
        match read_bounded(&file, ASSET_BYTES_MAX) {
            Ok(content) if is_secret(relative, &content) => {
                let text = format!(
                    "{} looks like a private key or a password, and everybody could read it; move it out of the folder \
                     of assets",
                    file.display()
                );
                collected.faults.push(text);
            }
            Ok(content) => collected.add(path, content, &file),
            Err(error) => {
                let text = format!("{} cannot be read: {error}", file.display());
                collected.faults.push(text);
            }
        }
    }
    collected.refuse_shadowed();
    collected
}

impl CollectedAssets {
    /// Refuses files that no request can reach: a path in an URL is the file of that name, or else the one that its
    /// escapes stand for. Where both are there, the latter could not be reached.
    fn refuse_shadowed(&mut self) {
        for path in self.assets.keys().filter(|path| path.contains('%')) {
            let stands_for = unescape(path).filter(|other| **other != **path);
            if let Some(other) = stands_for.filter(|other| self.assets.contains_key(&**other)) {
                self.faults.push(format!(
                    "assets `{other}` and `{path}` have one path in URLs; rename one of them"
                ));
            }
        }
    }

    fn add(&mut self, path: String, content: Vec<u8>, file: &Path) {
        let digest = Digest::of(&content);
        let content_type = content_type(&path, &content);
        let gzip = gzip(&content_type, &content).map(|coded| {
            let encoded = EncodedAsset {
                digest: Digest::of(&coded),
                bytes: coded.len() as u64,
            };
            self.blobs.insert(encoded.digest, Blob::Bytes(coded));
            encoded
        });
        let asset = Asset {
            digest,
            bytes: content.len() as u64,
            content_type,
            gzip,
        };
        // From the disk again when it is sent, so that a large site is not held in memory.
        let blob = || Blob::File(file.to_owned());
        self.blobs.entry(digest).or_insert_with(blob);
        if let Some(folder) = path.strip_suffix("index.html")
            && folder.ends_with('/')
        {
            self.assets.insert(folder.to_owned(), asset.clone());
        }
        self.assets.insert(path, asset);
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let cannot = |error: io::Error| format!("{} cannot be read: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let kind = entry.file_type().map_err(cannot)?;
        let name = entry.file_name();
        let leftover = LEFTOVERS
            .iter()
            .any(|end| name.to_string_lossy().ends_with(end));
        let text = name.to_string_lossy();
        if text.starts_with('.') && text != WELL_KNOWN {
            // Settings and histories of tools: `.env`, `.git`.
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() && !leftover {
            files.push(entry.path());
        } else if kind.is_symlink() {
            // Following it could publish what lies outside of the folder.
            return Err(format!(
                "{} is a symbolic link; put the file itself there",
                entry.path().display()
            ));
        }
        if files.len() > FILES_MAX {
            return Err(format!(
                "{} has more than {FILES_MAX} files; name the folder that holds the site alone",
                directory.display()
            ));
        }
    }
    Ok(())
}

/// Whether a file holds what only its owner should have, by its name or by how it begins.
fn is_secret(path: &str, content: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let text = content.trim_ascii_start();
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let is_armored = text.starts_with(b"-----BEGIN ");
    // OpenSSL, SSH and PGP (`PRIVATE KEY BLOCK`) name them so.
    let is_private = is_armored && has(b"PRIVATE KEY");
    // What verifies signatures is often published as `NAME.key`.
    let is_public = is_armored && !is_private && has(b"PUBLIC KEY");
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || (name.ends_with(".key") && !content.starts_with(ZIP) && !is_public)
        || is_private
}

/// The value of `Content-Type` for a file of that name.
pub fn content_type(path: &str, content: &[u8]) -> String {
    let extension = path.rsplit('/').next().and_then(|name| {
        let (_, extension) = name.rsplit_once('.')?;
        Some(extension.to_ascii_lowercase())
    });
    let ours = TYPES
        .iter()
        .find(|(ending, _)| Some(*ending) == extension.as_deref());
    let essence = match ours {
        Some((_, essence)) => (*essence).to_owned(),
        None => mime_guess::from_path(path)
            .first_or_octet_stream()
            .essence_str()
            .to_owned(),
    };
    // A promise of UTF-8 is made only where it is kept.
    if essence.starts_with("text/") && std::str::from_utf8(content).is_ok() {
        essence + "; charset=utf-8"
    } else {
        essence
    }
}

fn compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || matches!(
            essence,
            "application/json"
                | "application/javascript"
                | "application/xml"
                | "application/wasm"
                | "application/rtf"
                | "font/ttf"
                | "font/otf"
                | "image/bmp"
                | "image/x-icon"
        )
}

/// Compresses the content by gzip, where its type is worth it and enough is saved. Equal content gives equal bytes: no
/// name and no time stand in them.
pub fn gzip(content_type: &str, content: &[u8]) -> Option<Bytes> {
    if content.len() < GZIP_BYTES_MIN || !compressible(content_type) {
        return None;
    }
    let writer = Vec::with_capacity(content.len() / 2);
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(writer, Compression::best());
    encoder.write_all(content).ok()?;
    let coded = encoder.finish().ok()?;
    let most = content.len() * (100 - GZIP_SAVING_PERCENT_MIN) / 100;
    (coded.len() <= most).then(|| coded.into())
}

#[cfg(test)]
mod tests;
