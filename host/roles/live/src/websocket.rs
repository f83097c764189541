//! A WebSocket: frames in, frames out, and signs of life. One task a connection, which holds no buffer while nothing moves.

use super::{client::Handle, close, encode::Spoken};
use bytes::{Bytes, BytesMut};
use protoplex_handler::LiveMessage;
use protoplex_http::Switched;
use protoplex_net::{Duplex, Rate};
use protoplex_websocket::{FrameEvent, MessageLimits, MessageReader, Opcode, close_frame, frame};
use protoplex_wire::manifest::message_cost;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Read at once, into room that all connections of a thread share.
const READ_BYTES: usize = 16 << 10;
/// Frames gathered for one write.
const GATHER_BYTES: usize = 64 << 10;
/// Frames of one connection, whatever they say, before others have their turn.
const TURN_EVENTS_MAX: usize = 32;
/// Bytes of messages, inflated, after which others have their turn: a large one takes as long as hundreds of small ones.
const TURN_BYTES_MAX: usize = 32 << 10;
/// Frames of one message: a message of empty ones would never end. Clients send pieces of some KiB; the smallest known,
/// those of the Autobahn test suite, make 4 MiB of 64 bytes each.
const FRAMES_MAX: u32 = 65_536;
/// Bytes of one command above its limit that are read and thrown away, so that its answer says what was wrong: as many as
/// an honest client may try in vain. One with more ends the connection.
const DISCARDED_BYTES_MAX: u64 = 16 << 20;
/// Time that a client may take nothing of what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a client may take to answer a closing frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pings that a client may leave unanswered.
const UNANSWERED_MAX: u32 = 2;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Whether `permessage-deflate` was agreed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deflate {
    No,
    Agreed,
}

/// Serves a connection to its end.
pub(super) async fn run(handle: Handle, switched: Switched, deflate: Deflate) {
    let limits = handle.live().rules().limits;
    let ping = Duration::from_millis(limits.ping_ms.max(1));
    let may_deflate = deflate == Deflate::Agreed;
    let (per_s, burst) = limits.received_rate();
    let mut socket = Box::new(Socket {
        io: switched.io,
        reader: MessageReader::new(
            MessageLimits {
                message_bytes_max: usize::try_from(limits.received_bytes_max).unwrap_or(usize::MAX),
                // Without commands there is no answer.
                discarded_bytes_max: match handle.client.is_raw {
                    true => 0,
                    false => DISCARDED_BYTES_MAX,
                },
                frames_max: FRAMES_MAX,
            },
            may_deflate,
        ),
        spoken: Spoken {
            is_raw: handle.client.is_raw,
            may_deflate,
        },
        input: BytesMut::from(&switched.early[..]),
        out: Vec::new(),
        written: 0,
        blocked: None,
        ping,
        unanswered: 0,
        is_broken: false,
        rate: Rate::new(per_s, burst),
        turn_bytes: 0,
        held_back: None,
        timer: Box::pin(tokio::time::sleep(ping)),
        leave: Some(switched.leave),
        closing: None,
    });
    let ended = poll_fn(|cx| socket.poll(&handle, cx)).await;
    let (code, reason) = ended.unwrap_or((close::BROKEN, "it broke".into()));
    handle.ends(code, &reason);
}

struct Socket {
    io: Box<dyn Duplex>,
    reader: MessageReader,
    spoken: Spoken,
    input: BytesMut,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    /// When the client stopped to take bytes.
    blocked: Option<Instant>,
    ping: Duration,
    unanswered: u32,
    /// The client broke the protocol.
    is_broken: bool,
    /// Rate of what the client sends.
    rate: Rate,
    /// Bytes of messages that were handled since others had their turn.
    turn_bytes: usize,
    /// The client said more than its rate: until then it is not read.
    held_back: Option<Pin<Box<Sleep>>>,
    timer: Pin<Box<Sleep>>,
    leave: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Set once a closing frame was queued.
    closing: Option<Closing>,
}

/// A closing frame that is under way.
struct Closing {
    code: u16,
    reason: String,
    /// Deadline for the client's closing frame.
    until: Instant,
}

/// Progress of writing what waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// Everything that waited was written.
    All,
    /// The part that was gathered at once was written; there may be more.
    Some,
}

/// Code and reason of the connection's end.
type End = io::Result<(u16, String)>;

