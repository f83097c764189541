//! The access log hears of every request, once, whatever became of it.

use crate::{
    http2_abuse::{Frames, HEADERS, ask, frame},
    support::{Client, Running, collect, later, soon, start_with, text},
};
use parking_lot::Mutex;
use protoplex_net::{self as net, Trust};
use protoplex_server::{Access, AccessLog, Http2Limits, HttpCause, HttpLimits, ServerSettings};
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
    let settings = ServerSettings {
        access_log: Some(Arc::clone(&heard) as _),
        ..ServerSettings::default()
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
async fn every_refused_head_is_counted_and_logged_with_its_id() {
    let heard = Arc::new(Heard::default());
    let settings = ServerSettings {
        access_log: Some(Arc::clone(&heard) as _),
        ..ServerSettings::default()
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
            HttpCause::Malformed,
        ),
        (
            "GET /hello HTTP/1.1\r\n\r\n",
            400,
            "/hello",
            HttpCause::Malformed,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            "/",
            HttpCause::Malformed,
        ),
        (
            &long,
            414,
            &format!("/{}", "x".repeat(1023)),
            HttpCause::LineTooLong,
        ),
        (&large, 431, "/b", HttpCause::HeadTooLarge),
        (&many, 431, "/c", HttpCause::HeadTooLarge),
        (
            "GET /d HTTP/2.5\r\nHost: a\r\n\r\n",
            505,
            "/d",
            HttpCause::Version,
        ),
        (
            "POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            "/e",
            HttpCause::Unknown,
        ),
        ("\u{1}\u{2}\r\n\r\n", 400, "unknown", HttpCause::Malformed),
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
        assert!(
            line.bytes > 0
                && line
                    .refused
                    .as_ref()
                    .is_some_and(|why| read.body.starts_with(&**why))
        );
        assert_eq!(counted(cause), before + 1, "{path}");
    }
    let mut http2 = crate::http2::plain(&running).await;
    let before = counted(HttpCause::Malformed);
    assert_eq!(http2.get("http://a/a\"b").await.unwrap().0, 400);
    let lines = heard.wait_for(1).await;
    assert_eq!((lines[0].version, lines[0].status), (20, Some(400)));
    assert_eq!(counted(HttpCause::Malformed), before + 1);
}

