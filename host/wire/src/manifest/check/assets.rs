//! Files that can be served.

use super::Findings;
use crate::manifest::Asset;

/// Assets live in the memory of every node.
pub const ASSET_BYTES_MAX: u64 = 256 << 20;

/// A file that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetFault {
    /// No path that a request could have.
    #[error("a path starts with `/` and has no `.` or `..` in it")]
    Path,
    /// A file that is too large.
    #[error("the file has {bytes} bytes; {ASSET_BYTES_MAX} is the most")]
    Bytes {
        /// Size of the file.
        bytes: u64,
    },
    /// A content type that is no header's value.
    #[error("the content type is not printable ASCII")]
    ContentType,
}

pub(super) fn check(found: &mut Findings<'_>, path: &str, asset: &Asset) {
    if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
        found.add(AssetFault::Path);
    }
    if asset.bytes > ASSET_BYTES_MAX {
        found.add_at("bytes", AssetFault::Bytes { bytes: asset.bytes });
    }
    let is_printable = |b: u8| (0x20..0x7f).contains(&b);
    if !asset.content_type.bytes().all(is_printable) {
        found.add_at("content_type", AssetFault::ContentType);
    }
}
