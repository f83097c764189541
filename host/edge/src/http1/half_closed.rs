//! A client that has sent all it will and still listens: it shut down its sending side (as `nc -N` does), or it closed
//! the connection, which looks the same until it is written to. Its answer is made and delivered all the same.
//!
//! What ends the wait for an answer is a reset: it comes when the client aborts, or when its system has forgotten a
//! connection that its program closed (on Linux a minute later) and keep-alive probes ask for it.

use super::connection::{Connection, End};
use crate::{Service, timer::Timer};
use protoplex_http::Duplex;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Between two questions to the socket for a reset. The reactor tells of the end of reading once, and of nothing after
/// it.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Between keep-alive probes: some of them, within a minute or two, find out a client that has closed.
const PROBE_PERIOD: Duration = Duration::from_secs(15);
/// Probes without an answer until the client is given up.
const PROBES_MAX: u32 = 3;

/// Kept by a connection from the end of reading on.
pub(super) struct HalfClosed {
    timer: Timer,
    look_at: Instant,
}

/// Whether a read says that nothing more comes. TLS without a goodbye is one: a request's own framing says whether
/// it is whole.
pub(super) fn is_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(read) => *read == 0,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

impl<S, IO> Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Whether nothing more is to be read from the client.
    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.is_some()
    }

    /// Goes on without reading.
    pub(super) fn half_close(&mut self) {
        if let Some(socket) = self.io.socket() {
            let probes = TcpKeepalive::new()
                .with_time(PROBE_PERIOD)
                .with_interval(PROBE_PERIOD)
                .with_retries(PROBES_MAX);
            // Without them a client that closed is found out by what is written to it.
            let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
        }
        self.half_closed = Some(Box::new(HalfClosed {
            timer: Timer::default(),
            look_at: Instant::now() + LOOK_PERIOD,
        }));
    }

    /// An error when the client has reset the connection. The task is woken to look again.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let Some(half_closed) = &mut self.half_closed else {
            return Ok(());
        };
        while let Poll::Ready(()) = half_closed.timer.poll_until(half_closed.look_at, cx) {
            let error = self.io.socket().map(tokio::net::TcpStream::take_error);
            if !matches!(error, None | Some(Ok(None))) {
                return Err(End::Io);
            }
            half_closed.look_at = Instant::now() + LOOK_PERIOD;
        }
        Ok(())
    }
}
