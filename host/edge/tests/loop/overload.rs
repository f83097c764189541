//! More connections than there is room for.

use crate::{
    ingress::counted,
    support::{Client, serve, text},
};
use protoplex_edge::{Cause, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn more_connections_than_allowed_are_told_so_at_once() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
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
    counted(&running, Cause::ConnectionsMax, 1).await;
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

/// The limit is the process's: nextest gives each test a process of its own.
#[tokio::test]
async fn without_descriptors_a_client_is_closed_and_not_left_waiting() {
    let running = serve(Limits::default(), |_, _| text("hello")).await;
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
    counted(&running, Cause::Descriptors, waiting.len() as u64).await;
    // Who is here already is served.
    assert_eq!(before.ask(GET).await.status, 200);
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(gaps);
    assert_eq!(Client::to(&running).await.ask(GET).await.status, 200);
}
