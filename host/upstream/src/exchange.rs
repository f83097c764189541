//! One request and its response on one connection of HTTP/1.1. Whoever polls drives both directions: the connection of
//! the client, in its own task.

use super::{
    connect::ServerStream,
    counters::FailureCause,
    deadlines::{AwaitedSide, LateSide, ResponseDeadlines},
    ending::Ending,
    framing::Framing,
    response::{self, Response, ResponseContext},
    sending::{Http1SendError, RequestSender},
    tunnel::tunnel,
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use protoplex_http::{
    BodyError, Interim, Interims, ReadBuffer, SocketRest, Tunnel,
    chunked::{ChunkDecoder, ChunkWriter, DecodedChunk},
};
use protoplex_net::{Duplex, OwnedGaugeGuard, Timer};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Bytes of one read while a head is waited for: most small responses are whole then.
const HEAD_READ_BYTES: usize = 8 << 10;
/// Bytes of one read of a body.
const BODY_READ_BYTES: usize = 64 << 10;
/// Longest wait for `100 Continue`: a server that says nothing by then gets the body all the same (RFC 9110, section
/// 10.1.1).
const CONTINUE_WAIT_MAX: Duration = Duration::from_secs(1);

/// A connection of HTTP/1.1 to a server.
pub(crate) struct ServerConnection {
    pub(super) io: ServerStream,
    input: ReadBuffer,
    timer: Timer,
    pub(super) idle_since: Instant,
    /// A response came on the connection before.
    pub(super) is_reused: bool,
    /// Guard that counts the connection until it is closed.
    counted: OwnedGaugeGuard,
}

/// Why a response's head did not come.
#[derive(Debug)]
pub(super) enum Http1ExchangeError {
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

impl Http1ExchangeError {
    pub(super) fn cause(&self) -> FailureCause {
        match self {
            Self::Ended { .. } => FailureCause::Reset,
            Self::Malformed(_) => FailureCause::Malformed,
            Self::TooSlow => FailureCause::Timeout,
            Self::Client(_) => FailureCause::Client,
        }
    }
}

/// A request on a connection, and its response.
pub(super) struct Http1Exchange {
    pub(super) connection: ServerConnection,
    pub(super) sending: RequestSender,
    /// The request is not sent any further, and the response may still come.
    unsent: bool,
    /// Error of the client's body, until it is reported.
    client_fault: Option<BodyError>,
    reading: BodyReading,
    /// Deadline of the silence that goes on in the response's body.
    idle_at: Option<Instant>,
    asked: ResponseContext,
}

/// Gives the exchange up if it is dropped before the response's head has come.
struct GiveUpGuard<'a> {
    exchange: &'a mut Http1Exchange,
    is_over: bool,
}

impl Drop for GiveUpGuard<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.exchange.give_up();
        }
    }
}

/// Part of the response that comes next.
enum BodyReading {
    Head,
    Length(u64),
    Chunks(ChunkDecoder),
    UntilClose,
    Done,
}

impl ServerConnection {
    pub(super) fn new(io: ServerStream, counted: OwnedGaugeGuard) -> Self {
        Self {
            io,
            input: ReadBuffer::default(),
            timer: Timer::default(),
            idle_since: Instant::now(),
            is_reused: false,
            counted,
        }
    }

    /// Makes the connection ready for another request, for whenever that comes.
    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
        self.is_reused = true;
        self.input.release();
    }

    /// Whether the server has sent nothing and not closed since the last response. Costs no system call: the reactor
    /// knows of an end, or of bytes that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && self.io.is_quiet(&mut cx)
    }

    /// Reads once into the buffer; 0 is the end of the stream.
    fn poll_read(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.make_room(bytes);
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut *self.input);
        if read.is_pending() {
            self.input.pause();
        }
        read
    }

    /// Turns the connection into the server's end of a tunnel. Bytes read beyond the response come first.
    pub(super) fn into_tunnel(self) -> Tunnel {
        tunnel(self.io, self.input.freeze(), self.counted)
    }
}

