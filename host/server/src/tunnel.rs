//! Tunnels: bytes of two connections are relayed both ways, unread, until both have ended. Only after a server agreed:
//! a 101, or an allowed CONNECT.

use bytes::{Buf, Bytes, BytesMut};
use protoplex_http::Tunnel;
use protoplex_net::{Duplex, Splice, Spliced};
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Longest time in which nothing moves once one side has ended: a peer that vanished would hold the tunnel for ever.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(60);
/// Bytes that are copied at once, where they cannot be spliced. The buffer exists only while there is something in it.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes that went through a tunnel, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BytesCarried {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// Runs a tunnel until both directions have ended, one breaks, or nothing moves. `early` is what the client sent
/// already.
///
/// # Errors
/// The tunnel broke, or nothing moved in it. Both ends are to be dropped without a goodbye, so that a reset of one is a
/// reset of the other, as our own is; who ended without TLS's goodbye is passed on as such.
pub(crate) async fn run<IO: Duplex>(
    client: &mut IO,
    early: Bytes,
    server: Tunnel,
    idle_max: Duration,
) -> io::Result<BytesCarried> {
    let Tunnel {
        io: mut server,
        early: first,
    } = server;
    let carried = carry(client, early, &mut server, first, idle_max).await;
    if carried.as_ref().is_err_and(is_reset) {
        reset_on_close(&server);
        reset_on_close(client);
    }
    carried
}

/// Whether an end is to be told as a reset; one without TLS's goodbye is no more than that.
fn is_reset(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::UnexpectedEof
}

/// Makes the end of a connection a reset. A stream of HTTP/2 that is dropped before its end is one by itself.
fn reset_on_close(io: &impl Duplex) {
    if let Some(socket) = io.socket() {
        // Fails for a socket that is closed. Without a reset the other end takes what came for all there is.
        let _ = socket.reset_on_close();
    }
}

async fn carry(
    client: &mut impl Duplex,
    early: Bytes,
    server: &mut impl Duplex,
    first: Bytes,
    idle_max: Duration,
) -> io::Result<BytesCarried> {
    let both = client.tcp().is_some() && server.tcp().is_some();
    let mut up = Direction::new(early, both);
    let mut down = Direction::new(first, both);
    let mut timer = Box::pin(tokio::time::sleep(idle_max));
    poll_fn(|cx| {
        let moved = up.moved + down.moved;
        let up_over = up.poll(client, server, cx)?;
        let down_over = down.poll(server, client, cx)?;
        if up_over && down_over {
            return Poll::Ready(Ok(()));
        }
        let half = up_over || down_over;
        ready!(poll_idle(
            &mut timer,
            moved != up.moved + down.moved,
            if half {
                HALF_CLOSED_IDLE_MAX.min(idle_max)
            } else {
                idle_max
            },
            cx
        ));
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    })
    .await?;
    Ok(BytesCarried {
        up: up.moved,
        down: down.moved,
    })
}

fn poll_idle(
    timer: &mut Pin<Box<Sleep>>,
    moved: bool,
    idle: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let at = Instant::now() + idle;
    if moved || timer.deadline() > at {
        timer.as_mut().reset(at);
    }
    timer.as_mut().poll(cx)
}

/// One direction of a tunnel.
struct Direction {
    held: BytesMut,
    splice: Option<Splice>,
    moved: u64,
    unflushed: bool,
    state: DirectionState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DirectionState {
    Open,
    /// The source has ended; the other side is still to be told.
    Ended,
    Over,
}

impl Direction {
    fn new(first: Bytes, splices: bool) -> Self {
        Self {
            held: first.into(),
            splice: splices.then(Splice::new),
            moved: 0,
            unflushed: false,
            state: DirectionState::Open,
        }
    }

    /// Moves as much as it can. Returns whether the direction is over.
    fn poll<A, B>(&mut self, from: &mut A, to: &mut B, cx: &mut Context<'_>) -> io::Result<bool>
    where
        A: Duplex,
        B: Duplex,
    {
        match self.poll_all(from, to, cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(self.state == DirectionState::Over),
        }
    }

    fn poll_all<A, B>(
        &mut self,
        from: &mut A,
        to: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        A: Duplex,
        B: Duplex,
    {
        loop {
            while !self.held.is_empty() {
                let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.held))?;
                if wrote == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.held.advance(wrote);
                self.moved += wrote as u64;
                self.unflushed = true;
            }
            match self.state {
                DirectionState::Open => {}
                DirectionState::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = DirectionState::Over;
                    return Poll::Ready(Ok(()));
                }
                DirectionState::Over => return Poll::Ready(Ok(())),
            }
            if let (Some(splice), Some(source), Some(sink)) =
                (&mut self.splice, from.tcp(), to.tcp())
            {
                match ready!(splice.poll(source, sink, u64::MAX, cx))? {
                    Spliced::Bytes(bytes) => self.moved += bytes as u64,
                    Spliced::End => self.state = DirectionState::Ended,
                }
                continue;
            }
            // Made only now: an idle direction holds no buffer.
            self.held = BytesMut::with_capacity(PIECE_BYTES);
            match tokio_util::io::poll_read_buf(Pin::new(&mut *from), cx, &mut self.held) {
                Poll::Ready(read) => {
                    if read? == 0 {
                        self.state = DirectionState::Ended;
                    }
                }
                Poll::Pending => {
                    self.held = BytesMut::new();
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
