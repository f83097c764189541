//! One request and its response on one connection to a server. Whoever polls drives both directions: the connection
//! of the client, in its own task.

use super::{
    connect::Stream,
    counters::Cause,
    ending::Ending,
    framing::Framing,
    patience::{Awaited, Late, Patience},
    response::{self, Asked, Response},
    sending::{Sending, Unsent},
    tunnel::tunnel,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use protoplex_http::{
    BodyError, Duplex, Interim, Interims, SocketRest, Tunnel,
    chunked::{Decoded, Decoder, Writer},
};
use protoplex_net::{OwnedGaugeGuard, Timer};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Read at once while a head is waited for; most small responses are whole then.
const HEAD_READ_BYTES: usize = 8 << 10;
/// Read at once of a body.
const BODY_READ_BYTES: usize = 64 << 10;
/// A server that says no `100 Continue` by then gets the body all the same (RFC 9110, section 10.1.1).
const CONTINUE_WAIT_MAX: Duration = Duration::from_secs(1);

/// One connection to a server.
pub(crate) struct Connection {
    pub(super) io: Stream,
    input: BytesMut,
    timer: Timer,
    pub(super) idle_since: Instant,
    /// Guard that counts the connection until it is closed.
    counted: OwnedGaugeGuard,
}

/// Why a response's head did not come.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended, or could not be written to.
    Ended {
        cause: String,
        /// A byte of the request was written.
        begun: bool,
        /// Something of a response had come.
        answered: bool,
    },
    /// The response cannot be understood.
    Malformed(&'static str),
    /// The server took too long.
    TooSlow,
    /// The request's body did not come.
    Client(BodyError),
}

impl Failure {
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Ended { .. } => Cause::Reset,
            Self::Malformed(_) => Cause::Malformed,
            Self::TooSlow => Cause::Timeout,
            Self::Client(_) => Cause::Client,
        }
    }
}

/// A request on a connection, and its response.
pub(super) struct Exchange {
    pub(super) connection: Connection,
    pub(super) sending: Sending,
    /// Why no more is sent, when that is not the end of it.
    unsent: bool,
    /// The client's fault in that, before it was told.
    client_fault: Option<BodyError>,
    reading: Reading,
    /// When a body that brings nothing more, nor takes anything, is given up.
    idle_at: Option<Instant>,
    asked: Asked,
}

/// A response that is waited for. Dropped before it is there, it is given up.
struct Waiting<'a> {
    exchange: &'a mut Exchange,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.exchange.give_up();
        }
    }
}

/// The rest of the response.
enum Reading {
    Head,
    Length(u64),
    Chunks(Decoder),
    UntilClose,
    Done,
}

impl Connection {
    pub(super) fn new(io: Stream, counted: OwnedGaugeGuard) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            timer: Timer::default(),
            idle_since: Instant::now(),
            counted,
        }
    }

    /// Whether the server has said or done nothing since the last response. Costs no system call: the reactor has
    /// heard of an end, or of bytes that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && self.io.is_quiet(&mut cx)
    }

    /// Reads once; 0 is the end.
    fn poll_read(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(bytes_max);
        tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)
    }

    /// The server's end of a tunnel, which begins with what was read beyond the last response.
    pub(super) fn into_tunnel(self) -> Tunnel {
        tunnel(self.io, self.input.freeze(), self.counted)
    }
}

impl Exchange {
    pub(super) fn new(connection: Connection, sending: Sending, asked: Asked) -> Self {
        Self {
            connection,
            sending,
            unsent: false,
            client_fault: None,
            reading: Reading::Head,
            idle_at: None,
            asked,
        }
    }

    /// The response's head. Interim ones go to `interims` meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future loses the exchange; the connection must not be used again.
    pub(super) async fn response(
        &mut self,
        patience: &mut Patience,
        interims: Option<&Interims>,
    ) -> Result<Response, Failure> {
        let continue_at = self
            .sending
            .holds
            .then(|| Instant::now() + CONTINUE_WAIT_MAX);
        let mut waiting = Waiting {
            exchange: self,
            is_over: false,
        };
        let response =
            poll_fn(|cx| (waiting.exchange).poll_response(patience, continue_at, interims, cx))
                .await;
        waiting.is_over = response.is_ok();
        response
    }

