//! Check of upstreams: limits in range, and nothing that another key makes void.

use super::{
    Findings,
    limits::{IN_FLIGHT_MAX, QUEUE_MAX, WAIT_MS_MAX},
    probes,
};
use crate::{
    manifest::{Ejection, HealthCheck, Upstream, UpstreamFault, UpstreamProtocol, UpstreamTls},
    names::{is_address, is_host},
};

/// Most servers of an upstream: one request can remember to have tried so many.
const ADDRESSES_MAX: usize = 64;
/// Most retries of a request: one that failed so often fails.
const ATTEMPTS_MAX: u64 = 10;
/// Fewest milliseconds between two health checks: more often is an attack.
const HEALTH_INTERVAL_MS_MIN: u64 = 100;
/// Most health checks in a row that a change may take, so that they still tell anything.
const CHECKS_MAX: u64 = 100;
/// Most failures in a row before an ejection, so that they still tell anything.
const FAILURES_MAX: u64 = 10_000;
/// Most bytes of authorities' certificates: dozens of authorities; all of the web's are some 200 KiB.
const CA_PEM_BYTES_MAX: usize = 256 << 10;

/// Checks an upstream.
pub(super) fn check(found: &mut Findings<'_>, name: &str, upstream: &Upstream) {
    if name.contains(':') {
        found.add(UpstreamFault::Name);
    }
    check_addresses(found, &upstream.addresses);
    check_numbers(found, upstream);
    check_queue(found, upstream);
    check_ejection(&mut found.key("ejection"), &upstream.ejection);
    if let Some(health) = &upstream.health {
        check_health(&mut found.key("health"), health);
    }
    check_tls(&mut found.key("tls"), &upstream.tls, upstream.protocol);
    let shares = matches!(
        upstream.protocol,
        UpstreamProtocol::H2c | UpstreamProtocol::Https
    );
    if upstream.proxy_protocol.is_some() && shares {
        found.add_at("proxy_protocol", UpstreamFault::SharedConnections);
    }
}

fn check_numbers(found: &mut Findings<'_>, upstream: &Upstream) {
    for (key, value) in [
        ("connect_timeout_ms", upstream.connect_timeout_ms),
        ("first_byte_timeout_ms", upstream.first_byte_timeout_ms),
        ("idle_timeout_ms", upstream.idle_timeout_ms),
    ] {
        found.some_at_most(key, value, WAIT_MS_MAX);
    }
    for (key, value, most) in [
        ("total_timeout_ms", upstream.total_timeout_ms, WAIT_MS_MAX),
        ("queue_timeout_ms", upstream.queue_timeout_ms, WAIT_MS_MAX),
        ("slow_start_ms", upstream.slow_start_ms, WAIT_MS_MAX),
        (
            "in_flight_max",
            upstream.in_flight_max.into(),
            IN_FLIGHT_MAX,
        ),
        ("queue_max", upstream.queue_max.into(), QUEUE_MAX),
    ] {
        found.at_most(key, value, most);
    }
    let (mut found, retries) = (found.key("retries"), &upstream.retries);
    found.at_most("attempts_max", retries.attempts_max.into(), ATTEMPTS_MAX);
    found.at_most("budget_percent", retries.budget_percent.into(), 100);
}

fn check_addresses(found: &mut Findings<'_>, all: &[String]) {
    if all.is_empty() {
        found.add_at("addresses", UpstreamFault::NoAddress);
    }
    found.few("addresses", all.len(), ADDRESSES_MAX);
    for (at, address) in all.iter().enumerate() {
        let kind = if !is_address(address) {
            UpstreamFault::Address
        } else if all[..at].contains(address) {
            UpstreamFault::AddressTwice
        } else {
            continue;
        };
        let fault = kind(address.clone());
        found.key("addresses").index(at).add(fault);
    }
}

fn check_queue(found: &mut Findings<'_>, upstream: &Upstream) {
    let (queue_max, timeout_ms) = (upstream.queue_max, upstream.queue_timeout_ms);
    if queue_max > 0 && upstream.in_flight_max == 0 {
        found.add_at("queue_max", UpstreamFault::NeverFull);
        return;
    }
    match (queue_max, timeout_ms) {
        (0, 1..) => found.add_at("queue_timeout_ms", UpstreamFault::NoQueue),
        (1.., 0) => found.add_at("queue_timeout_ms", UpstreamFault::NoWait),
        _ => {}
    }
}

fn check_ejection(found: &mut Findings<'_>, ejection: &Ejection) {
    let percent = ejection.servers_percent_max;
    if !(1..=100).contains(&percent) {
        let fault = UpstreamFault::EjectedPercent(percent);
        found.add_at("servers_percent_max", fault);
    }
    found.at_most("failures", ejection.failures.into(), FAILURES_MAX);
    found.some_at_most("eject_ms", ejection.eject_ms, WAIT_MS_MAX);
}

fn check_health(found: &mut Findings<'_>, check: &HealthCheck) {
    probes::check_path(found, "health.path", &check.path);
    probes::check_host(found, "health.host", check.host.as_deref());
    let (interval_ms, timeout_ms) = (check.interval_ms, check.timeout_ms);
    let intervals = HEALTH_INTERVAL_MS_MIN..=WAIT_MS_MAX;
    found.within("interval_ms", interval_ms, intervals);
    if timeout_ms == 0 || timeout_ms > interval_ms {
        let fault = UpstreamFault::HealthTimeout {
            timeout_ms,
            interval_ms,
        };
        found.add_at("timeout_ms", fault);
    }
    for (key, value) in [
        ("unhealthy_after", check.unhealthy_after),
        ("healthy_after", check.healthy_after),
    ] {
        found.some_at_most(key, value.into(), CHECKS_MAX);
    }
}

fn check_tls(found: &mut Findings<'_>, tls: &UpstreamTls, protocol: UpstreamProtocol) {
    let plain = matches!(protocol, UpstreamProtocol::Http1 | UpstreamProtocol::H2c);
    if plain && *tls != UpstreamTls::default() {
        found.add(UpstreamFault::PlainProtocol);
    }
    if let Some(name) = &tls.server_name
        && (!is_host(name) || name.contains(['*', '[']))
    {
        found.add_at("server_name", UpstreamFault::ServerName(name.clone()));
    }
    if let Some(pem) = &tls.ca_pem {
        if pem.len() > CA_PEM_BYTES_MAX {
            let (bytes, most) = (pem.len(), CA_PEM_BYTES_MAX);
            let fault = UpstreamFault::AuthoritiesBytes { bytes, most };
            found.add_at("ca_pem", fault);
        } else if !is_pem(pem) {
            found.add_at("ca_pem", UpstreamFault::NoPem);
        }
    }
}

/// Whether a text has the form of PEM; the certificates are read where they are used.
fn is_pem(text: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=\r\n \t".contains(&b);
    let mut parts = text.split(BEGIN);
    // What stands before, between and after them is a comment.
    parts.next();
    let mut parts = parts.peekable();
    parts.peek().is_some()
        && parts.all(|part| {
            part.split_once(END)
                .is_some_and(|(inside, _)| inside.len() > 2 && inside.bytes().all(base64))
        })
}

#[cfg(test)]
mod tests;
