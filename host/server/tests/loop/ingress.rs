//! The client of a request: said by the socket, by a PROXY header or by a forwarding header, each only where it is
//! believed.

use crate::{
    support::{Client, Fun, Running, soon, start_with, text},
    tls::{connect_over, server_config},
};
use protoplex_http::{Answer, Body, Head};
use protoplex_net::{self as net, Trust};
use protoplex_server::{HttpCause, HttpLimits, Server, ServerSettings};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Says who asked.
fn who(head: &Head<'_>, _: Body) -> Answer {
    text(format!("{} {}", head.client, head.scheme.as_str()))
}

fn behind_a_balancer() -> ServerSettings {
    ServerSettings {
        trust: Trust {
            proxy_protocol_from: vec!["127.0.0.0/8".parse().unwrap()],
            ..Trust::default()
        },
        ..ServerSettings::default()
    }
}

fn version_2(command: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, body.len() as u8]);
    header.extend(body);
    header
}

/// 192.0.2.7, with a TLV behind it.
const ADDRESSES: [u8; 16] = [192, 0, 2, 7, 10, 0, 0, 1, 1, 2, 0, 80, 4, 0, 1, 9];

#[tokio::test]
async fn a_balancers_header_names_the_client() {
    let running = start_with(behind_a_balancer(), who).await;
    for (header, expected) in [
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n".to_vec(),
            "192.0.2.1 http",
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::1 56324 80\r\n".to_vec(),
            "2001:db8::1 http",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1 http"),
        (version_2(0x21, &ADDRESSES), "192.0.2.7 http"),
        (version_2(0x20, &[0; 12]), "127.0.0.1 http"),
    ] {
        for cut in [0, 1, 14, 15, header.len() - 1, header.len()] {
            let mut client = Client::to(&running).await;
            let whole = [&header[..], GET.as_bytes()].concat();
            client.send(&whole[..cut]).await;
            tokio::task::yield_now().await;
            client.send(&whole[cut..]).await;
            for _ in 0..2 {
                assert_eq!(client.read().await.body, expected, "{cut} of {header:?}");
                client.send(GET).await;
            }
        }
    }
}

#[tokio::test]
async fn the_clients_port_is_known_unless_a_forwarder_names_it() {
    let who = |head: &Head<'_>, _: Body| text(head.client_port.to_string());
    let running = start_with(behind_a_balancer(), who).await;
    for (header, expected) in [
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n".to_vec(),
            Some(56324),
        ),
        (version_2(0x21, &ADDRESSES), Some(0x0102)),
        (version_2(0x20, &[0; 12]), None),
    ] {
        let mut client = Client::to(&running).await;
        let own = client.io.local_addr().unwrap().port();
        client.send(&header).await;
        let said = client.ask(GET).await.body;
        assert_eq!(said, expected.unwrap_or(own).to_string(), "{header:?}");
    }
    let trust = Trust {
        forwarded_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..Trust::default()
    };
    let settings = ServerSettings {
        trust,
        ..ServerSettings::default()
    };
    let running = start_with(settings, who).await;
    let mut client = Client::to(&running).await;
    let own = client.io.local_addr().unwrap().port();
    assert_eq!(client.ask(GET).await.body, own.to_string());
    let named = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    assert_eq!(client.ask(named).await.body, "0");
}

#[tokio::test]
async fn tls_begins_behind_the_balancers_header() {
    let settings = ServerSettings {
        tls: Some(Arc::new(server_config())),
        ..behind_a_balancer()
    };
    let running = start_with(settings, who).await;
    for header in [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 80\r\n".to_vec(),
        version_2(0x21, &ADDRESSES),
    ] {
        let mut io = TcpStream::connect(running.at).await.unwrap();
        io.write_all(&header).await.unwrap();
        let mut tls = connect_over(io, &["http/1.1"]).await.unwrap();
        tls.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        soon(tls.read_to_string(&mut text)).await.unwrap();
        assert!(text.ends_with("192.0.2.7 https"), "{text}");
    }
}

#[tokio::test]
async fn a_balancer_without_a_proxy_header_is_closed_and_counted() {
    let mut settings = behind_a_balancer();
    settings.limits.net.proxy_header_timeout = Duration::from_millis(60);
    let running = start_with(settings, who).await;
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    for (number, words) in (1..).zip([
        GET.as_bytes().to_vec(),
        b"PROXY TCP4 localhost 10.0.0.1 56324 80\r\n".to_vec(),
        long.into_bytes(),
        version_2(0x21, &ADDRESSES[..11]),
        version_2(0x31, &ADDRESSES),
        // These never end.
        b"".to_vec(),
        b"PROXY TCP4 192.0.2.1".to_vec(),
        version_2(0x21, &ADDRESSES)[..20].to_vec(),
    ]) {
        let mut client = Client::to(&running).await;
        client.send(&words).await;
        // An end or a reset: there may be more than we read.
        assert_eq!(client.rest().await.unwrap_or_default(), "", "{words:?}");
        counted(&running, net::RefusalCause::ProxyHeader, number).await;
    }
}

