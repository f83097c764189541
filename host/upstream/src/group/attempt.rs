//! One attempt of a request at a server, and whether the request may be sent again after it.

use super::RelayError;
use crate::{
    counters::FailureCause, deadlines::ResponseDeadlines, exchange::ServerConnection,
    h2::StreamPermit, outbound::Outbound,
};
use protoplex_http::TextBuffer;
use std::net::SocketAddr;
use tokio::time::Instant;

/// An attempt that ended without a response.
pub(super) struct FailedAttempt {
    pub(super) error: RelayError,
    pub(super) cause: FailureCause,
    pub(super) resend: Resend,
    /// The connection had been idle, and the server may just have closed it, or said goodbye on it.
    pub(super) is_stale: bool,
}

/// Whether a request may be sent again after an attempt without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Never: a server may have acted on the request, or the body is not here any more.
    Never,
    /// Where the request is repeatable: a server may have acted on it, and no byte of a response came.
    IfRepeatable,
    /// Always: nothing of the request can have reached a server that acts on it.
    Unsent,
    /// Always: the server said that it did nothing about the request (`REFUSED_STREAM`, `GOAWAY`).
    Refused,
}

impl FailedAttempt {
    pub(super) fn new(error: RelayError, cause: FailureCause, resend: Resend) -> Self {
        Self {
            error,
            cause,
            resend,
            is_stale: false,
        }
    }

    pub(super) fn may_resend(&self, request: &Outbound) -> bool {
        match self.resend {
            Resend::Never => false,
            Resend::IfRepeatable => request.is_repeatable(),
            Resend::Unsent | Resend::Refused => true,
        }
    }
}

/// A request on its way through its attempts.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a mut Outbound,
    /// The head as HTTP/1.1 has it, for whichever server. An attempt that has it gives it back, unless it is the last.
    pub(super) head: TextBuffer,
    pub(super) deadlines: &'a mut ResponseDeadlines,
    pub(super) started: Instant,
    /// The attempt has to open a connection: an idle one was stale.
    pub(super) is_fresh: bool,
}

/// What a request needs of a new connection.
#[derive(Clone, Copy)]
pub(super) struct ConnectionNeeds {
    pub(super) client: SocketAddr,
    /// Whether the request asks for another protocol.
    pub(super) upgrades: bool,
}

/// What a request is sent on.
pub(super) enum ConnectionOrStream {
    Http1(ServerConnection),
    Http2(StreamPermit),
}
