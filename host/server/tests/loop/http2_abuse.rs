//! HTTP/2 clients that cost us more than themselves, frame by frame.

use crate::{
    ingress::counted,
    support::{Running, later, serve, soon, text},
};
use protoplex_server::{Http2Limits, HttpCause, HttpLimits};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET / http a`, and the same with POST, in HPACK.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 0x01, b'a'];
const POST: [u8; 6] = [0x83, 0x86, 0x84, 0x01, 0x01, b'a'];
const TINY: Duration = Duration::from_millis(60);

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ask(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &GET)
}

async fn connect(running: &Running, settings: &[u8]) -> TcpStream {
    connect_after(running, b"", settings).await
}

async fn connect_after(running: &Running, before: &[u8], settings: &[u8]) -> TcpStream {
    let mut io = TcpStream::connect(running.at).await.unwrap();
    io.write_all(before).await.unwrap();
    io.write_all(PREFACE).await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, settings))
        .await
        .unwrap();
    io
}

/// The kind and the payload of the next frame; none at the end.
async fn next(io: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    soon(io.read_exact(&mut head)).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    soon(io.read_exact(&mut payload)).await.ok()?;
    Some((head[3], payload))
}

/// A client that says each frame, and looks at those that come without waiting for them.
pub struct Frames {
    io: TcpStream,
    came: Vec<u8>,
}

impl Frames {
    pub async fn connect(running: &Running, settings: &[u8]) -> Self {
        Self {
            io: connect(running, settings).await,
            came: Vec::new(),
        }
    }

    /// Says something before HTTP/2 begins.
    pub async fn after(running: &Running, before: &[u8]) -> Self {
        Self {
            io: connect_after(running, before, &[]).await,
            came: Vec::new(),
        }
    }

    /// Fails where the server has gone, which is then seen.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// The kind and the stream of the next frame, if it is here.
    pub fn try_next(&mut self) -> Option<(u8, u32)> {
        while let Ok(1..) = self.io.try_read_buf(&mut self.came) {}
        let head = self.came.get(..9)?;
        let bytes = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, stream) = (
            head[3],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        );
        if self.came.len() < bytes {
            return None;
        }
        self.came.drain(..bytes);
        Some((kind, stream))
    }
}

/// The error code of the `GOAWAY` that ends it.
async fn goaway(io: &mut TcpStream) -> Option<u32> {
    let mut code = None;
    while let Some((kind, payload)) = next(io).await {
        if kind == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    code
}

fn limits() -> HttpLimits {
    HttpLimits {
        h2: Http2Limits {
            resets_max: 10,
            pings_max: 10,
            settings_max: 10,
            empty_frames_max: 10,
            idle_frames_max: 10,
            window_updates_max: 10,
            ..Http2Limits::default()
        },
        ..HttpLimits::default()
    }
}

/// Eleven of a kind after one request, and more behind them.
fn flood(mut one: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    (0..11).flat_map(|number| one(2 * number + 3)).collect()
}

#[tokio::test]
async fn each_flood_ends_with_a_word_and_is_counted_as_what_it_is() {
    let cancel = 8_u32.to_be_bytes();
    let floods = [
        (
            HttpCause::Http2Resets,
            flood(|stream| [ask(stream), frame(RST_STREAM, 0, stream, &cancel)].concat()),
        ),
        (HttpCause::Http2Pings, flood(|_| frame(PING, 0, 0, &[0; 8]))),
        (
            HttpCause::Http2Settings,
            flood(|_| frame(SETTINGS, 0, 0, &[])),
        ),
        (
            HttpCause::Http2Idle,
            flood(|stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9])),
        ),
        (HttpCause::Http2Idle, flood(|_| frame(0xbb, 0, 0, &[1]))),
        (
            HttpCause::Http2Windows,
            flood(|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ),
        (
            HttpCause::Http2Windows,
            flood(|_| frame(WINDOW_UPDATE, 0, 0, &4096_u32.to_be_bytes())),
        ),
        (
            HttpCause::Http2EmptyFrames,
            [
                frame(HEADERS, END_HEADERS, 3, &POST),
                flood(|_| frame(DATA, 0, 3, &[])),
            ]
            .concat(),
        ),
        (
            HttpCause::Http2Continuations,
            [
                frame(HEADERS, END_STREAM, 3, &GET),
                flood(|_| frame(CONTINUATION, 0, 3, &[])),
            ]
            .concat(),
        ),
    ];
    for (cause, bytes) in floods {
        let running = serve(limits(), |_, _| later(std::future::pending())).await;
        let mut io = connect(&running, &[]).await;
        io.write_all(&bytes).await.unwrap();
        assert_eq!(goaway(&mut io).await, Some(11), "{cause:?}");
        counted(&running, cause, 1).await;
        // Streams and connection are gone with it.
        soon(async {
            while running.server.connections() + running.server.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_does_it_slowly_is_let_be() {
    let mut limits = limits();
    limits.h2.interval = Duration::from_millis(1);
    let running = serve(limits, |_, _| text("hello")).await;
    let mut io = connect(&running, &[]).await;
    for _ in 0..3 {
        for _ in 0..10 {
            io.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
        }
        // Each is answered: no two bursts are read as one, however late the server reads.
        for _ in 0..10 {
            while next(&mut io).await.expect("an answer to a ping").0 != PING {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    io.write_all(&ask(3)).await.unwrap();
    let body = loop {
        match next(&mut io).await.expect("an answer") {
            (DATA, payload) if !payload.is_empty() => break payload,
            _ => {}
        }
    };
    assert_eq!(body, b"hello");
    assert_eq!(running.server.counters().of(HttpCause::Http2Pings), 0);
}

#[tokio::test]
async fn a_client_that_opens_its_window_by_a_trickle_is_cut() {
    let limits = HttpLimits {
        write_timeout: TINY * 3,
        write_bytes_per_s_min: 10_000,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text(vec![b'x'; 1 << 20])).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 1
    let mut io = connect(&running, &[0, 4, 0, 0, 0, 1]).await;
    io.write_all(&ask(1)).await.unwrap();
    let (mut read, mut write) = io.into_split();
    let trickle = async {
        while write
            .write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()))
            .await
            .is_ok()
        {
            tokio::time::sleep(TINY / 6).await;
        }
    };
    let mut rest = Vec::new();
    let cut = counted(&running, HttpCause::SlowReader, 1);
    tokio::select! { _ = soon(read.read_to_end(&mut rest)) => {}, () = soon(trickle) => {}, () = cut => {} }
    counted(&running, HttpCause::SlowReader, 1).await;
}
