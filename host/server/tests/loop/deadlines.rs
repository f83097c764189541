//! Every deadline ends what it is for, with the status that says so.

use crate::support::{Client, Running, collect, later, serve, soon, start, text};
use protoplex_http::{Answer, Body, ClientPace, Head, Reply};
use protoplex_net as net;
use protoplex_server::{HttpCause, HttpLimits};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const TINY: Duration = Duration::from_millis(60);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn hello(_: &Head<'_>, _: Body) -> Answer {
    text("hello")
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let limits = HttpLimits {
        net: net::NetLimits {
            first_byte_timeout: TINY,
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    assert_eq!(Client::to(&running).await.rest().await, Ok(String::new()));
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_told_so() {
    let limits = HttpLimits {
        head_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    // The second could be HTTP/2's first word as well.
    for part in ["GET / HTTP/1.1\r\nHost:", "P", "\r\nGET"] {
        let mut client = Client::to(&running).await;
        assert_eq!(client.ask(part).await.status, 408, "{part:?}");
        assert_eq!(client.rest().await, Ok(String::new()));
        // A second request is under the same deadline.
        let mut client = Client::to(&running).await;
        assert_eq!(client.ask(format!("{GET}{part}")).await.status, 200);
        assert_eq!(client.read().await.status, 408, "{part:?}");
    }
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_move_the_deadline_of_a_head() {
    let limits = HttpLimits {
        head_timeout: TINY * 3,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let mut client = Client::to(&running).await;
    let (mut read, mut write) = client.io.split();
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nX: "
            .iter()
            .chain(std::iter::repeat(&b'y'))
        {
            let sent = tokio::io::AsyncWriteExt::write_all(&mut write, &[*byte]).await;
            if sent.is_err() {
                break;
            }
            tokio::time::sleep(TINY / 3).await;
        }
    };
    let mut text = [0; 12];
    let answer = tokio::io::AsyncReadExt::read_exact(&mut read, &mut text);
    tokio::select! {
        answer = soon(answer) => assert_eq!(answer.unwrap(), 12),
        () = drip => panic!("the connection ended without a word"),
    }
    assert_eq!(text, *b"HTTP/1.1 408");
}

/// How long a client with an early answer may go on sending, at a piece each `TINY / 3`; as long as `most`, or longer.
async fn goes_on_sending(running: &Running, most: Duration) -> Duration {
    let mut client = Client::to(running).await;
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
    assert_eq!(client.ask(upload).await.status, 200);
    let since = std::time::Instant::now();
    while since.elapsed() < most && client.io.write_all(b"more").await.is_ok() {
        tokio::time::sleep(TINY / 3).await;
    }
    since.elapsed()
}

#[tokio::test]
async fn a_client_with_an_early_answer_is_read_on_for_seconds() {
    let running = serve(HttpLimits::default(), hello).await;
    let most = Duration::from_secs(3);
    assert!(goes_on_sending(&running, most).await >= most);
}

#[tokio::test]
async fn after_an_early_response_reading_on_has_a_limit() {
    let limits = HttpLimits {
        linger_timeout: TINY * 5,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let sent = goes_on_sending(&running, Duration::from_secs(10)).await;
    assert!(sent >= TINY * 5, "{sent:?}");
    assert!(sent < Duration::from_secs(5), "{sent:?}");
    assert_eq!(running.server.connections(), 0);
}

#[tokio::test]
async fn a_client_with_an_early_answer_that_falls_silent_is_closed() {
    let limits = HttpLimits {
        linger_silence_max: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let mut client = Client::to(&running).await;
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
    assert_eq!(client.ask(upload).await.status, 200);
    soon(async {
        while running.server.connections() > 0 {
            tokio::time::sleep(TINY / 6).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_drain_waits_for_no_client_that_only_sends_on() {
    let limits = HttpLimits {
        net: net::NetLimits {
            drain_window: TINY,
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let (sent, ()) = tokio::join!(goes_on_sending(&running, Duration::from_secs(10)), async {
        tokio::time::sleep(TINY * 2).await;
        running.server.drain();
        soon(running.server.drained()).await;
    });
    assert!(sent < Duration::from_secs(5), "{sent:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = HttpLimits {
        idle_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let mut client = Client::to(&running).await;
    assert_eq!(client.ask(GET).await.status, 200);
    assert_eq!(client.rest().await, Ok(String::new()));
}

#[tokio::test]
async fn a_body_that_stops_is_refused_and_the_rest_no_request() {
    let limits = HttpLimits {
        body_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, body| collect(body)).await;
    for (lines, part) in [
        ("Content-Length: 500", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhel"),
    ] {
        let mut client = Client::to(&running).await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{part}"
            ))
            .await;
        let read = client.read().await;
        assert_eq!(
            (read.status, read.header("connection")),
            (408, Some("close")),
            "{lines}"
        );
        client.send(GET).await;
        assert_eq!(client.rest().await.unwrap_or_default(), "", "{lines}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_waits_for_is_under_no_deadline() {
    let limits = HttpLimits {
        body_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, body| {
        later(async move {
            tokio::time::sleep(TINY * 3).await;
            drop(body);
            Reply::text(http::StatusCode::OK, "late")
        })
    })
    .await;
    let mut client = Client::to(&running).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        .await;
    assert_eq!(client.read().await.body, "late");
    // What is left of it must come in time, or the connection ends.
    assert_eq!(client.rest().await, Ok(String::new()));
}

#[tokio::test]
async fn the_rest_of_an_unread_body_may_not_drip_in_for_ever() {
    let limits = HttpLimits {
        body_timeout: TINY * 3,
        ..HttpLimits::default()
    };
    let running = serve(limits, hello).await;
    let mut client = Client::to(&running).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n")
        .await;
    assert_eq!(client.read().await.status, 200);
    let (mut read, mut write) = client.io.split();
    let drip = async {
        while tokio::io::AsyncWriteExt::write_all(&mut write, b"x")
            .await
            .is_ok()
        {
            tokio::time::sleep(TINY / 3).await;
        }
    };
    let mut rest = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut rest);
    tokio::select! { _ = soon(end) => {}, () = soon(drip) => {} }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let limits = HttpLimits {
        write_timeout: TINY,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text(vec![b'x'; 64 << 20])).await;
    let mut client = Client::to(&running).await;
    client.send(GET).await;
    let busy = async {
        while running.server.connections() == 0 {
            tokio::task::yield_now().await
        }
    };
    soon(busy).await;
    let gone = async {
        while running.server.connections() > 0 {
            tokio::time::sleep(TINY).await
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let limits = HttpLimits {
        net: net::NetLimits {
            handshake_timeout: TINY,
            ..net::NetLimits::default()
        },
        ..HttpLimits::default()
    };
    let running = start(limits, Some(crate::tls::server_config()), hello).await;
    assert_eq!(Client::to(&running).await.rest().await, Ok(String::new()));
}

#[tokio::test]
async fn a_body_that_trickles_is_told_so() {
    let limits = HttpLimits {
        body_grace: TINY * 2,
        body_bytes_per_s_min: 10_000,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, body| collect(body)).await;
    let mut client = Client::to(&running).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n")
        .await;
    let (mut client, mut write) = client.split();
    let drip = async {
        while tokio::io::AsyncWriteExt::write_all(&mut write, b"x")
            .await
            .is_ok()
        {
            tokio::time::sleep(TINY / 6).await;
        }
        std::future::pending::<()>().await
    };
    let read = tokio::select! { read = client.read() => read, () = drip => unreachable!() };
    assert_eq!(
        (read.status, read.header("connection")),
        (408, Some("close"))
    );
    assert_eq!(running.server.counters().of(HttpCause::SlowBody), 1);
}

#[tokio::test]
async fn a_client_that_takes_a_trickle_of_a_reply_is_given_up() {
    let limits = HttpLimits {
        write_timeout: TINY * 4,
        // More than loopback's buffers can hide, less than a reader in earnest takes.
        write_bytes_per_s_min: 40_000_000,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text(vec![b'x'; 64 << 20])).await;
    let mut client = Client::to(&running).await;
    client.send(GET).await;
    let trickle = async {
        let mut piece = vec![0; 64 << 10];
        while tokio::io::AsyncReadExt::read(&mut client.io, &mut piece)
            .await
            .is_ok_and(|read| read > 0)
        {
            tokio::time::sleep(TINY / 6).await;
        }
    };
    soon(trickle).await;
    assert_eq!(running.server.counters().of(HttpCause::SlowReader), 1);
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha";

/// A body that pauses in the middle, for several of its deadlines: the status.
async fn pauses(limits: HttpLimits, said: Option<ClientPace>) -> u16 {
    let running = serve(limits, move |head: &Head<'_>, body| {
        if let (Some(pace), Some(said)) = (head.hop.pace, said) {
            pace.set(said).unwrap();
        }
        collect(body)
    })
    .await;
    let mut client = Client::to(&running).await;
    client.send(POST).await;
    let read = tokio::select! {
        read = client.read() => read,
        () = tokio::time::sleep(TINY * 6) => client.ask("lf").await,
    };
    read.status
}

#[tokio::test]
async fn a_route_or_a_node_of_ours_may_let_a_body_pause_longer() {
    let tight = || HttpLimits {
        body_timeout: TINY,
        body_grace: TINY * 2,
        body_bytes_per_s_min: 10_000,
        ..HttpLimits::default()
    };
    let long = Some(Duration::from_secs(60));
    for (timeout, bytes_per_s_min, status) in [
        (long, Some(0), 200),
        (long, None, 408),
        (None, Some(0), 408),
    ] {
        let said = ClientPace::Body {
            timeout,
            bytes_per_s_min,
        };
        assert_eq!(pauses(tight(), Some(said)).await, status, "{said:?}");
    }
    assert_eq!(pauses(tight(), Some(ClientPace::JudgedBefore)).await, 200);
    assert_eq!(pauses(tight(), None).await, 408);
    let inner = HttpLimits {
        inner_idle_timeout: TINY,
        ..HttpLimits::default()
    };
    assert_eq!(pauses(inner, Some(ClientPace::JudgedBefore)).await, 408);
}

#[tokio::test]
async fn a_body_may_come_as_slowly_as_it_likes_until_it_is_crowded() {
    for (connections_max, status) in [(16, 200), (2, 408)] {
        let limits = HttpLimits {
            net: net::NetLimits {
                connections_max,
                ..net::NetLimits::default()
            },
            body_grace: TINY,
            ..HttpLimits::default()
        };
        assert_eq!(pauses(limits, None).await, status, "{connections_max}");
    }
}

#[tokio::test]
async fn a_node_of_ours_may_take_a_reply_as_slowly_as_its_client_does() {
    for (said, is_whole) in [(Some(ClientPace::JudgedBefore), true), (None, false)] {
        let limits = HttpLimits {
            write_timeout: TINY,
            ..HttpLimits::default()
        };
        let running = serve(limits, move |head: &Head<'_>, _| {
            if let (Some(pace), Some(said)) = (head.hop.pace, said) {
                pace.set(said).unwrap();
            }
            text(vec![b'x'; 64 << 20])
        })
        .await;
        let mut client = Client::to(&running).await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        tokio::time::sleep(TINY * 6).await;
        let mut taken = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut client.io, &mut taken);
        let read = soon(read).await;
        assert_eq!(read.is_ok() && taken.len() > 64 << 20, is_whole, "{said:?}");
    }
}
