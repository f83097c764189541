//! Identity in a certificate of the fleet. A certificate has one URI name, which says all of it: name and role. Every
//! end of a connection compares both with what it expects, or with what the other side claims.
//!
//! `protoplex://seed`, `protoplex://node/<role>/<name>`, `protoplex://operator/<name>`. As in SPIFFE there is exactly
//! one URI name, and what it says is a path that a fleet's name may be put before.

use protoplex_wire::manifest::Role;
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeSet, fmt, net::IpAddr};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const SCHEME: &str = "protoplex://";

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The Seed.
    Seed,
    /// A node.
    Node {
        /// Role of the member.
        role: Role,
        /// Name of the member, unique in the fleet.
        name: String,
    },
    /// An operator.
    Operator {
        /// Name of the operator.
        name: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed => write!(f, "{SCHEME}seed"),
            Self::Node { role, name } => write!(f, "{SCHEME}node/{role}/{name}"),
            Self::Operator { name } => write!(f, "{SCHEME}operator/{name}"),
        }
    }
}

impl Identity {
    /// Reads the identity from a certificate. `None` where it has no URI name, several, or one of another kind, such
    /// as a node's without its role.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::parse(uri),
            _ => None,
        }
    }

    fn parse(uri: &str) -> Option<Self> {
        let path = uri.strip_prefix(SCHEME)?;
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        match parts[..] {
            ["seed"] => Some(Self::Seed),
            ["node", role, name] => Some(Self::Node {
                role: role.parse().ok()?,
                name: name.to_owned(),
            }),
            ["operator", name] => Some(Self::Operator {
                name: name.to_owned(),
            }),
            _ => None,
        }
    }
}

/// Hosts that a certificate is good for, as text: addresses and names.
pub fn hosts(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return BTreeSet::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let names = names.value.general_names.iter();
    names.filter_map(host).collect()
}

/// Text of a certificate's name, where it names a host.
pub(crate) fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Member to which a client means to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The fleet's Seed.
    Seed,
    /// The node of a name, whatever its role.
    NodeNamed(String),
    /// Any node of a role; who knows the name compares it before a word is said.
    NodeOf(Role),
}

impl Expected {
    /// # Errors
    /// Says who is there instead.
    pub(crate) fn check(&self, found: Option<&Identity>) -> Result<(), String> {
        let fits = match (self, found) {
            (Self::Seed, Some(Identity::Seed)) => true,
            (Self::NodeNamed(expected), Some(Identity::Node { name, .. })) => expected == name,
            (Self::NodeOf(expected), Some(Identity::Node { role, .. })) => expected == role,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let expected = match self {
            Self::Seed => Identity::Seed.to_string(),
            Self::NodeNamed(name) => format!("{SCHEME}node/…/{name}"),
            Self::NodeOf(role) => format!("{SCHEME}node/{role}/…"),
        };
        let found = found.map_or_else(|| "nobody of this fleet".to_owned(), ToString::to_string);
        Err(format!(
            "the certificate is that of {found}, and not of {expected}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_back_as_the_identity_that_wrote_it() {
        let name = || "x-1".to_owned();
        for identity in [
            Identity::Seed,
            Identity::Node {
                role: Role::Live,
                name: name(),
            },
            Identity::Operator { name: name() },
        ] {
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
    }

    #[test]
    fn a_uri_of_another_form_is_nobodys() {
        for uri in [
            "protoplex://node/app-1",
            "protoplex://node/app/a/b",
            "protoplex://node/nothing/app-1",
            "protoplex://node/app/",
            "protoplex://node//app-1",
            "protoplex://seed/x",
            "protoplex://operator",
            "spiffe://node/app/app-1",
            "protoplex://",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn name_and_role_are_compared() {
        let app = Identity::Node {
            role: Role::App,
            name: "a".to_owned(),
        };
        let named = |name: &str| Expected::NodeNamed(name.to_owned());
        assert_eq!(named("a").check(Some(&app)), Ok(()));
        assert_eq!(Expected::NodeOf(Role::App).check(Some(&app)), Ok(()));
        for expected in [Expected::Seed, named("b"), Expected::NodeOf(Role::Live)] {
            let error = expected.check(Some(&app)).expect_err("another");
            assert!(error.contains("protoplex://node/app/a"), "{error}");
        }
        assert!(Expected::Seed.check(None).is_err());
    }
}
