//! The call of the service: a head is read, its client found out and admitted, and the service asked.

use super::Http1Connection;
use crate::{
    Service,
    access::AccessEntry,
    client::RequestClient,
    http1::{
        head::{self, Fields},
        intake::Intake,
    },
    identity,
    refusal::HttpRefusal,
    reply::{self, ReplyContext},
    service,
};
use protoplex_http::{AccessNotes, Answer, Head, Hop};
use protoplex_net::{Duplex, RequestPermit};
use std::sync::OnceLock;

/// Answer of the service to a request, and what belongs to the request until the reply is out.
pub(super) struct ServiceCall {
    pub(super) answer: Answer,
    pub(super) asked: ReplyContext,
    pub(super) intake: Intake,
    pub(super) entry: Option<Box<AccessEntry>>,
    /// Permit of the request, held until the reply is out.
    pub(super) permit: Option<RequestPermit>,
}

impl<S, IO> Http1Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Reads a head and asks the service. Not asynchronous: the table of headers, which is large, stays on the stack.
    /// `id` becomes the one that the request came with, where a node of ours gave it one.
    pub(super) fn call(&self, bytes: &[u8], id: &mut [u8; 16]) -> Result<ServiceCall, HttpRefusal> {
        let context = self.wire.context;
        let mut fields = Fields::new();
        let parsed = head::parse(bytes, &mut fields, &self.wire.head_limits)?;
        // Fields of the log are made only where there is one.
        let notes = context.access_log.as_ref().map(|_| AccessNotes::default());
        let mut internal = parsed.internal.filter(|_| self.peer.is_internal);
        let origin =
            (internal.as_ref()).and_then(|said| context.service.origin(said, parsed.headers));
        if let Some(said) = &mut internal {
            said.relays = origin.map(|origin| origin.relays);
        }
        let client = match origin {
            None => {
                let forwarders = context.forwarders();
                RequestClient::of(&self.peer, self.scheme, parsed.headers, forwarders)
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
        let entry = log.map(|(log, notes)| Box::new(AccessEntry::new(log, &head, notes)));
        let asked = ReplyContext {
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
            Ok(_) => service::call(&*context.service, &head, body, id),
            Err(wait) => Answer::Ready(reply::too_many(*wait, id)),
        };
        intake.set_pace(pace.into_inner());
        Ok(ServiceCall {
            answer,
            asked,
            intake,
            entry,
            permit: permit.ok(),
        })
    }
}
