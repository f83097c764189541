//! One request on a stream, until the head of its response is there. Whoever polls drives both directions: the
//! connection of the client, in its own task.

use super::Handle;
use crate::{
    h2::lines,
    patience::{Awaited, Late, Patience},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use protoplex_http::{Body, BodyError, Interim, Interims, Pace};
use protoplex_http2::{Pipe, Unsent};
use protoplex_net::{OwnedGaugeGuard, Timer};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::timeout_at;

/// A response whose head has come.
pub(crate) struct Answered {
    pub(crate) head: Response<()>,
    pub(crate) received: RecvStream,
    pub(crate) sending: Sending,
    /// Counts the stream until its body is over.
    pub(crate) stream: OwnedGaugeGuard,
}

/// The rest of a request that is to be sent.
pub(crate) enum Sending {
    Nothing,
    Body(Pipe<Body>),
    /// The stream of an extended CONNECT: all that the client will say.
    Tunnel(SendStream<Bytes>),
}

/// Why there is no response.
pub(crate) enum SendError {
    /// The server's doing, or the connection's.
    Server {
        cause: String,
        untaken: Untaken,
        /// The request's body, where it is whole.
        body: Option<Body>,
    },
    /// The response cannot be understood.
    Malformed(&'static str),
    /// The server took too long.
    TooSlow,
    /// The request's body did not come.
    Client(BodyError),
}

/// Knowledge of whether a server acted on a request that it did not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// The server may have acted on it.
    Unknown,
    /// Nothing of the request was sent.
    Unsent,
    /// The request came after the last one that the server takes on the connection, it says (RFC 9113, section 6.8).
    Gone,
    /// The stream was refused before anything was done about it (RFC 9113, section 8.7).
    Refused,
}

impl Untaken {
    fn by(error: &h2::Error) -> Self {
        match error.reason().filter(|_| error.is_remote()) {
            Some(Reason::NO_ERROR) if error.is_go_away() => Self::Gone,
            Some(Reason::REFUSED_STREAM) => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

struct Exchange<'a> {
    response: ResponseFuture,
    sending: Sending,
    interims: Option<&'a Interims>,
    patience: &'a mut Patience,
    timer: Timer,
}

impl Handle {
    /// Sends a request and waits for the head of its response; interim ones go to `interims` meanwhile.
    ///
    /// # Errors
    /// There is no response.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; the connection goes on.
    pub(crate) async fn send(
        mut self,
        request: Request<()>,
        body: Body,
        interims: Option<&Interims>,
        patience: &mut Patience,
    ) -> Result<Answered, SendError> {
        let switches = request.method() == Method::CONNECT;
        let is_over = !switches && body.is_end_stream();
        // The server has all that there is of the body, and may be the one to speak next.
        body.advance(Pace::TwoWay);
        let ready = poll_fn(|cx| self.sender.poll_ready(cx));
        let Ok(begun) = timeout_at(patience.for_server(), ready).await else {
            return Err(SendError::TooSlow);
        };
        let begun = begun.and_then(|()| self.sender.send_request(request, is_over));
        let (response, send) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err(SendError::unsent(&error, body)),
        };
        let sending = match (is_over, switches) {
            (true, _) => Sending::Nothing,
            (false, true) => Sending::Tunnel(send),
            (false, false) => Sending::Body(Pipe::new(body, send)),
        };
        let mut exchange = Exchange {
            response,
            sending,
            interims,
            patience,
            timer: Timer::default(),
        };
        let response = poll_fn(|cx| exchange.poll(cx)).await?;
        let (parts, received) = response.into_parts();
        Ok(Answered {
            head: Response::from_parts(parts, ()),
            received,
            sending: exchange.sending,
            stream: self.stream,
        })
    }
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, SendError>> {
        let awaited = match self.sending.poll(cx) {
            Ok(awaited) => awaited,
            Err(error) => return Poll::Ready(Err(SendError::Client(error))),
        };
        if let Poll::Ready(response) = self.poll_head(cx) {
            return Poll::Ready(response);
        }
        let Some(at) = self.patience.until(awaited, self.sending.taken()) else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_until(at, cx));
        Poll::Ready(Err(match self.patience.late() {
            Late::Server => SendError::TooSlow,
            Late::Client => SendError::Client(BodyError::TooSlow),
        }))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, SendError>> {
        // To ask for the response throws away what comes before it.
        while let Some(interim) = ready!(self.response.poll_informational(cx)) {
            match interim {
                Ok(interim) => self.take(&interim)?,
                Err(error) => return Poll::Ready(Err(self.failed(&error))),
            }
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(response.map_err(|error| self.failed(&error)))
    }

    fn take(&self, interim: &Response<()>) -> Result<(), SendError> {
        match (interim.status(), self.interims) {
            (StatusCode::SWITCHING_PROTOCOLS, _) => {
                let why = "it switches protocols, which HTTP/2 does in another way";
                return Err(SendError::Malformed(why));
            }
            // Nobody was asked to wait for it.
            (StatusCode::CONTINUE, _) | (_, None) => {}
            (status, Some(interims)) => {
                let lines = lines(interim.headers());
                interims.push(Interim { status, lines });
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &h2::Error) -> SendError {
        let body = match std::mem::replace(&mut self.sending, Sending::Nothing) {
            Sending::Body(pipe) => pipe.untouched(),
            Sending::Nothing | Sending::Tunnel(_) => None,
        };
        SendError::Server {
            cause: error.to_string(),
            untaken: Untaken::by(error),
            body,
        }
    }
}

impl Sending {
    /// Sends on, and tells what is waited for then. A server that does not want the rest tells by its response.
    ///
    /// # Errors
    /// The request's body did not come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Awaited, BodyError> {
        let Self::Body(pipe) = self else {
            return Ok(Awaited::Response);
        };
        match pipe.poll(cx) {
            Poll::Pending if pipe.waits_for_room() => Ok(Awaited::Room),
            Poll::Pending => Ok(Awaited::Client),
            Poll::Ready(Err(Unsent::Body(error))) => Err(error),
            // An untouched body may be sent to another server.
            Poll::Ready(Err(Unsent::Peer)) => Ok(Awaited::Response),
            Poll::Ready(Ok(())) => {
                *self = Self::Nothing;
                Ok(Awaited::Response)
            }
        }
    }

    /// Whether the client owes what is left of the body: its length is known.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self, Self::Body(pipe) if pipe.body().is_owed())
    }

    /// Bytes of the body that the server took, so far.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Body(pipe) => pipe.handed(),
            // Another number than before: the last byte was taken, too.
            Self::Nothing | Self::Tunnel(_) => u64::MAX,
        }
    }
}

impl SendError {
    fn unsent(error: &h2::Error, body: Body) -> Self {
        Self::Server {
            cause: error.to_string(),
            untaken: Untaken::Unsent,
            body: Some(body),
        }
    }
}
