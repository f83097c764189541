//! HTTP/2's windows, both ways: what a client does not take, and what a distant one may send.

use crate::{
    far::far_from,
    http2_abuse::{Frames, PING, WINDOW_UPDATE, ask, frame},
    ingress::counted,
    support::{collect, serve, soon, streamed, text},
};
use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use protoplex_http::{Answer, StreamError};
use protoplex_server::{Http2Limits, HttpCause, HttpLimits};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const TINY: Duration = Duration::from_millis(60);
const RST_STREAM: u8 = 3;
/// SETTINGS_INITIAL_WINDOW_SIZE = 0
const SHUT: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// Larger than all windows of a client that says nothing of them.
const LARGE_BYTES: usize = 1 << 20;

fn limits() -> HttpLimits {
    HttpLimits {
        write_timeout: TINY * 10,
        write_bytes_per_s_min: 1_000,
        ..HttpLimits::default()
    }
}

fn opens(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

#[tokio::test]
async fn a_stream_with_a_shut_window_is_reset_alone() {
    let running = serve(limits(), |_, _| text(vec![b'x'; LARGE_BYTES])).await;
    let mut client = Frames::connect(&running, &SHUT).await;
    let shut: Vec<u32> = (0..20).map(|at| 2 * at + 1).collect();
    let taken = 41;
    for stream in shut.iter().chain([&taken]) {
        client.send(&ask(*stream)).await;
    }
    let mut reset = Vec::new();
    // It reads from one stream all the time, and pings besides.
    let reading = async {
        while reset.len() < shut.len() {
            client.send(&opens(taken, 2_000)).await;
            client.send(&opens(0, 2_000)).await;
            client.send(&frame(PING, 0, 0, &[0; 8])).await;
            tokio::time::sleep(TINY / 2).await;
            while let Some((kind, stream)) = client.try_next() {
                assert_ne!((kind, stream), (RST_STREAM, taken), "it takes what it can");
                reset.extend((kind == RST_STREAM).then_some(stream));
            }
        }
    };
    soon(reading).await;
    reset.sort_unstable();
    assert_eq!(reset, shut);
    counted(&running, HttpCause::SlowReader, shut.len() as u64).await;
    assert_eq!(running.server.connections(), 1);
    assert_eq!(running.server.in_flight(), 1);
}

#[tokio::test]
async fn a_client_that_takes_its_replies_slowly_is_let_be() {
    let running = serve(limits(), |_, _| text(vec![b'x'; LARGE_BYTES])).await;
    let mut client = Frames::connect(&running, &SHUT).await;
    for stream in [1, 3, 5] {
        client.send(&ask(stream)).await;
    }
    // Twice what is asked, over several windows of measurement.
    let began = Instant::now();
    while began.elapsed() < limits().write_timeout * 4 {
        for stream in [1, 3, 5] {
            client.send(&opens(stream, 200)).await;
        }
        client.send(&opens(0, 600)).await;
        tokio::time::sleep(TINY).await;
        while let Some((kind, stream)) = client.try_next() {
            assert_ne!(kind, RST_STREAM, "stream {stream}");
        }
    }
    assert_eq!(running.server.counters().of(HttpCause::SlowReader), 0);
    assert_eq!(running.server.in_flight(), 3);
}

#[tokio::test]
async fn a_connection_that_takes_pings_and_no_replies_is_cut() {
    let running = serve(limits(), |_, _| text(vec![b'x'; LARGE_BYTES])).await;
    // Streams take all; the connection takes what it takes by itself.
    let mut client = Frames::connect(&running, &[0, 4, 0, 0x10, 0, 0]).await;
    for stream in [1, 3, 5] {
        client.send(&ask(stream)).await;
    }
    let pinging = async {
        while running.server.connections() > 0
            || running.server.counters().of(HttpCause::SlowReader) == 0
        {
            for _ in 0..10 {
                client.send(&frame(PING, 0, 0, &[0; 8])).await;
            }
            tokio::time::sleep(TINY).await;
            while client.try_next().is_some() {}
        }
    };
    soon(pinging).await;
    assert_eq!(running.server.counters().of(HttpCause::SlowReader), 1);
}

#[tokio::test]
async fn window_updates_that_answer_small_messages_are_no_flood() {
    const MESSAGES: usize = 100;
    let limits = HttpLimits {
        h2: Http2Limits {
            window_updates_max: 10,
            ..Http2Limits::default()
        },
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| {
        let message = || Ok::<_, StreamError>(Frame::data(Bytes::from_static(b"message")));
        let messages = stream::iter(std::iter::repeat_with(message).take(MESSAGES));
        Answer::Ready(streamed(StreamBody::new(messages)))
    })
    .await;
    let mut client = Frames::connect(&running, &[]).await;
    client.send(&ask(1)).await;
    let mut came = 0;
    let taking = async {
        while came < MESSAGES {
            tokio::task::yield_now().await;
            while let Some((kind, _)) = client.try_next() {
                came += usize::from(kind == 0);
            }
        }
        // As gRPC's C core does, for the stream and the connection, and all of them late.
        for _ in 0..MESSAGES {
            client.send(&opens(1, 7)).await;
            client.send(&opens(0, 7)).await;
        }
        client.send(&frame(PING, 0, 0, &[0; 8])).await;
        loop {
            tokio::task::yield_now().await;
            let mut next = std::iter::from_fn(|| client.try_next());
            if next.any(|(kind, _)| kind == PING) {
                break;
            }
        }
    };
    soon(taking).await;
    assert_eq!(running.server.counters().of(HttpCause::Http2Windows), 0);
    assert_eq!(running.server.connections(), 1);
}

#[tokio::test]
async fn an_upload_from_far_away_is_not_held_up_by_its_window() {
    const ONE_WAY: Duration = Duration::from_millis(100);
    const UPLOAD_BYTES: usize = 12 << 20;
    let limits = HttpLimits::default();
    let first_window_bytes = limits.h2_stream_window_bytes as usize;
    let running = serve(limits, |_, body| collect(body)).await;
    let far = far_from(running.at, ONE_WAY).await;
    let io = TcpStream::connect(far.address).await.unwrap();
    let mut client = crate::http2::client(io).await;
    let body = Bytes::from(vec![b'x'; UPLOAD_BYTES]);
    let request = Request::post("http://a/").body(Full::new(body)).unwrap();
    let answer = soon(client.send.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let echoed = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(echoed.len(), UPLOAD_BYTES);
    let most = far.to_server.most();
    assert!(
        most > 2 * first_window_bytes,
        "{most} bytes on the way at most"
    );
}
