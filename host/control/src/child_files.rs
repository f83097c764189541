//! Contents of the files that children need: certificates, keys, secrets. The parent reads and checks them, and children
//! are given the bytes, so what happens to the files meanwhile keeps no child from starting.

use crate::socket::sealed_memfd;
use anyhow::Context;
use protoplex_fleet::{MemberFiles, SideFile};
use protoplex_net::{Certificates, Pem};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Write,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::PathBuf,
};

/// Everything that a child reads at its start, and again when its parent says so.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ChildFiles {
    /// The node's own certificate, for links to other nodes and for upstreams that verify their client.
    pub member: MemberFiles,
    /// Certificates of the HTTPS port.
    pub public: PublicFiles,
    /// The fleet's secrets: who may publish by HTTP, and the key of subscription tokens. Without it nobody may.
    pub secrets: Option<SideFile>,
}

/// Certificates of the HTTPS port: the default one, and those that are chosen by name.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFiles {
    default: CertificatePair,
    by_name: Vec<CertificatePair>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CertificatePair {
    cert: SideFile,
    key: SideFile,
}

impl CertificatePair {
    fn read((cert, key): &CertificatePaths) -> anyhow::Result<Self> {
        let pair = Self {
            cert: SideFile::read(cert)?,
            key: SideFile::read(key)?,
        };
        let checked = Certificates::new(&pair.pem(), &[pair.pem()]);
        checked.with_context(|| format!("{} and {}", cert.display(), key.display()))?;
        Ok(pair)
    }

    fn pem(&self) -> Pem {
        Pem {
            cert: self.cert.text.clone().into_bytes(),
            key: self.key.text.clone().into_bytes(),
        }
    }
}

/// Files of a certificate and its key.
pub type CertificatePaths = (PathBuf, PathBuf);

impl PublicFiles {
    /// Reads and checks certificates.
    ///
    /// # Errors
    /// One cannot be used; the error names its files.
    pub fn read(default: &CertificatePaths, by_name: &[CertificatePaths]) -> anyhow::Result<Self> {
        let by_name = by_name.iter().map(CertificatePair::read);
        Ok(Self {
            default: CertificatePair::read(default)?,
            by_name: by_name.collect::<Result<_, _>>()?,
        })
    }

    /// PEM texts of the default pair, and of those that are chosen by name.
    pub fn pems(&self) -> (Pem, Vec<Pem>) {
        let by_name = self.by_name.iter().map(CertificatePair::pem);
        (self.default.pem(), by_name.collect())
    }
}

impl ChildFiles {
    /// Reads the memory file that the parent handed over. Siblings read the same file, so nobody moves its cursor.
    ///
    /// # Errors
    /// A parent did not make the file.
    pub fn of(file: Option<OwnedFd>) -> anyhow::Result<Self> {
        let file = File::from(file.context("no file came with it")?);
        let mut text = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut text, 0)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Makes a sealed memory file of the contents, for a child.
    ///
    /// # Errors
    /// There is no memory.
    pub fn seal(&self) -> anyhow::Result<OwnedFd> {
        let text = serde_json::to_vec(self)?;
        sealed_memfd("child-files", |file| file.write_all(&text)).context("no memory file")
    }
}
