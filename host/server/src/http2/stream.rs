//! One stream: a request, what the service says to it, and the reply on its way out.

use super::{
    activity::{self, Activity},
    delivery::Delivery,
    guards::RequestGuards,
    heads::Heads,
    request,
    response::{self, Conversation},
};
use crate::{
    Cause, Service,
    access::{Entry, Refused},
    client::Client,
    context::ServerContext,
    identity::{self, RequestIds},
    refusal::Refusal,
    reply::{self, Asked},
    silence::Silence,
    tunnel,
};
use bytes::Bytes;
use futures::FutureExt;
use h2::{Reason, RecvStream, ext::Protocol, server::SendResponse};
use http::{Method, Request, Response, StatusCode, request::Parts};
use protoplex_http::{
    Answer, Body, Head, Hop, Interims, Notes, Pace, Pacing, Reply, ReplyBody, Scheme, Switch,
    Switched, Tunnel,
};
use protoplex_http2::{Pipe, Received, StreamIo};
use protoplex_net::{OwnedGaugeGuard, Peer};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

type Later = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What opens the streams of one connection.
pub(super) struct Streams<S> {
    context: Arc<ServerContext<S>>,
    pub(super) activity: Activity,
    pub(super) heads: Heads<S>,
    scheme: Scheme,
    peer: Peer,
    ids: RequestIds,
}

/// A request that is not answered yet.
struct RequestStream<S> {
    context: Arc<ServerContext<S>>,
    asked: Asked,
    activity: activity::StreamActivity,
    held: RequestGuards,
    respond: SendResponse<Bytes>,
    interims: Interims,
    /// The stream's receiving side, where the request is a CONNECT, plain or extended (RFC 8441): it becomes the tunnel's
    /// once the server behind has agreed.
    switch: Option<RecvStream>,
    /// Present for a body of unknown length: what the client owes of it.
    pacing: Option<Pacing>,
    /// Notes of the request's body.
    upload: Option<Arc<request::Upload>>,
    /// Whether the client waits for `100 Continue`; gone with the request's body.
    owed: Weak<AtomicBool>,
}

impl<S: Service> Streams<S> {
    pub(super) fn new(
        context: Arc<ServerContext<S>>,
        activity: Activity,
        heads: Heads<S>,
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
        let notes = self.context.access_log.as_ref().map(|_| Notes::default());
        let mut stream = RequestStream {
            asked: Asked {
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
            body = stream.body(Received::new(received, &parts.headers), &parts);
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
        let client = Client::of(&self.peer, self.scheme, &fields, forwarders);
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
                // Nodes speak HTTP/1.1 to each other.
                internal: None,
                interims: Some(&stream.interims),
                pace: stream.upload.as_ref().map(|upload| &upload.pace),
            },
            notes: held.notes.as_ref(),
        };
        let log = context.access_log.as_ref().zip(held.notes.as_ref());
        held.entry = log.map(|(log, notes)| Entry::new(log, &head, notes));
        match context.admit(&self.peer, head.client) {
            Ok(admitted) => held.permit = Some(admitted),
            Err(wait) => return Answer::Ready(reply::too_many(wait, id)),
        }
        catch_unwind(AssertUnwindSafe(|| context.service.call(&head, body)))
            .unwrap_or_else(|_| Answer::Ready(reply::panicked(id)))
    }
}

impl<S> Streams<S> {
    /// Counts and logs a request that is refused, and says why.
    fn refuse(&self, parts: &Parts, refusal: Refusal, stream: &mut RequestStream<S>) -> Answer {
        let id = &stream.asked.id;
        let request = identity::text(id);
        let fields = request::fields(parts, None);
        let forwarders = self.context.forwarders();
        let client = Client::of(&self.peer, self.scheme, &fields, forwarders).address;
        let refusal = self.context.refuse(&self.peer, client, refusal);
        let Refusal(status, why) = refusal;
        tracing::debug!(request, %client, %status, why, "a request was refused");
        let (authority, path) = (parts.uri.authority(), parts.uri.path_and_query());
        let request = Refused {
            id,
            client,
            version: 20,
            method: parts.method.as_str().as_bytes(),
            host: authority.map_or(&b""[..], |authority| authority.as_str().as_bytes()),
            path: path.map_or(&b""[..], |path| path.as_str().as_bytes()),
        };
        let log = self.context.access_log.as_ref();
        stream.held.entry = log.map(|log| Entry::refused(log, &request, Some(status), why));
        Answer::Ready(reply::refused(refusal, id))
    }
}

