//! One request on a stream, until the head of its response is there. Whoever polls drives both directions: the
//! connection of the client, in its own task.

use super::StreamPermit;
use crate::{
    deadlines::{AwaitedSide, LateSide, ResponseDeadlines},
    h2::lines,
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use protoplex_http::{Body, BodyError, BodyPace, Interim, Interims};
use protoplex_http2::{Pipe, PipeError};
use protoplex_net::{OwnedGaugeGuard, Timer};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::timeout_at;

/// Response by HTTP/2 whose head has come.
pub(crate) struct Http2Response {
    pub(crate) head: Response<()>,
    pub(crate) received: RecvStream,
    pub(crate) sending: StreamSender,
    /// Permit of the stream, until the body is over.
    pub(crate) stream: OwnedGaugeGuard,
}

/// Part of a request by HTTP/2 that is still to be sent.
pub(crate) enum StreamSender {
    Nothing,
    Body(Pipe<Body>),
    /// Sending side of an extended CONNECT: all that the client will say.
    Tunnel(SendStream<Bytes>),
}

/// Why a request by HTTP/2 has no response.
pub(crate) enum Http2SendError {
    /// The server reset the stream, or the connection ended.
    Server {
        cause: String,
        untaken: NotTaken,
        /// Body of the request, where nothing was taken of it.
        body: Option<Body>,
    },
    /// The response cannot be understood.
    Malformed(&'static str),
    /// The server took too long.
    TooSlow,
    /// The request's body did not come.
    Client(BodyError),
}

/// Whether a server can have acted on a request that it did not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The server may have acted on it.
    Unknown,
    /// Nothing of the request was sent.
    Unsent,
    /// The request came after the last one that the server takes on the connection, it says (RFC 9113, section 6.8).
    Gone,
    /// The stream was refused before anything was done about it (RFC 9113, section 8.7).
    Refused,
}

impl NotTaken {
    fn by(error: &h2::Error) -> Self {
        match error.reason().filter(|_| error.is_remote()) {
            Some(Reason::NO_ERROR) if error.is_go_away() => Self::Gone,
            Some(Reason::REFUSED_STREAM) => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

struct Http2Exchange<'a> {
    response: ResponseFuture,
    sending: StreamSender,
    interims: Option<&'a Interims>,
    deadlines: &'a mut ResponseDeadlines,
    timer: Timer,
}

impl StreamPermit {
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
        deadlines: &mut ResponseDeadlines,
    ) -> Result<Http2Response, Http2SendError> {
        let switches = request.method() == Method::CONNECT;
        let is_over = !switches && body.is_end_stream();
        // The server has all that there is of the body, and may be the one to speak next.
        body.advance(BodyPace::TwoWay);
        let ready = poll_fn(|cx| self.sender.poll_ready(cx));
        let Ok(begun) = timeout_at(deadlines.for_server(), ready).await else {
            return Err(Http2SendError::TooSlow);
        };
        let begun = begun.and_then(|()| self.sender.send_request(request, is_over));
        let (response, send) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err(Http2SendError::unsent(&error, body)),
        };
        let sending = match (is_over, switches) {
            (true, _) => StreamSender::Nothing,
            (false, true) => StreamSender::Tunnel(send),
            (false, false) => StreamSender::Body(Pipe::new(body, send)),
        };
        let mut exchange = Http2Exchange {
            response,
            sending,
            interims,
            deadlines,
            timer: Timer::default(),
        };
        let response = poll_fn(|cx| exchange.poll(cx)).await?;
        let (parts, received) = response.into_parts();
        Ok(Http2Response {
            head: Response::from_parts(parts, ()),
            received,
            sending: exchange.sending,
            stream: self.stream,
        })
    }
}

impl Http2Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Http2SendError>> {
        let awaited = match self.sending.poll(cx) {
            Ok(awaited) => awaited,
            Err(error) => return Poll::Ready(Err(Http2SendError::Client(error))),
        };
        if let Poll::Ready(response) = self.poll_head(cx) {
            return Poll::Ready(response);
        }
        let Some(at) = self.deadlines.until(awaited, self.sending.taken()) else {
            return Poll::Pending;
        };
        ready!(self.timer.poll_until(at, cx));
        Poll::Ready(Err(match self.deadlines.late() {
            LateSide::Server => Http2SendError::TooSlow,
            LateSide::Client => Http2SendError::Client(BodyError::TooSlow),
        }))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<RecvStream>, Http2SendError>> {
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

    fn take(&self, interim: &Response<()>) -> Result<(), Http2SendError> {
        match (interim.status(), self.interims) {
            (StatusCode::SWITCHING_PROTOCOLS, _) => {
                let why = "it switches protocols, which HTTP/2 does in another way";
                return Err(Http2SendError::Malformed(why));
            }
            // No client was promised a `100 Continue` here.
            (StatusCode::CONTINUE, _) | (_, None) => {}
            (status, Some(interims)) => {
                let lines = lines(interim.headers());
                interims.push(Interim { status, lines });
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &h2::Error) -> Http2SendError {
        let body = match std::mem::replace(&mut self.sending, StreamSender::Nothing) {
            StreamSender::Body(pipe) => pipe.untouched(),
            StreamSender::Nothing | StreamSender::Tunnel(_) => None,
        };
        Http2SendError::Server {
            cause: error.to_string(),
            untaken: NotTaken::by(error),
            body,
        }
    }
}

impl StreamSender {
    /// Sends more of the request, and returns the side that has to move next. A server that does not want the rest
    /// tells by its response.
    ///
    /// # Errors
    /// The request's body did not come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<AwaitedSide, BodyError> {
        let Self::Body(pipe) = self else {
            return Ok(AwaitedSide::Response);
        };
        match pipe.poll(cx) {
            Poll::Pending if pipe.waits_for_room() => Ok(AwaitedSide::Room),
            Poll::Pending => Ok(AwaitedSide::Client),
            Poll::Ready(Err(PipeError::Body(error))) => Err(error),
            // An untouched body may be sent to another server.
            Poll::Ready(Err(PipeError::Peer)) => Ok(AwaitedSide::Response),
            Poll::Ready(Ok(())) => {
                *self = Self::Nothing;
                Ok(AwaitedSide::Response)
            }
        }
    }

    /// Whether the client owes the rest of the body, because its length is known.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self, Self::Body(pipe) if pipe.body().is_owed())
    }

    /// Bytes of the body that the server took so far.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Body(pipe) => pipe.handed(),
            // A number that differs from the one before: the last byte was taken, too.
            Self::Nothing | Self::Tunnel(_) => u64::MAX,
        }
    }
}

impl Http2SendError {
    fn unsent(error: &h2::Error, body: Body) -> Self {
        Self::Server {
            cause: error.to_string(),
            untaken: NotTaken::Unsent,
            body: Some(body),
        }
    }
}
