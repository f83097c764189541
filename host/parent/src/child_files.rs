//! Files of a node that its children need. The parent reads and checks them at its start and when it is told to, and
//! keeps the last contents that were right.

use crate::config::NodeConfig;
use anyhow::Context;
use protoplex_control::child_files::{CertificatePaths, ChildFiles, PublicFiles};
use protoplex_fleet::{Expected, FleetIdentity, MemberFiles, SideFile, mutual_tls};
use protoplex_upstream::NodeCertificate;
use protoplex_wire::Role;
use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

/// Tells whether a file of secrets can be used, by a role that reads it.
///
/// # Errors
/// It cannot; says what is wrong.
pub type CheckSecrets = fn(&SideFile) -> anyhow::Result<()>;

/// Where the files are that children need.
#[derive(Clone, Debug)]
pub(crate) struct FilePaths {
    member: FleetIdentity,
    public: CertificatePaths,
    by_name: Vec<CertificatePaths>,
    secrets: Option<PathBuf>,
    /// The node serves nobody without its secrets: they are its job.
    needs_secrets: bool,
    check_secrets: CheckSecrets,
}

impl FilePaths {
    pub(crate) fn of(config: &NodeConfig, check_secrets: CheckSecrets) -> Self {
        let by_name = config.ingress.certificates.iter();
        Self {
            member: config.identity(),
            public: (config.tls_cert.clone(), config.tls_key.clone()),
            by_name: by_name
                .map(|files| (files.cert.clone(), files.key.clone()))
                .collect(),
            secrets: config.secrets.clone(),
            needs_secrets: config.role.spec().needs_secrets,
            check_secrets,
        }
    }

    /// All files of the certificates of the HTTPS port.
    pub(crate) fn certificates(&self) -> Vec<PathBuf> {
        let pairs = std::iter::once(&self.public).chain(&self.by_name);
        pairs
            .flat_map(|(cert, key)| [cert.clone(), key.clone()])
            .collect()
    }

    fn member(&self) -> anyhow::Result<MemberFiles> {
        let files = MemberFiles::read(&self.member)?;
        mutual_tls::server_config(&files)?;
        mutual_tls::client_config(&files, Expected::NodeOf(Role::Live))?;
        NodeCertificate::from_pem(files.cert.text.as_bytes(), files.key.text.as_bytes())
            .with_context(|| self.member.certificate.display().to_string())?;
        Ok(files)
    }

    fn public(&self) -> anyhow::Result<PublicFiles> {
        PublicFiles::read(&self.public, &self.by_name)
    }

    fn secrets(&self) -> anyhow::Result<Option<SideFile>> {
        let Some(path) = &self.secrets else {
            return Ok(None);
        };
        let file = SideFile::read(path).context("the secrets of live channels")?;
        (self.check_secrets)(&file)?;
        Ok(Some(file))
    }
}

/// The parent's copy of the files: the last contents that were right.
pub(crate) struct FileKeeper {
    paths: FilePaths,
    files: ChildFiles,
    sealed: OwnedFd,
}

