//! Upstreams of a manifest: defaults, faults with their lines, and the README's own.

use super::*;

const UPSTREAM: &str = r#"name = "x"
[upstreams.back]
addresses = ["a.internal:9443", "b.internal:9443"]
protocol = "https-http1"
tls = { server_name = "back.internal", ca = "ca.pem", node_certificate = true }
total_timeout_ms = 60_000
balance = "key"
in_flight_max = 100
queue_max = 50
slow_start_ms = 30_000
proxy_protocol = "v2"
retries = { attempts_max = 2 }
ejection = { failures = 3 }
[upstreams.back.health]
path = "/healthz"
interval_ms = 1_000
[handlers.router]
component = "edge.wasm"
grants = { relay = ["back", "10.0.0.7:8080", "[::1]:80"], upgrades = ["connect"] }
"#;

#[test]
fn every_key_of_an_upstream_is_read_over_its_default() {
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let site = TestSite::new(UPSTREAM);
    fs::write(site.0.path().join("ca.pem"), PEM).expect("a file");
    let manifest = site.package(&[]).expect("a package").manifest;
    let expected = Upstream {
        addresses: vec!["a.internal:9443".into(), "b.internal:9443".into()],
        protocol: UpstreamProtocol::HttpsHttp1,
        tls: UpstreamTls {
            server_name: Some("back.internal".into()),
            ca_pem: Some(PEM.into()),
            node_certificate: true,
        },
        total_timeout_ms: 60_000,
        balance: Balance::Key,
        in_flight_max: 100,
        queue_max: 50,
        queue_timeout_ms: defaults::UPSTREAM_QUEUE_TIMEOUT_MS,
        retries: Retries {
            attempts_max: 2,
            ..defaults::RETRIES
        },
        ejection: Ejection {
            failures: 3,
            ..defaults::EJECTION
        },
        health: Some(HealthCheck {
            path: "/healthz".into(),
            host: None,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            unhealthy_after: defaults::HEALTH_UNHEALTHY_AFTER,
            healthy_after: defaults::HEALTH_HEALTHY_AFTER,
        }),
        slow_start_ms: 30_000,
        proxy_protocol: Some(ProxyProtocol::V2),
        ..Upstream::default()
    };
    assert_eq!(manifest.upstreams["back"], expected);
    assert_eq!(manifest.handlers["router"].grants.upgrades, ["connect"]);
    assert_eq!(
        Manifest::parse(&manifest.canonical()).expect("canonical"),
        manifest
    );
}

#[test]
fn what_push_takes_for_granted_is_what_the_wire_leaves_out() {
    assert_eq!(defaults::RETRIES, Retries::default());
    assert_eq!(defaults::EJECTION, Ejection::default());
    let plain = "name = \"x\"\n[upstreams.a]\naddresses = [\"h:1\"]\n";
    let manifest = TestSite::new(plain)
        .package(&[])
        .expect("a package")
        .manifest;
    let expected = Upstream {
        addresses: vec!["h:1".into()],
        ..Upstream::default()
    };
    assert_eq!(manifest.upstreams["a"], expected);
}

#[test]
fn each_fault_of_an_upstream_has_its_line_and_the_remedy() {
    let with =
        |lines: &str| format!("name = \"x\"\n[upstreams.a]\naddresses = [\"h:1\"]\n{lines}\n");
    for (lines, fault) in [
        (
            "protocol = \"http2\"",
            "x.toml:4: protocol \"http2\" is not known; did you mean `http1`?",
        ),
        (
            "balance = \"keys\"",
            "x.toml:4: balance \"keys\" is not known; did you mean `key`?",
        ),
        (
            "proxy_protocol = \"v3\"",
            "x.toml:4: proxy_protocol \"v3\" is not known; did you mean `v1`?",
        ),
        (
            "retries = { attempts = 3 }",
            "x.toml:4: unknown key `attempts` in upstreams.a.retries; did you mean `attempts_max`?",
        ),
        (
            "ejection = { servers_percent_max = 0 }",
            "x.toml:4: upstream `a`: ejection.servers_percent_max is 0; it must be from 1 to 100, and ejection.failures = 0 ejects none",
        ),
        (
            "[upstreams.a.health]\ninterval_ms = 1_000",
            "x.toml:4: `path` is missing in upstreams.a.health; write path = \"/healthz\"",
        ),
        (
            "[upstreams.a.health]\npath = \"/\"\ntimeout_ms = 9_000",
            "x.toml:6: upstream `a`: health.timeout_ms is 9000; it must be from 1 to health.interval_ms, which is 5000",
        ),
        (
            "queue_max = 5",
            "x.toml:4: upstream `a`: queue_max has no meaning without in_flight_max: nothing is ever full",
        ),
        (
            "tls = { ca = \"gone.pem\" }\nprotocol = \"https\"",
            "x.toml:4: tls.ca `gone.pem` is not there (looked for gone.pem and in the folder above)",
        ),
        (
            "protocol = \"https\"\ntls = { ca = \"edge.wasm\" }",
            "x.toml:5: upstream `a`: tls.ca must be PEM: certificates between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`",
        ),
        (
            "tls = { node_certificate = \"yes\" }",
            "x.toml:4: `node_certificate` in upstreams.a.tls must be `true` or `false`, not the string \"yes\"",
        ),
        (
            "proxy_protocol = \"v1\"\nprotocol = \"h2c\"",
            "x.toml:4: upstream `a`: proxy_protocol names one client for each connection, and HTTP/2 shares them; write protocol = \"http1\" or \"https-http1\"",
        ),
        (
            "[handlers.e]\ncomponent = \"edge.wasm\"\ngrants = { relay = [\"h:x\"] }",
            "x.toml:6: handler `e`: grants.relay has `h:x`; write an upstream's name, `role:NAME` or `host:port`",
        ),
        (
            "[handlers.e]\ncomponent = \"edge.wasm\"\ngrants = { upgrades = [\"WebSocket\"] }",
            "x.toml:6: handler `e`: grants.upgrades has `WebSocket`; write a protocol in lower case as `Upgrade` names it, or `connect`",
        ),
    ] {
        refused(&with(lines), &[fault]);
    }
}

#[test]
fn the_upstream_of_the_readme_is_one() {
    let readme = include_str!("../../../../../README.md");
    let (_, example) = readme
        .split_once("```toml\n[upstreams")
        .expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let manifest = format!("name = \"x\"\n[upstreams{example}");
    for manifest in [
        manifest.clone(),
        manifest
            .replace("# proxy_protocol", "proxy_protocol")
            .replace("\"https\"", "\"https-http1\""),
    ] {
        let site = TestSite::new(&manifest);
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        fs::write(site.0.path().join("shop-ca.pem"), pem).expect("a file");
        let manifest = site.package(&[]).expect("a package").manifest;
        assert_eq!(manifest.upstreams["shop"].in_flight_max, 200);
    }
}
