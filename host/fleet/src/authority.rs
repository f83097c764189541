//! The fleet's authority: certificates for the Seed, the nodes and the operators, and the release key.
//!
//! What a certificate is good for stands in its URI name, see [`crate::identity`]. Private keys are readable by their
//! owner only. A certificate that is still good is used again.

use crate::{
    FleetIdentity,
    identity::{self, Identity},
};
use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use protoplex_wire::{
    manifest::Role,
    signature::{signing_key, verifying_key},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};
use x509_parser::{pem::parse_x509_pem, prelude::GeneralName};

/// Validity of the authority's own certificate: ten years.
const AUTHORITY_DAYS: i64 = 3_650;
/// Validity of the certificates that the authority issues: a little over two years.
const CERTIFICATE_DAYS: i64 = 800;
/// Certificates that expire within this are made anew at start.
const RENEW_DAYS: i64 = 30;

/// PEM files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate, readable by all.
    pub cert: PathBuf,
    /// The key, mode 0600.
    pub key: PathBuf,
}

/// The directory with the authority and all that it issued.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Opens the authority in `dir`, or makes a new one where there is none.
    ///
    /// # Errors
    /// The directory cannot be used, or holds half of an authority.
    pub fn open_or_create(dir: &Path) -> Result<Self> {
        protoplex_disk::create_dir_all(dir, protoplex_disk::SHARED_DIR)
            .with_context(|| format!("making {}", dir.display()))?;
        let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        if !cert.exists() {
            create_authority(&cert, &key)?;
        }
        let pem = read(&cert)?;
        let key = KeyPair::from_pem(&read(&key)?)
            .with_context(|| format!("{} is no private key", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .with_context(|| format!("{} is no certificate of an authority", cert.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            issuer,
            pem,
        })
    }

    /// PEM file of the authority, by which every peer is verified.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Files by which the holder of `issued` shows who it is, and verifies others.
    pub fn identity(&self, issued: &IssuedCertificate) -> FleetIdentity {
        FleetIdentity {
            ca: self.ca(),
            certificate: issued.cert.clone(),
            key: issued.key.clone(),
        }
    }

    /// Issues a node's certificate, for its link, its meta port and its internal listeners. `names` are host names and
    /// addresses beside localhost.
    ///
    /// # Errors
    /// A name is none, or the disk refuses.
    pub fn issue_node(
        &self,
        name: &str,
        role: Role,
        names: &[String],
    ) -> Result<IssuedCertificate> {
        let identity = Identity::Node {
            role,
            name: name.to_owned(),
        };
        self.issue(
            name,
            Some(identity.to_string()),
            &with_localhost(names),
            CertificateUse::Both,
        )
    }

    /// Issues the Seed's certificate.
    ///
    /// # Errors
    /// As for a node.
    pub fn issue_seed(&self, names: &[String]) -> Result<IssuedCertificate> {
        self.issue(
            "seed",
            Some(Identity::Seed.to_string()),
            &with_localhost(names),
            CertificateUse::Both,
        )
    }

    /// Issues an operator's certificate, for the command line.
    ///
    /// # Errors
    /// As for a node.
    pub fn issue_operator(&self, name: &str) -> Result<IssuedCertificate> {
        let identity = Identity::Operator {
            name: name.to_owned(),
        };
        self.issue(
            name,
            Some(identity.to_string()),
            &[],
            CertificateUse::Client,
        )
    }

    /// Issues the development certificate of the HTTPS port: localhost, its addresses, `*.localhost`, and `names`.
    ///
    /// # Errors
    /// As for a node.
    pub fn issue_public(&self, names: &[String]) -> Result<IssuedCertificate> {
        let mut all = with_localhost(names);
        all.push("*.localhost".to_owned());
        self.issue("public", None, &all, CertificateUse::Server)
    }

    fn issue(
        &self,
        file: &str,
        uri: Option<String>,
        names: &[String],
        use_: CertificateUse,
    ) -> Result<IssuedCertificate> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let reserved = ["ca", "release"].contains(&file);
        anyhow::ensure!(
            !file.is_empty()
                && file.len() <= 64
                && file.bytes().all(safe)
                && !file.starts_with('.')
                && !reserved,
            "`{file}` cannot be a name: use 1 to 64 letters, digits, `-`, `_`, `.`, and neither `ca` nor `release`"
        );
        let issued = IssuedCertificate {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        let names: BTreeSet<String> = names.iter().cloned().chain(uri).collect();
        if self.is_valid(&issued, &names) {
            return Ok(issued);
        }
        let key = KeyPair::generate()?;
        let certificate = params(file, &names, use_)?.signed_by(&key, &self.issuer)?;
        // The key first: a certificate without its key would be taken for whole by nobody.
        write_private(&issued.key, &key.serialize_pem())?;
        write(&issued.cert, certificate.pem().as_bytes(), 0o644)?;
        Ok(issued)
    }

    /// Whether the issued certificate has these names, the authority's signature, its own key, and time left.
    fn is_valid(&self, issued: &IssuedCertificate, names: &BTreeSet<String>) -> bool {
        let (Ok(cert), Ok(key)) = (fs::read(&issued.cert), fs::read_to_string(&issued.key)) else {
            return false;
        };
        let (Ok((_, cert)), Ok(key)) = (parse_x509_pem(&cert), KeyPair::from_pem(&key)) else {
            return false;
        };
        let Ok((_, ca)) = parse_x509_pem(self.pem.as_bytes()) else {
            return false;
        };
        let (Ok(cert), Ok(ca)) = (cert.parse_x509(), ca.parse_x509()) else {
            return false;
        };
        let renew = (OffsetDateTime::now_utc() + Duration::days(RENEW_DAYS)).unix_timestamp();
        cert.validity().not_after.timestamp() > renew
            && cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && names_of(&cert) == *names
            && cert.verify_signature(Some(ca.public_key())).is_ok()
    }
}

#[derive(Clone, Copy)]
enum CertificateUse {
    Client,
    Server,
    Both,
}

fn with_localhost(names: &[String]) -> Vec<String> {
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    local.into_iter().chain(names.iter().cloned()).collect()
}

fn params(name: &str, names: &BTreeSet<String>, use_: CertificateUse) -> Result<CertificateParams> {
    let mut params = params_valid_for(name, CERTIFICATE_DAYS)?;
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI(name.as_str().try_into()?),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let (client, server) = (
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    params.extended_key_usages = match use_ {
        CertificateUse::Client => vec![client],
        CertificateUse::Server => vec![server],
        CertificateUse::Both => vec![client, server],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Parameters of a certificate that is valid from yesterday: clocks of a fleet differ.
fn params_valid_for(name: &str, days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(days);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Protoplex");
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn create_authority(cert: &Path, key: &Path) -> Result<()> {
    let pair = KeyPair::generate()?;
    let mut params = params_valid_for("Protoplex fleet", AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&pair)?;
    write_private(key, &pair.serialize_pem())?;
    write(cert, certificate.pem().as_bytes(), 0o644)
}

fn names_of(cert: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = cert.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let names = names.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        name => identity::host(name),
    });
    names.collect()
}

/// The development release key of `dir`: `release.key` (hexadecimal seed, mode 0600) and `release.pub`.
/// Made at the first call. A fleet that matters keeps its release key away from its Seed.
///
/// # Errors
/// The files cannot be used, or do not belong together.
pub fn release_key(dir: &Path) -> Result<SigningKey> {
    protoplex_disk::create_dir_all(dir, protoplex_disk::SHARED_DIR)
        .with_context(|| format!("making {}", dir.display()))?;
    let (private, public) = (dir.join("release.key"), dir.join("release.pub"));
    if !private.exists() {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
        write_private(&private, &format!("{}\n", hex::encode(seed)))?;
    }
    let key = signing_key(&read(&private)?)
        .with_context(|| format!("{} is no release key", private.display()))?;
    if !public.exists() {
        let text = format!("{}\n", hex::encode(key.verifying_key().as_bytes()));
        write(&public, text.as_bytes(), 0o644)?;
    }
    let found = verifying_key(&read(&public)?)
        .with_context(|| format!("{} is no public key", public.display()))?;
    anyhow::ensure!(
        found == key.verifying_key(),
        "{} does not belong to {}",
        public.display(),
        private.display()
    );
    Ok(key)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    write(path, text.as_bytes(), 0o600)
}

/// Writes a file as a whole, with the mode from the first byte on.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let written = protoplex_disk::write_whole_as(path, bytes, mode);
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_valid_certificate_is_used_again_until_its_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let first = authority.issue_node("app-1", Role::App, &[]).unwrap();
        let bytes = fs::read(&first.cert).unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let again = authority.issue_node("app-1", Role::App, &[]).unwrap();
        assert_eq!(fs::read(&again.cert).unwrap(), bytes);
        let other = authority
            .issue_node("app-1", Role::App, &["10.0.0.9".to_owned()])
            .unwrap();
        assert_ne!(fs::read(&other.cert).unwrap(), bytes);
        // A name that becomes another role's: the certificate of before, which says no role or another, is not used.
        let before = fs::read(&other.cert).unwrap();
        let live = authority.issue_node("app-1", Role::Live, &["10.0.0.9".to_owned()]);
        assert_ne!(fs::read(&live.unwrap().cert).unwrap(), before);
    }

    #[test]
    fn certificates_of_another_authority_are_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Authority::open_or_create(dir.path())
            .unwrap()
            .issue_seed(&[])
            .unwrap();
        let bytes = fs::read(&issued.cert).unwrap();
        fs::remove_file(dir.path().join("ca.pem")).unwrap();
        Authority::open_or_create(dir.path())
            .unwrap()
            .issue_seed(&[])
            .unwrap();
        assert_ne!(fs::read(&issued.cert).unwrap(), bytes);
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        authority.issue_operator("me").unwrap();
        authority.issue_public(&[]).unwrap();
        release_key(dir.path()).unwrap();
        for name in ["ca.key", "me.key", "public.key", "release.key"] {
            let mode = fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_release_key_stays_the_same_and_must_fit_its_public_half() {
        let dir = tempfile::tempdir().unwrap();
        let key = release_key(dir.path()).unwrap();
        assert_eq!(release_key(dir.path()).unwrap().to_bytes(), key.to_bytes());
        fs::remove_file(dir.path().join("release.key")).unwrap();
        assert!(release_key(dir.path()).is_err());
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        for name in ["../x", "a/b", "", ".x", "ca", "release"] {
            assert!(authority.issue_operator(name).is_err(), "{name}");
        }
    }
}
