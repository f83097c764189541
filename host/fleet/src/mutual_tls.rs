//! Mutual TLS between members of a fleet: the files of a member, and the configurations that rustls takes for both
//! sides of a connection.

use crate::identity::{Expected, Identity};
use protoplex_disk::read_bounded;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

mod client;
mod server;

/// A chain of certificates, a key or a small file of secrets has some thousand bytes.
const SIDE_FILE_BYTES_MAX: u64 = 1 << 20;

/// Why mutual TLS cannot be set up from a member's files. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The file holds no certificate in PEM.
    #[error("{} has no certificate", .path.display())]
    NoCertificate {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file holds something else than it should, or what TLS does not take.
    #[error("{} cannot be used: {reason}", .path.display())]
    Unusable {
        /// Path of the file.
        path: PathBuf,
        /// Fault of the content.
        reason: String,
    },
}

/// A small file of text, as it was when it was read; errors about its content name it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFile {
    /// Path that the file was read from.
    pub path: PathBuf,
    /// The content. Bytes that are no UTF-8 are replaced: PEM and JSON have none that count.
    pub text: String,
}

impl SideFile {
    /// Reads a regular file of at most a MiB.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Self, TlsSetupError> {
        let path = path.to_owned();
        match read_bounded(&path, SIDE_FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Self {
                path,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            Err(error) => Err(TlsSetupError::Unreadable { path, error }),
        }
    }

    /// Certificates in the PEM text, one at least.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
        let found = CertificateDer::pem_slice_iter(self.text.as_bytes());
        let found = found.collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| self.unusable(error))?;
        if found.is_empty() {
            let path = self.path.clone();
            return Err(TlsSetupError::NoCertificate { path });
        }
        Ok(found)
    }

    /// Certificates of authorities in the PEM text, one at least.
    fn roots(&self) -> Result<Arc<RootCertStore>, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        for root in self.certificates()? {
            roots.add(root).map_err(|error| self.unusable(error))?;
        }
        Ok(Arc::new(roots))
    }

    /// The private key in the PEM text.
    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
        PrivateKeyDer::from_pem_slice(self.text.as_bytes()).map_err(|error| self.unusable(error))
    }

    fn unusable(&self, reason: impl fmt::Display) -> TlsSetupError {
        TlsSetupError::Unusable {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Paths of the PEM files by which a member of the fleet shows who it is, and knows the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetIdentity {
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Certificate of the member.
    pub certificate: PathBuf,
    /// Private key of the member.
    pub key: PathBuf,
}

/// Contents of the files of a [`FleetIdentity`].
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
    /// Reads all three files. Whether their content is right shows where they are used.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(identity: &FleetIdentity) -> Result<Self, TlsSetupError> {
        Ok(Self {
            ca: SideFile::read(&identity.ca)?,
            cert: SideFile::read(&identity.certificate)?,
            key: SideFile::read(&identity.key)?,
        })
    }
}

/// Makes the TLS configuration of a server: its client must have a certificate of the same authority. The caller
/// compares whose it is, see [`identity`].
///
/// # Errors
/// A file cannot be used.
pub fn server_config(files: &MemberFiles) -> Result<Arc<ServerConfig>, TlsSetupError> {
    server::config(files).map(Arc::new)
}

/// Makes the TLS configuration of a client: its server must be `expected`.
///
/// # Errors
/// A file cannot be used.
pub fn client_config(
    files: &MemberFiles,
    expected: Expected,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    client::config(files, expected).map(Arc::new)
}

/// Identity in the certificate of the other side.
pub fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    Identity::of(certificates?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use std::fs;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let issued = authority.issue_seed(&[]).unwrap();
        let identity = authority.identity(&issued);
        let both_sides = || {
            let files = MemberFiles::read(&identity)?;
            server_config(&files)?;
            client_config(&files, Expected::Seed)
        };
        both_sides().unwrap();
        for file in [&identity.ca, &identity.certificate, &identity.key] {
            let whole = fs::read(file).unwrap();
            for content in [None, Some(&b"nonsense"[..]), Some(&[])] {
                match content {
                    Some(content) => fs::write(file, content).unwrap(),
                    None => fs::remove_file(file).unwrap(),
                }
                let error = both_sides().unwrap_err().to_string();
                assert!(error.contains(&file.display().to_string()), "{error}");
            }
            fs::write(file, whole).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let identity = FleetIdentity {
            key: authority.issue_operator("me").unwrap().key,
            ..authority.identity(&authority.issue_seed(&[]).unwrap())
        };
        let files = MemberFiles::read(&identity).unwrap();
        assert!(server_config(&files).is_err());
        assert!(client_config(&files, Expected::Seed).is_err());
    }
}
