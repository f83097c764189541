//! Check of routes: some request can take each of them.

use super::{Findings, is_visible, limits::WAIT_MS_MAX};
use crate::manifest::{Manifest, Route, RouteFault, UnknownName};
use std::collections::HashMap;

pub(super) fn check(found: &mut Findings<'_>, manifest: &Manifest) {
    let mut seen = HashMap::new();
    for (index, route) in manifest.routes.iter().enumerate() {
        let mut found = found.index(index);
        check_handler(&mut found, route, manifest);
        if let Some(fault) = path_fault(&route.path) {
            found.add_at("path", fault);
        }
        if let Some(fault) = route.host.as_deref().and_then(host_fault) {
            found.add_at("host", fault);
        }
        for (at, method) in route.methods.iter().enumerate() {
            let is_upper = |b: u8| b.is_ascii_uppercase() || b == b'-';
            if method.is_empty() || !method.bytes().all(is_upper) {
                let fault = RouteFault::Method(method.clone());
                found.key("methods").index(at).add(fault);
            }
        }
        if let Some(timeout_ms) = route.body_timeout_ms {
            found.some_at_most("body_timeout_ms", timeout_ms, WAIT_MS_MAX);
        }
        for requests in requests(route) {
            match seen.get(&requests) {
                Some(&first) => found.add(RouteFault::Taken { requests, first }),
                None => drop(seen.insert(requests, index + 1)),
            }
        }
    }
}

fn check_handler(found: &mut Findings<'_>, route: &Route, manifest: &Manifest) {
    let name = || route.handler.clone();
    match manifest.handlers.get(&route.handler) {
        None => found.add_at("handler", UnknownName::Handler(name())),
        Some(handler) if handler.world.is_live() && !route.role.spec().keeps_connections => {
            let fault = RouteFault::LiveOnly {
                handler: name(),
                world: handler.world,
            };
            found.add_at("handler", fault);
        }
        Some(_) => {}
    }
}

/// The requests that a route takes, as unique texts: one for each (role, host, path, method).
fn requests(route: &Route) -> Vec<String> {
    let host = route.host.as_deref().unwrap_or("any host");
    let one = |method: &str| format!("{} {method} {host}{}", route.role, route.path);
    if route.methods.is_empty() {
        vec![one("any")]
    } else {
        route.methods.iter().map(|m| one(m)).collect()
    }
}

fn path_fault(path: &str) -> Option<RouteFault> {
    let fixed = path.strip_suffix("/*").unwrap_or(path);
    let kind = if !path.starts_with('/') {
        RouteFault::NoSlash
    } else if fixed.contains('*') {
        RouteFault::Star
    } else if path.contains(['?', '#']) || !is_visible(path) {
        RouteFault::Path
    } else {
        return None;
    };
    Some(kind(path.to_owned()))
}

fn host_fault(host: &str) -> Option<RouteFault> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let ok = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':')
    };
    if name.is_empty() || !name.bytes().all(ok) {
        return Some(RouteFault::Host(host.to_owned()));
    }
    let has_port = !name.starts_with('[') && name.contains(':');
    has_port.then(|| RouteFault::Port(host.to_owned()))
}
