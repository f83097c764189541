//! Check of the host's own requests, for probes and health checks: what no request could be is refused.

use super::{Findings, is_visible};
use crate::manifest::ProbeFault;

/// Checks the path of a probe or a health check. `key` is what a person would call it.
pub(super) fn check_path(found: &mut Findings<'_>, key: &'static str, path: &str) {
    let named = || path.to_owned();
    if !path.starts_with('/') {
        found.add_at("path", ProbeFault::NoSlash { key, path: named() });
    } else if path.contains('#') || !is_visible(path) {
        found.add_at("path", ProbeFault::Path { key, path: named() });
    }
}

/// Checks the host of a probe or a health check. `key` is what a person would call it.
pub(super) fn check_host(found: &mut Findings<'_>, key: &'static str, host: Option<&str>) {
    let is_host =
        |host: &&str| !host.is_empty() && !host.contains(['/', '?', '#', '@']) && is_visible(host);
    if let Some(host) = host.filter(|host| !is_host(host)) {
        let host = host.to_owned();
        found.add_at("host", ProbeFault::Host { key, host });
    }
}
