//! Consistency of a manifest: names that lead somewhere, paths and hosts of the right shape, limits in range.

use super::{FORMAT, Isolation, Manifest, ManifestError, Probe, Role, Route, World};

use std::collections::HashMap;

mod environment;
mod grants;
mod limits;
mod live;
mod upstreams;

/// Assets live in the memory of every node.
pub const ASSET_BYTES_MAX: u64 = 256 << 20;
/// Compiling takes many times as much memory.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

impl Manifest {
    /// Checks what serde cannot. `push` calls it on a manifest it has just made.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`] with every fault found.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut faults = Vec::new();
        if self.format != FORMAT {
            faults.push(format!(
                "format {} is not known; this version reads format {FORMAT}",
                self.format
            ));
        }
        self.check_handlers(&mut faults);
        self.check_routes(&mut faults);
        self.check_assets(&mut faults);
        self.check_upstreams(&mut faults);
        if let Some(live) = &self.live {
            faults.extend(live::faults(live));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ManifestError::Inconsistent(faults))
        }
    }

    fn check_handlers(&self, faults: &mut Vec<String>) {
        for (name, handler) in &self.handlers {
            let mut fault = |text: String| faults.push(format!("handler `{name}`: {text}"));
            if !is_name(name) {
                fault("a name is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter".into());
            }
            if handler.component_bytes > COMPONENT_BYTES_MAX {
                fault(format!(
                    "the component has {} bytes; {COMPONENT_BYTES_MAX} is the most",
                    handler.component_bytes
                ));
            }
            limits::faults(&handler.limits)
                .into_iter()
                .for_each(&mut fault);
            match handler.isolation {
                Isolation::Shared { requests_max: 0 }
                | Isolation::Concurrent {
                    requests_max: 0, ..
                } => {
                    fault("requests_max is 0; it must be at least 1".into());
                }
                Isolation::Concurrent { concurrency: 0, .. } => {
                    fault("concurrency is 0; it must be at least 1".into())
                }
                Isolation::Concurrent { .. }
                    if !matches!(handler.world, World::App03 | World::LiveStateful) =>
                {
                    fault(format!(
                        "concurrency needs an app-0.3 or live-stateful handler, and this one is {}",
                        handler.world
                    ));
                }
                Isolation::PerRequest | Isolation::Shared { .. }
                    if handler.world == World::LiveStateful =>
                {
                    fault(
                        "a live-stateful handler keeps connections in its instances; write isolation = { concurrency = \
                         64 } for so many in each"
                            .into(),
                    );
                }
                Isolation::Shared { .. } if handler.world == World::App02 => {
                    fault("an app-0.2 handler runs per request only".into());
                }
                _ => {}
            }
            grants::faults(&handler.grants, self)
                .into_iter()
                .for_each(&mut fault);
            environment::faults(handler)
                .into_iter()
                .for_each(&mut fault);
            if let Some(probe) = &handler.probe {
                probe_faults(probe).into_iter().for_each(&mut fault);
            }
        }
    }

    fn check_routes(&self, faults: &mut Vec<String>) {
        let mut seen = HashMap::new();
        for (index, route) in self.routes.iter().enumerate() {
            let mut fault = |text: String| faults.push(format!("route {}: {text}", index + 1));
            match self.handlers.get(&route.handler) {
                None => fault(format!("there is no handler `{}`", route.handler)),
                Some(handler)
                    if handler.world.is_live() && !route.role.spec().keeps_connections =>
                {
                    fault(format!(
                        "handler `{}` is {}, and runs on nodes of role {} only; a proxy relays to them, for example to \
                         `live:NAMESPACE`",
                        route.handler,
                        handler.world,
                        Role::names(|role| role.keeps_connections),
                    ));
                }
                Some(_) => {}
            }
            if let Some(text) = path_fault(&route.path) {
                fault(text);
            }
            if let Some(host) = &route.host
                && let Some(text) = host_fault(host)
            {
                fault(text);
            }
            for method in &route.methods {
                if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
                {
                    fault(format!(
                        "method `{method}` must be upper-case letters, such as GET"
                    ));
                }
            }
            if let Some(timeout_ms) = route.body_timeout_ms {
                let key = "body_timeout_ms";
                let wrong = limits::not_zero(key, timeout_ms)
                    .or_else(|| limits::at_most(key, timeout_ms, limits::WAIT_MS_MAX));
                wrong.into_iter().for_each(&mut fault);
            }
            for key in keys(route) {
                match seen.get(&key) {
                    Some(first) => fault(format!("{key} has a route already, route {first}")),
                    None => drop(seen.insert(key, index + 1)),
                }
            }
        }
    }

    fn check_assets(&self, faults: &mut Vec<String>) {
        for (path, asset) in &self.assets {
            if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
                faults.push(format!(
                    "asset `{path}`: a path starts with `/` and has no `.` or `..` in it"
                ));
            }
            if asset.bytes > ASSET_BYTES_MAX {
                faults.push(format!(
                    "asset `{path}` has {} bytes; {ASSET_BYTES_MAX} is the most",
                    asset.bytes
                ));
            }
            if !asset
                .content_type
                .bytes()
                .all(|b| (0x20..0x7f).contains(&b))
            {
                faults.push(format!(
                    "asset `{path}`: the content type is not printable ASCII"
                ));
            }
        }
    }

    fn check_upstreams(&self, faults: &mut Vec<String>) {
        for (name, upstream) in &self.upstreams {
            if name.contains(':') {
                faults.push(format!(
                    "upstream `{name}`: `:` is kept for built-in upstreams"
                ));
            }
            if upstream.addresses.is_empty() {
                faults.push(format!("upstream `{name}` has no address"));
            }
            for fault in upstreams::faults(upstream) {
                faults.push(format!("upstream `{name}`: {fault}"));
            }
        }
    }
}

