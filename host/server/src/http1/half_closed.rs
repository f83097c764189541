//! A client that has sent all it will and still listens: it shut down its sending side (as `nc -N` does), or it closed
//! the connection, which looks the same until it is written to. Its response is made and delivered all the same.
//!
//! A reset ends the wait for the reply: it comes when the client aborts, or when its system has forgotten a connection
//! that its program closed (on Linux a minute later) and keep-alive probes ask for it.

use protoplex_net::{Duplex, Socket, Timer};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Time between two looks at the socket for a reset. The reactor tells of the end of reading once, and of nothing after
/// it.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Time between keep-alive probes: some of them, within a minute or two, find out a client that has closed.
const PROBE_PERIOD: Duration = Duration::from_secs(15);
/// Probes without an answer after which the client is given up.
const PROBES_MAX: u32 = 3;

/// What a connection keeps from the end of reading on, to find out a reset.
pub(super) struct HalfClosed {
    timer: Timer,
    look_at: Instant,
}

/// Whether a read says that nothing more comes. TLS without a goodbye counts as that: a request's own framing says
/// whether it is whole.
pub(super) fn is_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(read) => *read == 0,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

impl HalfClosed {
    /// Begins to look for a reset, and has the kernel probe for one.
    pub(super) fn new(io: &impl Duplex) -> Self {
        if let Some(socket) = io.socket() {
            let probes = TcpKeepalive::new()
                .with_time(PROBE_PERIOD)
                .with_interval(PROBE_PERIOD)
                .with_retries(PROBES_MAX);
            // Fails for a socket that is closed. Without probes, a client that closed is found out by what is written
            // to it.
            let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
        }
        Self {
            timer: Timer::default(),
            look_at: Instant::now() + LOOK_PERIOD,
        }
    }

    /// Ready when the client has reset the connection. The task is woken to look again.
    pub(super) fn poll_reset(&mut self, io: &impl Duplex, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.poll_until(self.look_at, cx));
            let error = io.socket().map(Socket::take_error);
            if !matches!(error, None | Some(Ok(None))) {
                return Poll::Ready(());
            }
            self.look_at = Instant::now() + LOOK_PERIOD;
        }
    }
}
