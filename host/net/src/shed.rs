//! More connections than there is room for: told so and closed at once, because a client that waits in a queue for a
//! place that may never come is worse off than one that can go elsewhere.

use futures::FutureExt;
use rustix::io::Errno;
use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that are read of a request that has come already, so that the kernel has less reason for a reset.
const GLANCE_BYTES: usize = 4 << 10;
/// Time between two lines of log about the same trouble.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Tells a client that there is no room, as its protocol puts it and where that can be said without waiting, and closes
/// the connection.
pub(crate) fn turn_away(stream: TcpStream, busy: &[u8]) {
    if !busy.is_empty() {
        // A socket that was just accepted has room for it; a client that is gone needs no answer.
        let _ = stream.try_read(&mut [0; GLANCE_BYTES]);
        let _ = stream.try_write(busy);
    }
}

/// Whether an accept failed because there are no descriptors or no memory left.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let known = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let number = error.raw_os_error();
    known
        .iter()
        .any(|errno| number == Some(errno.raw_os_error()))
}

/// Descriptor in reserve, to accept and close with when there is no other.
pub(crate) struct SpareDescriptor {
    held: Option<File>,
    logged: Option<Instant>,
}

impl SpareDescriptor {
    pub(crate) fn new() -> Self {
        let held = File::open("/dev/null").ok();
        Self { held, logged: None }
    }

    /// Closes one waiting connection. `false` where that was not possible either, and the caller has to pause.
    pub(crate) fn shed(&mut self, listener: &TcpListener) -> bool {
        drop(self.held.take());
        let shed = matches!(listener.accept().now_or_never(), Some(Ok(_)));
        self.held = File::open("/dev/null").ok();
        shed
    }

    /// Whether enough time has passed to log again.
    pub(crate) fn may_log(&mut self) -> bool {
        let due = self.logged.is_none_or(|at| at.elapsed() > LOG_PAUSE);
        if due {
            self.logged = Some(Instant::now());
        }
        due
    }
}
