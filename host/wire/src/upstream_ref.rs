//! References to upstreams, as grants and decisions write them. The grammar stands here alone: whoever routes by a
//! reference parses it once, when a build loads.

use crate::{
    manifest::Role,
    names::{is_address, is_name},
};
use std::{fmt, str::FromStr};

/// Prefix of a reference to a role.
const ROLE_PREFIX: &str = "role:";
/// Prefix of a reference to a namespace.
const LIVE_PREFIX: &str = "live:";

/// Parsed reference to the target of a relay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamRef {
    /// An upstream of the build, by its name.
    Named(String),
    /// Any node of a role: `role:app`.
    Role(Role),
    /// The child of a live node that a key of a namespace is placed on: `live:chat`.
    Live(String),
    /// One server: `host:port`.
    Server(String),
}

/// Why a text refers to no upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUpstreamRef {
    /// The text after `live:` is no namespace.
    #[error("a namespace is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter")]
    Namespace,
    /// The text after `role:` is no role.
    #[error("there is no such role")]
    Role,
    /// The text has a colon, but is no host and port.
    #[error("write an upstream's name, `role:NAME` or `host:port`")]
    Server,
}

impl FromStr for UpstreamRef {
    type Err = NoUpstreamRef;

    fn from_str(text: &str) -> Result<Self, NoUpstreamRef> {
        if let Some(namespace) = text.strip_prefix(LIVE_PREFIX) {
            let namespace = is_name(namespace).then(|| namespace.to_owned());
            return namespace.map(Self::Live).ok_or(NoUpstreamRef::Namespace);
        }
        if let Some(role) = text.strip_prefix(ROLE_PREFIX) {
            let role = role.parse().ok();
            return role.map(Self::Role).ok_or(NoUpstreamRef::Role);
        }
        if !text.contains(':') {
            return Ok(Self::Named(text.to_owned()));
        }
        let server = is_address(text).then(|| text.to_owned());
        server.map(Self::Server).ok_or(NoUpstreamRef::Server)
    }
}

impl fmt::Display for UpstreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Role(role) => write!(f, "{ROLE_PREFIX}{role}"),
            Self::Live(namespace) => write!(f, "{LIVE_PREFIX}{namespace}"),
            Self::Server(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_and_written_the_same() {
        for (text, expected) in [
            ("back", UpstreamRef::Named("back".into())),
            ("role:app", UpstreamRef::Role(Role::App)),
            ("live:chat", UpstreamRef::Live("chat".into())),
            ("10.0.0.7:8080", UpstreamRef::Server("10.0.0.7:8080".into())),
            ("[::1]:80", UpstreamRef::Server("[::1]:80".into())),
        ] {
            let parsed: UpstreamRef = text.parse().expect("a reference");
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string(), text);
        }
        for (text, fault) in [
            ("live:", NoUpstreamRef::Namespace),
            ("live:Chat", NoUpstreamRef::Namespace),
            ("role:ap", NoUpstreamRef::Role),
            ("h:x", NoUpstreamRef::Server),
            ("*.a:80", NoUpstreamRef::Server),
        ] {
            assert_eq!(text.parse::<UpstreamRef>(), Err(fault), "{text}");
        }
    }
}
