//! Requests whose body goes on beside the response, to servers of HTTP/2: when silence ends them, and when not.

use crate::support::{Spoken, group, outbound, send, serve, soon, text, upstream};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use protoplex_http::{Answer, Body, BodyError, Head, Reply, ReplyBody, Scheme, SharedPace};
use protoplex_server::{HttpCause, HttpLimits, Server, ServerSettings, Service};
use protoplex_upstream::{Group, Outbound};
use protoplex_wire::manifest::UpstreamProtocol;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const TINY: Duration = Duration::from_millis(60);

/// Relays all that comes to a group.
struct Front(Arc<Group>);

impl Service for Front {
    fn call(&self, head: &Head<'_>, body: Body) -> Answer {
        let group = Arc::clone(&self.0);
        let method = Method::from_bytes(head.method.as_bytes()).unwrap();
        let mut request = outbound(method, head.path, body);
        if head.header("te").is_some() {
            request.takes_trailers = true;
            let line = b"content-type: application/grpc\r\n";
            request.head.extend_from_slice(line);
        }
        Answer::Later(Box::pin(async move {
            let sent = group.send(request).await;
            sent.unwrap_or_else(|_| Reply::empty(http::StatusCode::BAD_GATEWAY))
        }))
    }
}

/// A client of a front with those limits, before a server that says nothing before it has heard something.
async fn client(limits: HttpLimits) -> (Server<Front>, h2::client::SendRequest<Bytes>) {
    client_before(Spoken::H2c(100), UpstreamProtocol::H2c, limits).await
}

