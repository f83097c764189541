//! Moves bytes from one socket to another by `splice(2)`, through a pipe: they never enter this process.

use crate::Socket;
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// Size of a pipe: what a fast sender puts into a socket's buffer in one turn, and the kernel's own limit for one
/// process.
const PIPE_BYTES: usize = 1 << 20;
/// Most empty pipes that a thread keeps: making one costs more than a small body.
const IDLE_PIPES_MAX: usize = 16;

thread_local!(static IDLE: RefCell<Vec<PipeEnds>> = const { RefCell::new(Vec::new()) });

/// The two ends of a pipe.
struct PipeEnds {
    read: OwnedFd,
    write: OwnedFd,
}

/// Bytes on their way between two sockets.
#[derive(Default)]
pub struct Splice {
    pipe: Option<PipeEnds>,
    /// Bytes in the pipe.
    held: usize,
    /// Whether the source has ended.
    ended: bool,
}

/// Progress of a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// This many bytes arrived at the other socket.
    Bytes(usize),
    /// The source has ended, and all of it arrived.
    End,
}

impl Splice {
    /// Makes a splice without a pipe; nothing is on the way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves at most `most` bytes more out of `from`, and what is on the way into `to`. Ready when something arrived.
    /// An idle splice holds no pipe.
    pub fn poll(
        &mut self,
        from: &Socket,
        to: &Socket,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Spliced>> {
        if self.held == 0 {
            if self.ended {
                return Poll::Ready(Ok(Spliced::End));
            }
            ready!(from.poll_read_ready(cx))?;
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIPE_BYTES);
            let pipe = self.pipe()?;
            let Poll::Ready(read) =
                poll_splice(from.stream(), &pipe.write, most, Interest::READABLE, cx)
            else {
                self.release();
                return Poll::Pending;
            };
            self.held = read?;
            if self.held == 0 {
                self.ended = true;
                self.release();
                return Poll::Ready(Ok(Spliced::End));
            }
        }
        // What was written before comes first.
        ready!(to.poll_sent(cx))?;
        let held = self.held;
        let pipe = self.pipe()?;
        let wrote = ready!(poll_splice(
            to.stream(),
            &pipe.read,
            held,
            Interest::WRITABLE,
            cx
        ))?;
        self.held -= wrote;
        Poll::Ready(Ok(Spliced::Bytes(wrote)))
    }

    /// Bytes that left the source and have not arrived.
    pub fn held(&self) -> usize {
        self.held
    }

    fn pipe(&mut self) -> io::Result<&PipeEnds> {
        let pipe = match self.pipe.take().or_else(|| IDLE.with_borrow_mut(Vec::pop)) {
            Some(pipe) => pipe,
            None => PipeEnds::new()?,
        };
        Ok(self.pipe.insert(pipe))
    }

    /// Gives the pipe, which is empty, back to the thread.
    fn release(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            IDLE.with_borrow_mut(|idle| {
                if idle.len() < IDLE_PIPES_MAX {
                    idle.push(pipe);
                }
            });
        }
    }
}

impl PipeEnds {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Fails where the kernel grants no more: a smaller pipe is slower.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        if self.held == 0 {
            self.release();
        }
    }
}

/// Calls `splice` once between a socket and a pipe's end, in the direction that `interest` says.
fn poll_splice(
    socket: &TcpStream,
    pipe: &OwnedFd,
    most: usize,
    interest: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let reads = interest.is_readable();
        ready!(if reads {
            socket.poll_read_ready(cx)
        } else {
            socket.poll_write_ready(cx)
        })?;
        let moved = socket.try_io(interest, || {
            let moved = if reads {
                splice(socket.as_fd(), None, pipe.as_fd(), None, most, flags)
            } else {
                splice(pipe.as_fd(), None, socket.as_fd(), None, most, flags)
            };
            moved.map_err(|errno: Errno| errno.into())
        });
        match moved {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            moved => return Poll::Ready(moved),
        }
    }
}
