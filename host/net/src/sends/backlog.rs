//! Bytes that a socket would not take when the sends of a turn were made, and the error of a send that failed. Whoever
//! wrote them was told that they are on the way; they stay in order before what is written next.

use super::SendTask;
use crate::GaugeGuard;
use parking_lot::Mutex;
use std::{
    future::{Future, poll_fn},
    io,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Time that the peer of a socket that was dropped has to take what it was sent. Most sockets are shut first, which waits
/// for the peer by the rules of whoever shuts it.
pub(super) const ORPHAN_MAX: Duration = match cfg!(test) {
    true => Duration::from_millis(500),
    false => Duration::from_secs(30),
};

/// Most sockets of a process that were dropped and owe something still: they count among no connections any more. One
/// beyond them is reset at once.
pub(super) const ORPHANS_MAX: usize = match cfg!(test) {
    true => 2,
    false => 1_024,
};

static ORPHANS: AtomicUsize = AtomicUsize::new(0);

/// A socket that was dropped and owes something still.
struct Orphan {
    ends: Pin<Box<Sleep>>,
    _counted: GaugeGuard<'static>,
}

/// Number of no turn.
pub(super) const QUEUED_NEVER: u64 = 0;

/// Bytes of one socket that were written and not sent, and the error of a send.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Turn in whose batch the socket was last.
    turn: AtomicU64,
    /// Whether there are bytes or an error.
    is_there: AtomicBool,
    state: Mutex<BacklogState>,
}

#[derive(Debug, Default)]
struct BacklogState {
    bytes: Vec<u8>,
    /// Bytes that are sent already.
    sent: usize,
    error: Option<io::ErrorKind>,
    /// Task that waits until all is sent.
    waits: Option<Waker>,
    /// Task that sends the bytes.
    sends: Option<Waker>,
    /// Whether the socket is dropped: nobody waits for the rest.
    is_abandoned: bool,
    /// Whether the peer is to see a reset then, whatever it has not been sent.
    resets: bool,
    /// Descriptor of a socket that was dropped by another thread than it is queued in: its number must not be another
    /// socket's before the batch has let go of it.
    held: Option<OwnedFd>,
}

impl Backlog {
    pub(super) fn queued_in(&self) -> u64 {
        self.turn.load(Relaxed)
    }

    pub(super) fn queue_in(&self, turn: u64) {
        self.turn.store(turn, Relaxed);
    }

    /// Whether nothing is owed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_there.load(Acquire)
    }

    /// Ready when nothing is owed.
    ///
    /// # Errors
    /// A send failed; that is so for ever.
    #[inline]
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.state.lock();
        match state.error {
            Some(error) => Poll::Ready(Err(error.into())),
            None if state.sent == state.bytes.len() => Poll::Ready(Ok(())),
            None => {
                state.waits = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes the bytes that a send of `bytes` left, and starts a task that sends them; or takes its error.
    pub(super) fn keep(
        backlog: &Arc<Self>,
        fd: RawFd,
        bytes: &[u8],
        sent: io::Result<usize>,
        spawn: &dyn Fn(SendTask),
    ) {
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) if waits(error.kind()) => 0,
            Err(error) => return backlog.fail(error.kind()),
        };
        // SAFETY: a queued socket's descriptor is open: whoever closes it makes the sends of the turn first.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        // A descriptor of its own: the socket's readiness is for its owner alone.
        let own = socket.try_clone_to_owned();
        let own = own.and_then(|fd| TcpStream::from_std(fd.into()));
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(%error, "no descriptor for bytes that a peer would not take yet; its connection is broken off");
                return backlog.break_off(&socket, error.kind());
            }
        };
        let mut state = backlog.state.lock();
        state.bytes.clear();
        state.bytes.extend_from_slice(&bytes[sent..]);
        state.sent = 0;
        backlog.is_there.store(true, Release);
        drop(state);
        let backlog = Arc::clone(backlog);
        spawn(Box::pin(async move { backlog.send_rest(&own).await }));
    }

    /// Holds a descriptor for as long as a batch may name it.
    pub(crate) fn hold(&self, fd: OwnedFd) {
        self.state.lock().held = Some(fd);
    }

    /// The socket's end is to be a reset.
    pub(crate) fn reset_on_close(&self) {
        self.state.lock().resets = true;
    }

    /// The socket is dropped. Bytes that it owes are sent as those are that the kernel has: for a while, unless its end
    /// is to be a reset. If the peer does not take them, it is told by one.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        // Said whatever is owed now: a batch of another thread may not have made its sends yet.
        state.is_abandoned = true;
        if let Some(sends) = state.sends.take() {
            sends.wake();
        }
    }

    fn fail(&self, error: io::ErrorKind) {
        let mut state = self.state.lock();
        state.error = Some(error);
        self.is_there.store(true, Release);
        if let Some(waits) = state.waits.take() {
            waits.wake();
        }
    }

    async fn send_rest(&self, socket: &TcpStream) {
        let mut orphan = None;
        let sent = poll_fn(|cx| {
            if self.poll_given_up(&mut orphan, cx).is_ready() {
                let _ = socket.set_zero_linger();
                return Poll::Ready(Ok(()));
            }
            self.poll_send(socket, cx)
        })
        .await;
        if let Err(error) = sent {
            self.break_off(socket, error.kind());
        }
    }

    /// Fails, and ends the connection: whoever reads from it hears of it as well.
    fn break_off(&self, socket: &impl AsFd, error: io::ErrorKind) {
        let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Both);
        self.fail(error);
    }

    /// Ready when a socket that was dropped is not to send the rest.
    fn poll_given_up(&self, orphan: &mut Option<Orphan>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        state.sends = Some(cx.waker().clone());
        match (state.is_abandoned, state.resets) {
            (false, _) => Poll::Pending,
            (true, true) => Poll::Ready(()),
            (true, false) => {
                if orphan.is_none() && ORPHANS.load(Relaxed) >= ORPHANS_MAX {
                    return Poll::Ready(());
                }
                let orphan = orphan.get_or_insert_with(|| Orphan {
                    ends: Box::pin(sleep(ORPHAN_MAX)),
                    _counted: GaugeGuard::new(&ORPHANS),
                });
                orphan.ends.as_mut().poll(cx)
            }
        }
    }

    /// Sends what the socket takes. Ready when all is sent.
    fn poll_send(&self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let mut state = self.state.lock();
            match socket.try_write(&state.bytes[state.sent..]) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => state.sent += sent,
                Err(error) if waits(error.kind()) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if state.sent == state.bytes.len() {
                (state.bytes, state.sent) = (Vec::new(), 0);
                self.is_there.store(false, Release);
                if let Some(waits) = state.waits.take() {
                    waits.wake();
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Whether a send is to be tried again.
fn waits(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
