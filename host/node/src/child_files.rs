//! Contents of the files that children need: certificates, keys, secrets. The parent reads and checks them at its start
//! and when it is told to, and keeps what was right; children are given the bytes. So what happens to the files
//! meanwhile keeps no child from starting.

use crate::{channel::sealed_memfd, child::LiveSecrets, config::NodeConfig};
use anyhow::Context;
use protoplex_net::{Certificates, Pem};
use protoplex_upstream::NodeCertificate;
use protoplex_seed::{
    identity::Expected,
    mutual_tls::{self, MemberFiles, SideFile},
};
use protoplex_wire::manifest::Role;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
};

/// All of them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct ChildFiles {
    /// The node's own certificate, for links to other nodes and for upstreams that ask who calls.
    pub(crate) member: MemberFiles,
    pub(crate) public: PublicFiles,
    /// Who may publish by HTTP, and the key of subscription tokens. Without it nobody may.
    pub(crate) live_secrets: Option<SideFile>,
}

/// Certificates of the HTTPS port: the default one, and those that are chosen by name.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicFiles {
    default: Pair,
    by_name: Vec<Pair>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    cert: SideFile,
    key: SideFile,
}

impl Pair {
    fn read((cert, key): &(PathBuf, PathBuf)) -> anyhow::Result<Self> {
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

impl PublicFiles {
    /// The default pair, and those by name.
    pub(crate) fn pems(&self) -> (Pem, Vec<Pem>) {
        let by_name = self.by_name.iter().map(Pair::pem);
        (self.default.pem(), by_name.collect())
    }
}

impl ChildFiles {
    /// Those that a parent handed over. Siblings read the same file, so nobody moves its cursor.
    ///
    /// # Errors
    /// A parent did not make the file.
    pub(crate) fn of(file: Option<OwnedFd>) -> anyhow::Result<Self> {
        let file = File::from(file.context("no file came with it")?);
        let mut text = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut text, 0)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn seal(&self) -> anyhow::Result<OwnedFd> {
        let text = serde_json::to_vec(self)?;
        sealed_memfd("child-files", |file| file.write_all(&text)).context("no memory file")
    }
}

/// Where the files are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    public: (PathBuf, PathBuf),
    by_name: Vec<(PathBuf, PathBuf)>,
    live_secrets: Option<PathBuf>,
    /// The node serves nobody without its live secrets: they are its job.
    needs_secrets: bool,
}

impl Paths {
    pub(crate) fn of(config: &NodeConfig) -> Self {
        let by_name = config.ingress.certificates.iter();
        Self {
            ca: config.ca.clone(),
            cert: config.cert.clone(),
            key: config.key.clone(),
            public: (config.tls_cert.clone(), config.tls_key.clone()),
            by_name: by_name
                .map(|files| (files.cert.clone(), files.key.clone()))
                .collect(),
            live_secrets: config.live_secrets.clone(),
            needs_secrets: config.role == Role::Live,
        }
    }

    /// Files of the certificates of the HTTPS port.
    pub(crate) fn of_certificates(&self) -> Vec<PathBuf> {
        let pairs = std::iter::once(&self.public).chain(&self.by_name);
        pairs
            .flat_map(|(cert, key)| [cert.clone(), key.clone()])
            .collect()
    }

    fn member(&self) -> anyhow::Result<MemberFiles> {
        let files = MemberFiles::read(&self.ca, &self.cert, &self.key)?;
        mutual_tls::server_config(&files)?;
        mutual_tls::client_config(&files, Expected::NodeOf(Role::Live))?;
        NodeCertificate::from_pem(files.cert.text.as_bytes(), files.key.text.as_bytes())
            .with_context(|| self.cert.display().to_string())?;
        Ok(files)
    }

    fn public(&self) -> anyhow::Result<PublicFiles> {
        let by_name = self.by_name.iter().map(Pair::read);
        Ok(PublicFiles {
            default: Pair::read(&self.public)?,
            by_name: by_name.collect::<Result<_, _>>()?,
        })
    }

