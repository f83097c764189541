//! One connection: heads in, replies out, until somebody has had enough.

use super::{
    head::{self, Fields},
    intake::{Intake, PIECE_BYTES},
    output::GATHER_BYTES_MAX,
    respond,
    wire::{End, Wire, read_some},
};
use crate::{
    Service,
    access::{self, Entry, Refused},
    client::Client,
    context::ServerContext,
    http2,
    identity::{self, RequestIds},
    refusal::Refusal,
    reply::{self, Asked},
};
use futures::FutureExt;
use protoplex_http::{
    Answer, BodyError, Duplex, Head, Hop, Interims, Notes, Onward, Reply, ReplyBody, Scheme,
    Switch, Switched, chunked::Decoded,
};
use protoplex_net::{GaugeGuard, Peer, RequestPermit, probe};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::Poll,
};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout_at},
};

/// What comes after a reply.
enum Next {
    Request,
    /// The connection is somebody else's from here on.
    Switch(Switch),
    /// `unread`: the client may still be sending.
    Close {
        unread: bool,
    },
}

/// What came of asking the service.
struct Called {
    answer: Answer,
    asked: Asked,
    intake: Intake,
    entry: Option<Box<Entry>>,
    /// Held until the reply is out.
    permit: Option<RequestPermit>,
}

/// A connection, above its bytes.
struct Http1Connection<'a, S, IO> {
    wire: Wire<'a, S, IO>,
    ids: RequestIds,
    interims: Interims,
    scheme: Scheme,
    peer: Peer,
}

/// Serves one connection to its end, or until it goes on with another protocol.
pub(crate) async fn serve<S, IO>(
    context: &Arc<ServerContext<S>>,
    io: IO,
    scheme: Scheme,
    peer: Peer,
) -> Option<Onward>
where
    S: Service,
    IO: Duplex,
{
    let leaving = peer.leaving.clone();
    let mut connection = Http1Connection {
        wire: Wire::new(context, io, &leaving, peer.is_internal),
        ids: RequestIds::new(),
        interims: Interims::default(),
        scheme,
        peer,
    };
    match connection.first_bytes().await {
        Ok(false) => {
            // Whatever ends it has been answered or has nobody to hear it.
            let switch = connection.requests().await.ok()??;
            let Wire { io, input, .. } = connection.wire;
            let leave = context.connections.clone().leave_later(leaving);
            return Some(switch.onward(Switched {
                io: Box::new(io),
                early: input.freeze(),
                leave: Box::pin(leave),
            }));
        }
        Ok(true) => {
            let Http1Connection { wire, peer, .. } = connection;
            let (read, write) = tokio::io::split(wire.io);
            let replayed = AsyncReadExt::chain(std::io::Cursor::new(wire.input.freeze()), read);
            Box::pin(http2::serve(
                context,
                tokio::io::join(replayed, write),
                scheme,
                peer,
            ))
            .await;
        }
        Err(_) => {}
    }
    None
}

