//! One connection: heads in, replies out, until somebody has had enough.

use super::{
    body::{Producer, Want},
    chunked::{Decoded, Decoder},
    head::{self, Framing, HEADERS_CAP, Refusal},
    respond::{self, Asked},
};
use crate::{
    Service, http2,
    identity::{self, RequestIds},
    server::{Counted, Shared},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame};
use protoplex_http::{Answer, Body, BodyError, Head, HeaderField, Reply, ReplyBody, Scheme, StreamError};
use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Sleep, timeout},
};

/// Read at once, and what an idle connection keeps.
const READ_BYTES: usize = 8 << 10;
/// Pieces of a request's body.
const PIECE_BYTES: usize = 64 << 10;
/// Bodies up to this are copied behind their head and written with it.
const COPY_BYTES_MAX: usize = 16 << 10;
/// Replies to pipelined requests are gathered up to this.
const GATHER_BYTES_MAX: usize = 64 << 10;
/// A write buffer that grew above this is given back.
const KEEP_BYTES_MAX: usize = 128 << 10;
/// How long a refused client may go on sending before the connection is reset.
const LINGER: std::time::Duration = std::time::Duration::from_millis(500);
/// First bytes of HTTP/2 with prior knowledge.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Why the loop ends early; nothing is left to say to the client.
enum End {
    Io,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

struct Connection<'a, S, IO> {
    shared: &'a Shared<S>,
    io: IO,
    input: BytesMut,
    out: Vec<u8>,
    ids: RequestIds,
    scheme: Scheme,
    client: IpAddr,
    /// Of `out`.
    written: usize,
    /// Goes out after `out`, without a copy.
    tail: Bytes,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Serves one connection to its end.
pub(crate) async fn serve<S, IO>(shared: &Arc<Shared<S>>, io: IO, scheme: Scheme, client: IpAddr)
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let input = BytesMut::new();
    let (out, ids, tail) = (Vec::new(), RequestIds::new(), Bytes::new());
    let mut connection =
        Connection { shared, io, input, out, ids, scheme, client, written: 0, tail, stalled: None };
    match connection.first_bytes().await {
        Ok(false) => {
            // Whatever ends it has been answered or has nobody to hear it.
            let _ = connection.requests().await;
        }
        Ok(true) => {
            let Connection { io, input, .. } = connection;
            let (read, write) = tokio::io::split(io);
            let replayed = AsyncReadExt::chain(io::Cursor::new(input.freeze()), read);
            http2::serve(shared, tokio::io::join(replayed, write), scheme, client).await;
        }
        Err(_) => {}
    }
}