impl Http1Exchange {
    pub(super) fn new(
        connection: ServerConnection,
        sending: RequestSender,
        asked: ResponseContext,
    ) -> Self {
        Self {
            connection,
            sending,
            unsent: false,
            client_fault: None,
            reading: BodyReading::Head,
            idle_at: None,
            asked,
        }
    }

    /// Sends the request and returns the head of the response. Interim responses go to `interims` meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future loses the exchange; the connection must not be used again.
    pub(super) async fn response(
        &mut self,
        deadlines: &mut ResponseDeadlines,
        interims: Option<&Interims>,
    ) -> Result<Response, Http1ExchangeError> {
        let continue_at = self
            .sending
            .holds
            .then(|| Instant::now() + CONTINUE_WAIT_MAX);
        let mut waiting = GiveUpGuard {
            exchange: self,
            is_over: false,
        };
        let response =
            poll_fn(|cx| (waiting.exchange).poll_response(deadlines, continue_at, interims, cx))
                .await;
        waiting.is_over = response.is_ok();
        response
    }

    /// Makes the close a reset, unless the response is whole: the server hears that nobody waits for the rest.
    pub(super) fn give_up(&self) {
        if !matches!(self.reading, BodyReading::Done | BodyReading::Length(0)) {
            self.connection.io.reset_on_close();
        }
    }

    fn poll_response(
        &mut self,
        deadlines: &mut ResponseDeadlines,
        continue_at: Option<Instant>,
        interims: Option<&Interims>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Http1ExchangeError>> {
        loop {
            let mut cause = None;
            match self.poll_send(cx) {
                Some(Http1SendError::Client(error)) => {
                    return Poll::Ready(Err(Http1ExchangeError::Client(error)));
                }
                // The server may have answered before it stopped listening.
                Some(Http1SendError::Server(error)) => cause = Some(error),
                None => {}
            }
            if !self.connection.input.is_empty() {
                match response::parse(&self.connection.input, self.asked) {
                    Ok(None) => {}
                    Ok(Some((response, bytes))) => {
                        self.connection.input.advance(bytes);
                        match self.interim(response, interims) {
                            Some(response) => return Poll::Ready(self.head(response)),
                            // The server may have asked for the body.
                            None => continue,
                        }
                    }
                    Err(why) => return Poll::Ready(Err(Http1ExchangeError::Malformed(why))),
                }
            }
            match self.connection.poll_read(HEAD_READ_BYTES, cx) {
                Poll::Ready(Ok(read)) if read > 0 => continue,
                Poll::Ready(end) => {
                    let cause = end.err().or(cause);
                    return Poll::Ready(Err(Http1ExchangeError::Ended {
                        cause: cause.map_or_else(|| "it closed".into(), |error| error.to_string()),
                        begun: self.sending.begun,
                        answered: !self.connection.input.is_empty(),
                    }));
                }
                Poll::Pending => {}
            }
            let until = deadlines.until(self.awaited(), self.sending.taken);
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
            return Poll::Ready(Err(match deadlines.late() {
                LateSide::Server => Http1ExchangeError::TooSlow,
                LateSide::Client => Http1ExchangeError::Client(BodyError::TooSlow),
            }));
        }
    }

    /// Takes an interim response; hands a final one back.
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

    fn head(&mut self, response: Response) -> Result<Response, Http1ExchangeError> {
        self.reading = match response.framing {
            Framing::None => BodyReading::Done,
            Framing::Length(length) => BodyReading::Length(length),
            Framing::Chunked => BodyReading::Chunks(ChunkDecoder::new(ChunkWriter::Server)),
            Framing::Close => BodyReading::UntilClose,
        };
        Ok(response)
    }

    /// Side that has to move next, after [`Self::poll_send`].
    fn awaited(&self) -> AwaitedSide {
        match self.unsent {
            true => AwaitedSide::Response,
            false if !self.is_sent() => AwaitedSide::Room,
            false => self.sending.awaited(),
        }
    }

    /// Whether the server, or its kernel, has taken all that was written.
    fn is_sent(&self) -> bool {
        let socket = self.connection.io.socket();
        socket.is_none_or(|socket| socket.is_sent())
    }

    /// Sends more of the request. An error is returned once, and nothing more is sent after it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Option<Http1SendError> {
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

    /// Sends more of the request beside the response. A server that does not want all of it tells by its response, or
    /// by the connection's end. A client that does not bring it has nothing to wait for.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) {
        let taken = self.sending.taken;
        if let Some(Http1SendError::Client(error)) = self.poll_send(cx) {
            self.client_fault = Some(error);
        }
        if taken != self.sending.taken {
            self.idle_at = None;
        }
    }

