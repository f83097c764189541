//! HTTP/2 to servers: many requests on few connections, and nothing lost on the way.

use crate::support::{
    Answer, Server, Spoken, ask, context, get, group, outbound, read, send, serve, soon, text,
    upstream,
};
use bytes::Bytes;
use futures::{future::join_all, stream};
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use protoplex_http::{Body, BodyError, RelayBody, ReplyBody, StreamError};
use protoplex_upstream::{Group, RelayError};
use protoplex_wire::manifest::{Ejection, UpstreamProtocol};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Barrier, Notify};

fn frames(frames: Vec<Frame<Bytes>>) -> Answer {
    let frames = frames.into_iter().map(Ok::<_, StreamError>);
    Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    // Nobody is answered before all have asked.
    let all = Arc::new(Barrier::new(50));
    let server = serve(Spoken::H2c(100), move |request| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            text(format!("{:?} {}", request.version(), request.uri()))
        }
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    let answers = soon(join_all((0..50).map(|_| ask(&group, "/x?y=1")))).await;
    assert!(
        answers
            .iter()
            .all(|a| a == "HTTP/2.0 http://site.example/x?y=1"),
        "{answers:?}"
    );
    assert_eq!(server.connections(), 1);
    assert_eq!(group.load().multiplexed, 1);
}

