//! One stream: a request, the service's answer to it, and the reply on its way out.

use super::{
    activity::{self, Activity},
    delivery::Delivery,
    guards::RequestGuards,
    heads::UnreadHeads,
    request,
    response::{self, Conversation},
};
use crate::{
    HttpCause, Service,
    access::{AccessEntry, RefusedRequest},
    client::RequestClient,
    context::ServerContext,
    identity::{self, RequestIds},
    refusal::HttpRefusal,
    reply::{self, ReplyContext},
    service,
    silence::MutualSilence,
    tunnel,
};
use bytes::Bytes;
use futures::FutureExt;
use h2::{Reason, RecvStream, ext::Protocol, server::SendResponse};
use http::{Method, Request, Response, StatusCode, request::Parts};
use protoplex_http::{
    AccessNotes, Answer, Body, BodyPace, Head, Hop, Interims, Reply, ReplyBody, Scheme, SharedPace,
    Switch, Switched, Tunnel,
};
use protoplex_http2::{Pipe, ReceivedBody, StreamIo};
use protoplex_net::{OwnedGaugeGuard, Peer};
use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Opens the streams of one connection.
pub(super) struct StreamOpener<S> {
    context: Arc<ServerContext<S>>,
    pub(super) activity: Activity,
    pub(super) heads: UnreadHeads<S>,
    scheme: Scheme,
    peer: Peer,
    ids: RequestIds,
}

/// A stream whose request is not answered yet.
struct RequestStream<S> {
    context: Arc<ServerContext<S>>,
    asked: ReplyContext,
    activity: activity::StreamActivity,
    held: RequestGuards,
    respond: SendResponse<Bytes>,
    interims: Interims,
    /// Receiving side of the stream, where the request is a CONNECT, plain or extended (RFC 8441): it becomes the
    /// tunnel's once the server behind has agreed.
    switch: Option<RecvStream>,
    /// Pace of a body of unknown length, which its client has to keep.
    pacing: Option<SharedPace>,
    /// What the stream and the request's body tell each other.
    upload: Option<Arc<request::UploadNotes>>,
    /// Whether the client waits for `100 Continue`; gone with the request's body.
    owed: Weak<AtomicBool>,
}

impl<S: Service> StreamOpener<S> {
    pub(super) fn new(
        context: Arc<ServerContext<S>>,
        activity: Activity,
        heads: UnreadHeads<S>,
        scheme: Scheme,
        peer: Peer,
    ) -> Self {
        Self {
            context,
            activity,
            heads,
            scheme,
            peer,
            ids: RequestIds::new(),
        }
    }

    /// Asks the service. A reply that is all there is written at once; any other in a task of its own.
    pub(super) fn open(
        &mut self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        self.heads.read(respond.stream_id().into());
        let (parts, received) = request.into_parts();
        let protocol = parts.extensions.get::<Protocol>();
        let is_connect = parts.method == Method::CONNECT;
        let notes = self
            .context
            .access_log
            .as_ref()
            .map(|_| AccessNotes::default());
        let mut stream = RequestStream {
            asked: ReplyContext {
                version: 20,
                is_head: parts.method == Method::HEAD,
                is_connect: request::is_plain_connect(&parts),
                keep_alive: true,
                id: self.ids.next(),
            },
            activity: self.activity.stream(),
            held: RequestGuards {
                _in_flight: OwnedGaugeGuard::new(&self.context.in_flight),
                permit: None,
                notes,
                entry: None,
            },
            context: Arc::clone(&self.context),
            respond,
            interims: Interims::default(),
            switch: None,
            pacing: None,
            upload: None,
            owed: Weak::new(),
        };
        let mut body = Body::empty();
        if is_connect {
            stream.switch = Some(received);
        } else if !received.is_end_stream() {
            body = stream.body(ReceivedBody::new(received, &parts.headers), &parts);
        }
        match self.called(&parts, protocol.map(Protocol::as_str), body, &mut stream) {
            Answer::Ready(reply) => stream.reply_at_once(reply, cx),
            Answer::Later(reply) => {
                drop(self.context.connections.tasks().spawn(stream.answer(reply)))
            }
        }
    }