impl<S, IO> Http1Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Waits for the first bytes. `true` for HTTP/2 with prior knowledge.
    async fn first_bytes(&mut self) -> Result<bool, End> {
        match self.wire.first_bytes().await? {
            Ok(is_http2) => Ok(is_http2),
            Err(refusal) => {
                self.refuse(refusal).await?;
                Err(End::Io)
            }
        }
    }

    /// Until somebody has had enough, or takes the connection over.
    async fn requests(&mut self) -> Result<Option<Switch>, End> {
        let mut draining = pin!(self.wire.context.connections.leave(self.wire.leaving));
        loop {
            let end = match self.wire.head_end(draining.as_mut()).await? {
                Ok(Some(end)) => end,
                Ok(None) => return Ok(None),
                Err(refusal) => return self.refuse(refusal).await.map(|()| None),
            };
            match self.request(end).await? {
                Next::Request => {}
                Next::Switch(switch) => return Ok(Some(switch)),
                Next::Close { unread } => return self.wire.close(unread).await.map(|()| None),
            }
        }
    }

    /// Says what was wrong with the head that the buffer begins with, and closes.
    async fn refuse(&mut self, refusal: Refusal) -> Result<(), End> {
        let id = self.ids.next();
        let (refusal, entry) = self.refused_head(&id, &self.wire.input, refusal);
        self.say_refusal(id, refusal, entry).await?;
        self.wire.close(true).await
    }

    /// Counts a request whose head is refused. What its client is told, and its entry.
    fn refused_head(
        &self,
        id: &[u8; 16],
        bytes: &[u8],
        refusal: Refusal,
    ) -> (Refusal, Option<Box<Entry>>) {
        let context = self.wire.context;
        let client = access::refused_client(&self.peer, bytes, context.forwarders());
        let refusal = context.refuse(&self.peer, client, refusal);
        let entry = context.access_log.as_ref().map(|log| {
            let request = Refused::http1(id, client, bytes);
            let Refusal(status, why) = refusal;
            Box::new(Entry::refused(log, &request, Some(status), why))
        });
        (refusal, entry)
    }

    /// Says why a request is refused, and records it. What the client still sends is no part of it: the connection has to
    /// be closed then.
    async fn say_refusal(
        &mut self,
        id: [u8; 16],
        refusal: Refusal,
        entry: Option<Box<Entry>>,
    ) -> Result<(), End> {
        let Refusal(status, why) = refusal;
        let request = identity::text(&id);
        tracing::debug!(request, client = %self.peer.address, %status, why, "a request was refused");
        let reply = reply::refused(refusal, &id);
        let asked = Asked {
            id,
            ..Asked::closing()
        };
        let before = self.wire.produced();
        self.wire.write_ready(reply, &asked, false);
        if let Some(mut entry) = entry {
            entry.add_bytes(self.wire.produced() - before);
        }
        self.wire.flush().await
    }

    /// Answers the request whose head ends at `end`.
    async fn request(&mut self, end: usize) -> Result<Next, End> {
        let context = self.wire.context;
        let _counted = GaugeGuard::new(&context.in_flight);
        let mut bytes = self.wire.input.split_to(end);
        head::settle_version(&mut bytes);
        let bytes = bytes.freeze();
        let mut id = self.ids.next();
        let before = self.wire.produced();
        let Called {
            answer,
            asked,
            mut intake,
            mut entry,
            permit: _permit,
        } = match self.call(&bytes, &mut id) {
            Ok(called) => called,
            Err(refusal) => {
                let (refusal, entry) = self.refused_head(&id, &bytes, refusal);
                self.say_refusal(id, refusal, entry).await?;
                return Ok(Next::Close { unread: true });
            }
        };
        let was_inner = std::mem::replace(&mut self.wire.is_inner, intake.is_judged_before());
        if self.wire.is_inner
            && !was_inner
            && let Some(socket) = self.wire.io.tcp()
        {
            probe(socket);
        }
        let reply = match answer {
            Answer::Ready(reply) => reply,
            Answer::Later(reply) => {
                if !self.wire.out.is_empty() {
                    self.wire.flush().await?;
                }
                let reply = self
                    .wait_for(AssertUnwindSafe(reply).catch_unwind(), &mut intake)
                    .await?
                    .unwrap_or_else(|_| reply::panicked(&id));
                self.write_interims();
                reply
            }
        };
        if let Some(refusal) = intake.failed {
            entry.iter_mut().for_each(|entry| entry.status(refusal.0));
            if let Some(cause) = refusal.cause() {
                context.counters.count(cause);
            }
            self.say_refusal(id, refusal, entry).await?;
            return Ok(Next::Close { unread: true });
        }
        let reply = reply::conclusive(reply, &asked);
        entry
            .iter_mut()
            .for_each(|entry| entry.status(reply.status));
        let next = self.reply(reply, &asked, &mut intake).await;
        let bytes = self.wire.produced() - before;
        entry.iter_mut().for_each(|entry| entry.add_bytes(bytes));
        next
    }

    /// Reads a head and asks the service. Not asynchronous: the table of headers, which is large, stays on the stack.
    /// `id` becomes the one that the request came with, where a node of ours gave it one.
    fn call(&self, bytes: &[u8], id: &mut [u8; 16]) -> Result<Called, Refusal> {
        let context = self.wire.context;
        let mut fields = Fields::new();
        let parsed = head::parse(bytes, &mut fields, &self.wire.head_limits)?;
        // Nothing of these is made where there is no access log.
        let notes = context.access_log.as_ref().map(|_| Notes::default());
        let mut internal = parsed.internal.filter(|_| self.peer.is_internal);
        let origin =
            (internal.as_ref()).and_then(|said| context.service.origin(said, parsed.headers));
        if let Some(said) = &mut internal {
            said.relays = origin.map(|origin| origin.relays);
        }
        let client = match origin {
            None => {
                let forwarders = context.forwarders();
                Client::of(&self.peer, self.scheme, parsed.headers, forwarders)
            }
            Some(origin) => {
                *id = origin.request_id;
                origin.into()
            }
        };
        let id = &*id;
        let pace = OnceLock::new();
        let head = Head {
            method: parsed.method,
            path: &parsed.path,
            authority: parsed.authority,
            scheme: client.scheme,
            version: parsed.version,
            headers: parsed.headers,
            client: client.address,
            client_port: client.port,
            forwarder: client.forwarder,
            request_id: identity::text(id),
            hop: Hop {
                upgrade: parsed.upgrade,
                expects_continue: parsed.expects_continue,
                internal,
                interims: (parsed.version >= 11).then_some(&self.interims),
                pace: Some(&pace),
            },
            notes: notes.as_ref(),
        };
        let log = context.access_log.as_ref().zip(notes.as_ref());
        let entry = log.map(|(log, notes)| Box::new(Entry::new(log, &head, notes)));
        let asked = Asked {
            version: parsed.version,
            is_head: head.is_head(),
            is_connect: head.method == "CONNECT",
            keep_alive: parsed.keep_alive,
            id: *id,
        };
        let mut intake = Intake::new(parsed.framing, parsed.expects_continue);
        let body = intake.body();
        let permit = context.admit(&self.peer, head.client);
        let answer = match &permit {
            Ok(_) => catch_unwind(AssertUnwindSafe(|| context.service.call(&head, body)))
                .unwrap_or_else(|_| Answer::Ready(reply::panicked(id))),
            Err(wait) => Answer::Ready(reply::too_many(*wait, id)),
        };
        intake.set_pace(pace.into_inner());
        Ok(Called {
            answer,
            asked,
            intake,
            entry,
            permit: permit.ok(),
        })
    }

    /// Puts interim answers that have come before the reply.
    fn write_interims(&mut self) {
        for interim in self.interims.take() {
            respond::interim(&mut self.wire.out, &interim);
        }
    }

    /// Writes a reply and gets ready for the next request.
    async fn reply(
        &mut self,
        reply: Reply,
        asked: &Asked,
        intake: &mut Intake,
    ) -> Result<Next, End> {
        // What follows a CONNECT was meant for somebody else.
        let is_last = self.wire.is_half_closed() && self.wire.input.is_empty();
        let may_follow = asked.keep_alive
            && !asked.is_connect
            && !reply.close
            && !self.wire.leaving.is_cancelled()
            && !is_last;
        if reply::is_tunnel(&reply) {
            respond::tunnel_head(&mut self.wire.out, &reply, asked);
            self.wire.flush().await?;
            return match reply.body {
                ReplyBody::Switch(switch) => Ok(Next::Switch(switch)),
                ReplyBody::Tunnel(server) => {
                    self.wire.tunnel(server, asked).await?;
                    Ok(Next::Close { unread: false })
                }
                _ => Err(End::Io),
            };
        }
        let is_stream = matches!(reply.body, ReplyBody::Stream(_));
        let may_follow = if is_stream || matches!(reply.body, ReplyBody::Relay(_)) {
            // Behind the head is too late to ask for the body. A stream may want it yet; a server that was relayed to
            // and has not asked for it by its answer does not.
            let mut owes_continue = std::mem::take(&mut intake.owes_continue);
            if owes_continue && intake.producer.may_want(is_stream) {
                owes_continue = false;
                self.wire.out.extend_from_slice(respond::CONTINUE);
            }
            let may_follow = may_follow && !owes_continue;
            self.wire
                .write_stream(reply, asked, may_follow, intake)
                .await?
        } else {
            // A client that still waits for `100 Continue` may or may not send its body: close.
            let may_follow = may_follow
                && !intake.owes_continue
                && intake.announced() <= self.wire.context.limits.drain_bytes_max;
            if let Some(large) = self.wire.write_ready(reply, asked, may_follow) {
                self.wire.tail = large;
                self.wire.flush().await?;
            }
            may_follow
        };
        if self.wire.out.len() > GATHER_BYTES_MAX {
            self.wire.flush().await?;
        }
        if may_follow && self.drain_body(intake).await? {
            return Ok(Next::Request);
        }
        let unread = !intake.finished || intake.failed.is_some();
        Ok(Next::Close { unread })
    }

    /// Waits for a reply; the request's body comes in meanwhile, and a client that resets the connection ends it.
    async fn wait_for<F: Future + Unpin>(
        &mut self,
        mut reply: F,
        intake: &mut Intake,
    ) -> Result<F::Output, End> {
        poll_fn(|cx| {
            if let Poll::Ready(reply) = Pin::new(&mut reply).poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            self.write_interims();
            // An interim answer, or a `100 Continue` that did not go out at once.
            if !self.wire.out.is_empty()
                && let Poll::Ready(Err(end)) = self.wire.poll_flush(cx)
            {
                return Poll::Ready(Err(end));
            }
            match self.wire.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    /// Reads what nobody wanted of a body, up to a size and for a time. Whether the connection can be used again.
    async fn drain_body(&mut self, intake: &mut Intake) -> Result<bool, End> {
        if intake.failed.is_some() {
            return Ok(false);
        }
        if !intake.finished {
            intake.producer.fail(BodyError::Incomplete(
                "the reply was done before the body".into(),
            ));
        }
        let limits = &self.wire.context.limits;
        let mut left = limits.drain_bytes_max;
        let deadline = Instant::now() + limits.body_timeout;
        while !intake.finished {
            match intake.decode(&mut self.wire.input) {
                Ok(Decoded::Data(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(rest) => left = rest,
                    None => return Ok(false),
                },
                Ok(Decoded::End) => intake.finished = true,
                Err(_) => return Ok(false),
                Ok(Decoded::NeedsMore) => {
                    self.wire.flush().await?;
                    let read = read_some(&mut self.wire.io, &mut self.wire.input, PIECE_BYTES);
                    match timeout_at(deadline, read).await {
                        Ok(Ok(read)) if read > 0 => {}
                        _ => return Ok(false),
                    }
                }
            }
        }
        Ok(true)
    }
}
