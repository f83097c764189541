//! A request as it goes to an upstream.

use super::counters::UpstreamCounters;
use http::{Method, uri::Authority};
use protoplex_http::{Body, Interims, TextBuffer, fields};
use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

/// When a request is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Again if it did not reach a server; where the method is idempotent, also if it was not answered.
    #[default]
    Default,
    /// Sent once at most.
    Never,
    /// Again as if the method were idempotent.
    Always,
}

/// Timeouts of one request, in place of the upstream's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutOverrides {
    /// Longest wait for the head of the response.
    pub first_byte: Option<Duration>,
    /// Longest silence between two reads of a body.
    pub idle: Option<Duration>,
    /// Longest time from the request to the end of the response.
    pub total: Option<Duration>,
}

/// A request to an upstream, as a handler's decision made it.
#[derive(Debug)]
pub struct Outbound {
    /// The request line and the end-to-end header lines, `Host` first if there is one; without framing and the empty
    /// line.
    pub head: TextBuffer,
    /// Whether `head` has a `Host`. Without one a server gets its own address as such: HTTP/1.1 wants one.
    pub names_host: bool,
    /// Method of the request line in `head`.
    pub method: Method,
    /// Body of the request, pulled when the server wants it.
    pub body: Body,
    /// The protocol that the client wants to go on with, if it may.
    pub upgrade: Option<String>,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The client takes trailers (`TE: trailers`), and so do we. Servers are told so anew, by HTTP/1.1 with the
    /// `Connection` line that has to go with it (RFC 9110, section 10.1.4): gRPC's refuse a client that does not say
    /// so.
    pub takes_trailers: bool,
    /// Where interim responses go.
    pub interims: Option<Interims>,
    /// Timeouts that replace the upstream's.
    pub timeouts: TimeoutOverrides,
    /// When the request is sent again.
    pub retry: Retry,
    /// Hash that rendezvous hashing goes by, see [`key_hash`](crate::key_hash).
    pub key: Option<u64>,
    /// Address of the client, for the PROXY protocol; port 0 where only the address is known.
    pub client: SocketAddr,
    /// Counters of the name that the request is relayed under.
    pub counters: Arc<UpstreamCounters>,
}

impl Outbound {
    /// Whether the request may be sent again although a server may have acted on it.
    pub(super) fn is_repeatable(&self) -> bool {
        match self.retry {
            Retry::Never => false,
            Retry::Always => true,
            // RFC 9110, section 9.2.2.
            Retry::Default => matches!(
                self.method,
                Method::GET
                    | Method::HEAD
                    | Method::OPTIONS
                    | Method::TRACE
                    | Method::PUT
                    | Method::DELETE
            ),
        }
    }

    /// Length of the body in bytes, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        http_body::Body::size_hint(&self.body).exact()
    }

    /// Value of `Content-Length`, if there is to be one.
    pub(super) fn announced_length(&self) -> Option<u64> {
        let wants_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        self.length()
            .filter(|_| wants_body || !self.body.is_absent())
    }

    /// Makes the head for HTTP/1.1 of `head`, or of a copy of it, but for the server's own address.
    pub(super) fn http1_head(&self, mut head: TextBuffer) -> TextBuffer {
        if let Some(protocol) = &self.upgrade {
            head.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
            head.extend_from_slice(protocol.as_bytes());
            head.extend_from_slice(b"\r\n");
        } else if self.takes_trailers {
            head.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
        }
        match self.announced_length() {
            Some(length) => {
                // Writing to memory cannot fail.
                let _ = write!(head, "content-length: {length}\r\n");
            }
            None if self.body.is_absent() => {}
            None => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if self.expects_continue && !self.body.is_absent() {
            head.extend_from_slice(b"expect: 100-continue\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Completes a head of [`Self::http1_head`] for one server: its address as `Host` where the client named none. `head`
    /// is taken where it is whole as it is.
    pub(super) fn http1_head_for(&self, head: &mut TextBuffer, server: &Authority) -> TextBuffer {
        if self.names_host {
            return std::mem::take(head);
        }
        let (line, lines) = head.split_at(line_end(head));
        let mut whole = TextBuffer::new();
        for part in [line, b"host: ", server.as_str().as_bytes(), b"\r\n", lines] {
            whole.extend_from_slice(part);
        }
        whole
    }

    /// Reads path, query and header lines back from `head`.
    pub(super) fn parts(&self) -> (&str, impl Iterator<Item = (&[u8], &[u8])>) {
        let (line, lines) = self.head.split_at(line_end(&self.head));
        let path = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        (std::str::from_utf8(path).unwrap_or("/"), fields(lines))
    }
}

/// Length of the first line.
fn line_end(head: &[u8]) -> usize {
    head.iter()
        .position(|&byte| byte == b'\n')
        .map_or(head.len(), |at| at + 1)
}
