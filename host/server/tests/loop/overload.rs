//! More connections than there is room for.

use crate::{
    ingress::counted,
    support::{Client, serve, text},
};
use protoplex_net as net;
use protoplex_server::{HttpCause, HttpLimits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn more_connections_than_allowed_are_told_so_at_once() {
    let limits = HttpLimits {
        net: net::NetLimits {
            connections_max: 2,
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text("hello")).await;
    let (mut first, mut second) = (Client::to(&running).await, Client::to(&running).await);
    assert_eq!(first.ask(GET).await.status, 200);
    assert_eq!(second.ask(GET).await.status, 200);
    let mut third = Client::to(&running).await;
    let told = third.read().await;
    assert_eq!(
        (told.status, told.header("connection")),
        (503, Some("close"))
    );
    assert_eq!(told.header("retry-after"), Some("1"));
    counted(&running, net::RefusalCause::ConnectionsMax, 1).await;
    // Those that are here are not disturbed, and a place that is free is given.
    assert_eq!(first.ask(GET).await.status, 200);
    drop(first);
    crate::support::soon(async {
        while running.server.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(Client::to(&running).await.ask(GET).await.status, 200);
}

/// Refused heads cost a log line each: who sends many is under the same rate as who asks.
#[tokio::test]
async fn heads_that_are_refused_count_against_their_address() {
    let limits = HttpLimits {
        net: net::NetLimits {
            address_exempt: Vec::new(),
            address_requests_per_s: 1,
            address_burst_requests: 3,
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    let long = format!("/{}", "x".repeat(9_000));
    for refused in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n"] {
        let running = serve(limits.clone(), |_, _| panic!("no handler is asked")).await;
        for expected in [400, 400, 400, 429, 429] {
            let told = Client::to(&running).await.ask(refused).await;
            assert_eq!(told.status, expected, "{refused:?}");
            let wait = told.header("retry-after");
            assert_eq!(wait.is_some(), expected == 429, "{refused:?}");
        }
        counted(&running, HttpCause::Malformed, 3).await;
        counted(&running, net::RefusalCause::AddressRate, 2).await;
    }
    let running = serve(limits, |_, _| panic!("no handler is asked")).await;
    let mut client = crate::http2::plain(&running).await;
    for expected in [414, 414, 414, 429, 429] {
        let found = client.get(&format!("http://a{long}")).await.unwrap();
        assert_eq!(found.0, expected);
    }
    counted(&running, HttpCause::LineTooLong, 3).await;
    counted(&running, net::RefusalCause::AddressRate, 2).await;
}

#[tokio::test]
async fn heads_refused_by_h2_count_against_the_clients_rate() {
    let limits = HttpLimits {
        net: net::NetLimits {
            address_exempt: Vec::new(),
            address_requests_per_s: 1,
            address_burst_requests: 3,
            ..net::NetLimits::default()
        },
        head_bytes_max: 1_000,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| panic!("no handler is asked")).await;
    let mut client = crate::http2::plain(&running).await;
    let uri = format!("http://a/{}", "x".repeat(15_000));
    for _ in 0..3 {
        assert_eq!(client.get(&uri).await.unwrap().0, 431);
    }
    // The fourth is answered by h2, or cut with the connection.
    let _ = client.get(&uri).await;
    assert!(client.get(&uri).await.is_err());
    counted(&running, net::RefusalCause::AddressRate, 1).await;
}

/// The limit is the process's: nextest gives each test a process of its own.
#[tokio::test]
async fn without_descriptors_a_client_is_closed_and_not_left_waiting() {
    let running = serve(HttpLimits::default(), |_, _| text("hello")).await;
    let mut before = Client::to(&running).await;
    assert_eq!(before.ask(GET).await.status, 200);
    // Nothing is accepted until the first await.
    let waiting: Vec<_> = (0..5)
        .map(|_| std::net::TcpStream::connect(running.at).unwrap())
        .collect();
    let limit = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let highest = open
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok())
        .max();
    let lowered = Rlimit {
        current: highest.map(|highest| highest + 1),
        ..limit
    };
    setrlimit(Resource::Nofile, lowered).unwrap();
    let mut gaps = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        gaps.push(file);
    }
    counted(
        &running,
        net::RefusalCause::Descriptors,
        waiting.len() as u64,
    )
    .await;
    // Who is here already is served.
    assert_eq!(before.ask(GET).await.status, 200);
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(gaps);
    assert_eq!(Client::to(&running).await.ask(GET).await.status, 200);
}
