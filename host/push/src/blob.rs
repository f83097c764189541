//! Content that a build uploads.

use bytes::Bytes;
use protoplex_disk::read_bounded;
use protoplex_wire::manifest::ASSET_BYTES_MAX;
use std::{io, path::PathBuf};

/// Content of a blob, or the file that has it.
#[derive(Clone, Debug)]
pub enum Blob {
    /// The content was made here.
    Bytes(Bytes),
    /// The content is in a file on the disk, unchanged since it was read: the Seed checks the digest anyway.
    File(PathBuf),
}

impl Blob {
    /// Reads the content.
    ///
    /// # Errors
    /// When the file is gone or cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => read_bounded(path, ASSET_BYTES_MAX).map(Bytes::from),
        }
    }
}
