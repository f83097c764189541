//! Requests that are refused before the service hears of them: h2 resets their streams, answers them with 431, or ends
//! the connection. Their heads are not known, but that they came is: each leaves its line in the log and its count all
//! the same.
//!
//! In: frames that open streams, streams that the service was given, resets that go out. Out: what was neither given to
//! the service nor is on its way to it.

use super::frames::{self, FrameSummary};
use crate::{
    HttpCause,
    access::{AccessEntry, RefusedRequest},
    context::ServerContext,
    identity::{self, RequestIds},
    refusal::HEAD_TOO_LARGE,
};
use h2::Reason;
use http::StatusCode;
use parking_lot::Mutex;
use protoplex_net::{Account, Peer};
use std::{collections::VecDeque, net::IpAddr, sync::Arc};

/// Most heads that are on their way to the service or refused: more than fit in what is read at once. A client that
/// sends more after a GOAWAY, which nobody answers, loses the oldest, without a line.
const UNREAD_MAX: usize = 1_024;

/// Heads of one connection that came and were not given to the service.
pub(super) struct UnreadHeads<S>(Arc<HeadsInner<S>>);

struct HeadsInner<S> {
    context: Arc<ServerContext<S>>,
    /// Socket's other end, or whom a PROXY header names: whom a forwarder names stands in the head.
    client: IpAddr,
    /// Account of that address, where its requests are limited.
    account: Option<Arc<Account>>,
    state: Mutex<PendingHeads>,
}

struct PendingHeads {
    ids: RequestIds,
    /// Heads in the order in which they came.
    unread: VecDeque<UnansweredHead>,
    /// Whether some of the heads are refused.
    is_refusing: bool,
    /// Stream whose head has come in part.
    partial: Option<u32>,
}

struct UnansweredHead {
    stream: u32,
    fate: Option<RefusalFate>,
}

/// What h2 did about a head that the service has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusalFate {
    /// The list of fields is larger than what is read at all.
    TooLarge,
    Reset(Reason),
}

impl RefusalFate {
    fn cause(self) -> HttpCause {
        match self {
            Self::TooLarge => HttpCause::HeadTooLarge,
            Self::Reset(Reason::REFUSED_STREAM) => HttpCause::Http2Streams,
            Self::Reset(_) => HttpCause::Malformed,
        }
    }

    fn status(self) -> Option<StatusCode> {
        match self {
            Self::TooLarge => Some(HEAD_TOO_LARGE.0),
            Self::Reset(_) => None,
        }
    }

    fn why(self, stream: u32) -> String {
        match self {
            Self::TooLarge => format!("{}: stream {stream}", HEAD_TOO_LARGE.1),
            Self::Reset(Reason::REFUSED_STREAM) => {
                format!("too many streams at once: stream {stream} was reset with REFUSED_STREAM")
            }
            Self::Reset(reason) => {
                format!("the head is malformed: stream {stream} was reset with {reason:?}")
            }
        }
    }
}

impl<S> Clone for UnreadHeads<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> UnreadHeads<S> {
    pub(super) fn new(context: Arc<ServerContext<S>>, peer: &Peer) -> Self {
        let state = PendingHeads {
            ids: RequestIds::new(),
            unread: VecDeque::new(),
            is_refusing: false,
            partial: None,
        };
        Self(Arc::new(HeadsInner {
            context,
            client: peer.address,
            account: peer.account.clone(),
            state: Mutex::new(state),
        }))
    }

    /// Notes a frame of a head; `opens` where it is a stream's first.
    pub(super) fn came(&self, frame: &FrameSummary, opens: bool) {
        let mut state = self.0.state.lock();
        if opens {
            if state.unread.len() >= UNREAD_MAX {
                state.unread.pop_front();
            }
            state.unread.push_back(UnansweredHead {
                stream: frame.stream,
                fate: None,
            });
        }
        let is_whole = frame.flags & frames::END_HEADERS != 0;
        state.partial = (!is_whole).then_some(frame.stream);
    }

    /// Notes that the service gets the request of a stream.
    pub(super) fn read(&self, stream: u32) {
        let mut state = self.0.state.lock();
        // Mostly the first head is the one.
        if let Some(at) = state.unread.iter().position(|head| head.stream == stream) {
            state.unread.remove(at);
        }
    }

    /// Notes that a head goes out on a stream: where the service has not seen the request, it is h2's own response.
    pub(super) fn answered(&self, stream: u32) {
        self.decide(stream, RefusalFate::TooLarge);
    }

    /// Notes that we reset a stream.
    pub(super) fn reset(&self, stream: u32, code: u32) {
        self.decide(stream, RefusalFate::Reset(code.into()));
    }

    /// Notes what h2 did about a head. The service may still get the request: h2 passes on requests that it has reset
    /// for their bodies.
    fn decide(&self, stream: u32, fate: RefusalFate) {
        let mut state = self.0.state.lock();
        let PendingHeads {
            unread,
            is_refusing,
            ..
        } = &mut *state;
        if let Some(head) = unread.iter_mut().find(|head| head.stream == stream) {
            head.fate.get_or_insert(fate);
            *is_refusing = true;
        }
    }

    /// Settles the refused heads once h2 has no more requests for the service. Each takes a permit of the client's:
    /// `false` where that is over its limits, and must go.
    pub(super) fn settle(&self) -> bool {
        let mut state = self.0.state.lock();
        if !std::mem::take(&mut state.is_refusing) {
            return true;
        }
        let mut is_within = true;
        let PendingHeads { ids, unread, .. } = &mut *state;
        unread.retain(|head| {
            let Some(fate) = head.fate else {
                return true;
            };
            let context = &self.0.context;
            context.counters.count(fate.cause());
            is_within &= context
                .connections
                .admit_request(self.0.account.as_ref())
                .is_ok();
            self.record(ids, fate.status(), fate.why(head.stream));
            false
        });
        is_within
    }

    /// Settles all heads without an answer: the connection ends for the client's fault, and is counted by whoever ends
    /// it.
    pub(super) fn end(&self, reason: Reason) {
        self.settle();
        let mut state = self.0.state.lock();
        let PendingHeads { ids, unread, .. } = &mut *state;
        for UnansweredHead { stream, .. } in unread.drain(..) {
            let why = format!("the connection was ended with {reason:?}: stream {stream}");
            self.record(ids, None, why);
        }
    }

    /// Refuses a head in the middle of which the client was silent for too long. Returns whether there was one.
    pub(super) fn end_partial(&self) -> bool {
        let mut state = self.0.state.lock();
        let Some(stream) = state.partial.take() else {
            return false;
        };
        // Trailers begin like a head, and are none.
        let Some(at) = state.unread.iter().position(|head| head.stream == stream) else {
            return false;
        };
        state.unread.remove(at);
        let why = format!("the head came too slowly: stream {stream}");
        self.record(&mut state.ids, None, why);
        true
    }

    fn record(&self, ids: &mut RequestIds, status: Option<StatusCode>, why: String) {
        let (id, client) = (ids.next(), self.0.client);
        let request = identity::text(&id);
        tracing::debug!(request, %client, ?status, why, "a request was refused before a handler was asked");
        if let Some(log) = &self.0.context.access_log {
            let unread = RefusedRequest {
                id: &id,
                client,
                version: 20,
                method: b"",
                host: b"",
                path: b"",
            };
            drop(AccessEntry::refused(log, &unread, status, why));
        }
    }
}
