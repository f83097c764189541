//! Requests that are refused for their heads: counted, recorded, and told so.

use super::Http1Connection;
use crate::{
    Service,
    access::{self, AccessEntry, RefusedRequest},
    http1::wire::EarlyEnd,
    identity,
    refusal::HttpRefusal,
    reply::{self, Persistence, ReplyContext},
};
use protoplex_net::Duplex;

impl<S, IO> Http1Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Answers the malformed head that the buffer begins with, and closes the connection.
    pub(super) async fn refuse(&mut self, refusal: HttpRefusal) -> Result<(), EarlyEnd> {
        let id = self.ids.next();
        let (refusal, entry) = self.refused_head(&id, &self.wire.input, refusal);
        self.say_refusal(id, refusal, entry).await?;
        self.wire.close(true).await
    }

    /// Counts a request whose head is refused. Returns what its client is told, and its record for the log.
    pub(super) fn refused_head(
        &self,
        id: &[u8; 16],
        bytes: &[u8],
        refusal: HttpRefusal,
    ) -> (HttpRefusal, Option<Box<AccessEntry>>) {
        let context = self.wire.context;
        let client = access::refused_client(&self.peer, bytes, context.forwarders());
        let refusal = context.refuse(&self.peer, client, refusal);
        let entry = context.access_log.as_ref().map(|log| {
            let request = RefusedRequest::http1(id, client, bytes);
            let HttpRefusal(status, why) = refusal;
            Box::new(AccessEntry::refused(log, &request, Some(status), why))
        });
        (refusal, entry)
    }

    /// Answers a request that is refused, and records it. What the client still sends is no part of it: the connection
    /// has to be closed then.
    pub(super) async fn say_refusal(
        &mut self,
        id: [u8; 16],
        refusal: HttpRefusal,
        entry: Option<Box<AccessEntry>>,
    ) -> Result<(), EarlyEnd> {
        let HttpRefusal(status, why) = refusal;
        let request = identity::text(&id);
        tracing::debug!(request, client = %self.peer.address, %status, why, "a request was refused before a handler was asked");
        let reply = reply::refused(refusal, &id);
        let asked = ReplyContext {
            id,
            ..ReplyContext::closing()
        };
        let before = self.wire.produced();
        self.wire.write_ready(reply, &asked, Persistence::Close);
        if let Some(mut entry) = entry {
            entry.add_bytes(self.wire.produced() - before);
        }
        self.wire.flush().await
    }
}