#[tokio::test]
async fn a_malformed_body_is_counted() {
    let running = start_with(ServerSettings::default(), |_, body| collect(body)).await;
    let mut client = Client::to(&running).await;
    let read = client
        .ask("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        .await;
    assert_eq!(read.status, 400);
    assert_eq!(running.server.counters().of(HttpCause::Malformed), 1);
}

/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;
/// HPACK: `:method GET`, `:scheme http`, `:path /`, `:authority a`.
const METHOD: &[u8] = &[0x82];
const SCHEME: &[u8] = &[0x86];
const PATH: &[u8] = &[0x84];
const AUTHORITY: &[u8] = &[0x01, 0x01, b'a'];

fn field(name: &str, value: &str) -> Vec<u8> {
    // Lengths of more than six bits, in HPACK's way: 127, and the rest in groups of seven.
    let text = |text: &str| {
        let mut bytes = Vec::new();
        match text.len() {
            length @ 0..127 => bytes.push(length as u8),
            length => {
                bytes.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

fn heard(running_with: HttpLimits) -> (Arc<Heard>, ServerSettings) {
    let heard = Arc::new(Heard::default());
    let settings = ServerSettings {
        limits: running_with,
        access_log: Some(Arc::clone(&heard) as _),
        ..ServerSettings::default()
    };
    (heard, settings)
}

async fn refused_once(
    running: &Running,
    heard: &Heard,
    cause: HttpCause,
    refuse: impl AsyncFnOnce(),
) -> Access {
    let before = running.server.counters().of(cause);
    refuse().await;
    let mut lines = heard.wait_for(1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(running.server.counters().of(cause), before + 1, "{lines:?}");
    let line = lines.remove(0);
    let known = [&line.method, &line.host, &line.path];
    assert_eq!(known, ["unknown"; 3], "{line:?}");
    assert_eq!((line.version, line.request_id.len()), (20, 16));
    line
}

#[tokio::test]
async fn a_stream_that_http2_itself_refuses_is_recorded_and_counted() {
    let (heard, settings) = heard(HttpLimits {
        head_bytes_max: 1_000,
        ..HttpLimits::default()
    });
    let running = start_with(settings, |_, _| text("hi")).await;
    let mut client = Frames::connect(&running, &[]).await;
    let no_method = [SCHEME, PATH, AUTHORITY].concat();
    let connection = [METHOD, SCHEME, PATH, AUTHORITY, &field("connection", "x")].concat();
    let late = [&field("a", "b"), METHOD, SCHEME, PATH, AUTHORITY].concat();
    let length = [
        METHOD,
        SCHEME,
        PATH,
        AUTHORITY,
        &field("content-length", "5"),
    ]
    .concat();
    let large = [
        METHOD,
        SCHEME,
        PATH,
        AUTHORITY,
        &field("x", &"y".repeat(12_000)),
    ]
    .concat();
    for (at, (head, cause, status, said)) in [
        (no_method, HttpCause::Malformed, None, "PROTOCOL_ERROR"),
        (connection, HttpCause::Malformed, None, "PROTOCOL_ERROR"),
        (late, HttpCause::Malformed, None, "PROTOCOL_ERROR"),
        (length, HttpCause::Malformed, None, "PROTOCOL_ERROR"),
        (large, HttpCause::HeadTooLarge, Some(431), "too large"),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 4 * at as u32 + 1;
        let head = frame(HEADERS, WHOLE, stream, &head);
        let line = refused_once(&running, &heard, cause, async || client.send(&head).await).await;
        assert_eq!(line.status, status, "{line:?}");
        let why = line.refused.unwrap();
        assert!(why.contains(said), "{why}");
        assert!(why.contains(&format!("stream {stream}")), "{why}");
        // The connection goes on, and what the service answers has one line.
        client.send(&ask(stream + 2)).await;
        let lines = heard.wait_for(1).await;
        assert_eq!((lines.len(), lines[0].status), (1, Some(200)), "{lines:?}");
        assert!(lines[0].refused.is_none());
    }
    assert_eq!(running.server.counters().of(HttpCause::Http2Protocol), 0);
}

#[tokio::test]
async fn a_stream_above_the_limit_is_recorded_and_counted() {
    let (heard, settings) = heard(HttpLimits {
        h2_streams_max: 2,
        ..HttpLimits::default()
    });
    let running = start_with(settings, |_, _| later(std::future::pending())).await;
    let mut client = Frames::connect(&running, &[]).await;
    let asked = [ask(1), ask(3), ask(5)].concat();
    let refused = async || client.send(&asked).await;
    let line = refused_once(&running, &heard, HttpCause::Http2Streams, refused).await;
    let why = line.refused.unwrap();
    assert!(
        why.contains("stream 5") && why.contains("REFUSED_STREAM"),
        "{why}"
    );
    assert_eq!(running.server.in_flight(), 2);
}

#[tokio::test]
async fn a_head_that_ends_http2_is_recorded_and_counted() {
    let (heard, settings) = heard(HttpLimits {
        h2: Http2Limits {
            continuations_max: 5,
            ..Http2Limits::default()
        },
        ..HttpLimits::default()
    });
    let running = start_with(settings, |_, _| text("hi")).await;
    // No entry of HPACK's tables has the number 0.
    let broken = frame(HEADERS, WHOLE, 1, &[0x80]);
    let begun = frame(HEADERS, 1, 1, METHOD);
    let flood = [begun, frame(9, 0, 1, &[]).repeat(20)].concat();
    for (cause, bytes, said) in [
        (HttpCause::Http2Protocol, broken, "PROTOCOL_ERROR"),
        (HttpCause::Http2Continuations, flood, "ENHANCE_YOUR_CALM"),
    ] {
        let mut client = Frames::connect(&running, &[]).await;
        let line = refused_once(&running, &heard, cause, async || client.send(&bytes).await).await;
        let why = line.refused.unwrap();
        assert!(why.contains("stream 1") && why.contains(said), "{why}");
        assert_eq!(line.status, None);
    }
}

#[tokio::test]
async fn a_head_that_http2_never_ends_is_recorded_and_counted() {
    let limit = std::time::Duration::from_millis(60);
    let (heard, settings) = heard(HttpLimits {
        net: net::NetLimits {
            first_byte_timeout: limit,
            ..net::NetLimits::default()
        },
        idle_timeout: limit,
        ..HttpLimits::default()
    });
    let running = start_with(settings, |_, _| text("hi")).await;
    let mut client = Frames::connect(&running, &[]).await;
    let begun = frame(HEADERS, 1, 1, METHOD);
    let line = refused_once(&running, &heard, HttpCause::SlowHead, async || {
        client.send(&begun).await;
    })
    .await;
    assert!(line.refused.unwrap().contains("too slowly"));
    assert_eq!(running.server.counters().of(HttpCause::Idle), 0);
}

#[tokio::test]
async fn a_refused_head_is_logged_with_the_forwarded_client() {
    let (heard, mut settings) = heard(HttpLimits::default());
    settings.trust = Trust {
        forwarded_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..Trust::default()
    };
    let running = start_with(settings, |_, _| text("never")).await;
    let forwarded = "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n";
    let large = format!("{forwarded}X: {}\r\n", "x".repeat(33 << 10));
    for (lines, client) in [
        (forwarded, "203.0.113.9"),
        (
            "x-forwarded-for:203.0.113.9\r\nX-Forwarded-For:  \r\n",
            "127.0.0.1",
        ),
        ("", "127.0.0.1"),
        ("X: a\rX-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1"),
        // Not whole: the forwarder's own line may have been the next.
        (&large, "127.0.0.1"),
    ] {
        let mut asking = Client::to(&running).await;
        let read = asking.ask(format!("GET / HTTP/1.1\r\n{lines}\r\n")).await;
        assert!(matches!(read.status, 400 | 431), "{lines}");
        let lines = heard.wait_for(1).await;
        assert_eq!(lines[0].client.to_string(), client, "{lines:?}");
    }
    let mut http2 = crate::http2::plain(&running).await;
    let request = http::Request::get("http://a/a\"b").header("x-forwarded-for", "203.0.113.9");
    let asked = http2.ask(request.body(Default::default()).unwrap()).await;
    assert_eq!(asked.unwrap().0, 400);
    let lines = heard.wait_for(1).await;
    assert_eq!(lines[0].client.to_string(), "203.0.113.9");
}

#[tokio::test]
async fn a_refused_head_is_logged_with_the_proxy_headers_client() {
    let (heard, mut settings) = heard(HttpLimits::default());
    settings.trust = Trust {
        proxy_protocol_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..Trust::default()
    };
    let running = start_with(settings, |_, _| text("never")).await;
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n";
    let mut client = Client::to(&running).await;
    client.send(header).await;
    assert_eq!(client.ask("GET / HTTP/1.1\r\n\r\n").await.status, 400);
    assert_eq!(heard.wait_for(1).await[0].client.to_string(), "192.0.2.1");
    let mut frames = Frames::after(&running, header).await;
    frames.send(&frame(HEADERS, WHOLE, 1, PATH)).await;
    assert_eq!(heard.wait_for(1).await[0].client.to_string(), "192.0.2.1");
}
