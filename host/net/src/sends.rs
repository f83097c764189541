//! Sends of one turn of the loop, in one system call.
//!
//! A `send` wakes a peer that sleeps, and the peer then runs in the sender's place. Where sends are gathered until
//! every task that is ready has run, and are made together, peers wake once and the loop is interrupted once. This is
//! all that `io_uring` is used for here: a `send` of many sockets at once. Nothing is in flight when the call returns:
//! a send that would wait completes with what the socket took, and the rest is the socket's own ([`backlog`]).
//!
//! A batch belongs to one thread, on which all tasks that write run. Threads without one send at once, as sockets do.

pub(crate) mod backlog;
mod ring;
#[cfg(test)]
mod tests;

use backlog::{Backlog, QUEUED_NEVER};
pub use ring::BatchRefusal;
use ring::Ring;
use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    os::fd::RawFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Most sends in one system call: as many as fill a turn under load. A longer one would keep the first peers waiting.
pub(crate) const BATCH_SENDS_MAX: usize = 64;
/// Most bytes that wait in a batch: they should still be in the processor's cache when they are sent.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Most bytes of one send in a batch. A larger one goes at once: copying it would cost more than the call.
pub(crate) const SEND_BYTES_MAX: usize = 16 << 10;

thread_local!(static BATCH: RefCell<Option<SendBatch>> = const { RefCell::new(None) });

/// Numbers of turns are unique in the process, so that a socket is never taken for queued in another thread's batch.
static BATCHES: AtomicU64 = AtomicU64::new(1);
/// Turns of one batch: more than there are in a century.
const TURNS: u64 = 1 << 44;

/// A send that waits for the end of the turn.
struct QueuedSend {
    fd: RawFd,
    /// Bytes in the batch's arena.
    at: usize,
    len: usize,
    backlog: Arc<Backlog>,
    /// Task that wrote: it hears of a send that did not go through.
    writer: Waker,
}

/// Sends of one thread that wait for the end of the turn.
struct SendBatch {
    ring: Ring,
    arena: Vec<u8>,
    queue: Vec<QueuedSend>,
    /// Number of this turn; a socket that is in the batch bears it.
    turn: u64,
    flusher: Waker,
    spawn: Box<dyn Fn(SendTask)>,
}

/// Name of the environment variable that, as `0`, keeps a process from using `io_uring`.
const IO_URING_ENV: &str = "PROTOPLEX_IO_URING";

/// A task for [`batch_sends`] to have run.
pub type SendTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gathers the sends of the calling thread from now on. `run` runs a task on its runtime, behind those that are ready: it
/// makes the sends of each turn, and ends the batch when it is dropped. `spawn` runs one that sends what a socket did not
/// take at once; a drain has to wait for those.
///
/// # Errors
/// The system has no `io_uring`, or forbids it; or the operator does; or the runtime has other threads, whose tasks write,
/// too. Sends go out one by one then.
pub fn batch_sends(
    run: impl FnOnce(SendTask),
    spawn: impl Fn(SendTask) + 'static,
) -> Result<(), BatchRefusal> {
    if std::env::var_os(IO_URING_ENV).is_some_and(|value| value == "0") {
        return Err(BatchRefusal::Unwanted);
    }
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        return Err(BatchRefusal::Threads);
    }
    if with_batch(|_| ()).is_some() {
        return Ok(());
    }
    let batch = SendBatch {
        ring: Ring::new(BATCH_SENDS_MAX)?,
        arena: Vec::with_capacity(BATCH_BYTES_MAX),
        queue: Vec::with_capacity(BATCH_SENDS_MAX),
        turn: BATCHES.fetch_add(1, Relaxed) * TURNS,
        flusher: Waker::noop().clone(),
        spawn: Box::new(spawn),
    };
    BATCH.set(Some(batch));
    run(Box::pin(Flusher));
    Ok(())
}

/// Queues one send of `slices`, which are at most [`SEND_BYTES_MAX`] bytes. `None` where this thread has no batch.
pub(crate) fn queue(
    fd: RawFd,
    backlog: &Arc<Backlog>,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Option<usize> {
    with_batch(|batch| batch.queue(fd, backlog, slices, cx))
}

/// Makes the sends of this turn now, if that socket is among those that wait. Returns whether the socket waits in no
/// batch now; another thread's is beyond this one's reach.
pub(crate) fn flush_queued(backlog: &Backlog) -> bool {
    let turn = backlog.queued_in();
    turn == QUEUED_NEVER
        || with_batch(|batch| {
            if batch.turn == turn {
                batch.flush();
            }
            batch.turn / TURNS == turn / TURNS
        })
        .unwrap_or(false)
}

fn with_batch<T>(act: impl FnOnce(&mut SendBatch) -> T) -> Option<T> {
    // The thread may be at its end.
    let batch = BATCH.try_with(|batch| batch.try_borrow_mut().ok()?.as_mut().map(act));
    batch.ok().flatten()
}

impl SendBatch {
    fn queue(
        &mut self,
        fd: RawFd,
        backlog: &Arc<Backlog>,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> usize {
        let len = slices.iter().map(|slice| slice.len()).sum();
        let is_queued = backlog.queued_in() == self.turn;
        if is_queued && let Some(last) = self.queue.last_mut().filter(|last| last.fd == fd) {
            last.len += len;
        } else {
            // Two sends of one socket in one call could change their order: the first may find no room, and the second some.
            if is_queued || self.queue.len() == BATCH_SENDS_MAX {
                self.flush();
            }
            if self.queue.is_empty() {
                self.flusher.wake_by_ref();
            }
            backlog.queue_in(self.turn);
            self.queue.push(QueuedSend {
                fd,
                at: self.arena.len(),
                len,
                backlog: Arc::clone(backlog),
                writer: cx.waker().clone(),
            });
        }
        for slice in slices {
            self.arena.extend_from_slice(slice);
        }
        if self.arena.len() >= BATCH_BYTES_MAX - SEND_BYTES_MAX {
            self.flush();
        }
        len
    }

    /// Makes all sends that wait.
    fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        self.turn += 1;
        let Self {
            ring,
            arena,
            queue,
            spawn,
            ..
        } = self;
        let bytes = |send: &QueuedSend| &arena[send.at..send.at + send.len];
        let settle = |send: &QueuedSend, sent: io::Result<usize>| {
            let bytes = bytes(send);
            if !matches!(sent, Ok(sent) if sent == bytes.len()) {
                Backlog::keep(&send.backlog, send.fd, bytes, sent, &**spawn);
                send.writer.wake_by_ref();
            }
        };
        if let [one] = &queue[..] {
            settle(one, ring::send(one.fd, bytes(one)));
        } else {
            let sends = queue.iter().map(|send| (send.fd, bytes(send)));
            ring.send_all(sends, |number, sent| settle(&queue[number], sent));
        }
        queue.clear();
        arena.clear();
    }
}

/// Makes the sends of a turn. The first of them wakes it, and it runs behind all tasks that are ready by then.
struct Flusher;

impl Future for Flusher {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with_batch(|batch| {
            if !batch.flusher.will_wake(cx.waker()) {
                batch.flusher.clone_from(cx.waker());
            }
            batch.flush();
        });
        Poll::Pending
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        with_batch(SendBatch::flush);
        let _ = BATCH.try_with(|batch| batch.take());
    }
}
