//! The header by which nodes tell each other the build: nobody behind the connection sees it, and only where nodes
//! connect is it told to the service.

use crate::{
    http2,
    support::{Client, Running, later, serve, soon, text},
};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use protoplex_http::{Answer, BUILD_HEADER, Body, Head, Reply};
use protoplex_server::HttpLimits;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

/// Says what it sees: the token, and the names of all headers and trailers.
fn seen(head: &Head<'_>, body: Body) -> Answer {
    let token = head.hop.internal.map(|said| said.token);
    let token = token.map(String::from_utf8_lossy);
    let names = head.headers.iter().map(|field| field.name.to_lowercase());
    let names: Vec<_> = names.filter(|name| name.starts_with('p')).collect();
    let said = format!("{token:?} {names:?}");
    later(async move {
        let trailers = body.collect().await.unwrap().trailers().cloned();
        let names = trailers.unwrap_or_default();
        let names: Vec<_> = names.keys().map(ToString::to_string).collect();
        Reply::text(StatusCode::OK, format!("{said} {names:?}"))
    })
}

fn request(token: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nProtoplex-Build: {token}\r\nPlain: 1\r\nprotoplex-build: two\r\n\
         Protoplex-Origin: one\r\n\
         Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\nProtoplex-Build: {token}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_public_listener_drops_the_build_token_and_tells_nobody() {
    let running = serve(HttpLimits::default(), seen).await;
    let mut client = Client::to(&running).await;
    let answer = client.ask(request("one")).await;
    assert_eq!(answer.body, r#"None ["plain"] ["x-sum"]"#);
}

#[tokio::test]
async fn an_internal_listener_tells_the_service_the_build_token_alone() {
    let running = serve(HttpLimits::default(), seen).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let _listening = running.server.listen_internal(listener);
    let internal = Running { at, ..running };
    let mut client = Client::to(&internal).await;
    let answer = client.ask(request("one")).await;
    assert_eq!(answer.body, r#"Some("one") ["plain"] ["x-sum"]"#);
    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.body, "None [] []");
}

#[tokio::test]
async fn http2_drops_the_build_token_of_heads_and_trailers() {
    let running = serve(HttpLimits::default(), seen).await;
    let mut client = http2::plain(&running).await;
    let named = || Request::post("http://a/").header(BUILD_HEADER, "one");
    let whole = named().header("plain", "1").body(Full::default()).unwrap();
    let (_, _, body) = client.ask(whole).await.unwrap();
    assert_eq!(body, r#"None ["plain"] []"#);

    let io = tokio::net::TcpStream::connect(running.at).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let io = hyper_util::rt::TokioIo::new(io);
    let (mut send, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut trailers = HeaderMap::new();
    trailers.insert(BUILD_HEADER, "one".parse().unwrap());
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [Frame::data(Bytes::from("hi")), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, std::convert::Infallible>);
    let body = StreamBody::new(futures::stream::iter(frames));
    let answer = soon(send.send_request(named().body(body).unwrap())).await;
    let body = soon(answer.unwrap().collect()).await.unwrap().to_bytes();
    assert_eq!(body, r#"None [] ["x-sum"]"#);
}

#[tokio::test]
async fn an_internal_listener_expects_no_word_of_a_balancer() {
    let settings = protoplex_server::ServerSettings {
        trust: protoplex_net::Trust {
            proxy_protocol_from: vec!["127.0.0.0/8".parse().unwrap()],
            forwarded_from: vec!["127.0.0.0/8".parse().unwrap()],
        },
        ..Default::default()
    };
    let who = |head: &Head<'_>, _| text(format!("{} {:?}", head.client, head.forwarder));
    let running = crate::support::start_with(settings, who).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let _listening = running.server.listen_internal(listener);
    let internal = Running { at, ..running };
    let mut client = Client::to(&internal).await;
    let answer = client
        .ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        .await;
    assert_eq!(answer.body, "127.0.0.1 None");
}
