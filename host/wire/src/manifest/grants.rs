//! Grants: what a handler may use. A grant that could never match is a fault: otherwise a client would be the first to
//! notice.

use super::{FaultKind, GrantFault, Manifest, UnknownName, findings::Findings};
use crate::{NoUpstreamRef, OutgoingGrant, UpstreamRef, role::ROLES};
use serde::{Deserialize, Serialize};

/// Permissions of a handler. Absent means not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Settings that the handler may read; `*` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Upstreams that the handler may relay to, built-in ones (`role:app`) included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<String>,
    /// Prefixes of assets that the handler may serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<String>,
    /// App handlers that the handler may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Hosts that an app may send requests to: `host`, `host:port`, `*.host`, or an address. Private and loopback
    /// addresses only where named as addresses or by a name listed here with `!private`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outgoing: Vec<String>,
    /// Namespaces of channels in which the handler may subscribe its connections and publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Protocols other than `websocket` that a relayed connection may be upgraded to, and `connect`: CONNECT may be
    /// relayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<String>,
}

/// Checks a handler's grants.
pub(super) fn check(found: &mut Findings<'_>, grants: &Grants, manifest: &Manifest) {
    each(found, "settings", &grants.settings, |setting| {
        let is_known = setting == "*" || manifest.settings.contains_key(setting);
        ensure(is_known, || UnknownName::Setting(setting.to_owned()))
    });
    each(found, "relay", &grants.relay, |to| relay(to, manifest));
    each(found, "assets", &grants.assets, |prefix| {
        let remedy = "a prefix of assets starts with `/`";
        let is_prefix = prefix.starts_with('/');
        ensure(is_prefix, || malformed("assets", prefix, remedy))
    });
    each(found, "apps", &grants.apps, |app| {
        let handler = manifest.handlers.get(app);
        let is_app = handler.is_some_and(|handler| handler.world.is_app());
        ensure(is_app, || UnknownName::App(app.to_owned()))
    });
    each(found, "channels", &grants.channels, |namespace| {
        let live = manifest.live.as_ref();
        let is_known = live.is_some_and(|live| live.namespaces.contains_key(namespace));
        ensure(is_known, || UnknownName::Namespace(namespace.to_owned()))
    });
    each(found, "outgoing", &grants.outgoing, |host| {
        let grant = host.parse::<OutgoingGrant>().map(drop);
        grant.map_err(|remedy| malformed("outgoing", host, remedy).into())
    });
    each(found, "upgrades", &grants.upgrades, |protocol| {
        let remedy = "write a protocol in lower case as `Upgrade` names it, or `connect`";
        ensure(is_protocol(protocol), || {
            malformed("upgrades", protocol, remedy)
        })
    });
}

/// Calls `check` for each grant of the list at `key`, and adds the faults that it finds.
fn each(
    found: &mut Findings<'_>,
    key: &'static str,
    grants: &[String],
    check: impl Fn(&str) -> Result<(), FaultKind>,
) {
    for (index, grant) in grants.iter().enumerate() {
        if let Err(fault) = check(grant) {
            found.key(key).index(index).add(fault);
        }
    }
}

fn ensure<F: Into<FaultKind>>(holds: bool, fault: impl FnOnce() -> F) -> Result<(), FaultKind> {
    match holds {
        true => Ok(()),
        false => Err(fault().into()),
    }
}

fn malformed(key: &'static str, text: &str, remedy: impl ToString) -> GrantFault {
    GrantFault::Malformed {
        key,
        text: text.to_owned(),
        remedy: remedy.to_string(),
    }
}

fn relay(to: &str, manifest: &Manifest) -> Result<(), FaultKind> {
    let remedy = match to.parse() {
        Ok(UpstreamRef::Named(name)) if !manifest.upstreams.contains_key(&name) => {
            return Err(UnknownName::Upstream(name).into());
        }
        Ok(_) => return Ok(()),
        Err(fault @ NoUpstreamRef::Server) => return Err(malformed("relay", to, fault).into()),
        Err(NoUpstreamRef::Role) => {
            let known = ROLES
                .each_ref()
                .map(|row| format!("`{}`", UpstreamRef::Role(row.role)));
            format!("there are {}", known.join(", "))
        }
        Err(fault @ NoUpstreamRef::Namespace) => format!("{fault}, as in `live:chat`"),
    };
    let (key, text) = ("relay", to.to_owned());
    Err(GrantFault::Nothing { key, text, remedy }.into())
}

/// Whether a text is a token (RFC 9110, section 5.6.2), with or without a version.
fn is_protocol(text: &str) -> bool {
    let ok =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    let token = |part: &str| !part.is_empty() && part.bytes().all(ok);
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    token(name) && token(version)
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
