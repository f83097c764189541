//! Faults of files.

/// A file that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetFault {
    /// The file's path is none that a request could have.
    #[error("a path starts with `/` and has no `.` or `..` in it")]
    Path,
    /// The file is too large.
    #[error("the file has {bytes} bytes; {most} is the most")]
    Bytes {
        /// Size of the file in bytes.
        bytes: u64,
        /// The most bytes that a file may have.
        most: u64,
    },
    /// The content type is no value of a header.
    #[error("the content type is not printable ASCII")]
    ContentType,
}
