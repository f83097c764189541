//! Check of assets: files that can be served.

use super::Findings;
use crate::manifest::{Asset, AssetFault};

/// Most bytes of an asset: assets live in the memory of every node.
pub const ASSET_BYTES_MAX: u64 = 256 << 20;

pub(super) fn check(found: &mut Findings<'_>, path: &str, asset: &Asset) {
    if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
        found.add(AssetFault::Path);
    }
    if asset.bytes > ASSET_BYTES_MAX {
        let (bytes, most) = (asset.bytes, ASSET_BYTES_MAX);
        found.add_at("bytes", AssetFault::Bytes { bytes, most });
    }
    let is_printable = |b: u8| (0x20..0x7f).contains(&b);
    if !asset.content_type.bytes().all(is_printable) {
        found.add_at("content_type", AssetFault::ContentType);
    }
}
