//! `[upstreams.NAME]` as people write it.

use crate::{
    defaults,
    fault::instead,
    reader::{Located, TomlSection},
    words,
};
use protoplex_wire::manifest::{Ejection, HealthCheck, Retries, Upstream, UpstreamTls};
use serde::de::DeserializeOwned;

/// An upstream before the files that it names were read.
pub(crate) struct SourceUpstream {
    pub(crate) upstream: Upstream,
    /// File whose content becomes `tls.ca_pem`.
    pub(crate) ca: Option<Located<String>>,
}

pub(super) fn read(mut section: TomlSection<'_>) -> SourceUpstream {
    let addresses = section.strings("addresses");
    section.required(
        "addresses",
        (!addresses.is_empty()).then_some(()),
        "addresses = [\"127.0.0.1:9000\"]",
    );
    let (tls, ca) = section.section("tls").map(tls).unwrap_or_default();
    let default = Upstream::default();
    let queue_max = number(&mut section, "queue_max", default.queue_max);
    let queue_timeout_ms = match queue_max {
        0 => default.queue_timeout_ms,
        _ => defaults::UPSTREAM_QUEUE_TIMEOUT_MS,
    };
    let mut time = |key, default| section.integer(key).map_or(default, |at| at.value);
    let upstream = Upstream {
        addresses,
        tls,
        queue_max,
        connect_timeout_ms: time("connect_timeout_ms", default.connect_timeout_ms),
        first_byte_timeout_ms: time("first_byte_timeout_ms", default.first_byte_timeout_ms),
        idle_timeout_ms: time("idle_timeout_ms", default.idle_timeout_ms),
        total_timeout_ms: time("total_timeout_ms", default.total_timeout_ms),
        queue_timeout_ms: time("queue_timeout_ms", queue_timeout_ms),
        slow_start_ms: time("slow_start_ms", default.slow_start_ms),
        in_flight_max: number(&mut section, "in_flight_max", default.in_flight_max),
        protocol: word(&mut section, "protocol").unwrap_or_default(),
        balance: word(&mut section, "balance").unwrap_or_default(),
        proxy_protocol: word(&mut section, "proxy_protocol"),
        retries: section.section("retries").map_or(default.retries, retries),
        ejection: section
            .section("ejection")
            .map_or(default.ejection, ejection),
        health: section.section("health").and_then(health),
    };
    section.finish();
    SourceUpstream { upstream, ca }
}

fn tls(mut section: TomlSection<'_>) -> (UpstreamTls, Option<Located<String>>) {
    let ca = section.string("ca");
    let tls = UpstreamTls {
        server_name: section.string("server_name").map(|at| at.value),
        ca_pem: None,
        node_certificate: section
            .boolean("node_certificate")
            .is_some_and(|at| at.value),
    };
    section.finish();
    (tls, ca)
}

fn retries(mut section: TomlSection<'_>) -> Retries {
    let default = defaults::RETRIES;
    let retries = Retries {
        attempts_max: number(&mut section, "attempts_max", default.attempts_max),
        budget_percent: number(&mut section, "budget_percent", default.budget_percent),
    };
    section.finish();
    retries
}

fn ejection(mut section: TomlSection<'_>) -> Ejection {
    let default = defaults::EJECTION;
    let eject_ms = section.integer("eject_ms");
    let ejection = Ejection {
        failures: number(&mut section, "failures", default.failures),
        eject_ms: eject_ms.map_or(default.eject_ms, |at| at.value),
        servers_percent_max: number(
            &mut section,
            "servers_percent_max",
            default.servers_percent_max,
        ),
    };
    section.finish();
    ejection
}

fn health(mut section: TomlSection<'_>) -> Option<HealthCheck> {
    let path = section.string("path");
    let path = section.required("path", path, "path = \"/healthz\"");
    let host = section.string("host").map(|at| at.value);
    let mut time = |key, default| section.integer(key).map_or(default, |at| at.value);
    let interval_ms = time("interval_ms", defaults::HEALTH_INTERVAL_MS);
    // A short interval alone must not contradict the default.
    let timeout_ms = time("timeout_ms", defaults::HEALTH_TIMEOUT_MS.min(interval_ms));
    let unhealthy_after = number(
        &mut section,
        "unhealthy_after",
        defaults::HEALTH_UNHEALTHY_AFTER,
    );
    let healthy_after = number(
        &mut section,
        "healthy_after",
        defaults::HEALTH_HEALTHY_AFTER,
    );
    section.finish();
    Some(HealthCheck {
        path: path?.value,
        host,
        interval_ms,
        timeout_ms,
        unhealthy_after,
        healthy_after,
    })
}

pub(super) fn number(section: &mut TomlSection<'_>, key: &'static str, default: u32) -> u32 {
    section.integer_u32(key).map_or(default, |at| at.value)
}

/// Reads a word of an enum.
pub(super) fn word<T: DeserializeOwned>(
    section: &mut TomlSection<'_>,
    key: &'static str,
) -> Option<T> {
    let at = section.string(key)?;
    let found = words::parse(&at.value);
    if found.is_none() {
        let hint = instead(&at.value, words::words::<T>());
        section.fault(
            at.line,
            format!("{key} {:?} is not known; {hint}", at.value),
        );
    }
    found
}