    /// Tells the server, when the connection is dropped, that nobody waits for the rest of its response.
    pub(super) fn give_up(&self) {
        if !matches!(self.reading, Reading::Done | Reading::Length(0)) {
            self.connection.io.reset_on_close();
        }
    }

    fn poll_response(
        &mut self,
        patience: &mut Patience,
        continue_at: Option<Instant>,
        interims: Option<&Interims>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        loop {
            let mut cause = None;
            match self.poll_send(cx) {
                Some(Unsent::Client(error)) => return Poll::Ready(Err(Failure::Client(error))),
                // The server may have answered before it stopped listening.
                Some(Unsent::Server(error)) => cause = Some(error),
                None => {}
            }
            if !self.connection.input.is_empty() {
                match response::parse(&self.connection.input, self.asked) {
                    Ok(None) => {}
                    Ok(Some((response, bytes))) => {
                        let _head = self.connection.input.split_to(bytes);
                        match self.interim(response, interims) {
                            Some(response) => return Poll::Ready(self.head(response)),
                            // It may have asked for the body.
                            None => continue,
                        }
                    }
                    Err(why) => return Poll::Ready(Err(Failure::Malformed(why))),
                }
            }
            match self.connection.poll_read(HEAD_READ_BYTES, cx) {
                Poll::Ready(Ok(read)) if read > 0 => continue,
                Poll::Ready(end) => {
                    let cause = end.err().or(cause);
                    return Poll::Ready(Err(Failure::Ended {
                        cause: cause.map_or_else(|| "it closed".into(), |error| error.to_string()),
                        begun: self.sending.begun,
                        answered: !self.connection.input.is_empty(),
                    }));
                }
                Poll::Pending => {}
            }
            let until = patience.until(self.awaited(), self.sending.taken);
            let asks_at = continue_at.filter(|_| self.sending.holds);
            let asks_first = asks_at.is_some_and(|at| until.is_none_or(|until| at < until));
            let Some(at) = asks_at.filter(|_| asks_first).or(until) else {
                return Poll::Pending;
            };
            ready!(self.connection.timer.poll_until(at, cx));
            if asks_first {
                self.sending.holds = false;
                continue;
            }
            return Poll::Ready(Err(match patience.late() {
                Late::Server => Failure::TooSlow,
                Late::Client => Failure::Client(BodyError::TooSlow),
            }));
        }
    }

    /// Takes an interim response; gives a final one back.
    fn interim(&mut self, response: Response, interims: Option<&Interims>) -> Option<Response> {
        match response.status {
            StatusCode::SWITCHING_PROTOCOLS => Some(response),
            StatusCode::CONTINUE => {
                self.sending.holds = false;
                None
            }
            status if status.is_informational() => {
                if let Some(interims) = interims {
                    let lines = response.lines;
                    interims.push(Interim { status, lines });
                }
                None
            }
            _ => Some(response),
        }
    }

    fn head(&mut self, response: Response) -> Result<Response, Failure> {
        self.reading = match response.framing {
            Framing::None => Reading::Done,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunks(Decoder::new(Writer::Server)),
            Framing::Close => Reading::UntilClose,
        };
        Ok(response)
    }

    /// The side whose turn it is, after [`Self::poll_send`].
    fn awaited(&self) -> Awaited {
        match self.unsent {
            true => Awaited::Response,
            false => self.sending.awaited(),
        }
    }

