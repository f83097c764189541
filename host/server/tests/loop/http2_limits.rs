//! HTTP/2: deadlines and drain.

use crate::{
    http2::plain,
    support::{Client, collect, later, serve, soon, text},
};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protoplex_http::Reply;
use protoplex_net as net;
use protoplex_server::HttpLimits;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::Notify};

const TINY: Duration = Duration::from_millis(60);

fn get() -> Request<Full<Bytes>> {
    Request::get("http://a/").body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let limits = HttpLimits {
        net: net::NetLimits {
            first_byte_timeout: TINY,
            ..net::NetLimits::default()
        },
        // As long as a client may take for its goodbye.
        idle_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text("")).await;
    for words in [
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let mut client = Client::to(&running).await;
        client.send(words).await;
        let closed = async {
            while running.server.connections() > 0 {
                tokio::time::sleep(TINY / 6).await
            }
        };
        soon(async {
            while running.server.connections() == 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        soon(closed).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits = HttpLimits {
        idle_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| {
        later(async {
            tokio::time::sleep(TINY * 4).await;
            Reply::text(StatusCode::OK, "late")
        })
    })
    .await;
    let mut client = plain(&running).await;
    assert_eq!(client.get("http://a/").await.unwrap().2, "late");
    soon(async {
        while running.server.connections() > 0 {
            tokio::time::sleep(TINY / 6).await
        }
    })
    .await;
    assert!(client.get("http://a/").await.is_err());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let limits = HttpLimits {
        idle_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text(vec![b'x'; 10 << 20])).await;
    let mut client = plain(&running).await;
    let response = soon(client.send.send_request(get())).await.unwrap();
    assert_eq!(response.status(), 200);
    soon(async {
        while running.server.connections() > 0 {
            tokio::time::sleep(TINY / 6).await
        }
    })
    .await;
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_body_that_stops_is_told_so() {
    let limits = HttpLimits {
        body_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, body| collect(body)).await;
    let io = TokioIo::new(TcpStream::connect(running.at).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let never = StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<Bytes>, Infallible>,
    >());
    let request = Request::post("http://a/").body(never).unwrap();
    assert_eq!(
        soon(send.send_request(request)).await.unwrap().status(),
        408
    );
}

#[tokio::test]
async fn drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (called, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = serve(HttpLimits::default(), {
        let (called, go) = (Arc::clone(&called), Arc::clone(&go));
        move |head, _| {
            if head.path == "/quick" {
                return text("quick");
            }
            let (called, go) = (Arc::clone(&called), Arc::clone(&go));
            later(async move {
                called.notify_one();
                go.notified().await;
                Reply::text(StatusCode::OK, "slow")
            })
        }
    })
    .await;
    let (mut idle, mut slow) = (plain(&running).await, plain(&running).await);
    assert_eq!(idle.get("http://a/quick").await.unwrap().2, "quick");
    let asked = tokio::spawn(async move { slow.get("http://a/").await.unwrap().2 });
    soon(called.notified()).await;
    running.server.drain();
    soon(async {
        while running.server.connections() > 1 {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert!(idle.get("http://a/quick").await.is_err());
    assert_eq!(running.server.in_flight(), 1);
    go.notify_one();
    assert_eq!(soon(asked).await.unwrap(), "slow");
    soon(running.server.drained()).await;
    assert_eq!(
        (running.server.connections(), running.server.in_flight()),
        (0, 0)
    );
}