/// Keys that must be unique: one handler for each (role, host, path, method).
fn keys(route: &Route) -> Vec<String> {
    let host = route.host.as_deref().unwrap_or("any host");
    let one = |method: &str| format!("{} {method} {host}{}", route.role, route.path);
    if route.methods.is_empty() {
        vec![one("any")]
    } else {
        route.methods.iter().map(|m| one(m)).collect()
    }
}

fn is_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    name.len() <= 64 && name.bytes().all(ok) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// A probe that no request could be.
fn probe_faults(probe: &Probe) -> Vec<String> {
    let path = probe_path_fault("probe.path", &probe.path);
    let host = probe.host.as_deref();
    let host = host.and_then(|host| probe_host_fault("probe.host", host));
    path.into_iter().chain(host).collect()
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| (0x21..0x7f).contains(&b))
}

fn probe_path_fault(key: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("{key} `{path}` must start with `/`"));
    }
    (path.contains('#') || !is_visible(path))
        .then(|| format!("{key} `{path}`: write path and query as they stand on a request line"))
}

fn probe_host_fault(key: &str, host: &str) -> Option<String> {
    (host.is_empty() || host.contains(['/', '?', '#', '@']) || !is_visible(host))
        .then(|| format!("{key} `{host}` must be a name, with or without a port"))
}

fn path_fault(path: &str) -> Option<String> {
    let fixed = path.strip_suffix("/*").unwrap_or(path);
    if !path.starts_with('/') {
        return Some(format!("path `{path}` must start with `/`"));
    }
    if fixed.contains('*') {
        return Some(format!(
            "path `{path}`: `*` may only be the whole last part, as in `/static/*`"
        ));
    }
    if path.contains(['?', '#']) || !path.bytes().all(|b| (0x21..0x7f).contains(&b)) {
        return Some(format!(
            "path `{path}`: write it as it stands on a request line, without query and fragment"
        ));
    }
    None
}

fn host_fault(host: &str) -> Option<String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let ok = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':')
    };
    if name.is_empty() || !name.bytes().all(ok) {
        return Some(format!(
            "host `{host}` must be a lower-case name or `*.` and a name"
        ));
    }
    if !name.starts_with('[') && name.contains(':') {
        return Some(format!("host `{host}`: leave the port out"));
    }
    None
}