    /// Sends on. What keeps it from that is said once; nothing more is sent then.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Option<Unsent> {
        if self.unsent || self.sending.is_over() {
            return None;
        }
        match self.sending.poll(&mut self.connection.io, cx) {
            Poll::Ready(Err(unsent)) => {
                self.unsent = true;
                Some(unsent)
            }
            _ => None,
        }
    }

    /// Sends on beside the response. A server that does not want all of the request tells by its response, or by the
    /// connection's end. A client that does not bring it has nothing to wait for.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) {
        let taken = self.sending.taken;
        if let Some(Unsent::Client(error)) = self.poll_send(cx) {
            self.client_fault = Some(error);
        }
        if taken != self.sending.taken {
            self.idle_at = None;
        }
    }

    /// The whole body, if all of it is here and there are no trailers.
    pub(super) fn body_at_hand(&mut self) -> Option<Bytes> {
        match self.reading {
            Reading::Done => Some(Bytes::new()),
            Reading::Length(length) if length <= self.connection.input.len() as u64 => {
                self.reading = Reading::Done;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Some(self.connection.input.split_to(length).freeze())
            }
            _ => None,
        }
    }

    /// The next frame of the body.
    pub(super) fn poll_frame(
        &mut self,
        ending: &Ending,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        self.poll_request(cx);
        if let Some(error) = self.client_fault.take() {
            return Poll::Ready(Some(Err(format!("the request's body: {error}"))));
        }
        loop {
            match self.decode() {
                Ok(Some(Some(frame))) => return Poll::Ready(Some(Ok(frame))),
                Ok(Some(None)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Some(Err(format!("the upstream's body: {why}")))),
            }
            match self.connection.poll_read(BODY_READ_BYTES, cx) {
                Poll::Ready(Ok(read)) if read > 0 => self.idle_at = None,
                Poll::Ready(Ok(_)) if matches!(self.reading, Reading::UntilClose) => {
                    self.reading = Reading::Done;
                }
                Poll::Ready(end) => {
                    let cause =
                        end.map_or_else(|error| error.to_string(), |_| "it ended early".into());
                    return Poll::Ready(Some(Err(format!("the upstream's body: {cause}"))));
                }
                Poll::Pending => {
                    // While the client owes more of its body, the server owes nothing. In a conversation, silence of
                    // both is what is measured.
                    let awaits_client = self.awaited() == Awaited::Client && self.sending.is_owed();
                    let at = if awaits_client {
                        self.idle_at = None;
                        ending.total_at()
                    } else {
                        Some(*self.idle_at.get_or_insert_with(|| ending.idle_at()))
                    };
                    let Some(at) = at else {
                        return Poll::Pending;
                    };
                    ready!(self.connection.timer.poll_until(at, cx));
                    return Poll::Ready(Some(Err("the upstream's body stopped".into())));
                }
            }
        }
    }

    /// Decodes the buffer: a frame, the end (`Some(None)`), or nothing yet.
    #[expect(
        clippy::option_option,
        reason = "a frame, the end, and nothing yet are three things"
    )]
    fn decode(&mut self) -> Result<Option<Option<Frame<Bytes>>>, &'static str> {
        let input = &mut self.connection.input;
        match &mut self.reading {
            Reading::Head | Reading::Done | Reading::Length(0) => {
                self.reading = Reading::Done;
                Ok(Some(None))
            }
            _ if input.is_empty() => Ok(None),
            Reading::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = input.split_to(input.len().min(most)).freeze();
                *left -= piece.len() as u64;
                Ok(Some(Some(Frame::data(piece))))
            }
            Reading::UntilClose => Ok(Some(Some(Frame::data(input.split().freeze())))),
            Reading::Chunks(decoder) => match decoder.decode(input)? {
                Decoded::Data(piece) => Ok(Some(Some(Frame::data(piece)))),
                Decoded::NeedsMore => Ok(None),
                Decoded::End => {
                    let trailers = decoder.take_trailers();
                    self.reading = Reading::Done;
                    Ok(Some(
                        trailers.map(|trailers: HeaderMap| Frame::trailers(trailers)),
                    ))
                }
            },
        }
    }

    /// Bytes that are left of a body of known length.
    pub(super) fn length_left(&self) -> Option<u64> {
        match self.reading {
            Reading::Length(left) => Some(left),
            Reading::Done => Some(0),
            _ => None,
        }
    }

    /// The rest of the body, when it is nothing but the next bytes of a plain socket.
    pub(super) fn socket_rest(&mut self) -> Option<SocketRest<'_>> {
        let idle = self.connection.input.is_empty() && self.sending.is_over();
        match &mut self.reading {
            Reading::Length(left) if idle => Some(SocketRest {
                socket: self.connection.io.tcp()?,
                left,
            }),
            _ => None,
        }
    }

    /// Whether both directions are at their end, so that another request may follow.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.reading, Reading::Done | Reading::Length(0))
            && self.sending.is_over()
            && self.connection.input.is_empty()
    }
}
