//! What a start checks and opens before the node binds a port.

use crate::{
    builds::Builder,
    child_files::{CheckSecrets, FileKeeper, FilePaths},
    config::NodeConfig,
    native_files::NativeFiles,
    store::Store,
};
use anyhow::{Context, ensure};
use ed25519_dalek::VerifyingKey;
use protoplex_native::NativeCache;
use protoplex_seed_client::SeedClient;
use protoplex_wire::{directory::is_region, signature::verifying_key};
use std::path::PathBuf;

/// Fewer children could not adopt each other's sockets.
const CHILDREN_MIN: usize = 2;

/// A node's files, and its client of the Seed.
pub(crate) struct Opened {
    pub(crate) seed: SeedClient,
    /// Files of the certificates of the HTTPS port.
    pub(crate) certificates: Vec<PathBuf>,
    pub(crate) files: FileKeeper,
    pub(crate) store: Store,
    pub(crate) builder: Builder,
}

impl Opened {
    /// Checks the configuration, and opens the files that it names.
    ///
    /// # Errors
    /// A setting, a certificate or the data cannot be used; the error names it.
    pub(crate) fn open(config: &NodeConfig, check_secrets: CheckSecrets) -> anyhow::Result<Self> {
        let trusted = check(config)?;
        let seed = SeedClient::new(&config.seed, &config.identity())?;
        protoplex_control::descriptors::raise();
        let paths = FilePaths::of(config, check_secrets);
        let certificates = paths.certificates();
        let files = FileKeeper::open(paths)?;
        let store = Store::open(&config.data)?;
        let native = NativeCache::open(&config.native, config.native_bytes_max)?;
        let builder = Builder {
            dir: config.data.clone(),
            native: NativeFiles::new(native),
            trusted,
            seed: Some(seed.clone()),
        };
        Ok(Self {
            seed,
            certificates,
            files,
            store,
            builder,
        })
    }
}

/// Refuses settings that cannot be right. Returns the release keys whose builds may run here.
fn check(config: &NodeConfig) -> anyhow::Result<Vec<VerifyingKey>> {
    ensure!(
        config.children >= CHILDREN_MIN,
        "children is {}; at least {CHILDREN_MIN} are needed",
        config.children
    );
    ensure!(config.threads >= 1, "threads is 0; at least 1 is needed");
    ensure!(
        is_region(&config.region),
        "region `{}` must be at most 64 of a-z, 0-9 and `-`",
        config.region
    );
    let keys = config.release_keys.iter().map(|key| verifying_key(key));
    keys.collect::<Result<_, _>>().context("release_keys")
}
