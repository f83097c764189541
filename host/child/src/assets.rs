//! Assets of a build: slices of one sealed memory file that all children map.

use bytes::Bytes;
use memmap2::Mmap;
use protoplex_control::messages::asset_offsets;
use protoplex_handler::BuildFault;
use protoplex_http::asset::ServedAsset;
use protoplex_wire::{Digest, Manifest, release::Stage};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
};

/// The assets of a build, by path.
pub(super) type Assets = HashMap<String, ServedAsset>;

/// Maps a sealed memfd.
pub(super) fn map_fd(fd: &OwnedFd) -> io::Result<Mmap> {
    // SAFETY: the parent sealed the file against writing, growing and shrinking before it sent it, so the mapping can
    // neither change nor fault.
    unsafe { Mmap::map(fd) }
}

/// Cuts the pack into assets.
pub(super) fn map(manifest: &Manifest, pack: OwnedFd) -> Result<Assets, BuildFault> {
    let fault = |reason: String| BuildFault {
        stage: Stage::WarmUp,
        reason,
    };
    let (offsets, length) = asset_offsets(manifest);
    if length == 0 {
        return Ok(Assets::new());
    }
    let pack = map_fd(&pack)
        .map_err(|error| fault(format!("the asset pack cannot be mapped: {error}")))?;
    if (pack.len() as u64) < length {
        return Err(fault(format!(
            "the asset pack has {} bytes and should have {length}",
            pack.len()
        )));
    }
    let pack = Bytes::from_owner(pack);
    let mut assets = Assets::new();
    for (path, asset) in &manifest.assets {
        let body = slice(&pack, &offsets, &asset.digest, asset.bytes);
        let gzip = asset
            .gzip
            .as_ref()
            .map(|gzip| slice(&pack, &offsets, &gzip.digest, gzip.bytes));
        let made = ServedAsset::new(body, gzip, &asset.content_type, &asset.digest.to_string());
        assets.insert(
            path.clone(),
            made.ok_or_else(|| fault(format!("asset `{path}`: bad content type")))?,
        );
    }
    Ok(assets)
}

fn slice(pack: &Bytes, offsets: &BTreeMap<Digest, u64>, digest: &Digest, bytes: u64) -> Bytes {
    let start = usize::try_from(offsets[digest]).expect("the pack is mapped, so it fits");
    let bytes = usize::try_from(bytes).expect("the pack is mapped, so it fits");
    pack.slice(start..start + bytes)
}
