//! A TCP socket whose small writes leave with those of other sockets, at the end of the loop's turn, where the thread
//! gathers sends ([`batch_sends`](crate::batch_sends)).
//!
//! A write that is gathered counts as done, as one into the kernel's buffer does. What the kernel does not take is
//! owed: [`AsyncWrite::poll_flush`] and the next write wait until it is sent. A send that fails is told by both.

use crate::sends::{self, SEND_BYTES_MAX, backlog::Backlog};
use std::{
    io::{self, IoSlice},
    mem::ManuallyDrop,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::coop,
};

/// A connected TCP socket.
#[derive(Debug)]
pub struct Socket {
    stream: ManuallyDrop<TcpStream>,
    backlog: Arc<Backlog>,
}

impl Socket {
    /// Whether all that was written is with the kernel, or waits for the end of the turn.
    #[inline]
    pub fn is_sent(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Ready when all that was written is with the kernel: for whoever writes by the descriptor.
    ///
    /// # Errors
    /// A send failed.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        sends::flush_queued(&self.backlog);
        self.backlog.poll_empty(cx)
    }

    /// Ready when there is something to read, the end included.
    ///
    /// # Errors
    /// The runtime is at its end.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Error that the kernel has noted for the socket since it was last asked.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.stream.take_error()
    }

    /// Makes the socket's close a reset, which discards what the peer has not read.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.backlog.reset_on_close();
        self.stream.set_zero_linger()
    }

    /// Address of this end.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The stream, for system calls of other kinds. Who writes by it waits for [`Self::poll_sent`] first.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_queue(
        &self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        ready!(self.backlog.poll_empty(cx))?;
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if bytes <= SEND_BYTES_MAX {
            // A batch always has room: without this, a task that always has something to write would let nobody run.
            let budget = ready!(coop::poll_proceed(cx));
            let queued = sends::queue(self.stream.as_raw_fd(), &self.backlog, slices, cx);
            if queued.is_some() {
                budget.made_progress();
            }
            Poll::Ready(Ok(queued))
        } else {
            ready!(self.poll_sent(cx))?;
            Poll::Ready(Ok(None))
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream: ManuallyDrop::new(stream),
            backlog: Arc::default(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_free = sends::flush_queued(&self.backlog);
        self.backlog.abandon();
        // SAFETY: nobody uses the stream after its drop.
        let stream = unsafe { ManuallyDrop::take(&mut self.stream) };
        if !is_free && let Ok(stream) = stream.into_std() {
            self.backlog.hold(stream.into());
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_queue(&[IoSlice::new(bytes)], cx))? {
            Some(queued) => Poll::Ready(Ok(queued)),
            None => Pin::new(&mut *self.stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_queue(slices, cx))? {
            Some(queued) => Poll::Ready(Ok(queued)),
            None => Pin::new(&mut *self.stream).poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.backlog.poll_empty(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
