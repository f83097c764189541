//! Grants that can be read and lead somewhere: one that never matches would be found out by a visitor.

use super::{Findings, is_name, upstreams::is_address};
use crate::{
    directory::LIVE_PREFIX,
    manifest::{FaultKind, Grants, Manifest, UnknownName},
    role::{ROLES, Role},
};
use std::net::IpAddr;

/// A grant that could never match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// A namespace that no directory has.
    #[error(
        "grants.relay names `{0}`; a namespace is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter, as in \
         `live:chat`"
    )]
    LiveNamespace(String),
    /// A role that there is not.
    #[error("grants.relay names `{0}`; there are {known}", known = known_roles())]
    Role(String),
    /// An address that is none.
    #[error("grants.relay has `{0}`; write an upstream's name, `role:NAME` or `host:port`")]
    Address(String),
    /// A prefix that no asset begins with.
    #[error("grants.assets has `{0}`; a prefix of assets starts with `/`")]
    AssetPrefix(String),
    /// A host that no request can name.
    #[error(
        "grants.outgoing has `{0}`; write `host`, `host:port`, `*.host` or an address, and `!private` after a name that \
         may lead to private addresses"
    )]
    Outgoing(String),
    /// A protocol that no header names.
    #[error(
        "grants.upgrades has `{0}`; write a protocol in lower case as `Upgrade` names it, or `connect`"
    )]
    Upgrade(String),
}

/// Checks a handler's grants.
pub(super) fn check(found: &mut Findings<'_>, grants: &Grants, manifest: &Manifest) {
    each(found, "settings", &grants.settings, |setting| {
        let is_known = setting == "*" || manifest.settings.contains_key(setting);
        (!is_known).then(|| UnknownName::Setting(setting.to_owned()).into())
    });
    each(found, "relay", &grants.relay, |to| relay(to, manifest));
    each(found, "assets", &grants.assets, |prefix| {
        let is_absolute = prefix.starts_with('/');
        (!is_absolute).then(|| GrantFault::AssetPrefix(prefix.to_owned()).into())
    });
    each(found, "apps", &grants.apps, |app| {
        let handler = manifest.handlers.get(app);
        let is_app = handler.is_some_and(|handler| handler.world.is_app());
        (!is_app).then(|| UnknownName::App(app.to_owned()).into())
    });
    each(found, "channels", &grants.channels, |namespace| {
        let live = manifest.live.as_ref();
        let is_known = live.is_some_and(|live| live.namespaces.contains_key(namespace));
        (!is_known).then(|| UnknownName::Namespace(namespace.to_owned()).into())
    });
    each(found, "outgoing", &grants.outgoing, |host| {
        (!is_outgoing(host)).then(|| GrantFault::Outgoing(host.to_owned()).into())
    });
    each(found, "upgrades", &grants.upgrades, |protocol| {
        (!is_protocol(protocol)).then(|| GrantFault::Upgrade(protocol.to_owned()).into())
    });
}

/// Each grant of the list at `key` that has a fault.
fn each(
    found: &mut Findings<'_>,
    key: &'static str,
    grants: &[String],
    fault: impl Fn(&str) -> Option<FaultKind>,
) {
    for (index, grant) in grants.iter().enumerate() {
        if let Some(fault) = fault(grant) {
            found.key(key).index(index).add(fault);
        }
    }
}

/// A token (RFC 9110, section 5.6.2), with or without a version.
fn is_protocol(text: &str) -> bool {
    let ok =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    let token = |part: &str| !part.is_empty() && part.bytes().all(ok);
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    token(name) && token(version)
}

fn relay(to: &str, manifest: &Manifest) -> Option<FaultKind> {
    let named = || to.to_owned();
    if let Some(namespace) = to.strip_prefix(LIVE_PREFIX) {
        return (!is_name(namespace)).then(|| GrantFault::LiveNamespace(named()).into());
    }
    match to.strip_prefix("role:") {
        Some(role) => Role::of_name(role)
            .is_none()
            .then(|| GrantFault::Role(named()).into()),
        None if to.contains(':') => (!is_address(to)).then(|| GrantFault::Address(named()).into()),
        None => {
            (!manifest.upstreams.contains_key(to)).then(|| UnknownName::Upstream(named()).into())
        }
    }
}

fn known_roles() -> String {
    let known: Vec<String> = ROLES.iter().map(|role| format!("`role:{}`", role.name)).collect();
    known.join(", ")
}

/// `host`, `host:port`, `*.host`, an address with or without a port (IPv6 in brackets then); `!private` after it.
fn is_outgoing(text: &str) -> bool {
    let text = text.strip_suffix("!private").unwrap_or(text);
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    port_ok && is_host(host)
}

pub(super) fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty()
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_match_is_an_outgoing_grant() {
        for good in [
            "example.com",
            "example.com:8080",
            "*.example.com",
            "db.internal!private",
            "127.0.0.1:9000",
            "10.0.0.1",
            "::1",
            "[::1]:9000",
        ] {
            assert!(is_outgoing(good), "{good}");
        }
        for bad in [
            "",
            "https://example.com",
            "example.com/path",
            "example.com:http",
            "example.com:0",
            "example.com:70000",
            "a.*.com",
            "*",
            "exa mple",
            "a..b",
            "[::1",
            "!private",
        ] {
            assert!(!is_outgoing(bad), "{bad}");
        }
    }

    #[test]
    fn only_protocols_are_upgrade_grants() {
        for good in ["connect", "h2c", "tls/1.0", "my-protocol.v2"] {
            assert!(is_protocol(good), "{good}");
        }
        for bad in ["", "WebSocket", "a b", "a/", "/1", "a/1/2", "a,b"] {
            assert!(!is_protocol(bad), "{bad}");
        }
    }
}
