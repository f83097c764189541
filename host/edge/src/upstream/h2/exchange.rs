//! One request on a stream, until the head of its response is there. Whoever polls drives both directions: the
//! connection of the client, in its own task.

use super::Handle;
use crate::{
    http2::{Pipe, Unsent},
    server::Held,
    upstream::h2::lines,
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use protoplex_http::{Body, BodyError, Interim, Interims, Pace};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A response whose head has come.
pub(in crate::upstream) struct Answered {
    pub(in crate::upstream) head: Response<()>,
    pub(in crate::upstream) received: RecvStream,
    pub(in crate::upstream) sending: Sending,
    /// Counts the stream until its body is over.
    pub(in crate::upstream) stream: Held,
}

/// What is left to send of a request.
pub(in crate::upstream) enum Sending {
    Nothing,
    Body(Pipe<Body>),
    /// Of an extended CONNECT: all that the client will say.
    Tunnel(SendStream<Bytes>),
}

/// Why there is no response.
pub(in crate::upstream) enum SendError {
    /// The server's doing, or the connection's.
    Server {
        cause: String,
        untaken: Untaken,
        /// The request's body, where it is whole.
        body: Option<Body>,
    },
    /// The response cannot be understood.
    Malformed(&'static str),
    /// The request's body did not come.
    Client(BodyError),
}

/// What is known of whether a server acted on a request that it did not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Untaken {
    /// It may have.
    Unknown,
    /// Nothing of the request was sent.
    Unsent,
    /// It came after the last one that the server takes on the connection, it says (RFC 9113, section 6.8).
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
}

impl Handle {
    /// Sends a request and waits for the head of its response; interim ones go to `interims` meanwhile.
    ///
    /// # Errors
    /// There is no response.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; the connection goes on.
    pub(in crate::upstream) async fn send(
        mut self,
        request: Request<()>,
        body: Body,
        interims: Option<&Interims>,
    ) -> Result<Answered, SendError> {
        let switches = request.method() == Method::CONNECT;
        let is_over = !switches && body.is_end_stream();
        // The server has all that there is of the body, and may be the one to speak next.
        body.advance(Pace::TwoWay);
        let begun = poll_fn(|cx| self.sender.poll_ready(cx)).await;
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
        if let Err(error) = self.sending.poll(cx) {
            return Poll::Ready(Err(SendError::Client(error)));
        }
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
    /// Bytes of the body that the server took, as long as more may follow.
    pub(super) fn handed(&self) -> u64 {
        match self {
            Self::Body(pipe) => pipe.handed(),
            Self::Nothing | Self::Tunnel(_) => 0,
        }
    }

    /// Sends on. A server that does not want the rest tells by its response.
    ///
    /// # Errors
    /// The request's body did not come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let Self::Body(pipe) = self else {
            return Ok(());
        };
        let Poll::Ready(sent) = pipe.poll(cx) else {
            return Ok(());
        };
        match sent {
            Err(Unsent::Body(error)) => Err(error),
            // An untouched body may be sent to another server.
            Err(Unsent::Peer) => Ok(()),
            Ok(()) => {
                *self = Self::Nothing;
                Ok(())
            }
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
