//! Upstreams that can be used: limits in range, and nothing that another key makes void.

use super::{
    grants::is_host,
    limits::{IN_FLIGHT_MAX, QUEUE_MAX, WAIT_MS_MAX, at_most, not_zero},
    probe_host_fault, probe_path_fault,
};
use crate::manifest::{Ejection, HealthCheck, Upstream, UpstreamProtocol, UpstreamTls};

/// One request can remember to have tried so many.
const ADDRESSES_MAX: usize = 64;
/// A request that failed so often fails.
const ATTEMPTS_MAX: u64 = 10;
/// More often is an attack.
const HEALTH_INTERVAL_MS_MIN: u64 = 100;
/// Checks in a row that still tell anything.
const CHECKS_MAX: u64 = 100;
/// Failures in a row that still tell anything.
const FAILURES_MAX: u64 = 10_000;
/// Dozens of authorities; all of the web's are some 200 KiB.
const CA_PEM_BYTES_MAX: usize = 256 << 10;

/// Faults of an upstream.
pub(super) fn faults(upstream: &Upstream) -> Vec<String> {
    let mut faults = addresses(upstream);
    for (key, value) in [
        ("connect_timeout_ms", upstream.connect_timeout_ms),
        ("first_byte_timeout_ms", upstream.first_byte_timeout_ms),
        ("idle_timeout_ms", upstream.idle_timeout_ms),
    ] {
        faults.extend(not_zero(key, value).or_else(|| at_most(key, value, WAIT_MS_MAX)));
    }
    let retries = &upstream.retries;
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
        (
            "retries.attempts_max",
            retries.attempts_max.into(),
            ATTEMPTS_MAX,
        ),
        ("retries.budget_percent", retries.budget_percent.into(), 100),
    ] {
        faults.extend(at_most(key, value, most));
    }
    faults.extend(queue(upstream));
    faults.extend(ejection(&upstream.ejection));
    faults.extend(upstream.health.iter().flat_map(health));
    faults.extend(tls(&upstream.tls, upstream.protocol));
    let shares = matches!(
        upstream.protocol,
        UpstreamProtocol::H2c | UpstreamProtocol::Https
    );
    if upstream.proxy_protocol.is_some() && shares {
        faults.push(
            "proxy_protocol names one visitor for each connection, and HTTP/2 shares them; write protocol = \"http1\" or \"https-http1\""
                .to_owned(),
        );
    }
    faults
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    let mut faults = Vec::new();
    let all = &upstream.addresses;
    if all.len() > ADDRESSES_MAX {
        faults.push(format!(
            "addresses has {} of them; {ADDRESSES_MAX} is the most",
            all.len()
        ));
    }
    for (at, address) in all.iter().enumerate() {
        if !is_address(address) {
            faults.push(format!("address `{address}` must be host:port"));
        } else if all[..at].contains(address) {
            faults.push(format!("address `{address}` stands there twice"));
        }
    }
    faults
}

/// `host:port`; IPv6 in brackets.
pub(super) fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let port_ok = port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_ok = is_host(host) && !host.starts_with('*');
    port_ok && host_ok && port.bytes().all(|b| b.is_ascii_digit())
}

fn queue(upstream: &Upstream) -> Option<String> {
    let (queue_max, timeout_ms) = (upstream.queue_max, upstream.queue_timeout_ms);
    if queue_max > 0 && upstream.in_flight_max == 0 {
        return Some(
            "queue_max has no meaning without in_flight_max: nothing is ever full".to_owned(),
        );
    }
    match (queue_max, timeout_ms) {
        (0, 1..) => Some("queue_timeout_ms has no meaning without queue_max".to_owned()),
        (1.., 0) => Some("queue_timeout_ms is 0, so nothing could ever wait".to_owned()),
        _ => None,
    }
}

fn ejection(ejection: &Ejection) -> Vec<String> {
    let mut faults = Vec::new();
    let percent = ejection.servers_percent_max;
    if !(1..=100).contains(&percent) {
        faults.push(format!(
            "ejection.servers_percent_max is {percent}; it must be from 1 to 100, and ejection.failures = 0 ejects none"
        ));
    }
    faults.extend(at_most(
        "ejection.failures",
        ejection.failures.into(),
        FAILURES_MAX,
    ));
    let (key, value) = ("ejection.eject_ms", ejection.eject_ms);
    faults.extend(not_zero(key, value).or_else(|| at_most(key, value, WAIT_MS_MAX)));
    faults
}

fn health(check: &HealthCheck) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(probe_path_fault("health.path", &check.path));
    let host = check.host.as_deref();
    faults.extend(host.and_then(|host| probe_host_fault("health.host", host)));
    let (interval_ms, timeout_ms) = (check.interval_ms, check.timeout_ms);
    if !(HEALTH_INTERVAL_MS_MIN..=WAIT_MS_MAX).contains(&interval_ms) {
        faults.push(format!(
            "health.interval_ms is {interval_ms}; it must be from {HEALTH_INTERVAL_MS_MIN} to {WAIT_MS_MAX}"
        ));
    }
    if timeout_ms == 0 || timeout_ms > interval_ms {
        faults.push(format!(
            "health.timeout_ms is {timeout_ms}; it must be from 1 to health.interval_ms, which is {interval_ms}"
        ));
    }
    for (key, value) in [
        ("health.unhealthy_after", check.unhealthy_after),
        ("health.healthy_after", check.healthy_after),
    ] {
        let value = value.into();
        faults.extend(not_zero(key, value).or_else(|| at_most(key, value, CHECKS_MAX)));
    }
    faults
}

fn tls(tls: &UpstreamTls, protocol: UpstreamProtocol) -> Vec<String> {
    let mut faults = Vec::new();
    let plain = matches!(protocol, UpstreamProtocol::Http1 | UpstreamProtocol::H2c);
    if plain && *tls != UpstreamTls::default() {
        faults.push(
            "tls has no meaning with a plain protocol; write protocol = \"https\" or \"https-http1\""
                .to_owned(),
        );
    }
    if let Some(name) = &tls.server_name
        && (!is_host(name) || name.contains(['*', '[']))
    {
        faults.push(format!(
            "tls.server_name `{name}` must be a name as certificates have it, without a port"
        ));
    }
    if let Some(pem) = &tls.ca_pem {
        if pem.len() > CA_PEM_BYTES_MAX {
            faults.push(format!(
                "tls.ca has {} bytes; {CA_PEM_BYTES_MAX} is the most",
                pem.len()
            ));
        } else if !is_pem(pem) {
            faults.push(
                "tls.ca must be PEM: certificates between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
                    .to_owned(),
            );
        }
    }
    faults
}

/// The form alone; the certificates are read where they are used.
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
