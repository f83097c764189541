//! The Seed's configuration: a JSON file that `up` (or an operator) writes.

use crate::store::Retention;
use protoplex_fleet::FleetIdentity;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf};

/// Configuration of the Seed: read once, at start, before anything binds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedConfig {
    /// Folder of blobs, builds, history and fence.
    pub data: PathBuf,
    /// PEM of the fleet's authority.
    pub ca: PathBuf,
    /// PEM of the Seed's certificate.
    pub cert: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// Public keys of release keys, 64 hexadecimal digits each.
    pub release_keys: Vec<String>,
    /// Address to bind the port on.
    pub bind: IpAddr,
    /// Port to bind; 0 is any free one.
    pub port: u16,
    /// Milliseconds in which a node must answer `prepare`, or the release is reverted.
    pub prepare_timeout_ms: u64,
    /// Milliseconds in which a node must answer `activate`, or the release is reverted.
    pub activate_timeout_ms: u64,
    /// Rules for what is kept of old releases.
    #[serde(default)]
    pub retention: Retention,
    /// Bytes of native code that the cache keeps, the least recently used going first; 0 is 4 GiB, as for a node.
    #[serde(default)]
    pub native_bytes_max: u64,
}

impl SeedConfig {
    /// Files by which the Seed shows who it is.
    pub fn identity(&self) -> FleetIdentity {
        FleetIdentity {
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}