impl<S, IO> Connection<'_, S, IO>
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Waits for the first bytes. `true` for HTTP/2 with prior knowledge.
    async fn first_bytes(&mut self) -> Result<bool, End> {
        let deadline = self.shared.limits.first_byte_timeout;
        loop {
            let seen = self.input.len().min(PREFACE.len());
            if seen > 0 && self.input[..seen] != PREFACE[..seen] {
                return Ok(false);
            }
            if seen == PREFACE.len() {
                return Ok(true);
            }
            let draining = self.shared.draining.cancelled();
            let read = read_some(&mut self.io, &mut self.input, READ_BYTES);
            let read = tokio::select! { read = timeout(deadline, read) => read, () = draining => return Err(End::Io) };
            if read.map_err(|_| End::Io)?? == 0 {
                return Err(End::Io);
            }
        }
    }

    async fn requests(&mut self) -> Result<(), End> {
        loop {
            let end = match self.head_end().await? {
                Ok(Some(end)) => end,
                Ok(None) => return Ok(()),
                Err(refusal) => return self.refuse(refusal).await,
            };
            if !self.request(end).await? {
                self.flush().await?;
                return Ok(self.io.shutdown().await?);
            }
        }
    }

    /// Reads until a whole head is in the buffer. `None` when the client or we have had enough.
    async fn head_end(&mut self) -> Result<Result<Option<usize>, Refusal>, End> {
        // An empty line before a request is forgiven once (RFC 9112, section 2.2).
        if self.input.starts_with(b"\r\n") {
            let _ = self.input.split_to(2);
        }
        let mut looked = 0;
        let mut head_deadline = None;
        loop {
            if !self.input.is_empty() {
                match head::find_end(&self.input, &mut looked, &self.shared.limits) {
                    Ok(None) => {}
                    found => return Ok(found),
                }
            }
            if !self.out.is_empty() {
                self.flush().await?;
            }
            let limits = &self.shared.limits;
            if self.input.is_empty() {
                let draining = self.shared.draining.cancelled();
                let read = timeout(limits.idle_timeout, read_some(&mut self.io, &mut self.input, READ_BYTES));
                let read = tokio::select! { biased; read = read => read, () = draining => return Ok(Ok(None)) };
                match read {
                    Ok(Ok(read)) if read > 0 => {}
                    _ => return Ok(Ok(None)),
                }
            } else {
                let deadline =
                    *head_deadline.get_or_insert_with(|| tokio::time::Instant::now() + limits.head_timeout);
                let read = read_some(&mut self.io, &mut self.input, READ_BYTES);
                match tokio::time::timeout_at(deadline, read).await {
                    Ok(Ok(read)) if read > 0 => {}
                    Ok(_) => return Ok(Ok(None)),
                    Err(_) => return Ok(Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the head came too slowly"))),
                }
            }
        }
    }

    /// Says what was wrong and closes.
    async fn refuse(&mut self, Refusal(status, why): Refusal) -> Result<(), End> {
        let id = self.ids.next();
        let reply = Reply::text(status, format!("{why}\nrequest {}\n", identity::text(&id)));
        let asked = Asked { version: 11, is_head: false, keep_alive: false, id };
        self.write_ready(reply, &asked, false);
        self.flush().await?;
        self.io.shutdown().await?;
        // What the client still sends must not turn into a reset that eats our answer.
        let mut sink = BytesMut::new();
        let linger = async {
            while read_some(&mut self.io, &mut sink, PIECE_BYTES).await.is_ok_and(|read| read > 0) {
                sink.clear();
            }
        };
        let _ = timeout(LINGER, linger).await;
        Ok(())
    }

    /// Answers the request whose head ends at `end`. Whether another may follow.
    async fn request(&mut self, end: usize) -> Result<bool, End> {
        let shared = self.shared;
        let _counted = Counted::new(&shared.in_flight);
        let bytes = self.input.split_to(end).freeze();
        let id = self.ids.next();
        let mut fields = [HeaderField { name: "", value: b"" }; HEADERS_CAP];
        let (answer, asked, mut intake) = {
            let parsed = match head::parse(&bytes, &mut fields, &shared.limits) {
                Ok(parsed) => parsed,
                Err(refusal) => {
                    self.refuse(refusal).await?;
                    return Err(End::Io);
                }
            };
            let head = Head {
                method: parsed.method,
                path: parsed.path,
                authority: parsed.authority,
                scheme: self.scheme,
                version: parsed.version,
                headers: parsed.headers,
                client: self.client,
                request_id: identity::text(&id),
            };
            let asked =
                Asked { version: parsed.version, is_head: head.is_head(), keep_alive: parsed.keep_alive, id };
            let intake = Intake::new(parsed.framing, parsed.expects_continue);
            let body = intake.body();
            let answer = catch_unwind(AssertUnwindSafe(|| shared.service.call(&head, body)));
            (answer.unwrap_or_else(|_| Answer::Ready(panicked(&id))), asked, intake)
        };
        let reply = match answer {
            Answer::Ready(reply) => reply,
            Answer::Later(reply) => {
                if !self.out.is_empty() {
                    self.flush().await?;
                }
                self.wait_for(AssertUnwindSafe(reply).catch_unwind(), &mut intake)
                    .await?
                    .unwrap_or_else(|_| panicked(&id))
            }
        };
        if intake.malformed {
            let why = "the request's body is malformed";
            self.refuse(Refusal(StatusCode::BAD_REQUEST, why)).await?;
            return Err(End::Io);
        }
        let may_follow = asked.keep_alive && !reply.close && !shared.draining.is_cancelled();
        // A client that still waits for `100 Continue` may or may not send its body: close.
        let may_follow = may_follow && !intake.promised();
        if let ReplyBody::Stream(_) = reply.body {
            if !self.write_stream(reply, &asked, may_follow, &mut intake).await? {
                return Ok(false);
            }
        } else if let Some(large) = self.write_ready(reply, &asked, may_follow) {
            self.tail = large;
            self.flush().await?;
        }
        if self.out.len() > GATHER_BYTES_MAX {
            self.flush().await?;
        }
        Ok(may_follow && self.drain_body(&mut intake).await?)
    }

    /// Writes head and body into the buffer; a large body is handed back to be written without a copy.
    fn write_ready(&mut self, reply: Reply, asked: &Asked, may_follow: bool) -> Option<Bytes> {
        let (framing, length) = respond::framing(&reply, asked);
        respond::head(&mut self.out, &reply, asked, framing, length, !may_follow);
        match (framing, reply.body) {
            (respond::Framing::Length(_), ReplyBody::Full(body)) if body.len() <= COPY_BYTES_MAX => {
                self.out.extend_from_slice(&body);
                None
            }
            (respond::Framing::Length(_), ReplyBody::Full(body)) => Some(body),
            _ => None,
        }
    }

    /// Writes a streamed reply while the request's body is still being read. `false` when the connection must close.
    async fn write_stream(
        &mut self,
        reply: Reply,
        asked: &Asked,
        may_follow: bool,
        intake: &mut Intake,
    ) -> Result<bool, End> {
        let (framing, length) = respond::framing(&reply, asked);
        let close = !may_follow || framing == respond::Framing::Close;
        respond::head(&mut self.out, &reply, asked, framing, length, close);
        let ReplyBody::Stream(mut body) = reply.body else { return Ok(!close) };
        if framing == respond::Framing::None {
            return Ok(!close);
        }
        let mut left = length.unwrap_or(u64::MAX);
        let mut trailers = None;
        loop {
            let frame = match self.next_frame(&mut body, intake).await? {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(request = identity::text(&asked.id), %error, "a reply was cut in its body");
                    // The client gets what there was, and an end that it can tell from a whole reply.
                    self.flush().await?;
                    return Err(End::Io);
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    // More than was announced: the client must not take it for the next reply.
                    left = left.checked_sub(data.len() as u64).ok_or(End::Io)?;
                    self.write_piece(data, framing, intake).await?;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        match framing {
            respond::Framing::Chunked => respond::last_chunk(&mut self.out, trailers.as_ref()),
            respond::Framing::Length(_) if left > 0 => return Err(End::Io),
            _ => {}
        }
        Ok(!close)
    }

    /// The next frame of a reply; meanwhile what was gathered goes out and the request's body comes in.
    async fn next_frame<B>(
        &mut self,
        body: &mut B,
        intake: &mut Intake,
    ) -> Result<Result<Option<Frame<Bytes>>, StreamError>, End>
    where
        B: HttpBody<Data = Bytes, Error = StreamError> + Unpin,
    {
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx)));
            match polled.unwrap_or_else(|_| Poll::Ready(Some(Err("the reply's body panicked".into())))) {
                Poll::Ready(frame) => return Poll::Ready(Ok(frame.transpose())),
                Poll::Pending => {}
            }
            // Blocked or done, both are fine here.
            if let Poll::Ready(Err(end)) = self.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            match self.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    async fn write_piece(&mut self, data: Bytes, framing: respond::Framing, intake: &mut Intake) -> Result<(), End> {
        let chunked = framing == respond::Framing::Chunked;
        if data.len() <= COPY_BYTES_MAX {
            if chunked {
                respond::chunk(&mut self.out, &data);
            } else {
                self.out.extend_from_slice(&data);
            }
            return if self.out.len() > GATHER_BYTES_MAX { self.flush_with(intake).await } else { Ok(()) };
        }
        if chunked {
            self.out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        self.tail = data;
        self.flush_with(intake).await?;
        if chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Waits for a reply; the request's body comes in meanwhile, and a client that goes away ends it.
    async fn wait_for<F: Future + Unpin>(&mut self, mut reply: F, intake: &mut Intake) -> Result<F::Output, End> {
        poll_fn(|cx| {
            if let Poll::Ready(reply) = Pin::new(&mut reply).poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            // A `100 Continue` that did not go out at once.
            if !self.out.is_empty()
                && let Poll::Ready(Err(end)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(end));
            }
            match self.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    async fn flush_with(&mut self, intake: &mut Intake) -> Result<(), End> {
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                return Poll::Ready(flushed);
            }
            match self.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), End> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes the buffer and then the tail. A client that takes nothing for too long is given up.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while self.written < self.out.len() || !self.tail.is_empty() {
            let slices = [IoSlice::new(&self.out[self.written..]), IoSlice::new(&self.tail)];
            let wrote = match Pin::new(&mut self.io).poll_write_vectored(cx, &slices) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Io)),
                Poll::Ready(wrote) => wrote?,
                Poll::Pending => return self.poll_stalled(cx),
            };
            self.stalled = None;
            let of_out = wrote.min(self.out.len() - self.written);
            self.written += of_out;
            self.tail.advance(wrote - of_out);
        }
        self.written = 0;
        self.out.clear();
        self.out.shrink_to(KEEP_BYTES_MAX);
        Pin::new(&mut self.io).poll_flush(cx).map_err(End::from)
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let limit = self.shared.limits.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(End::Io))
    }

    /// Brings in what the service wants of the request's body; without a body it watches for the client's end.
    fn poll_intake(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Result<(), End> {
        loop {
            if intake.finished {
                if self.input.len() >= PIECE_BYTES {
                    return Ok(());
                }
                match poll_read(&mut self.io, &mut self.input, READ_BYTES, cx) {
                    Poll::Ready(Ok(read)) if read > 0 => continue,
                    Poll::Ready(_) => return Err(End::Io),
                    Poll::Pending => return Ok(()),
                }
            }
            if intake.producer.want(cx) != Want::More {
                intake.slow = None;
                return Ok(());
            }
            if std::mem::take(&mut intake.owes_continue) {
                self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(end)) = self.poll_flush(cx) {
                    return Err(end);
                }
            }
            match intake.decode(&mut self.input) {
                Ok(Decoded::Data(piece)) => intake.give(piece),
                Ok(Decoded::End) => intake.end(),
                Err(why) => intake.fail(BodyError::Malformed(why.into())),
                Ok(Decoded::NeedsMore) => match poll_read(&mut self.io, &mut self.input, PIECE_BYTES, cx) {
                    Poll::Ready(Ok(read)) if read > 0 => intake.slow = None,
                    Poll::Ready(_) => {
                        intake.fail(BodyError::Incomplete("the client went away".into()));
                        return Err(End::Io);
                    }
                    Poll::Pending => {
                        let limit = self.shared.limits.body_timeout;
                        let slow = intake.slow.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                        if slow.as_mut().poll(cx).is_ready() {
                            intake.fail(BodyError::TooSlow);
                        }
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Reads what nobody wanted of a body, up to a limit. Whether the connection can be used again.
    async fn drain_body(&mut self, intake: &mut Intake) -> Result<bool, End> {
        let mut left = self.shared.limits.drain_bytes_max;
        if !intake.finished {
            intake.producer.fail(BodyError::Incomplete("the reply was done before the body".into()));
        }
        while !intake.finished {
            match intake.decode(&mut self.input) {
                Ok(Decoded::Data(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(rest) => left = rest,
                    None => return Ok(false),
                },
                Ok(Decoded::End) => intake.finished = true,
                Err(_) => return Ok(false),
                Ok(Decoded::NeedsMore) => {
                    self.flush().await?;
                    let read = read_some(&mut self.io, &mut self.input, PIECE_BYTES);
                    match timeout(self.shared.limits.body_timeout, read).await {
                        Ok(Ok(read)) if read > 0 => {}
                        _ => return Ok(false),
                    }
                }
            }
        }
        Ok(true)
    }
}

/// The request's body on its way in.
struct Intake {
    source: Source,
    producer: Producer,
    /// The client waits for `100 Continue`.
    owes_continue: bool,
    finished: bool,
    malformed: bool,
    slow: Option<Pin<Box<Sleep>>>,
}

enum Source {
    Length { whole: u64, left: u64 },
    Chunked(Decoder),
}

impl Intake {
    fn new(framing: Framing, expects_continue: bool) -> Self {
        let (source, finished) = match framing {
            Framing::None => (Source::Length { whole: 0, left: 0 }, true),
            Framing::Length(whole) => (Source::Length { whole, left: whole }, false),
            Framing::Chunked => (Source::Chunked(Decoder::new()), false),
        };
        let owes_continue = expects_continue && !finished;
        Self { source, producer: Producer::default(), owes_continue, finished, malformed: false, slow: None }
    }

    fn body(&self) -> Body {
        match self.source {
            _ if self.finished => Body::empty(),
            Source::Length { whole, .. } => Body::new(self.producer.consumer(Some(whole))),
            Source::Chunked(_) => Body::new(self.producer.consumer(None)),
        }
    }

    /// A body was announced that the client sends only if it is asked to.
    fn promised(&self) -> bool {
        self.owes_continue
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, &'static str> {
        match &mut self.source {
            Source::Chunked(decoder) => decoder.decode(input),
            Source::Length { left: 0, .. } => Ok(Decoded::End),
            Source::Length { .. } if input.is_empty() => Ok(Decoded::NeedsMore),
            Source::Length { left, .. } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = input.split_to(input.len().min(most).min(PIECE_BYTES)).freeze();
                *left -= piece.len() as u64;
                Ok(Decoded::Data(piece))
            }
        }
    }

    fn give(&mut self, piece: Bytes) {
        self.slow = None;
        if let Source::Length { left: 0, .. } = self.source {
            self.finished = true;
            self.producer.give_last(piece);
        } else {
            self.producer.give(piece);
        }
    }

    fn end(&mut self) {
        self.finished = true;
        self.producer.end();
    }

    fn fail(&mut self, error: BodyError) {
        self.malformed = matches!(error, BodyError::Malformed(_));
        self.finished = true;
        self.producer.fail(error);
    }
}

fn panicked(id: &[u8; 16]) -> Reply {
    let id = identity::text(id);
    tracing::error!(request = id, "the host panicked while it answered a request");
    let mut reply = Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("500 Internal Server Error\nrequest {id}\n"));
    reply.close = true;
    reply
}

/// Reads once, at most `bytes_max`. 0 is the end.
async fn read_some(io: &mut (impl AsyncRead + Unpin), input: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
    poll_fn(|cx| poll_read(io, input, bytes_max, cx)).await
}

fn poll_read(
    io: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    bytes_max: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    input.reserve(bytes_max);
    tokio_util::io::poll_read_buf(Pin::new(io), cx, &mut input.limit(bytes_max))
}
