//! The access log hears of every request, once, whatever became of it.

use crate::support::{Client, collect, later, soon, start_with, text};
use parking_lot::Mutex;
use protoplex_edge::{Access, AccessLog, Cause, Settings};
use std::sync::Arc;

#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<Access>>,
    came: tokio::sync::Notify,
}

impl AccessLog for Heard {
    fn record(&self, access: Access) {
        self.lines.lock().push(access);
        self.came.notify_one();
    }
}

impl Heard {
    async fn wait_for(&self, count: usize) -> Vec<Access> {
        soon(async {
            while self.lines.lock().len() < count {
                self.came.notified().await;
            }
        })
        .await;
        std::mem::take(&mut self.lines.lock())
    }
}

#[tokio::test]
async fn every_request_is_recorded_once_with_what_the_service_noted() {
    let heard = Arc::new(Heard::default());
    let settings = Settings {
        access_log: Some(Arc::clone(&heard) as _),
        ..Settings::default()
    };
    let running = start_with(settings, |head, body| {
        let notes = head.notes.expect("there is a log");
        notes.write(|noted| noted.handler = format!("of {}", head.path));
        match head.path {
            "/never" => later(std::future::pending()),
            "/body" => collect(body),
            _ => text(vec![b'x'; 100_000]),
        }
    })
    .await;
    let mut client = Client::to(&running).await;
    let read = client
        .ask("GET /large?x HTTP/1.1\r\nHost: a:80\r\n\r\n")
        .await;
    client
        .ask("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        .await;
    let mut gone = Client::to(&running).await;
    gone.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(async {
        while running.server.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gone.io.set_zero_linger().unwrap();
    drop(gone);
    let lines = heard.wait_for(3).await;
    let found: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.method.as_str(),
                line.path.as_str(),
                line.status,
                line.noted.handler.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("GET", "/large?x", Some(200), "of /large?x"),
            ("POST", "/body", Some(400), "of /body"),
            ("GET", "/never", None, "of /never"),
        ]
    );
    assert_eq!((lines[0].host.as_str(), lines[0].version), ("a:80", 11));
    assert_eq!(
        Some(lines[0].request_id.as_str()),
        read.header("x-request-id")
    );
    assert!(
        (100_000..101_000).contains(&lines[0].bytes),
        "{}",
        lines[0].bytes
    );
    let mut http2 = crate::http2::plain(&running).await;
    http2.get("http://a/two").await.unwrap();
    let lines = heard.wait_for(1).await;
    assert_eq!(
        (lines[0].version, lines[0].status, lines[0].bytes),
        (20, Some(200), 100_000)
    );
}

#[tokio::test]
async fn every_refused_head_is_recorded_and_counted_under_the_id_it_was_told() {
    let heard = Arc::new(Heard::default());
    let settings = Settings {
        access_log: Some(Arc::clone(&heard) as _),
        ..Settings::default()
    };
    let running = start_with(settings, |_, _| text("never")).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9 << 10));
    let large = format!(
        "GET /b HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(33 << 10)
    );
    let many = format!(
        "GET /c HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: 1\r\n".repeat(100)
    );
    let counted = |cause| running.server.counters().of(cause);
    for (bytes, status, path, cause) in [
        (
            "GET /a\"b HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "/a\"b",
            Cause::Malformed,
        ),
        (
            "GET /hello HTTP/1.1\r\n\r\n",
            400,
            "/hello",
            Cause::Malformed,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            "/",
            Cause::Malformed,
        ),
        (
            &long,
            414,
            &format!("/{}", "x".repeat(1023)),
            Cause::LineTooLong,
        ),
        (&large, 431, "/b", Cause::HeadTooLarge),
        (&many, 431, "/c", Cause::HeadTooLarge),
        (
            "GET /d HTTP/2.5\r\nHost: a\r\n\r\n",
            505,
            "/d",
            Cause::Version,
        ),
        (
            "POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            "/e",
            Cause::Unknown,
        ),
        ("\u{1}\u{2}\r\n\r\n", 400, "", Cause::Malformed),
    ] {
        let before = counted(cause);
        let mut client = Client::to(&running).await;
        let read = client.ask(bytes).await;
        let told = read.header("x-request-id").unwrap();
        assert_eq!(read.status, status, "{path}");
        assert!(
            read.body.ends_with(&format!("request {told}\n")),
            "{}",
            read.body
        );
        let lines = heard.wait_for(1).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert_eq!(
            (line.request_id.as_str(), line.status),
            (told, Some(status))
        );
        assert_eq!(line.path, path);
        assert!(line.bytes > 0 && line.refused.is_some_and(|why| read.body.starts_with(why)));
        assert_eq!(counted(cause), before + 1, "{path}");
    }
    let mut http2 = crate::http2::plain(&running).await;
    let before = counted(Cause::Malformed);
    assert_eq!(http2.get("http://a/a\"b").await.unwrap().0, 400);
    let lines = heard.wait_for(1).await;
    assert_eq!((lines[0].version, lines[0].status), (20, Some(400)));
    assert_eq!(counted(Cause::Malformed), before + 1);
}

#[tokio::test]
async fn a_malformed_body_is_counted() {
    let running = start_with(Settings::default(), |_, body| collect(body)).await;
    let mut client = Client::to(&running).await;
    let read = client
        .ask("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        .await;
    assert_eq!(read.status, 400);
    assert_eq!(running.server.counters().of(Cause::Malformed), 1);
}
