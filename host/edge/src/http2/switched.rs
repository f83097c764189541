//! Extended CONNECT (RFC 8441): a stream that speaks another protocol once the server behind has agreed.

use super::{Until, activity::Stream, reply};
use crate::{
    http1::respond::Asked,
    identity,
    server::{Held, Shared},
    upstream::{Body, tunnel},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use protoplex_http::{Lines, Reply, ReplyBody};

/// What a client wants to go on with.
pub(super) struct Switch {
    pub(super) protocol: String,
    on_upgrade: OnUpgrade,
}

/// Whether a request is an extended CONNECT.
pub(super) fn asked(request: &mut Request<Incoming>) -> Option<Switch> {
    let protocol = request.extensions().get::<Protocol>()?.as_str().to_owned();
    Some(Switch {
        protocol,
        on_upgrade: hyper::upgrade::on(request),
    })
}

/// The answer to it; the tunnel runs in a task of its own, which the connection and the server wait for.
pub(super) fn response<S: Send + Sync + 'static>(
    shared: &std::sync::Arc<Shared<S>>,
    mut reply: Reply,
    asked: &Asked,
    switch: Switch,
    mut stream: Stream,
    held: Until,
) -> Response<reply::Out> {
    let id = asked.id;
    let body = std::mem::replace(&mut reply.body, ReplyBody::Empty);
    let idle = shared.limits.tunnel_idle_timeout;
    let Some(server) = Body::connection_of(body) else {
        reply.status = StatusCode::BAD_GATEWAY;
        return reply::response(reply, asked, stream, held);
    };
    // The stream of the answer is done at once; the tunnel's is not.
    let answered = stream.beside();
    stream.moved(true);
    let answered_held = Until::beside(shared);
    let tunnel = Held::new(&shared.tunnels);
    shared.tasks.spawn(async move {
        let _held = (held, tunnel);
        let request = identity::text(&id);
        match switch.on_upgrade.await {
            Ok(upgraded) => {
                let mut client = TokioIo::new(upgraded);
                let carried = tunnel::run(&mut client, Bytes::new(), server, idle).await;
                tracing::debug!(request, ?carried, "a tunnel ended");
            }
            Err(error) => tracing::debug!(request, %error, "a stream was not switched"),
        }
        drop(stream);
    });
    reply.status = StatusCode::OK;
    let mut lines = Lines::default();
    // Of HTTP/1.1's way alone.
    let kept = reply
        .lines
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(b"sec-websocket-accept"));
    kept.for_each(|(name, value)| lines.push(name, value));
    reply.lines = lines;
    reply::switched(reply, asked, answered, answered_held)
}