impl<S: Send + Sync + 'static> RequestStream<S> {
    /// The request's body, with its deadlines.
    fn body(&mut self, received: Received, parts: &Parts) -> Body {
        let upload = self.upload.insert(Arc::default());
        let owed = request::expects_continue(parts).then(|| {
            let owed = Arc::new(AtomicBool::new(true));
            self.owed = Arc::downgrade(&owed);
            (owed, self.interims.clone())
        });
        let rules = Arc::clone(&self.context.body_rules);
        let is_known = http_body::Body::size_hint(&received).exact().is_some();
        self.pacing = (!is_known).then(Pacing::default);
        let (pacing, upload) = (self.pacing.clone(), Arc::clone(upload));
        let timed = request::Timed::new(received, rules, pacing.clone(), upload, owed);
        match pacing {
            Some(pacing) => Body::paced(timed, pacing),
            None => Body::new(timed),
        }
    }

    /// Waits for the reply, and sends it.
    async fn answer(mut self, reply: Later) {
        let mut reply = AssertUnwindSafe(reply).catch_unwind();
        let Some(reply) = poll_fn(|cx| self.poll_reply(&mut reply, cx)).await else {
            return;
        };
        let reply = reply.unwrap_or_else(|_| reply::panicked(&self.asked.id));
        self.reply(reply).await;
    }

    /// The reply, while what comes before it goes out; `None` where the client wants it no more.
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

    /// The same without a wait, where there is none.
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
            // On the heap: most streams have none.
            Box::pin(self.tunnel(reply)).await;
            return;
        }
        let context = Arc::clone(&self.context);
        if let Some(mut delivery) = self.begin(reply) {
            // What was wrong with the body is in the log; a client that has gone is not.
            let _ = poll_fn(|cx| delivery.poll(&context.counters, cx)).await;
        }
    }

    /// Sends the head. What is left to send, if there is anything.
    fn begin(mut self, reply: Reply) -> Option<Delivery> {
        let reply = self.conclusive(reply);
        if matches!(reply.body, ReplyBody::Stream(_)) {
            self.ask_for_body();
        }
        if let Some(pacing) = &self.pacing {
            pacing.advance(Pace::Answered);
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
                tracing::debug!(%error, "a reply was not sent");
                self.respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }

    /// Present where the service itself answers while a body of unknown length goes on. Whoever is relayed to has its own
    /// measure.
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
            silence: Silence::new(max),
            upload: Arc::clone(upload),
        })
    }

    /// A stream may want the request's body yet, and behind its head would be too late to ask for it.
    fn ask_for_body(&mut self) {
        if (self.owed.upgrade()).is_some_and(|owed| owed.swap(false, Relaxed)) {
            self.interims.push(request::go_on());
        }
        self.send_interims();
    }

    fn send_interims(&mut self) {
        for interim in self.interims.take() {
            // Fails where the reply will fail, too.
            let _ = self.respond.send_informational(response::interim(&interim));
        }
    }

    fn conclusive(&self, reply: Reply) -> Reply {
        let is_slow = |upload: &Arc<request::Upload>| upload.too_slow.load(Relaxed);
        if self.upload.as_ref().is_some_and(is_slow) {
            self.context.counters.count(Cause::SlowBody);
            let why = "the request's body came too slowly";
            return reply::refused(Refusal(StatusCode::REQUEST_TIMEOUT, why), &self.asked.id);
        }
        let is_extended = self.switch.is_some() && !self.asked.is_connect;
        if is_extended && reply.status.is_success() {
            // To the client it would say that the stream is switched.
            let why = "the protocol is not spoken here";
            return reply::refused(Refusal(StatusCode::NOT_IMPLEMENTED, why), &self.asked.id);
        }
        reply::conclusive(reply, &self.asked)
    }

    fn note(&mut self, status: StatusCode) {
        let entry = self.held.entry.iter_mut();
        entry.for_each(|entry| entry.status(status));
    }

    /// Agrees to a CONNECT, and carries what is said on the stream from then on.
    async fn tunnel(mut self, mut reply: Reply) {
        let body = std::mem::replace(&mut reply.body, ReplyBody::Empty);
        let far = match body {
            ReplyBody::Switch(switch) => Some(Behind::Host(switch)),
            ReplyBody::Tunnel(server) => Some(Behind::Server(server)),
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
            Err(error) => return tracing::debug!(%error, "a stream was not switched"),
        };
        self.activity.moved(true);
        let mut client = StreamIo::new(send, receive);
        let server = match far {
            Behind::Server(server) => server,
            Behind::Host(switch) => {
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

/// Who speaks to the client from then on.
enum Behind {
    Server(Tunnel),
    Host(Switch),
}