impl Socket {
    fn poll(&mut self, handle: &Handle, cx: &mut Context<'_>) -> Poll<End> {
        handle.client.register(cx.waker());
        if let Some(leave) = &mut self.leave
            && leave.as_mut().poll(cx).is_ready()
        {
            self.leave = None;
            handle.live().send_away(&handle.client);
        }
        if let Some((code, reason)) = handle.client.killed()
            && self.closing.is_none()
        {
            self.begin_close(code, reason);
            // It will not take it, and others may need the room.
            let (mut hub, id) = (handle.live().hub(), handle.client.id);
            while hub.next(id).is_some() {}
            drop(hub);
        }
        self.turn_bytes = 0;
        let mut turns = 0;
        loop {
            let wrote = match self.poll_write(handle, cx) {
                Poll::Ready(Ok(wrote)) => wrote,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Who does not read is not read.
                Poll::Pending => break,
            };
            turns += 1;
            if turns > TURN_EVENTS_MAX || self.turn_bytes > TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_event(handle, cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(end))) => return Poll::Ready(Ok(end)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if wrote == Wrote::Some => {}
                Poll::Pending => break,
            }
        }
        self.poll_time(cx)
    }

    /// Writes what was gathered; pending while the client takes nothing more. Not until nothing waits: for a client
    /// that is always behind, that never comes, and it would not be heard.
    fn poll_write(&mut self, handle: &Handle, cx: &mut Context<'_>) -> Poll<io::Result<Wrote>> {
        loop {
            while self.written < self.out.len() {
                let rest = &self.out[self.written..];
                match Pin::new(&mut self.io).poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(bytes)) => {
                        self.written += bytes;
                        if self.blocked.take().is_some() {
                            // It took what was on its way: its pong may be behind much that is.
                            self.unanswered = 0;
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        if self.blocked.is_none() {
                            self.blocked = Some(Instant::now());
                            self.wake_by(Instant::now() + WRITE_TIMEOUT);
                        }
                        return Poll::Pending;
                    }
                }
            }
            if self.written > 0 {
                self.written = 0;
                self.out.clear();
                // What is encrypted may wait for a flush.
                if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(Wrote::Some));
            }
            if self.closing.is_none() {
                self.gather(handle);
            }
            if self.out.is_empty() {
                self.out = Vec::new();
                return Poll::Ready(Ok(Wrote::All));
            }
        }
    }

    /// Takes what waits for the connection.
    fn gather(&mut self, handle: &Handle) {
        let (live, id) = (handle.live(), handle.client.id);
        let (mut hub, mut messages) = (live.hub(), 0);
        while self.out.len() < GATHER_BYTES {
            let Some(item) = hub.next(id) else { break };
            messages += u64::from(matches!(item, protoplex_channels::Item::Message(..)));
            let of = |number| hub.channel_of(id, number).cloned();
            let frames = self.spoken.frames(item, &of);
            match frames {
                Ok(frames) => self.out.extend_from_slice(&frames),
                Err((code, reason)) => {
                    self.begin_close(code, &reason);
                    break;
                }
            }
        }
        live.counters.delivered.fetch_add(messages, Relaxed);
    }

    /// Takes one event of the client, or more bytes of one. Returns code and reason when the connection has ended.
    fn poll_event(
        &mut self,
        handle: &Handle,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<(u16, String)>>> {
        if self.is_broken {
            return self.poll_linger(cx);
        }
        if let Some(wait) = &mut self.held_back {
            // Who is told to go is heard all the same.
            if self.closing.is_none() {
                std::task::ready!(wait.as_mut().poll(cx));
            }
            self.held_back = None;
        }
        match self.reader.read(&mut self.input) {
            Ok(Some(event)) => Poll::Ready(Ok(self.take(handle, event))),
            Ok(None) => {
                let read = self.poll_read(cx);
                read.map(|read| {
                    Ok(match read? {
                        0 => Some(self.ended()),
                        _ => None,
                    })
                })
            }
            Err(violation) => {
                self.is_broken = true;
                if self.closing.is_none() {
                    self.begin_close(violation.code, violation.reason);
                }
                Poll::Ready(Ok(None))
            }
        }
    }

    /// Drops what follows a violation: it cannot be read, but must not turn into a reset, by which the client would lose our
    /// closing frame.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(u16, String)>>> {
        // That nothing comes from us any more; the client ends it then.
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        self.input.clear();
        let read = self.poll_read(cx);
        read.map(|read| Ok((!matches!(read, Ok(1..))).then(|| self.ended())))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|room| {
            let mut read = ReadBuf::new(room);
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            let read = read.filled();
            if self.input.is_empty() {
                // What was taken out of the old one is with whoever took it.
                self.input = BytesMut::from(read);
            } else {
                self.input.extend_from_slice(read);
            }
            self.unanswered = 0;
            Poll::Ready(Ok(read.len()))
        })
    }

    fn take(&mut self, handle: &Handle, event: FrameEvent) -> Option<(u16, String)> {
        if self.closing.is_some() && !matches!(event, FrameEvent::Close(..)) {
            return None;
        }
        self.count(handle, &event);
        match event {
            FrameEvent::Text(text) => {
                // The reader has looked at it.
                let text = std::str::from_utf8(&text).unwrap_or_default();
                match self.spoken.is_raw {
                    true => drop(handle.input().received(LiveMessage::Text(text))),
                    false => handle.input().command(text),
                }
            }
            FrameEvent::Binary(bytes) if self.spoken.is_raw => {
                handle.input().received(LiveMessage::Binary(&bytes));
            }
            FrameEvent::TooLarge { beginning, bytes } => {
                handle.input().too_large(&beginning, bytes);
            }
            FrameEvent::Binary(_) => self.begin_close(close::UNSUPPORTED, "a command is text"),
            FrameEvent::Ping(content) => self.queue(frame(Opcode::Pong, false, &content)),
            FrameEvent::Part | FrameEvent::Pong(_) => {}
            FrameEvent::Close(code, reason) => return self.closed(code, &reason),
        }
        None
    }

    /// Takes a frame off the client's rate, and off this turn; the last one of a message with all of that. One that says
    /// nothing costs as much as the smallest message.
    fn count(&mut self, handle: &Handle, event: &FrameEvent) {
        let bytes = match event {
            FrameEvent::Text(message) | FrameEvent::Binary(message) => message.len(),
            FrameEvent::TooLarge { bytes, .. } => usize::try_from(*bytes).unwrap_or(usize::MAX),
            FrameEvent::Part | FrameEvent::Ping(_) | FrameEvent::Pong(_) => 0,
            FrameEvent::Close(..) => return,
        };
        self.turn_bytes = self.turn_bytes.saturating_add(bytes);
        let cost = message_cost(bytes);
        let wait = handle.input().charge(&self.rate, cost, Duration::MAX);
        // What has come is handled; what follows has to wait.
        let wait = wait.unwrap_or_else(|away| away);
        if !wait.is_zero() {
            self.held_back = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }

    /// Handles a closing frame of the client, the first one or the answer to ours.
    fn closed(&mut self, code: Option<u16>, reason: &[u8]) -> Option<(u16, String)> {
        let end = match self.closing.take() {
            Some(closing) => (closing.code, closing.reason),
            None => {
                self.queue(close_frame(code.unwrap_or(close::NORMAL), ""));
                let reason = String::from_utf8_lossy(reason).into_owned();
                (code.unwrap_or(close::NONE), reason)
            }
        };
        // Our frame goes out where the socket takes it; the client closes when it has it.
        let (code, reason) = end;
        self.closing = Some(Closing {
            code,
            reason,
            until: Instant::now(),
        });
        self.wake_by(Instant::now());
        None
    }

    fn begin_close(&mut self, code: u16, reason: &str) {
        self.queue(close_frame(code, reason));
        let until = Instant::now() + CLOSE_TIMEOUT;
        self.closing = Some(Closing {
            code,
            reason: reason.to_owned(),
            until,
        });
        self.wake_by(until);
    }

    fn ended(&mut self) -> (u16, String) {
        match self.closing.take() {
            Some(closing) => (closing.code, closing.reason),
            None => (close::BROKEN, "the client went away".to_owned()),
        }
    }

    fn queue(&mut self, frame: Bytes) {
        self.out.extend_from_slice(&frame);
    }

    fn wake_by(&mut self, at: Instant) {
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }

    /// Sends pings, and ends a connection whose client answers none.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            std::task::ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(Closing { until, .. }) = &self.closing {
                if *until <= now {
                    return Poll::Ready(Ok(self.ended()));
                }
                let until = *until;
                self.timer.as_mut().reset(until);
                continue;
            }
            if let Some(since) = self.blocked
                && now >= since + WRITE_TIMEOUT
            {
                return Poll::Ready(Ok((
                    close::SLOW,
                    "it takes nothing of what is written".into(),
                )));
            }
            // The answers of a client that is not read are not heard.
            if self.unanswered >= UNANSWERED_MAX && self.held_back.is_none() {
                return Poll::Ready(Ok((close::BROKEN, "it gives no sign of life".into())));
            }
            self.unanswered += 1;
            self.queue(frame(Opcode::Ping, false, b""));
            self.timer.as_mut().reset(now + self.ping);
            // The write is tried now: nothing else would wake us for it.
            cx.waker().wake_by_ref();
        }
    }
}