/// Waits until something was counted so often.
pub async fn counted(running: &Running, cause: impl Counted, times: u64) {
    soon(async {
        while cause.count(&running.server) < times {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(cause.count(&running.server), times, "{cause:?}");
}

/// A cause that a server counts, whichever of its counters has it.
pub trait Counted: Copy + std::fmt::Debug {
    fn count(self, server: &Server<Fun>) -> u64;
}

impl Counted for HttpCause {
    fn count(self, server: &Server<Fun>) -> u64 {
        server.counters().of(self)
    }
}

impl Counted for net::RefusalCause {
    fn count(self, server: &Server<Fun>) -> u64 {
        server.connection_counters().of(self)
    }
}

#[tokio::test]
async fn nobody_else_may_say_who_it_is() {
    let running = start_with(ServerSettings::default(), who).await;
    let mut client = Client::to(&running).await;
    let refused = client
        .ask(format!("PROXY TCP4 192.0.2.1 10.0.0.1 5 80\r\n{GET}"))
        .await;
    assert_eq!(refused.status, 400);
    let mut client = Client::to(&running).await;
    let read = client
        .ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    assert_eq!(read.body, "127.0.0.1 http");
}

#[tokio::test]
async fn a_trusted_forwarder_names_the_client_of_each_request() {
    let settings = ServerSettings {
        trust: Trust {
            forwarded_from: vec!["127.0.0.0/8".parse().unwrap()],
            ..Trust::default()
        },
        ..ServerSettings::default()
    };
    let running = start_with(settings, who).await;
    let mut client = Client::to(&running).await;
    for (lines, expected) in [
        (
            "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-Proto: https\r\n",
            "192.0.2.1 https",
        ),
        (
            "X-Forwarded-For: 192.0.2.2, 127.0.0.9\r\n",
            "192.0.2.2 http",
        ),
        ("", "127.0.0.1 http"),
    ] {
        let read = client
            .ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
            .await;
        assert_eq!(read.body, expected);
    }
    let mut client = crate::http2::plain(&running).await;
    let request = http::Request::get("http://a/").header("x-forwarded-for", "192.0.2.3");
    let found = client
        .ask(request.body(Default::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(found.2, "192.0.2.3 http");
}

fn limited(change: impl FnOnce(&mut HttpLimits)) -> ServerSettings {
    let mut limits = HttpLimits {
        net: net::NetLimits {
            address_exempt: Vec::new(),
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    change(&mut limits);
    ServerSettings {
        limits,
        ..ServerSettings::default()
    }
}

#[tokio::test]
async fn an_address_that_holds_too_many_connections_gets_no_more() {
    let running = start_with(
        limited(|limits| limits.net.address_connections_max = 2),
        who,
    )
    .await;
    let (mut first, mut second) = (Client::to(&running).await, Client::to(&running).await);
    assert_eq!(first.ask(GET).await.status, 200);
    assert_eq!(second.ask(GET).await.status, 200);
    assert_eq!(
        Client::to(&running).await.rest().await.unwrap_or_default(),
        ""
    );
    counted(&running, net::RefusalCause::AddressConnections, 1).await;
    drop(first);
    soon(async {
        while running.server.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(Client::to(&running).await.ask(GET).await.status, 200);
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let settings = limited(|limits| {
        (
            limits.net.address_requests_per_s,
            limits.net.address_burst_requests,
        ) = (1, 3);
    });
    let running = start_with(settings, who).await;
    let mut client = Client::to(&running).await;
    for _ in 0..2 {
        assert_eq!(client.ask(GET).await.status, 200);
    }
    let mut http2 = crate::http2::plain(&running).await;
    assert_eq!(http2.get("http://a/").await.unwrap().0, 200);
    // Another connection, and another protocol, is the same client.
    let read = client.ask(GET).await;
    assert_eq!((read.status, read.header("connection")), (429, None));
    let wait: u64 = read.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    let (status, headers, _) = http2.get("http://a/").await.unwrap();
    assert_eq!((status, headers.contains_key("retry-after")), (429, true));
    counted(&running, net::RefusalCause::AddressRate, 2).await;
}

#[tokio::test]
async fn the_clients_of_a_forwarder_are_counted_one_by_one() {
    let mut settings = limited(|limits| {
        (
            limits.net.address_requests_per_s,
            limits.net.address_burst_requests,
        ) = (1, 1);
        limits.net.address_connections_max = 0;
    });
    settings.trust.forwarded_from = vec!["127.0.0.1".parse().unwrap()];
    let running = start_with(settings, who).await;
    let mut client = Client::to(&running).await;
    for (forwarded, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n");
        assert_eq!(client.ask(request).await.status, status, "{forwarded}");
    }
}

#[tokio::test]
async fn too_many_requests_of_an_address_are_refused_at_once() {
    use protoplex_http::Reply;
    let (called, go) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(tokio::sync::Notify::new()),
    );
    let running = start_with(limited(|limits| limits.net.address_in_flight_max = 1), {
        let (called, go) = (Arc::clone(&called), Arc::clone(&go));
        move |_, _| {
            let (called, go) = (Arc::clone(&called), Arc::clone(&go));
            crate::support::later(async move {
                called.notify_one();
                go.notified().await;
                Reply::text(http::StatusCode::OK, "done")
            })
        }
    })
    .await;
    let (mut first, mut second) = (Client::to(&running).await, Client::to(&running).await);
    first.send(GET).await;
    soon(called.notified()).await;
    assert_eq!(second.ask(GET).await.status, 429);
    counted(&running, net::RefusalCause::AddressInFlight, 1).await;
    go.notify_one();
    assert_eq!(first.read().await.body, "done");
    go.notify_one();
    assert_eq!(second.ask(GET).await.body, "done");
}
