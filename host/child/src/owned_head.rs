//! A head that outlives the connection's buffer.

use protoplex_http::{AccessNotes, Head, HeaderField, Hop, Interims, Internal, Scheme};
use std::net::IpAddr;

pub(super) struct OwnedHead {
    method: String,
    path: String,
    authority: String,
    request_id: String,
    scheme: Scheme,
    version: u8,
    client: IpAddr,
    client_port: u16,
    upgrade: Option<String>,
    expects_continue: bool,
    interims: Option<Interims>,
    internal: Option<OwnedInternal>,
    forwarder: Option<IpAddr>,
    notes: Option<AccessNotes>,
    headers: Vec<(String, Vec<u8>)>,
}

/// What [`Internal`] borrows.
struct OwnedInternal {
    token: Vec<u8>,
    origin: Option<Vec<u8>>,
    relays: Option<u32>,
}

impl OwnedHead {
    pub(super) fn new(head: &Head<'_>) -> Self {
        Self {
            method: head.method.to_owned(),
            path: head.path.to_owned(),
            authority: head.authority.to_owned(),
            request_id: head.request_id.to_owned(),
            scheme: head.scheme,
            version: head.version,
            client: head.client,
            client_port: head.client_port,
            upgrade: head.hop.upgrade.map(str::to_owned),
            expects_continue: head.hop.expects_continue,
            interims: head.hop.interims.cloned(),
            internal: head.hop.internal.map(|said| OwnedInternal {
                token: said.token.to_vec(),
                origin: said.origin.map(<[u8]>::to_vec),
                relays: said.relays,
            }),
            forwarder: head.forwarder,
            notes: head.notes.cloned(),
            headers: head
                .headers
                .iter()
                .map(|field| (field.name.to_owned(), field.value.to_owned()))
                .collect(),
        }
    }

    /// What [`Self::head`] borrows.
    pub(super) fn fields(&self) -> Vec<HeaderField<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| HeaderField { name, value })
            .collect()
    }

    pub(super) fn head<'a>(&'a self, fields: &'a [HeaderField<'a>]) -> Head<'a> {
        Head {
            method: &self.method,
            path: &self.path,
            authority: &self.authority,
            scheme: self.scheme,
            version: self.version,
            headers: fields,
            client: self.client,
            client_port: self.client_port,
            forwarder: self.forwarder,
            notes: self.notes.as_ref(),
            request_id: &self.request_id,
            hop: Hop {
                upgrade: self.upgrade.as_deref(),
                expects_continue: self.expects_continue,
                interims: self.interims.as_ref(),
                // It was said when the request came.
                pace: None,
                internal: self.internal.as_ref().map(|said| Internal {
                    token: &said.token,
                    origin: said.origin.as_deref(),
                    relays: said.relays,
                }),
            },
        }
    }
}