    /// The whole body, if all of it is here and there are no trailers.
    pub(super) fn body_at_hand(&mut self) -> Option<Bytes> {
        match self.reading {
            BodyReading::Done => Some(Bytes::new()),
            BodyReading::Length(length) if length <= self.connection.input.len() as u64 => {
                self.reading = BodyReading::Done;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                // A copy: a part of the buffer would keep it from the next connection.
                let body = Bytes::copy_from_slice(&self.connection.input[..length]);
                self.connection.input.advance(length);
                Some(body)
            }
            _ => None,
        }
    }

    /// Polls for the next frame of the body.
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
                Poll::Ready(Ok(_)) if matches!(self.reading, BodyReading::UntilClose) => {
                    self.reading = BodyReading::Done;
                }
                Poll::Ready(end) => {
                    let cause =
                        end.map_or_else(|error| error.to_string(), |_| "it ended early".into());
                    return Poll::Ready(Some(Err(format!("the upstream's body: {cause}"))));
                }
                Poll::Pending => {
                    // While the client owes more of its body, the server owes nothing. In a conversation, silence of
                    // both is what is measured.
                    let awaits_client =
                        self.awaited() == AwaitedSide::Client && self.sending.is_owed();
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

    /// Decodes what the buffer holds: a frame, the end (`Some(None)`), or nothing yet (`None`).
    #[expect(
        clippy::option_option,
        reason = "a frame, the end, and nothing yet are three things"
    )]
    fn decode(&mut self) -> Result<Option<Option<Frame<Bytes>>>, &'static str> {
        let input = &mut *self.connection.input;
        match &mut self.reading {
            BodyReading::Head | BodyReading::Done | BodyReading::Length(0) => {
                self.reading = BodyReading::Done;
                Ok(Some(None))
            }
            _ if input.is_empty() => Ok(None),
            BodyReading::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = input.split_to(input.len().min(most)).freeze();
                *left -= piece.len() as u64;
                Ok(Some(Some(Frame::data(piece))))
            }
            BodyReading::UntilClose => Ok(Some(Some(Frame::data(input.split().freeze())))),
            BodyReading::Chunks(decoder) => match decoder.decode(input)? {
                DecodedChunk::Data(piece) => Ok(Some(Some(Frame::data(piece)))),
                DecodedChunk::NeedsMore => Ok(None),
                DecodedChunk::End => {
                    let trailers = decoder.take_trailers();
                    self.reading = BodyReading::Done;
                    Ok(Some(
                        trailers.map(|trailers: HeaderMap| Frame::trailers(trailers)),
                    ))
                }
            },
        }
    }

    /// Bytes left of the body, where its length is known.
    pub(super) fn length_left(&self) -> Option<u64> {
        match self.reading {
            BodyReading::Length(left) => Some(left),
            BodyReading::Done => Some(0),
            _ => None,
        }
    }

    /// The rest of the body, when it is nothing but the next bytes of a plain socket.
    pub(super) fn socket_rest(&mut self) -> Option<SocketRest<'_>> {
        let idle = self.connection.input.is_empty() && self.sending.is_over();
        match &mut self.reading {
            BodyReading::Length(left) if idle => Some(SocketRest {
                socket: self.connection.io.tcp()?,
                left,
            }),
            _ => None,
        }
    }

    /// Whether both directions are at their end, so that another request may follow.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.reading, BodyReading::Done | BodyReading::Length(0))
            && self.sending.is_over()
            && self.is_sent()
            && self.connection.input.is_empty()
    }
}
