//! Handlers and servers behind a hop see the client, scheme and host that the first node saw.

use super::{MIRROR, SAMPLE, raw, shown};
use protoplex_tests::{Connection, Fleet, Https, Origin, read_head};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn handlers_behind_a_hop_see_how_the_client_came_in() {
    let trusting = r#"{"trust_forwarded_from":["127.0.0.0/8"]}"#;
    let fleet = Fleet::start_with_ingress(MIRROR, trusting, &[]).unwrap();
    for http2 in [false, true] {
        let https = Https::new(&fleet, "proxy", http2).unwrap();
        let address = fleet.node("proxy").https;
        let (_, seen) = https
            .request("GET", "/x?to=role:app", vec![])
            .await
            .unwrap();
        assert_eq!(shown(&seen, "scheme"), ["https"], "{}", seen.text());
        assert_eq!(shown(&seen, "authority"), [address.as_str()]);
        let told = seen.header("x-request-id").unwrap();
        assert_eq!(shown(&seen, "id"), [told]);
        for path in ["/api/url?to=role:app", "/02/url?to=role:app"] {
            let (_, url) = https.request("GET", path, vec![]).await.unwrap();
            assert_eq!(url.text(), format!("https://{address}{path}\n"));
        }
    }
    let https = Https::new(&fleet, "app", false).unwrap();
    let address = fleet.node("app").https;
    for path in ["/api/url", "/02/url"] {
        let (_, url) = https.request("GET", path, vec![]).await.unwrap();
        assert_eq!(url.text(), format!("https://{address}{path}\n"));
    }
    // On every hop the client is the one that the load balancer names.
    let said = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("protoplex-origin", "http 6.6.6.6 1 0000000000000000"),
    ];
    // No load balancer stands before an app node's own port.
    let (named, own) = (("203.0.113.9", "https"), ("127.0.0.1", "http"));
    for (role, path, (client, scheme)) in [
        ("proxy", "/x?to=role:app", named),
        ("proxy", "/x", named),
        ("app", "/x", own),
    ] {
        let mut connection = Connection::open(&fleet.node(role).http).await.unwrap();
        let seen = connection.request("GET", path, &said, b"").await.unwrap();
        assert_eq!(
            shown(&seen, "client"),
            [client],
            "{role}{path}: {}",
            seen.text()
        );
        assert_eq!(shown(&seen, "scheme"), [scheme], "{role}{path}");
        assert_eq!(shown(&seen, "id"), [seen.header("x-request-id").unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_host_is_relayed_with_the_servers_own() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let head = read_head(&mut stream).await.unwrap_or_default();
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{head}");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /x HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let host = format!("\r\nhost: {}\r\n", origin.address);
    assert_eq!(answer.matches(&host).count(), 1, "{answer}");
    assert!(!answer.contains("-host:"), "{answer}");
    assert!(
        !answer.contains("host=") && answer.contains("for=127.0.0.1;proto=http"),
        "{answer}"
    );
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /api/hello HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("hello from app\n"), "{answer}");
    // An app sees the same as where it is asked directly, not the address of the node inside.
    for role in ["app", "proxy"] {
        let answer = raw(&fleet.node(role).http, "GET /api/url HTTP/1.0\r\n\r\n").await;
        assert!(
            answer.ends_with("\r\n\r\nhttp://localhost/api/url\n"),
            "{role}: {answer}"
        );
    }
}
