//! Times and connections of requests that guests send.

use super::*;
use bytes::Bytes;
use http_body_util::Empty;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Anything here happens at once.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_guest_sets_its_timeouts_up_to_an_hour() {
    let options = |time: Option<Duration>| RequestOptions {
        connect_timeout: time,
        first_byte_timeout: time,
        between_bytes_timeout: time,
    };
    let all = |time: Duration| Timeouts {
        connect: time,
        first_byte: time,
        between_bytes: time,
    };
    let hour = Duration::from_secs(3_600);
    for (asked, given) in [
        (Duration::from_millis(1), Duration::from_millis(1)),
        (hour, hour),
        (hour + Duration::from_nanos(1), hour),
        (Duration::from_secs(86_400), hour),
        (Duration::MAX, hour),
    ] {
        assert_eq!(Timeouts::of(Some(options(Some(asked)))), all(given));
    }
    let ours = Timeouts {
        connect: CONNECT_TIMEOUT,
        first_byte: FIRST_BYTE_TIMEOUT,
        between_bytes: BETWEEN_BYTES_TIMEOUT,
    };
    assert_eq!(Timeouts::of(Some(options(None))), ours);
    assert_eq!(Timeouts::of(None), ours);
}

/// Answers every request of every connection, and counts connections that are open.
async fn server(open: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let open = Arc::clone(&open);
            open.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut head).await {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                        let _ = stream.write_all(answer).await;
                    }
                }
                open.fetch_sub(1, SeqCst);
            });
        }
    });
    address
}

#[tokio::test]
async fn connections_to_many_hosts_are_kept_up_to_a_number() {
    const HOSTS: usize = 12;
    const KEPT: u32 = 4;
    let open = Arc::new(AtomicUsize::new(0));
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        hosts.push(server(Arc::clone(&open)).await.to_string());
    }
    let outgoing = Outgoing::new(Policy::new(&hosts), Some(KEPT));
    let get = async |host: &str| {
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let request = http::Request::get(format!("http://{host}/"));
        let request = request.body(body.boxed_unsync()).unwrap();
        let (response, _) = outgoing.clone().send(request, None).await.ok().unwrap();
        assert_eq!(response.status(), 204);
    };
    for host in &hosts {
        get(host).await;
    }
    let settled = async {
        while open.load(SeqCst) != KEPT as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(SOON, settled).await;
    assert!(waited.is_ok(), "{} are open", open.load(SeqCst));
    // Those that are kept serve on, and others are reached all the same.
    for host in hosts.iter().chain(&hosts) {
        get(host).await;
    }
    let settled = async {
        while open.load(SeqCst) > KEPT as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, settled).await.is_ok());
}
