//! Mutual TLS between members of a fleet, for connections that are no HTTP.

use crate::{
    client,
    identity::{Expected, Identity},
    server,
};
use anyhow::{Context as _, Result, ensure};
use protoplex_disk::read_bounded;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A chain of certificates, a key or a small file of secrets has some thousand bytes.
const SIDE_FILE_BYTES_MAX: u64 = 1 << 20;

/// A small file of text, as it was when it was read; errors about its content name it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFile {
    /// Where it was.
    pub path: PathBuf,
    /// Bytes that are no UTF-8 are replaced: PEM and JSON have none that count.
    pub text: String,
}

impl SideFile {
    /// Reads a regular file of at most a MiB.
    ///
    /// # Errors
    /// It cannot be read; the error names it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, SIDE_FILE_BYTES_MAX);
        let bytes = bytes.with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// Certificates in its PEM text, one at least.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let found = CertificateDer::pem_slice_iter(self.text.as_bytes());
        let found = found.collect::<Result<Vec<_>, _>>();
        let found = found.with_context(|| format!("reading {}", self.path.display()))?;
        ensure!(
            !found.is_empty(),
            "{} has no certificate",
            self.path.display()
        );
        Ok(found)
    }

    /// The private key in its PEM text.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.text.as_bytes())
            .with_context(|| format!("reading {}", self.path.display()))
    }
}

/// PEM files by which a member of the fleet shows who it is, and knows the others.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFiles {
    /// Certificate of the authority.
    pub ca: SideFile,
    /// Certificate of the member.
    pub cert: SideFile,
    /// Private key of the member.
    pub key: SideFile,
}

impl MemberFiles {
    /// Reads all three. Whether they are right shows where they are used.
    ///
    /// # Errors
    /// One cannot be read; the error names it.
    pub fn read(ca: &Path, cert: &Path, key: &Path) -> Result<Self> {
        Ok(Self {
            ca: SideFile::read(ca)?,
            cert: SideFile::read(cert)?,
            key: SideFile::read(key)?,
        })
    }
}

/// TLS of the side that is called: a caller must have a certificate of the same authority. Whose it is, is for the
/// caller of this to compare, see [`identity`].
///
/// # Errors
/// A file cannot be used.
pub fn server_config(files: &MemberFiles) -> Result<Arc<ServerConfig>> {
    server::mutual_tls(files)
}

/// TLS of the side that calls: whoever answers must be `expected`.
///
/// # Errors
/// A file cannot be used.
pub fn client_config(files: &MemberFiles, expected: Expected) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(client::mutual_tls(files, expected)?))
}

/// Identity in the certificate of the other side.
pub fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    Identity::of(certificates?.first()?)
}
