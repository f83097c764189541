//! Faults of files.

/// A file that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetFault {
    /// No path that a request could have.
    #[error("a path starts with `/` and has no `.` or `..` in it")]
    Path,
    /// A file that is too large.
    #[error("the file has {bytes} bytes; {most} is the most")]
    Bytes {
        /// Size of the file.
        bytes: u64,
        /// The most that there may be.
        most: u64,
    },
    /// A content type that is no header's value.
    #[error("the content type is not printable ASCII")]
    ContentType,
}