async fn client_before(
    spoken: Spoken,
    protocol: UpstreamProtocol,
    limits: HttpLimits,
) -> (Server<Front>, h2::client::SendRequest<Bytes>) {
    let server = serve(spoken, |request| async move {
        let mut body = request.into_body();
        let first = body.frame().await;
        let first = first.and_then(|frame| frame.ok()?.into_data().ok());
        text(first.unwrap_or_default())
    })
    .await;
    let settings = ServerSettings {
        limits,
        ..ServerSettings::default()
    };
    let group = group(&upstream(protocol, &[&server]));
    let front = Server::new(Arc::new(Front(group)), settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    // Both live as long as the test.
    std::mem::forget((front.listen(listener, Scheme::Http), server));
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    (front, send)
}

fn impatient() -> HttpLimits {
    HttpLimits {
        body_timeout: TINY,
        body_grace: TINY,
        body_bytes_per_s_min: 10_000,
        ..HttpLimits::default()
    }
}

fn post() -> http::request::Builder {
    Request::post("http://a/")
}

#[tokio::test]
async fn a_client_may_be_silent_before_a_server_of_http2_speaks() {
    let (front, mut send) = client(impatient()).await;
    let (answer, mut body) = send.send_request(post().body(()).unwrap(), false).unwrap();
    tokio::time::sleep(TINY * 5).await;
    body.send_data("hi".into(), false).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(soon(answer.body_mut().data()).await.unwrap().unwrap(), "hi");
    assert_eq!(front.counters().of(HttpCause::SlowBody), 0);
}

#[tokio::test]
async fn a_grpc_client_may_be_silent_before_a_server_of_http1() {
    // An app, for one, which is relayed to by HTTP/1.1.
    let (front, mut send) =
        client_before(Spoken::Http1, UpstreamProtocol::Http1, impatient()).await;
    let call = || post().header("te", "trailers").body(()).unwrap();
    let (answer, mut body) = send.send_request(call(), false).unwrap();
    tokio::time::sleep(TINY * 5).await;
    body.send_data("hi".into(), false).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(soon(answer.body_mut().data()).await.unwrap().unwrap(), "hi");
    assert_eq!(front.counters().of(HttpCause::SlowBody), 0);
    // Others owe their bodies.
    let (answer, _body) = send.send_request(post().body(()).unwrap(), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 408);
}

#[tokio::test]
async fn a_silence_before_a_server_of_http2_speaks_has_an_end() {
    let limits = HttpLimits {
        two_way_silence_max: TINY,
        ..HttpLimits::default()
    };
    let (front, mut send) = client(limits).await;
    let (answer, _body) = send.send_request(post().body(()).unwrap(), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 408);
    assert_eq!(front.counters().of(HttpCause::SlowBody), 1);
}

#[tokio::test]
async fn a_body_of_known_length_is_owed_to_servers_of_http2_too() {
    let (front, mut send) = client(impatient()).await;
    let request = post().header("content-length", "5").body(()).unwrap();
    let (answer, _body) = send.send_request(request, false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 408);
    assert_eq!(front.counters().of(HttpCause::SlowBody), 1);
}

/// A request whose body comes from the channel, to a server that answers at once and then only listens.
async fn listener(idle: Duration) -> (mpsc::UnboundedSender<Bytes>, Reply) {
    let server = serve(Spoken::H2c(100), |request| async move {
        let mut body = request.into_body();
        let said = async move {
            let mut heard = 0;
            while let Some(Ok(frame)) = body.frame().await {
                heard += frame.into_data().map_or(0, |data| data.len());
            }
            Ok(Frame::data(Bytes::from(heard.to_string())))
        };
        Response::new(StreamBody::new(futures::stream::once(said)).boxed_unsync())
    })
    .await;
    let mut upstream = upstream(UpstreamProtocol::H2c, &[&server]);
    std::mem::forget(server);
    upstream.idle_timeout_ms = idle.as_millis() as u64;
    let (say, said) = mpsc::unbounded_channel::<Bytes>();
    let said = futures::stream::unfold(
        said,
        |mut said| async move { Some((said.recv().await?, said)) },
    );
    let body = StreamBody::new(said.map(|data| Ok::<_, BodyError>(Frame::data(data))));
    // As connections give a body of unknown length.
    let body = Body::paced(Box::pin(body), SharedPace::default());
    let request: Outbound = outbound(Method::POST, "/", body);
    say.send("a".into()).unwrap();
    (say, send(&group(&upstream), request).await.unwrap())
}

#[tokio::test]
async fn a_silent_server_that_is_spoken_to_is_not_idle() {
    let idle = TINY * 10;
    let (say, reply) = listener(idle).await;
    let ReplyBody::Relay(body) = reply.body else {
        panic!("{reply:?}");
    };
    let read = tokio::spawn(body.collect());
    for _ in 0..10 {
        tokio::time::sleep(idle / 4).await;
        say.send("a".into()).unwrap();
    }
    drop(say);
    let heard = soon(read).await.unwrap().unwrap().to_bytes();
    assert_eq!(heard, "11");
}

#[tokio::test]
async fn a_conversation_in_which_nobody_speaks_ends() {
    let (_say, reply) = listener(TINY).await;
    let ReplyBody::Relay(body) = reply.body else {
        panic!("{reply:?}");
    };
    assert!(soon(body.collect()).await.is_err());
}

/// A front before a server that says much at once, and tells how much it has heard when it has heard all.
async fn talker() -> (
    Server<Front>,
    std::net::SocketAddr,
    mpsc::UnboundedReceiver<usize>,
) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = serve(Spoken::H2c(100), move |request| {
        let tell = tell.clone();
        async move {
            tokio::spawn(async move {
                let heard = request.into_body().collect().await;
                let _ = tell.send(heard.map_or(0, |heard| heard.to_bytes().len()));
            });
            text(vec![b'x'; 32 << 20])
        }
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    let front = Server::new(Arc::new(Front(group)), ServerSettings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    std::mem::forget((front.listen(listener, Scheme::Http), server));
    (front, address, told)
}

#[tokio::test]
async fn a_client_of_http2_may_say_all_before_it_takes_anything() {
    let (_front, address, mut told) = talker().await;
    let io = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let (answer, mut body) = send.send_request(post().body(()).unwrap(), false).unwrap();
    let _answer = soon(answer).await.unwrap();
    let sent = vec![b'y'; 4 << 20];
    body.send_data(sent.clone().into(), true).unwrap();
    assert_eq!(soon(told.recv()).await, Some(sent.len()));
}

#[tokio::test]
async fn a_client_of_http1_may_say_all_before_it_takes_anything() {
    let (_front, address, mut told) = talker().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let sent = vec![b'y'; 16 << 20];
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        sent.len()
    );
    let sending = async {
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&sent).await.unwrap();
    };
    soon(sending).await;
    assert_eq!(soon(told.recv()).await, Some(sent.len()));
}
