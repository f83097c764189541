//! Draining: what is in flight ends well, what is idle ends now.

use crate::support::{Client, later, serve, soon, text};
use protoplex_edge::Limits;
use protoplex_http::Reply;
use std::sync::Arc;
use tokio::sync::Notify;

#[tokio::test]
async fn drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (called, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = serve(Limits::default(), {
        let (called, go) = (Arc::clone(&called), Arc::clone(&go));
        move |head, _| {
            if head.path != "/slow" {
                return text("quick");
            }
            let (called, go) = (Arc::clone(&called), Arc::clone(&go));
            later(async move {
                called.notify_one();
                go.notified().await;
                Reply::text(http::StatusCode::OK, "slow")
            })
        }
    })
    .await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut fresh, mut idle, mut slow) = (
        Client::to(&running).await,
        Client::to(&running).await,
        Client::to(&running).await,
    );
    idle.ask(get("/")).await;
    let mut half = Client::to(&running).await;
    half.ask(get("/")).await;
    half.send("GET / HTTP/1.1\r\n").await;
    slow.send(get("/slow")).await;
    soon(called.notified()).await;
    running.server.drain();
    assert_eq!(idle.rest().await, Ok(String::new()));
    assert_eq!(fresh.rest().await, Ok(String::new()));
    // A request that has begun to come is no idle connection.
    half.send("Host: a\r\n\r\n").await;
    let read = half.read().await;
    assert_eq!(
        (read.body.as_str(), read.header("connection")),
        ("quick", Some("close"))
    );
    assert_eq!(half.rest().await, Ok(String::new()));
    assert_eq!(running.server.in_flight(), 1);
    go.notify_one();
    let read = slow.read().await;
    assert_eq!(
        (read.body.as_str(), read.header("connection")),
        ("slow", Some("close"))
    );
    assert_eq!(slow.rest().await, Ok(String::new()));
    soon(running.server.drained()).await;
    assert_eq!(
        (running.server.connections(), running.server.in_flight()),
        (0, 0)
    );
    // Nobody listens any more.
    assert!(tokio::net::TcpStream::connect(running.at).await.is_err());
}