    fn called(
        &self,
        parts: &Parts,
        upgrade: Option<&str>,
        body: Body,
        stream: &mut RequestStream<S>,
    ) -> Answer {
        let (authority, path) = match request::target(parts) {
            Ok(target) => target,
            Err(refusal) => return self.refuse(parts, refusal, stream),
        };
        let cookies = request::cookies(parts);
        let fields = request::fields(parts, cookies.as_deref());
        let context = &self.context;
        if let Err(refusal) = request::fits(parts, &fields, &context.limits.head()) {
            return self.refuse(parts, refusal, stream);
        }
        let forwarders = context.forwarders();
        let client = RequestClient::of(&self.peer, self.scheme, &fields, forwarders);
        let id = &stream.asked.id;
        let held = &mut stream.held;
        let head = Head {
            // An extended CONNECT is to handlers what a GET with `Upgrade` is.
            method: upgrade.map_or(parts.method.as_str(), |_| "GET"),
            path,
            authority,
            scheme: client.scheme,
            version: 20,
            headers: &fields,
            client: client.address,
            client_port: client.port,
            forwarder: client.forwarder,
            request_id: identity::text(id),
            hop: Hop {
                upgrade,
                expects_continue: !body.is_absent() && request::expects_continue(parts),
                // No node sends this: nodes speak HTTP/1.1 to each other.
                internal: None,
                interims: Some(&stream.interims),
                pace: stream.upload.as_ref().map(|upload| &upload.pace),
            },
            notes: held.notes.as_ref(),
        };
        let log = context.access_log.as_ref().zip(held.notes.as_ref());
        held.entry = log.map(|(log, notes)| AccessEntry::new(log, &head, notes));
        match context.admit(&self.peer, head.client) {
            Ok(admitted) => held.permit = Some(admitted),
            Err(wait) => return Answer::Ready(reply::too_many(wait, id)),
        }
        service::call(&*context.service, &head, body, id)
    }
}

impl<S> StreamOpener<S> {
    /// Counts and logs a request that is refused, and says why.
    fn refuse(&self, parts: &Parts, refusal: HttpRefusal, stream: &mut RequestStream<S>) -> Answer {
        let id = &stream.asked.id;
        let request = identity::text(id);
        let fields = request::fields(parts, None);
        let forwarders = self.context.forwarders();
        let client = RequestClient::of(&self.peer, self.scheme, &fields, forwarders).address;
        let refusal = self.context.refuse(&self.peer, client, refusal);
        let HttpRefusal(status, why) = refusal;
        tracing::debug!(request, %client, %status, why, "a request was refused before a handler was asked");
        let (authority, path) = (parts.uri.authority(), parts.uri.path_and_query());
        let request = RefusedRequest {
            id,
            client,
            version: 20,
            method: parts.method.as_str().as_bytes(),
            host: authority.map_or(&b""[..], |authority| authority.as_str().as_bytes()),
            path: path.map_or(&b""[..], |path| path.as_str().as_bytes()),
        };
        let log = self.context.access_log.as_ref();
        stream.held.entry = log.map(|log| AccessEntry::refused(log, &request, Some(status), why));
        Answer::Ready(reply::refused(refusal, id))
    }
}