    fn live_secrets(&self) -> anyhow::Result<Option<SideFile>> {
        let Some(path) = &self.live_secrets else {
            return Ok(None);
        };
        let file = SideFile::read(path).context("the secrets of live channels")?;
        LiveSecrets::parse(&file)?;
        Ok(Some(file))
    }
}

/// The parent's copy: the last contents that were right.
pub(crate) struct Kept {
    paths: Paths,
    files: ChildFiles,
    sealed: OwnedFd,
}

impl Kept {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// One cannot be used; the error names it.
    pub(crate) fn open(paths: Paths) -> anyhow::Result<Self> {
        let live_secrets = match paths.live_secrets() {
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
            live_secrets,
        };
        Self::new(paths, files)
    }

    fn new(paths: Paths, files: ChildFiles) -> anyhow::Result<Self> {
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
        Self::new(Paths::default(), ChildFiles::default()).expect("a memory file")
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
        match self.paths.live_secrets() {
            Ok(secrets) => {
                is_new |= files.live_secrets != secrets;
                files.live_secrets = secrets;
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

    /// The same, for children that inherit it.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.sealed.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_seed::authority::Authority;
    use std::{fs, path::Path};

    fn paths(dir: &Path) -> Paths {
        let authority = Authority::open_or_create(&dir.join("pki")).unwrap();
        let issued = authority.issue_node("n", Role::Live, &[]).unwrap();
        let secrets = dir.join("live.json");
        fs::write(&secrets, r#"{"api_token":"0123456789abcdef"}"#).unwrap();
        Paths {
            ca: authority.ca(),
            public: (issued.cert.clone(), issued.key.clone()),
            cert: issued.cert,
            key: issued.key,
            live_secrets: Some(secrets),
            needs_secrets: true,
            by_name: Vec::new(),
        }
    }

    fn handed(kept: &Kept) -> ChildFiles {
        ChildFiles::of(Some(kept.sealed().try_clone().unwrap())).unwrap()
    }

    #[test]
    fn files_that_are_damaged_later_stay_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let mut kept = Kept::open(paths.clone()).unwrap();
        let secret = handed(&kept).live_secrets.unwrap().text;
        let cert = handed(&kept).public.default.cert.text;
        fs::write(&paths.public.0, "").unwrap();
        fs::write(paths.live_secrets.as_ref().unwrap(), "").unwrap();
        assert!(!kept.reload());
        let now = handed(&kept);
        assert!(now.live_secrets.unwrap().text == secret);
        assert!(now.public.default.cert.text == cert);
        // One that is right is taken, whatever the other is.
        let new = r#"{"api_token":"fedcba9876543210"}"#;
        fs::write(paths.live_secrets.as_ref().unwrap(), new).unwrap();
        assert!(kept.reload());
        let now = handed(&kept);
        assert_eq!(now.live_secrets.unwrap().text, new);
        assert!(now.public.default.cert.text == cert);
    }

    #[test]
    fn a_start_with_a_damaged_file_ends_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let files = [
            &paths.ca,
            &paths.cert,
            &paths.key,
            paths.live_secrets.as_ref().unwrap(),
        ];
        for file in files {
            let whole = fs::read(file).unwrap();
            fs::write(file, "").unwrap();
            let error = Kept::open(paths.clone()).err().expect("it is damaged");
            let text = format!("{error:#}");
            assert!(text.contains(&file.display().to_string()), "{text}");
            fs::write(file, whole).unwrap();
        }
        // Who serves no live routes goes without.
        fs::remove_file(paths.live_secrets.as_ref().unwrap()).unwrap();
        let needs_secrets = false;
        let kept = Kept::open(Paths {
            needs_secrets,
            ..paths
        });
        assert!(handed(&kept.unwrap()).live_secrets.is_none());
    }
}
