//! A relayed request, as the server behind sees it, and what visitors get when that server misbehaves.

use crate::peers::peers;
use protoplex_tests::{Connection, Fleet, Origin, Response, answer_each, read_head, repository};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A fleet whose proxy relays everything to the origin.
pub(crate) fn fleet(origin: &Origin) -> Fleet {
    fleet_with(&[&origin.address], "", "")
}

/// A fleet whose proxy relays everything to several servers, with more lines of the upstream, and more grants.
pub(crate) fn fleet_with(addresses: &[&str], upstream: &str, grants: &str) -> Fleet {
    Fleet::start_text(
        &manifest(addresses, upstream, grants),
        &["--nodes", "app=0"],
    )
    .unwrap()
}

/// A build that relays everything. Timeouts that are not among the lines suit a busy machine.
pub(crate) fn manifest(addresses: &[&str], upstream: &str, grants: &str) -> String {
    let component = repository().join("builds/out/relay.wasm");
    let patience: String = ["first_byte_timeout_ms", "idle_timeout_ms"]
        .into_iter()
        .filter(|key| !upstream.contains(key))
        .map(|key| format!("{key} = 5000\n"))
        .collect();
    format!(
        r#"
name = "relay"

[handlers.relay]
component = "{}"

[handlers.relay.grants]
relay = ["origin"]
{grants}

[upstreams.origin]
addresses = {addresses:?}
{patience}{upstream}

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"
"#,
        component.display(),
    )
}

async fn get(fleet: &Fleet, path: &str) -> anyhow::Result<Response> {
    Connection::get_once(&fleet.node("proxy").http, path).await
}

/// A response whose body is the head of its request, and which names headers of its own hop.
fn mirrored(head: &str) -> String {
    let length = head.len();
    let own = "connection: keep-alive, x-hop\r\nx-hop: 1\r\nx-end: 2";
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{own}\r\n\r\n{head}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_visitor_says_of_itself_is_overwritten_and_hops_are_not_passed_on() {
    let origin = Origin::answering(mirrored).await.unwrap();
    let fleet = fleet(&origin);
    let address = fleet.node("proxy").http;
    let mut connection = Connection::open(&address).await.unwrap();
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=6.6.6.6"),
        ("x-request-id", "mine"),
        ("protoplex-build", "0:0"),
        ("connection", "keep-alive, x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("x-secret", "1"),
        ("x-relay", "forged"),
        ("accept", "text/plain"),
    ];
    let answer = connection
        .request("GET", "/a?b=c", &lies, b"")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-request-id").unwrap();
    let seen = answer.text();
    let values = |name: &str| {
        let lines = seen.lines().filter_map(|line| line.split_once(": "));
        let own = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    for (name, expected) in [
        ("host", address.as_str()),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", &address),
        ("x-request-id", id),
        ("x-relay", "set"),
        ("accept", "text/plain"),
        // Said anew for this hop.
        ("te", "trailers"),
        ("connection", "te"),
    ] {
        assert_eq!(values(name), [expected], "{name} in {seen}");
    }
    let forwarded = format!("for=127.0.0.1;host=\"{address}\";proto=http");
    assert_eq!(values("forwarded"), [forwarded]);
    assert_eq!(values("traceparent").len(), 1, "{seen}");
    for gone in ["x-private", "keep-alive", "x-secret", "protoplex-build"] {
        assert!(values(gone).is_empty(), "{gone} in {seen}");
    }
    assert_eq!(
        answer.header("x-hop"),
        None,
        "the answer's hop is over, too"
    );
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_an_upstream_are_kept() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let origin = Origin::start(move |stream| {
        count.fetch_add(1, Ordering::Relaxed);
        answer_each(stream, &mirrored)
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    for _ in 0..20 {
        assert_eq!(connection.get("/").await.unwrap().status, 200);
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

/// An origin that answers every head with `bytes`, and closes or stays.
async fn answering(bytes: &'static [u8], stays: bool) -> Origin {
    let serve = move |mut stream: TcpStream| async move {
        while read_head(&mut stream).await.is_some() {
            let _ = stream.write_all(bytes).await;
            if !stays {
                return;
            }
        }
    };
    Origin::start(serve).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_misbehaves_is_a_5xx_with_a_request_id() {
    for (bytes, stays, status) in [
        (&b""[..], false, 502),
        (b"", true, 504),
        (b"HTTP/1.1 200 OK\r\ncontent-le", false, 502),
        (b"rubbish\r\n\r\n", true, 502),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            true,
            502,
        ),
    ] {
        let origin = answering(bytes, stays).await;
        // Only where it is waited for in vain.
        let patience = match status {
            504 => "first_byte_timeout_ms = 500",
            _ => "",
        };
        let fleet = fleet_with(&[&origin.address], patience, "");
        let answer = get(&fleet, "/").await.unwrap();
        let what = String::from_utf8_lossy(bytes);
        assert_eq!(answer.status, status, "{what:?}: {}", answer.text());
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.text().contains(id), "{}", answer.text());
    }
}

/// Responses that say more of their body than they have, or one thing twice, with what they come to.
const ODD: [(&[u8], u16, &str); 6] = [
    (
        b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        204,
        "",
    ),
    (
        b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
        204,
        "",
    ),
    (
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        204,
        "",
    ),
    (
        b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
        304,
        "",
    ),
    (
        b"HTTP/1.1 205 Reset Content\r\ncontent-length: 2\r\n\r\nhi",
        205,
        "hi",
    ),
    (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
        200,
        "hi",
    ),
];

/// Each is read in its one way, as nginx and HAProxy read the first, and nothing of it gets into the next response.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_response_that_reads_in_one_way_is_relayed() {
    let origin = Origin::answering(|head| {
        let number = head.split([' ', '/']).nth(2).unwrap_or_default();
        let (bytes, ..) = ODD[number.parse::<usize>().unwrap()];
        bytes
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let peers = peers(&origin.address, 5_000).unwrap();
    // What the peers make of the others differs by their versions.
    for peer in &peers {
        let answer = Connection::get_once(&peer.address, "/0").await.unwrap();
        assert_eq!(answer.status, ODD[0].1, "{}", peer.name);
    }
    for (number, (bytes, status, body)) in ODD.into_iter().enumerate() {
        let what = String::from_utf8_lossy(bytes);
        let path = format!("/{number}");
        for _ in 0..3 {
            let answer = connection.get(&path).await.unwrap();
            let came = (answer.status, answer.text());
            assert_eq!(came, (status, body.to_owned()), "{what:?}");
            assert_eq!(answer.header("transfer-encoding"), None, "{what:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_an_upstream_cuts_or_leaves_hanging_never_looks_whole() {
    for (bytes, stays) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"[..],
            false,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", true),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            true,
        ),
    ] {
        let origin = answering(bytes, stays).await;
        let fleet = fleet_with(&[&origin.address], "idle_timeout_ms = 500", "");
        let answer = get(&fleet, "/").await;
        assert!(
            answer.is_err(),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_is_a_502() {
    let origin = Origin::answering(mirrored).await.unwrap();
    let fleet = fleet(&origin);
    drop(origin);
    assert_eq!(get(&fleet, "/").await.unwrap().status, 502);
}
