//! HTTP/2 to servers, stream by stream: what comes before an answer, what may be sent again, and streams that become
//! something else.

use crate::support::{ask, context, get, group, outbound, read, send, soon, upstream};
use bytes::Bytes;
use h2::{Reason, RecvStream, ext::Protocol, server::SendResponse};
use http::{Method, Request, Response, StatusCode};
use protoplex_http::{Answer, Body, Head, Interims, Reply, Scheme};
use protoplex_server::{Server, ServerSettings, Service};
use protoplex_upstream::{Group, Outbound, RelayError, Retry};
use protoplex_wire::manifest::UpstreamProtocol;
use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A server that does with each stream as it is told, frame by frame.
struct Origin {
    address: String,
    asked: Arc<AtomicUsize>,
}

async fn origin<F, R>(takes_connect: bool, each: F) -> Origin
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let (each, counted) = (each.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                if takes_connect {
                    builder.enable_connect_protocol();
                }
                let mut connection = builder.handshake(io).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    counted.fetch_add(1, Relaxed);
                    tokio::spawn(each(request, respond));
                }
            });
        }
    });
    Origin { address, asked }
}

fn to(origins: &[&Origin]) -> Arc<Group> {
    let mut upstream = upstream(UpstreamProtocol::H2c, &[]);
    upstream.addresses = origins.iter().map(|one| one.address.clone()).collect();
    group(&upstream)
}

fn answer(respond: &mut SendResponse<Bytes>, text: &str) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    body.send_data(Bytes::copy_from_slice(text.as_bytes()), true)
        .unwrap();
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = origin(false, move |_, mut respond| {
        let go = Arc::clone(&told);
        async move {
            for link in ["</a.css>", "</b.css>"] {
                let hints = Response::builder().status(103).header("link", link);
                let hints = hints.header("x-request-id", "theirs");
                respond.send_informational(hints.body(()).unwrap()).unwrap();
            }
            go.notified().await;
            answer(&mut respond, "late");
        }
    })
    .await;
    let (group, interims) = (to(&[&origin]), Interims::default());
    let mut request = get("/");
    request.interims = Some(interims.clone());
    let sent = tokio::spawn(async move { send(&group, request).await.unwrap() });
    let mut hints = Vec::new();
    soon(async {
        while hints.len() < 2 {
            hints.extend(interims.take());
            tokio::task::yield_now().await;
        }
    })
    .await;
    let seen = hints
        .iter()
        .map(|hint| (hint.status, hint.lines.as_bytes()));
    assert!(seen.eq([
        (StatusCode::EARLY_HINTS, &b"link: </a.css>\r\n"[..]),
        (StatusCode::EARLY_HINTS, &b"link: </b.css>\r\n"[..]),
    ]));
    go.notify_one();
    assert_eq!(read(soon(sent).await.unwrap()).await.unwrap(), "late");
}

#[tokio::test]
async fn refused_streams_go_to_another_server_and_others_do_not() {
    for (reason, tries) in [(Reason::REFUSED_STREAM, 1), (Reason::INTERNAL_ERROR, 0)] {
        let refusing = origin(false, move |_, mut respond| async move {
            respond.send_reset(reason);
        })
        .await;
        let well = origin(false, |_, mut respond| async move {
            answer(&mut respond, "well");
        })
        .await;
        let group = to(&[&refusing, &well]);
        let mut failed = 0;
        // One of two goes to the one that refuses first.
        for _ in 0..2 {
            let request = outbound(Method::POST, "/", Body::empty());
            match send(&group, request).await {
                Ok(reply) => assert_eq!(read(reply).await.unwrap(), "well"),
                Err(error) => {
                    assert!(matches!(error, RelayError::Broken { .. }), "{error}");
                    failed += 1;
                }
            }
        }
        let asked = refusing.asked.load(Relaxed);
        assert!(asked > 0, "{reason}: nobody was refused");
        assert_eq!(failed + tries * asked, asked, "{reason}");
    }
}

#[tokio::test]
async fn what_the_only_server_refused_is_sent_to_it_again() {
    let (count, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let origin = origin(false, move |_, mut respond| {
        let first = counted.fetch_add(1, Relaxed) == 0;
        let answered = Arc::clone(&answered);
        async move {
            if first {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                answered.fetch_add(1, Relaxed);
                answer(&mut respond, "well");
            }
        }
    })
    .await;
    let request = outbound(Method::POST, "/", Body::empty());
    let reply = send(&to(&[&origin]), request).await.unwrap();
    assert_eq!(read(reply).await.unwrap(), "well");
    assert_eq!(origin.asked.load(Relaxed), 2);
    // Who wants no second try has none.
    count.store(0, Relaxed);
    let mut request = outbound(Method::POST, "/", Body::empty());
    request.retry = Retry::Never;
    assert!(send(&to(&[&origin]), request).await.is_err());
}

/// Reads a request, and says goodbye without it (RFC 9113, section 6.8).
async fn say_goodbye(io: &mut TcpStream) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    io.write_all(&SETTINGS).await.unwrap();
    io.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut frame = [0; 9];
        io.read_exact(&mut frame).await.unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        io.read_exact(&mut vec![0; length]).await.unwrap();
        if frame[3] == HEADERS {
            break;
        }
    }
    io.write_all(&GOAWAY).await.unwrap();
}

