//! Grants: what a handler may use. Each leads somewhere: one that never matches would be found out by a visitor.

use super::{FaultKind, Manifest, UnknownName, check::Findings};
use crate::{NoUpstreamRef, OutgoingGrant, UpstreamRef, role::ROLES};
use serde::{Deserialize, Serialize};

/// Permissions of a handler. Absent means not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Settings it may read; `*` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Upstreams it may relay to, built-in ones (`role:app`) included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<String>,
    /// Prefixes of assets it may serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<String>,
    /// App handlers it may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Hosts an app may send requests to: `host`, `host:port`, `*.host`, or an address. Private and
    /// loopback addresses only where named as addresses or by a name listed here with `!private`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outgoing: Vec<String>,
    /// Namespaces of channels that it may subscribe its connections to and publish in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Protocols other than `websocket` that a relayed connection may be upgraded to, and `connect`: CONNECT may be
    /// relayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<String>,
}

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
        let is_grant = host.parse::<OutgoingGrant>().is_ok();
        (!is_grant).then(|| GrantFault::Outgoing(host.to_owned()).into())
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
    let named = to.to_owned();
    let fault = match to.parse() {
        Ok(UpstreamRef::Named(name)) if !manifest.upstreams.contains_key(&name) => {
            return Some(UnknownName::Upstream(name).into());
        }
        Ok(_) => return None,
        Err(NoUpstreamRef::Namespace) => GrantFault::LiveNamespace(named),
        Err(NoUpstreamRef::Role) => GrantFault::Role(named),
        Err(NoUpstreamRef::Server) => GrantFault::Address(named),
    };
    Some(fault.into())
}

fn known_roles() -> String {
    let known = ROLES
        .each_ref()
        .map(|row| format!("`{}`", UpstreamRef::Role(row.role)));
    known.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
