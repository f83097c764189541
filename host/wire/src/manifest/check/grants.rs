//! Grants that can be read and lead somewhere: one that never matches would be found out by a visitor.

use super::{is_name, upstreams::is_address};
use crate::{
    directory::LIVE_PREFIX,
    manifest::{Grants, Manifest},
    role::{ROLES, Role},
};
use std::net::IpAddr;

/// Faults of a handler's grants.
pub(super) fn faults(grants: &Grants, manifest: &Manifest) -> Vec<String> {
    let mut faults = Vec::new();
    for setting in &grants.settings {
        if setting != "*" && !manifest.settings.contains_key(setting) {
            faults.push(format!(
                "grants.settings names setting `{setting}`, which the build does not have"
            ));
        }
    }
    faults.extend(grants.relay.iter().filter_map(|to| relay(to, manifest)));
    for prefix in grants.assets.iter().filter(|p| !p.starts_with('/')) {
        faults.push(format!(
            "grants.assets has `{prefix}`; a prefix of assets starts with `/`"
        ));
    }
    for app in &grants.apps {
        let found = manifest.handlers.get(app);
        if !found.is_some_and(|handler| handler.world.is_app()) {
            faults.push(format!(
                "grants.apps names `{app}`, which is no app handler of the build"
            ));
        }
    }
    for namespace in &grants.channels {
        let live = manifest.live.as_ref();
        if !live.is_some_and(|live| live.namespaces.contains_key(namespace)) {
            faults.push(format!(
                "grants.channels names `{namespace}`, and there is no [live.namespaces.{namespace}]"
            ));
        }
    }
    for host in grants.outgoing.iter().filter(|host| !is_outgoing(host)) {
        faults.push(format!(
            "grants.outgoing has `{host}`; write `host`, `host:port`, `*.host` or an address, and `!private` after a \
             name that may lead to private addresses"
        ));
    }
    for protocol in grants.upgrades.iter().filter(|p| !is_protocol(p)) {
        faults.push(format!(
            "grants.upgrades has `{protocol}`; write a protocol in lower case as `Upgrade` names it, or `connect`"
        ));
    }
    faults
}

/// A token (RFC 9110, section 5.6.2), with or without a version.
fn is_protocol(text: &str) -> bool {
    let ok =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    let token = |part: &str| !part.is_empty() && part.bytes().all(ok);
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    token(name) && token(version)
}

fn relay(to: &str, manifest: &Manifest) -> Option<String> {
    if let Some(namespace) = to.strip_prefix(LIVE_PREFIX) {
        return (!is_name(namespace)).then(|| {
            format!(
                "grants.relay names `{to}`; a namespace is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter, as \
                 in `live:chat`"
            )
        });
    }
    match to.strip_prefix("role:") {
        Some(role) => Role::of_name(role).is_none().then(|| {
            let known = ROLES.iter().map(|role| format!("`role:{}`", role.name));
            let known: Vec<String> = known.collect();
            format!("grants.relay names `{to}`; there are {}", known.join(", "))
        }),
        None if to.contains(':') => (!is_address(to)).then(|| {
            format!("grants.relay has `{to}`; write an upstream's name, `role:NAME` or `host:port`")
        }),
        None => (!manifest.upstreams.contains_key(to))
            .then(|| format!("grants.relay names upstream `{to}`, which the build does not have")),
    }
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