#[tokio::test]
async fn goaway_retries_on_a_new_connection_and_does_not_eject() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = upstream(UpstreamProtocol::H2c, &[]);
    upstream.addresses = vec![listener.local_addr().unwrap().to_string()];
    tokio::spawn(async move {
        let (mut leaving, _) = listener.accept().await.unwrap();
        say_goodbye(&mut leaving).await;
        let (io, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            answer(&mut respond, "well");
        }
    });
    let request = outbound(Method::POST, "/", Body::empty());
    let counters = Arc::clone(&request.counters);
    let reply = send(&group(&upstream), request).await.unwrap();
    assert_eq!(read(reply).await.unwrap(), "well");
    let failed: Vec<_> = counters.failures().filter(|(_, n)| *n > 0).collect();
    assert_eq!(failed, []);
}

/// Relays all that comes to a group.
struct Front(Arc<Group>);

impl Service for Front {
    fn call(&self, head: &Head<'_>, _: Body) -> Answer {
        let group = Arc::clone(&self.0);
        let request = Outbound {
            upgrade: head.hop.upgrade.map(str::to_owned),
            head: b"GET /socket HTTP/1.1\r\nhost: site.example\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    sec-websocket-version: 13\r\n"
                .to_vec()
                .into(),
            ..get("/socket")
        };
        Answer::Later(Box::pin(async move {
            let sent = group.send(request).await;
            sent.unwrap_or_else(|_| Reply::empty(StatusCode::BAD_GATEWAY))
        }))
    }
}

async fn front(group: Arc<Group>) -> (Server<Front>, SocketAddr) {
    let server = Server::new(Arc::new(Front(group)), ServerSettings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(server.listen(listener, Scheme::Http));
    (server, address)
}

/// Agrees, and sends back what comes until it ends.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
    let headers = request.headers();
    let known = (
        request.method().as_str(),
        request.uri().to_string(),
        protocol,
        headers.contains_key("sec-websocket-key"),
        &headers["sec-websocket-version"],
    );
    let uri = "http://site.example/socket".to_owned();
    let version = &http::HeaderValue::from_static("13");
    assert_eq!(known, ("CONNECT", uri, Some("websocket"), false, version));
    let agreed = Response::builder().header("sec-websocket-protocol", "chat");
    let mut send = respond
        .send_response(agreed.body(()).unwrap(), false)
        .unwrap();
    let mut receive = request.into_body();
    while let Some(Ok(data)) = receive.data().await {
        receive.flow_control().release_capacity(data.len()).unwrap();
        send.send_data(data, false).unwrap();
    }
    send.send_data("goodbye".into(), true).unwrap();
}

async fn upgrade(address: SocketAddr) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let head =
        b"GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(soon(client.read_u8()).await.unwrap());
    }
    (client, String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_websocket_of_http1_goes_by_a_stream() {
    let origin = origin(true, echo).await;
    let (server, address) = front(to(&[&origin])).await;
    let (mut client, head) = upgrade(address).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        // RFC 6455, section 1.3.
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: chat",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert_eq!(server.tunnels(), 1);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
    let (mut reading, mut writing) = client.split();
    let writing = async {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let ((), read) = soon(async { tokio::join!(writing, reading.read_to_end(&mut came)) }).await;
    read.unwrap();
    assert!(came.strip_suffix(b"goodbye") == Some(&sent[..]));
}

#[tokio::test]
async fn a_websocket_of_http2_goes_by_a_stream() {
    let origin = origin(true, echo).await;
    let (_server, address) = front(to(&[&origin])).await;
    let io = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::connect("http://a/socket").body(()).unwrap();
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let (answer, mut send) = send.send_request(request, false).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    send.send_data("hello".into(), true).unwrap();
    let mut receive = answer.into_body();
    let mut came = Vec::new();
    while let Some(data) = soon(receive.data()).await {
        came.extend(data.unwrap());
    }
    assert_eq!(came, b"hellogoodbye");
}

#[tokio::test]
async fn a_server_may_decline_a_websocket() {
    let origin = origin(true, |_, mut respond| async move {
        let declined = Response::builder().status(403).body(()).unwrap();
        let mut body = respond.send_response(declined, false).unwrap();
        body.send_data("no".into(), true).unwrap();
    })
    .await;
    let (_server, address) = front(to(&[&origin])).await;
    let (mut client, head) = upgrade(address).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut came = [0; 9];
    soon(client.read_exact(&mut came)).await.unwrap();
    assert!(came.windows(2).any(|bytes| bytes == b"no"), "{came:?}");
}

#[tokio::test]
async fn a_server_that_takes_no_extended_connect_hears_of_no_upgrade() {
    let origin = origin(false, |request, mut respond| async move {
        answer(&mut respond, request.method().as_str());
    })
    .await;
    let (_server, address) = front(to(&[&origin])).await;
    let (_client, head) = upgrade(address).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(ask(&to(&[&origin]), "/").await, "GET");
}

#[tokio::test]
async fn a_tunnel_counts_as_a_stream_until_it_ends() {
    let origin = origin(true, echo).await;
    let context = context();
    let mut upstream = upstream(UpstreamProtocol::H2c, &[]);
    upstream.addresses = vec![origin.address.clone()];
    let group = Group::new(&upstream, &context).unwrap();
    let (server, address) = front(Arc::clone(&group)).await;
    let (mut client, _) = upgrade(address).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(soon(client.read_u8()).await.unwrap(), b'a');
    drop(client);
    soon(async {
        while server.tunnels() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The group goes with all who hold it.
    server.drain();
    soon(server.drained()).await;
    drop((server, group));
    context.tasks.close();
    soon(context.tasks.wait()).await;
}