#[tokio::test]
async fn another_connection_is_opened_when_streams_run_out() {
    let all = Arc::new(Barrier::new(4));
    let server = serve(Spoken::H2c(2), move |request| {
        let all = Arc::clone(&all);
        async move {
            if request.uri().path() == "/wait" {
                all.wait().await;
            }
            text("ok")
        }
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    // How many streams a server allows is known when it has answered once.
    assert_eq!(ask(&group, "/").await, "ok");
    let answers = soon(join_all((0..4).map(|_| ask(&group, "/wait")))).await;
    assert_eq!(answers, ["ok"; 4]);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let server = serve(Spoken::H2c(100), |request| async move {
        let note = request.headers().get("x-note").cloned().unwrap();
        let collected = request.into_body().collect().await.unwrap();
        let mut trailers = collected.trailers().cloned().unwrap_or_default();
        trailers.insert("x-answered", note);
        let body = collected.to_bytes();
        frames(vec![Frame::data(body), Frame::trailers(trailers)])
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
    let mut pieces: Vec<Frame<Bytes>> = sent
        .chunks(50_000)
        .map(|piece| Frame::data(Bytes::copy_from_slice(piece)))
        .collect();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    pieces.push(Frame::trailers(trailers));
    let body = StreamBody::new(stream::iter(pieces.into_iter().map(Ok::<_, BodyError>)));
    let request = outbound(Method::POST, "/", Body::new(body));
    let reply = send(&group, request).await.unwrap();
    let ReplyBody::Relay(body) = reply.body else {
        panic!("{reply:?}");
    };
    let collected = soon(body.collect()).await.unwrap();
    let trailers = collected.trailers().cloned().unwrap();
    assert!(collected.to_bytes() == sent);
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-answered"]),
        (&"7".parse().unwrap(), &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn values_go_out_without_white_space_at_their_ends() {
    let server = serve(Spoken::H2c(100), |request| async move {
        let value = request.headers()["x-value"].as_bytes();
        text(value.escape_ascii().to_string())
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    let mut request = get("/");
    request.head.extend_from_slice(b"x-value: \tv w \r\n");
    let reply = send(&group, request).await.unwrap();
    assert_eq!(read(reply).await.unwrap(), "v w");
}

#[tokio::test]
async fn a_head_keeps_its_length_and_hop_by_hop_headers_stay_behind() {
    let server = serve(Spoken::H2c(100), |request| async move {
        let mut answer = text(request.uri().path().to_owned());
        answer
            .headers_mut()
            .insert("x-request-id", "theirs".parse().unwrap());
        answer
            .headers_mut()
            .insert("content-length", "4".parse().unwrap());
        answer
    })
    .await;
    let group = group(&upstream(UpstreamProtocol::H2c, &[&server]));
    let reply = send(&group, outbound(Method::HEAD, "/abc", Body::empty()))
        .await
        .unwrap();
    assert!(
        matches!(reply.body, ReplyBody::Absent { bytes: Some(4) }),
        "{reply:?}"
    );
    let names: Vec<_> = reply.lines.iter().map(|(name, _)| name.to_vec()).collect();
    assert_eq!(names, [b"date"]);
    assert!(reply.dated);
    assert_eq!(ask(&group, "/abc").await, "/abc");
}

#[tokio::test]
async fn silence_ends_at_its_deadline_and_costs_one_stream_only() {
    let go = Arc::new(Notify::new());
    let server = serve(Spoken::H2c(100), {
        let go = Arc::clone(&go);
        move |request| {
            let go = Arc::clone(&go);
            async move {
                match request.uri().path() {
                    "/mute" => std::future::pending().await,
                    "/stuck" => {
                        let first = stream::iter([Ok::<_, StreamError>(Frame::data("a".into()))]);
                        let body = futures::StreamExt::chain(first, stream::pending());
                        Response::new(StreamBody::new(body).boxed_unsync())
                    }
                    "/slow" => {
                        go.notified().await;
                        text("slow")
                    }
                    _ => text("quick"),
                }
            }
        }
    })
    .await;
    let mut upstream = upstream(UpstreamProtocol::H2c, &[&server]);
    // Two of them are failures, which must not change where the third goes.
    upstream.ejection = Ejection {
        failures: 0,
        ..Ejection::default()
    };
    let group = group(&upstream);
    let slow = tokio::spawn({
        let group = Arc::clone(&group);
        async move { ask(&group, "/slow").await }
    });
    assert_eq!(ask(&group, "/").await, "quick");
    let mut mute = get("/mute");
    mute.timeouts.first_byte = Some(Duration::from_millis(50));
    let failed = send(&group, mute).await.unwrap_err();
    assert!(matches!(failed, RelayError::TooSlow { .. }), "{failed}");
    let mut stuck = get("/stuck");
    stuck.timeouts.idle = Some(Duration::from_millis(50));
    let reply = send(&group, stuck).await.unwrap();
    let failed = read(reply).await.unwrap_err().to_string();
    assert_eq!(failed, "the server's body stopped");
    go.notify_one();
    assert_eq!(soon(slow).await.unwrap(), "slow");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_ended_by_the_server_is_replaced_unnoticed() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Each connection answers a request and is gone.
    let serving = tokio::spawn(async move {
        for _ in 0..5 {
            let (io, _) = listener.accept().await.unwrap();
            let done = Arc::new(Notify::new());
            let told = Arc::clone(&done);
            let service = hyper::service::service_fn(move |_| {
                told.notify_one();
                async { Ok::<_, std::convert::Infallible>(text("once")) }
            });
            let mut connection = std::pin::pin!(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), service)
            );
            tokio::select! {
                _ = connection.as_mut() => {}
                () = done.notified() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        }
    });
    let mut upstream = upstream(UpstreamProtocol::H2c, &[]);
    upstream.addresses = vec![address];
    let group = group(&upstream);
    // A second request may still get through before the server's goodbye does.
    let asking = async {
        while !serving.is_finished() {
            assert_eq!(ask(&group, "/").await, "once");
        }
    };
    soon(asking).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn connections_end_with_their_group() {
    let server = serve(Spoken::H2c(100), |_| async { text("ok") }).await;
    let context = context();
    let group = Group::new(&upstream(UpstreamProtocol::H2c, &[&server]), &context).unwrap();
    assert_eq!(ask(&group, "/").await, "ok");
    assert!(!context.tasks.is_empty());
    drop(group);
    context.tasks.close();
    soon(context.tasks.wait()).await;
}

/// A body of which the server always has more than was read.
async fn large(spoken: Spoken, protocol: UpstreamProtocol, total: Option<Duration>) -> Large {
    let server = serve(spoken, |_| async { text(vec![b'a'; 8 << 20]) }).await;
    let mut request = get("/");
    request.timeouts.total = total;
    let reply = send(&group(&upstream(protocol, &[&server])), request).await;
    let ReplyBody::Relay(mut body) = reply.unwrap().body else {
        panic!("it is no relay");
    };
    soon(body.frame()).await.unwrap().unwrap();
    Large {
        body,
        _server: server,
    }
}

struct Large {
    body: Box<dyn RelayBody>,
    _server: Server,
}

#[tokio::test]
async fn a_body_ends_at_its_deadlines_though_there_is_more_to_read() {
    const TOTAL: Duration = Duration::from_millis(1_000);
    for (spoken, protocol) in [
        (|| Spoken::Http1, UpstreamProtocol::Http1),
        (|| Spoken::H2c(100), UpstreamProtocol::H2c),
    ] as [(fn() -> Spoken, UpstreamProtocol); 2]
    {
        let mut cut = large(spoken(), protocol, None).await;
        cut.body.end_with(Box::pin(std::future::ready(())));
        let failed = soon(cut.body.frame()).await.unwrap().unwrap_err();
        assert_eq!(failed.to_string(), "the build's drain deadline passed");
        let mut late = large(spoken(), protocol, Some(TOTAL)).await;
        // A client that takes nothing meanwhile.
        tokio::time::sleep(TOTAL).await;
        let failed = soon(late.body.frame()).await.unwrap().unwrap_err();
        assert_eq!(failed.to_string(), "the time for all of it is over");
    }
}
