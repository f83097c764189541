//! A client that ends its side is answered through every hop; one that resets ends what was begun for it.

use super::SAMPLE;
use protoplex_tests::{Fleet, Origin, read_head};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_gets_its_answer_through_every_hop() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let post = |path: &str| {
        let lines = "Host: a\r\nContent-Length: 5\r\nConnection: close";
        format!("POST {path} HTTP/1.1\r\n{lines}\r\n\r\nhello")
    };
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        for (request, end) in [
            (get("/api/hello"), "hello from app\n"),
            (get("/api/stream"), "line 10 of 10\n\r\n0\r\n\r\n"),
            (post("/api/echo"), "hello"),
            (post("/api/count"), r#"{"bytes":5,"pieces":1}"#),
        ] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200 "),
                "{role} {request}: {answer}"
            );
            assert!(answer.contains(end), "{role} {request}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_client_ends_what_a_server_behind_does_for_it() {
    let gone = Arc::new(Mutex::new(None));
    let (told, end) = tokio::sync::oneshot::channel();
    *gone.lock().await = Some(told);
    let asked = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start({
        let asked = Arc::clone(&asked);
        move |mut stream: TcpStream| {
            let (gone, asked) = (Arc::clone(&gone), Arc::clone(&asked));
            async move {
                read_head(&mut stream).await;
                asked.notify_one();
                let end = stream.read_u8().await.map_err(|error| error.kind());
                if let Some(told) = gone.lock().await.take() {
                    let _ = told.send(end);
                }
            }
        }
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let mut client = TcpStream::connect(&fleet.node("proxy").http).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    asked.notified().await;
    client.set_zero_linger().unwrap();
    drop(client);
    // A plain end would say that an answer is still wanted.
    let end = end.await.unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}
