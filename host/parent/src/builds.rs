//! Getting a build ready: fetch what is missing by digest, verify, compile, and lay it out in sealed memory files
//! that children can map.

use super::{
    native_files::NativeFiles,
    store::{blob_path, read_blob, write_blob},
};
use ed25519_dalek::VerifyingKey;
use futures::{StreamExt, TryStreamExt, stream};
use protoplex_control::{messages::asset_offsets, socket::sealed_memfd};
use protoplex_handler::BuildFault;
use protoplex_seed_client::SeedClient;
use protoplex_wire::{
    BuildId, Digest, Manifest, manifest::MANIFEST_BYTES_MAX, release::Stage, signature::Envelope,
};
use std::{
    collections::BTreeMap,
    io::{Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
};

/// Blobs of a build that are fetched from the Seed at once.
const FETCHES_MAX: usize = 4;

/// A build that children can be given.
pub(super) struct ReadyBuild {
    pub(super) id: BuildId,
    pub(super) envelope: Envelope,
    pub(super) manifest_fd: OwnedFd,
    pub(super) pack_fd: OwnedFd,
    pub(super) native: BTreeMap<Digest, Arc<OwnedFd>>,
}

/// Where a build's blobs may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlobSource {
    Disk,
    /// The Seed is asked for what the disk lacks.
    DiskOrSeed,
}

/// Makes builds ready.
pub(super) struct Builder {
    pub(super) dir: PathBuf,
    pub(super) native: NativeFiles,
    pub(super) trusted: Vec<VerifyingKey>,
    /// `None` where there is no Seed to ask.
    pub(super) seed: Option<SeedClient>,
}

fn fault(stage: Stage, reason: impl ToString) -> BuildFault {
    BuildFault {
        stage,
        reason: reason.to_string(),
    }
}

impl Builder {
    /// Makes everything of a build ready: verified, compiled and on disk. What the disk lacks is had from `source`.
    ///
    /// # Errors
    /// The stage that failed, and why. Nothing that was held before changes.
    pub(super) async fn make(
        &self,
        envelope: &Envelope,
        source: BlobSource,
    ) -> Result<ReadyBuild, BuildFault> {
        let id = envelope.build;
        envelope
            .verify(id, &self.trusted)
            .map_err(|error| fault(Stage::Signature, error))?;
        let canonical = self.blob(&id, MANIFEST_BYTES_MAX as u64, source).await?;
        let manifest = Manifest::parse(&canonical).map_err(|error| fault(Stage::Digest, error))?;
        let blobs: Vec<_> = manifest.blobs().into_iter().collect();
        stream::iter(blobs)
            .map(|(digest, bytes)| async move {
                let blob = self.blob(&digest, bytes, source).await?;
                if blob.len() as u64 != bytes {
                    let reason = format!(
                        "blob {digest} has {} bytes; the manifest says {bytes}",
                        blob.len()
                    );
                    return Err(fault(Stage::Digest, reason));
                }
                Ok(())
            })
            .buffer_unordered(FETCHES_MAX)
            .try_collect::<()>()
            .await?;
        let mut native = BTreeMap::new();
        for (name, handler) in &manifest.handlers {
            let wasm = blob_path(&self.dir, &handler.component);
            let code = self.native.load(&handler.component, &wasm).await;
            let code = code.map_err(|error| BuildFault {
                reason: format!("handler `{name}`: {}", error.reason),
                ..error
            })?;
            native.insert(handler.component, code);
        }
        let memory =
            |error: std::io::Error| fault(Stage::Limit, format!("no memory file: {error}"));
        let manifest_fd =
            sealed_memfd("manifest", |file| file.write_all(&canonical)).map_err(memory)?;
        let pack_fd = self.pack(&manifest).map_err(memory)?;
        Ok(ReadyBuild {
            id,
            envelope: envelope.clone(),
            manifest_fd,
            pack_fd,
            native,
        })
    }

    /// Reads a blob from disk if it is there and right, else from the Seed if `source` allows it.
    async fn blob(
        &self,
        digest: &Digest,
        bytes_max: u64,
        source: BlobSource,
    ) -> Result<Vec<u8>, BuildFault> {
        if let Some(bytes) = read_blob(&self.dir, digest) {
            return Ok(bytes);
        }
        let from_seed = source == BlobSource::DiskOrSeed;
        let Some(seed) = self.seed.as_ref().filter(|_| from_seed) else {
            return Err(fault(
                Stage::Fetch,
                format!("blob {digest} is not on this node's disk"),
            ));
        };
        let bytes = seed
            .get_blob(*digest, bytes_max)
            .await
            .map_err(|error| fault(Stage::Fetch, error))?;
        if Digest::of(&bytes) != *digest {
            return Err(fault(
                Stage::Digest,
                format!("the Seed sent other bytes than blob {digest}"),
            ));
        }
        write_blob(&self.dir, digest, &bytes)
            .map_err(|error| fault(Stage::Limit, format!("{error:#}")))?;
        Ok(bytes.to_vec())
    }

    fn pack(&self, manifest: &Manifest) -> std::io::Result<OwnedFd> {
        let (offsets, length) = asset_offsets(manifest);
        sealed_memfd("assets", |file| {
            for (digest, offset) in &offsets {
                let bytes = read_blob(&self.dir, digest).ok_or_else(|| {
                    std::io::Error::other(format!("blob {digest} was damaged meanwhile"))
                })?;
                file.seek(SeekFrom::Start(*offset))?;
                file.write_all(&bytes)?;
            }
            file.set_len(length.max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_native::NativeCache;
    use protoplex_wire::signature::signing_key;

    fn builder(dir: &std::path::Path, trusted: &str) -> Builder {
        Builder {
            dir: dir.join("data"),
            native: NativeFiles::new(NativeCache::open(&dir.join("native"), 0).unwrap()),
            trusted: vec![signing_key(trusted).unwrap().verifying_key()],
            seed: None,
        }
    }

    /// The Seed refuses such a build as well; this is for a Seed that does not.
    #[tokio::test]
    async fn a_node_takes_no_build_that_the_release_key_has_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = ("11".repeat(32), "22".repeat(32));
        let build = Digest::of(b"a manifest");
        let stage = async |envelope: &Envelope| {
            let builder = builder(dir.path(), &ours);
            let made = builder.make(envelope, BlobSource::Disk).await;
            made.err().map(|fault| fault.stage)
        };
        let good = Envelope::sign(build, &signing_key(&ours).unwrap());
        // It passes, and then its manifest is not there.
        assert_eq!(stage(&good).await, Some(Stage::Fetch));
        let stranger = Envelope::sign(build, &signing_key(&theirs).unwrap());
        assert_eq!(stage(&stranger).await, Some(Stage::Signature));
        let moved = Envelope {
            build: Digest::of(b"another manifest"),
            ..good
        };
        assert_eq!(stage(&moved).await, Some(Stage::Signature));
    }

    #[tokio::test]
    async fn a_manifest_that_is_not_what_its_digest_says_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = "11".repeat(32);
        let builder = builder(dir.path(), &key);
        let build = Digest::of(b"a manifest");
        let path = blob_path(&builder.dir, &build);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "another manifest").unwrap();
        let envelope = Envelope::sign(build, &signing_key(&key).unwrap());
        let made = builder.make(&envelope, BlobSource::Disk).await;
        assert_eq!(made.err().map(|fault| fault.stage), Some(Stage::Fetch));
    }
}