impl<S: Send + Sync + 'static> RequestStream<S> {
    /// Makes the request's body, with its deadlines.
    fn body(&mut self, received: ReceivedBody, parts: &Parts) -> Body {
        let upload = self.upload.insert(Arc::default());
        let owed = request::expects_continue(parts).then(|| {
            let owed = Arc::new(AtomicBool::new(true));
            self.owed = Arc::downgrade(&owed);
            (owed, self.interims.clone())
        });
        let rules = Arc::clone(&self.context.body_rules);
        let is_known = http_body::Body::size_hint(&received).exact().is_some();
        self.pacing = (!is_known).then(SharedPace::default);
        let (pacing, upload) = (self.pacing.clone(), Arc::clone(upload));
        let timed = request::TimedBody::new(received, rules, pacing.clone(), upload, owed);
        match pacing {
            Some(pacing) => Body::paced(timed, pacing),
            None => Body::new(timed),
        }
    }

    /// Waits for the reply, and sends it.
    async fn answer(mut self, reply: PendingReply) {
        let mut reply = AssertUnwindSafe(reply).catch_unwind();
        let Some(reply) = poll_fn(|cx| self.poll_reply(&mut reply, cx)).await else {
            return;
        };
        let reply = reply.unwrap_or_else(|_| reply::panicked(&self.asked.id));
        self.reply(reply).await;
    }

    /// Polls for the reply, while what comes before it goes out; `None` where the client wants it no more.
    fn poll_reply<F: Future + Unpin>(
        &mut self,
        reply: &mut F,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        let polled = Pin::new(reply).poll(cx);
        if polled.is_pending() && self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.send_interims();
        polled.map(Some)
    }

    /// Sends a reply that is there, without a wait where there is none.
    fn reply_at_once(self, reply: Reply, cx: &mut Context<'_>) {
        let tasks = self.context.connections.tasks().clone();
        let goes_on = |body: &ReplyBody| {
            matches!(
                body,
                ReplyBody::Stream(_)
                    | ReplyBody::Relay(_)
                    | ReplyBody::Tunnel(_)
                    | ReplyBody::Switch(_)
            )
        };
        if goes_on(&reply.body) {
            tasks.spawn(self.reply(reply));
            return;
        }
        let context = Arc::clone(&self.context);
        if let Some(mut delivery) = self.begin(reply)
            && delivery.poll(&context.counters, cx).is_pending()
        {
            tasks.spawn(async move { poll_fn(|cx| delivery.poll(&context.counters, cx)).await });
        }
    }

    async fn reply(self, reply: Reply) {
        if self.switch.is_some() && reply::is_tunnel(&reply) {
            // On the heap: most streams have no tunnel.
            Box::pin(self.tunnel(reply)).await;
            return;
        }
        let context = Arc::clone(&self.context);
        if let Some(mut delivery) = self.begin(reply) {
            // The log has what was wrong with the body; a client that has gone is not logged.
            let _ = poll_fn(|cx| delivery.poll(&context.counters, cx)).await;
        }
    }

    /// Sends the head. Returns what is left to send, if there is anything.
    fn begin(mut self, reply: Reply) -> Option<Delivery> {
        let reply = self.conclusive(reply);
        if matches!(reply.body, ReplyBody::Stream(_)) {
            self.ask_for_body();
        }
        if let Some(pacing) = &self.pacing {
            pacing.advance(BodyPace::Answered);
        }
        self.activity.moved(false);
        self.note(reply.status);
        let conversation = self.conversation(&reply);
        let (head, body) =
            response::split(reply, &self.asked, self.activity, self.held, conversation);
        let is_over = http_body::Body::is_end_stream(&body);
        match self.respond.send_response(head, is_over) {
            Ok(stream) => (!is_over).then(|| Delivery::new(Pipe::new(body, stream))),
            Err(error) => {
                tracing::debug!(%error, "a response was not sent: its HTTP/2 stream is gone");
                self.respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }

    /// Measures the silence where the service itself answers while a body of unknown length goes on. An upstream's
    /// response has its own measure.
    fn conversation(&self, reply: &Reply) -> Option<Conversation> {
        let upload = self.upload.as_ref().filter(|_| self.pacing.is_some())?;
        if !matches!(reply.body, ReplyBody::Stream(_)) {
            return None;
        }
        let max = self
            .context
            .body_rules
            .silence_max(upload.pace.get().copied());
        Some(Conversation {
            silence: MutualSilence::new(max),
            upload: Arc::clone(upload),
        })
    }

    /// Asks for the request's body where a stream may want it yet: behind its head would be too late.
    fn ask_for_body(&mut self) {
        if (self.owed.upgrade()).is_some_and(|owed| owed.swap(false, Relaxed)) {
            self.interims.push(request::go_on());
        }
        self.send_interims();
    }

    fn send_interims(&mut self) {
        for interim in self.interims.take() {
            // Fails where the reply will fail, too, which is handled there.
            let _ = self.respond.send_informational(response::interim(&interim));
        }
    }

    fn conclusive(&self, reply: Reply) -> Reply {
        let is_slow = |upload: &Arc<request::UploadNotes>| upload.too_slow.load(Relaxed);
        if self.upload.as_ref().is_some_and(is_slow) {
            self.context.counters.count(HttpCause::SlowBody);
            let why = "the request's body came too slowly";
            return reply::refused(
                HttpRefusal(StatusCode::REQUEST_TIMEOUT, why),
                &self.asked.id,
            );
        }
        let is_extended = self.switch.is_some() && !self.asked.is_connect;
        if is_extended && reply.status.is_success() {
            // A 101 would say to the client that the stream is switched.
            let why = "the protocol is not spoken here";
            return reply::refused(
                HttpRefusal(StatusCode::NOT_IMPLEMENTED, why),
                &self.asked.id,
            );
        }
        reply::conclusive(reply, &self.asked)
    }

    fn note(&mut self, status: StatusCode) {
        let entry = self.held.entry.iter_mut();
        entry.for_each(|entry| entry.status(status));
    }

    /// Agrees to a CONNECT, and runs the tunnel on the stream.
    async fn tunnel(mut self, mut reply: Reply) {
        let body = std::mem::replace(&mut reply.body, ReplyBody::Empty);
        let far = match body {
            ReplyBody::Switch(switch) => Some(TunnelTarget::Host(switch)),
            ReplyBody::Tunnel(server) => Some(TunnelTarget::Server(server)),
            _ => None,
        };
        let (Some(far), Some(receive)) = (far, self.switch.take()) else {
            reply.status = StatusCode::BAD_GATEWAY;
            self.begin(reply);
            return;
        };
        self.note(StatusCode::OK);
        let head: Response<()> = response::switched(reply, &self.asked);
        let send = match self.respond.send_response(head, false) {
            Ok(send) => send,
            Err(error) => {
                return tracing::debug!(%error, "an HTTP/2 stream could not be made a tunnel");
            }
        };
        self.activity.moved(true);
        let mut client = StreamIo::new(send, receive);
        let server = match far {
            TunnelTarget::Server(server) => server,
            TunnelTarget::Host(switch) => {
                let connections = self.context.connections.clone();
                let leaving = connections.draining().clone();
                let leave = Box::pin(connections.leave_later(leaving));
                let (io, early) = (Box::new(client), Bytes::new());
                return switch.onward(Switched { io, early, leave }).await;
            }
        };
        let _counted = OwnedGaugeGuard::new(&self.context.tunnels);
        let idle = self.context.limits.tunnel_idle_timeout;
        let carried = tunnel::run(&mut client, Bytes::new(), server, idle).await;
        let request = identity::text(&self.asked.id);
        tracing::debug!(request, ?carried, "a tunnel ended");
    }
}

/// Who speaks to the client in the tunnel.
enum TunnelTarget {
    Server(Tunnel),
    Host(Switch),
}