impl FileKeeper {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// One cannot be used; the error names it.
    pub(crate) fn open(paths: FilePaths) -> anyhow::Result<Self> {
        let secrets = match paths.secrets() {
            Err(error) if !paths.needs_secrets => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the secrets of live channels cannot be used; this node goes without"
                );
                None
            }
            secrets => secrets?,
        };
        let files = ChildFiles {
            member: paths.member()?,
            public: paths.public()?,
            secrets,
        };
        Self::new(paths, files)
    }

    fn new(paths: FilePaths, files: ChildFiles) -> anyhow::Result<Self> {
        let sealed = files.seal()?;
        Ok(Self {
            paths,
            files,
            sealed,
        })
    }

    /// Keeps nothing that a child could start with.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        let nowhere = || PathBuf::new();
        let paths = FilePaths {
            member: FleetIdentity {
                ca: nowhere(),
                certificate: nowhere(),
                key: nowhere(),
            },
            public: (nowhere(), nowhere()),
            by_name: Vec::new(),
            secrets: None,
            needs_secrets: false,
            check_secrets: |_| Ok(()),
        };
        Self::new(paths, ChildFiles::default()).expect("a memory file")
    }

    /// Reads the certificates of the HTTPS port and the live secrets again. What cannot be used is logged, and what was
    /// kept before stays. The node's own certificate is read at its start only: its link to the Seed uses that one, too.
    /// Returns whether there is something to hand over.
    pub(crate) fn reload(&mut self) -> bool {
        let mut files = self.files.clone();
        let mut is_new = false;
        match self.paths.public() {
            Ok(public) => (files.public, is_new) = (public, true),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "new certificates cannot be used; the old ones stay"
            ),
        }
        match self.paths.secrets() {
            Ok(secrets) => {
                is_new |= files.secrets != secrets;
                files.secrets = secrets;
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "new secrets of live channels cannot be used; the old ones stay"
            ),
        }
        match files.seal() {
            Ok(sealed) => {
                (self.files, self.sealed) = (files, sealed);
                is_new
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "new certificates and secrets cannot be handed over; the old ones stay"
                );
                false
            }
        }
    }

    /// A sealed memory file with the contents, for messages.
    pub(crate) fn sealed(&self) -> &OwnedFd {
        &self.sealed
    }

    /// Descriptor of the sealed memory file, for children that inherit it.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.sealed.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_fleet::Authority;
    use std::{fs, path::Path};

    fn paths(dir: &Path) -> FilePaths {
        let authority = Authority::open_or_create(&dir.join("pki")).unwrap();
        let issued = authority.issue_node("n", Role::Live, &[]).unwrap();
        let secrets = dir.join("live.json");
        fs::write(&secrets, r#"{"api_token":"0123456789abcdef"}"#).unwrap();
        FilePaths {
            member: authority.identity(&issued),
            public: (issued.cert, issued.key),
            secrets: Some(secrets),
            needs_secrets: true,
            check_secrets: |file| {
                let empty = format!("{} is empty", file.path.display());
                anyhow::ensure!(!file.text.is_empty(), empty);
                Ok(())
            },
            by_name: Vec::new(),
        }
    }

    fn handed(kept: &FileKeeper) -> ChildFiles {
        ChildFiles::of(Some(kept.sealed().try_clone().unwrap())).unwrap()
    }

    #[test]
    fn files_that_are_damaged_later_stay_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let mut kept = FileKeeper::open(paths.clone()).unwrap();
        let secret = handed(&kept).secrets.unwrap().text;
        let cert = handed(&kept).public.pems().0.cert;
        fs::write(&paths.public.0, "").unwrap();
        fs::write(paths.secrets.as_ref().unwrap(), "").unwrap();
        assert!(!kept.reload());
        let now = handed(&kept);
        assert!(now.secrets.unwrap().text == secret);
        assert!(now.public.pems().0.cert == cert);
        // One that is right is taken, whatever the other is.
        let new = r#"{"api_token":"fedcba9876543210"}"#;
        fs::write(paths.secrets.as_ref().unwrap(), new).unwrap();
        assert!(kept.reload());
        let now = handed(&kept);
        assert_eq!(now.secrets.unwrap().text, new);
        assert!(now.public.pems().0.cert == cert);
    }

    #[test]
    fn a_start_with_a_damaged_file_ends_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let files = [
            &paths.member.ca,
            &paths.member.certificate,
            &paths.member.key,
            paths.secrets.as_ref().unwrap(),
        ];
        for file in files {
            let whole = fs::read(file).unwrap();
            fs::write(file, "").unwrap();
            let error = FileKeeper::open(paths.clone())
                .err()
                .expect("it is damaged");
            let text = format!("{error:#}");
            assert!(text.contains(&file.display().to_string()), "{text}");
            fs::write(file, whole).unwrap();
        }
        // Who serves no live routes goes without.
        fs::remove_file(paths.secrets.as_ref().unwrap()).unwrap();
        let needs_secrets = false;
        let kept = FileKeeper::open(FilePaths {
            needs_secrets,
            ..paths
        });
        assert!(handed(&kept.unwrap()).secrets.is_none());
    }
}
