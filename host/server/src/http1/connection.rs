//! One connection of HTTP/1.1: heads in, replies out, until one side has had enough.

mod call;
mod refuse;
mod reply;

use super::{
    head,
    wire::{EarlyEnd, Wire},
};
use crate::{
    Service,
    context::ServerContext,
    http2,
    identity::RequestIds,
    reply::{conclusive, panicked},
};
use bytes::Buf;
use call::ServiceCall;
use futures::FutureExt;
use protoplex_http::{Answer, Interims, Scheme, Switch, SwitchTask, Switched};
use protoplex_net::{Duplex, GaugeGuard, Peer, probe};
use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};
use tokio::io::AsyncReadExt;

/// What a connection does after a reply.
enum AfterReply {
    Request,
    /// Hands the connection to whoever takes it over.
    Switch(Switch),
    /// Closes the connection; `unread` where the client may still be sending.
    Close {
        unread: bool,
    },
}

/// A connection of HTTP/1.1: its bytes, and what holds for all its requests.
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
) -> Option<SwitchTask>
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
            // An early end was answered already, or nobody is there to hear it.
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
    /// Waits for the first bytes. `true` where they begin HTTP/2 with prior knowledge.
    async fn first_bytes(&mut self) -> Result<bool, EarlyEnd> {
        match self.wire.first_bytes().await? {
            Ok(is_http2) => Ok(is_http2),
            Err(refusal) => {
                self.refuse(refusal).await?;
                Err(EarlyEnd::Io)
            }
        }
    }

    /// Serves requests until one side has had enough, or somebody takes the connection over.
    async fn requests(&mut self) -> Result<Option<Switch>, EarlyEnd> {
        let mut draining = pin!(self.wire.context.connections.leave(self.wire.leaving));
        loop {
            let end = match self.wire.head_end(draining.as_mut()).await? {
                Ok(Some(end)) => end,
                // A client that has ended its side may still be reading.
                Ok(None) => return self.wire.settle().await.map(|()| None),
                Err(refusal) => return self.refuse(refusal).await.map(|()| None),
            };
            match self.request(end).await? {
                AfterReply::Request => {}
                AfterReply::Switch(switch) => return Ok(Some(switch)),
                AfterReply::Close { unread } => {
                    return self.wire.close(unread).await.map(|()| None);
                }
            }
        }
    }

    /// Answers the request whose head ends at `end`.
    async fn request(&mut self, end: usize) -> Result<AfterReply, EarlyEnd> {
        let context = self.wire.context;
        let _counted = GaugeGuard::new(&context.in_flight);
        head::settle_version(&mut self.wire.input[..end]);
        let mut id = self.ids.next();
        let before = self.wire.produced();
        // Read in place: a head that were taken out of the buffer would cost the next one a buffer of its own.
        let head = &self.wire.input[..end];
        let called = self.call(head, &mut id);
        let called = called.map_err(|refusal| self.refused_head(&id, head, refusal));
        self.wire.input.advance(end);
        self.wire.input.release();
        let ServiceCall {
            answer,
            asked,
            mut intake,
            mut entry,
            permit: _permit,
        } = match called {
            Ok(called) => called,
            Err((refusal, entry)) => {
                self.say_refusal(id, refusal, entry).await?;
                return Ok(AfterReply::Close { unread: true });
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
                    .unwrap_or_else(|_| panicked(&id));
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
            return Ok(AfterReply::Close { unread: true });
        }
        let reply = conclusive(reply, &asked);
        entry
            .iter_mut()
            .for_each(|entry| entry.status(reply.status));
        let next = self.reply(reply, &asked, &mut intake).await;
        let bytes = self.wire.produced() - before;
        entry.iter_mut().for_each(|entry| entry.add_bytes(bytes));
        next
    }
}
