//! Services that panic, clients that leave.

use crate::support::{Client, Dropped, later, serve, soon, text};
use parking_lot::Mutex;
use protoplex_http::Reply;
use protoplex_server::HttpLimits;
use std::sync::Arc;
use tokio::sync::Notify;

#[tokio::test]
async fn a_service_that_panics_costs_its_request_and_nothing_else() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/now" => panic!("at once"),
        "/later" => later(async {
            tokio::task::yield_now().await;
            panic!("later")
        }),
        _ => text("fine"),
    })
    .await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for path in ["/now", "/later"] {
        let mut client = Client::to(&running).await;
        let read = client.ask(ask(path)).await;
        assert_eq!(
            (read.status, read.header("connection")),
            (500, Some("close")),
            "{path}"
        );
        assert!(read.body.contains(read.header("x-request-id").unwrap()));
        assert_eq!(client.rest().await, Ok(String::new()));
        let mut client = Client::to(&running).await;
        assert_eq!(client.ask(ask("/")).await.body, "fine");
    }
    let idle = async {
        while running.server.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    };
    soon(idle).await;
}

#[tokio::test]
async fn a_client_that_resets_its_connection_ends_the_service() {
    for (request, what) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no body"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
            "a body that nobody reads",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "a whole body that nobody reads",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            "a promise",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
            "half of the next request",
        ),
    ] {
        for keeps_body in [true, false] {
            let (dropped, gone) = Dropped::new();
            let dropped = Mutex::new(Some(dropped));
            let called = Arc::new(Notify::new());
            let running = serve(HttpLimits::default(), {
                let called = Arc::clone(&called);
                move |_, body| {
                    let body = keeps_body.then_some(body);
                    let (dropped, called) = (dropped.lock().take(), Arc::clone(&called));
                    later(async move {
                        let _kept = (dropped, body);
                        called.notify_one();
                        std::future::pending::<Reply>().await
                    })
                }
            })
            .await;
            let mut client = Client::to(&running).await;
            client.send(request).await;
            soon(called.notified()).await;
            // Without it the end says only that nothing more is sent.
            client.io.set_zero_linger().unwrap();
            drop(client);
            let ended = tokio::time::timeout(std::time::Duration::from_secs(5), gone).await;
            assert!(
                ended.is_ok(),
                "with {what} the service goes on (keeps it: {keeps_body})"
            );
        }
    }
}
