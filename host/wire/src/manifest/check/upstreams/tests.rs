use super::*;
use crate::manifest::check::told;
use crate::manifest::{Balance, ProxyProtocol};

fn good() -> Upstream {
    Upstream {
        addresses: vec!["a.internal:9000".into(), "[::1]:9000".into()],
        protocol: UpstreamProtocol::HttpsHttp1,
        tls: UpstreamTls {
            server_name: Some("back.internal".into()),
            ca_pem: Some("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into()),
            node_certificate: true,
        },
        balance: Balance::Key,
        total_timeout_ms: 60_000,
        in_flight_max: 100,
        queue_max: 10,
        queue_timeout_ms: 500,
        health: Some(HealthCheck {
            path: "/healthz?deep=1".into(),
            host: Some("back.internal".into()),
            interval_ms: 1_000,
            timeout_ms: 1_000,
            unhealthy_after: 3,
            healthy_after: 2,
        }),
        slow_start_ms: 30_000,
        proxy_protocol: Some(ProxyProtocol::V2),
        ..Upstream::default()
    }
}

fn broken(with: impl FnOnce(&mut Upstream)) -> Vec<String> {
    let mut upstream = good();
    with(&mut upstream);
    faults(&upstream)
}

fn faults(upstream: &Upstream) -> Vec<String> {
    told("upstreams", |found| check(found, "it", upstream))
}

#[track_caller]
fn refused(with: impl FnOnce(&mut Upstream), words: &str) {
    let faults = broken(with);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains(words), "{faults:?}");
}

#[test]
fn what_can_be_used_has_no_fault() {
    assert_eq!(faults(&good()), [""; 0]);
    let plain = Upstream {
        addresses: vec!["127.0.0.1:1".into()],
        ..Upstream::default()
    };
    assert_eq!(faults(&plain), [""; 0]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    refused(|u| u.connect_timeout_ms = 0, "connect_timeout_ms is 0");
    refused(|u| u.total_timeout_ms = 3_600_001, "3600000 is the most");
    refused(|u| u.slow_start_ms = 3_600_001, "slow_start_ms is 3600001");
    refused(|u| u.in_flight_max = 100_001, "100000 is the most");
    refused(
        |u| u.retries.attempts_max = 11,
        "retries.attempts_max is 11",
    );
    refused(|u| u.retries.budget_percent = 101, "100 is the most");
    refused(|u| u.ejection.servers_percent_max = 0, "from 1 to 100");
    refused(|u| u.ejection.servers_percent_max = 101, "from 1 to 100");
    refused(|u| u.ejection.eject_ms = 0, "ejection.eject_ms is 0");
    refused(|u| u.ejection.failures = 10_001, "10000 is the most");
    let health =
        |with: fn(&mut HealthCheck)| move |u: &mut Upstream| u.health.iter_mut().for_each(with);
    refused(health(|h| h.interval_ms = 3_600_001), "from 100 to 3600000");
    refused(
        health(|h| h.timeout_ms = 1_001),
        "from 1 to health.interval_ms",
    );
    refused(health(|h| h.timeout_ms = 0), "health.timeout_ms is 0");
    refused(health(|h| h.healthy_after = 0), "health.healthy_after is 0");
    refused(health(|h| h.unhealthy_after = 101), "100 is the most");
    refused(health(|h| h.path = "x".into()), "must start with `/`");
    refused(health(|h| h.path = "/a b".into()), "as they stand");
    refused(health(|h| h.host = Some("a/b".into())), "health.host `a/b`");
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(|u| u.in_flight_max = 0, "without in_flight_max");
    refused(|u| u.queue_max = 0, "without queue_max");
    refused(|u| u.queue_timeout_ms = 0, "nothing could ever wait");
    refused(|u| u.protocol = UpstreamProtocol::Https, "proxy_protocol");
    let plain = |protocol| {
        broken(|u| {
            u.protocol = protocol;
            u.proxy_protocol = None;
        })
    };
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::H2c] {
        let faults = plain(protocol);
        assert!(faults[0].starts_with("tls has no meaning"), "{faults:?}");
    }
    assert_eq!(plain(UpstreamProtocol::Https), [""; 0]);
}

#[test]
fn names_of_servers_are_names() {
    for name in ["", "back:443", "*.internal", "a b", "[::1]"] {
        refused(|u| u.tls.server_name = Some(name.into()), "tls.server_name");
    }
    for address in [
        "a", "a:0", "a:+1", ":1", "*.a:1", "::1:1:x", "a b:1", "a:http",
    ] {
        refused(|u| u.addresses = vec![address.into()], "must be host:port");
    }
    refused(|u| u.addresses = vec!["a:1".into(); 2], "twice");
    let many = (0..65).map(|at| format!("a{at}:1")).collect();
    refused(|u| u.addresses = many, "64 is the most");
}

#[test]
fn authorities_are_pem() {
    for text in [
        "",
        "MIIB",
        "-----BEGIN CERTIFICATE-----\nMIIB\n",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
    ] {
        refused(|u| u.tls.ca_pem = Some(text.into()), "must be PEM");
    }
    let large = "x".repeat(CA_PEM_BYTES_MAX + 1);
    refused(|u| u.tls.ca_pem = Some(large), "262144 is the most");
}
