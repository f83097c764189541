//! A stream as a connection: what a CONNECT, plain or extended (RFC 8441), leaves of it. Dropped before both sides have
//! ended, it is reset.

use crate::pipe::poll_room;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use protoplex_net::Duplex;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of which both directions are plain bytes.
pub struct StreamIo {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Bytes that came, and were not read yet.
    came: Bytes,
}

impl StreamIo {
    /// Takes the two directions of a stream whose heads have been exchanged.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            came: Bytes::new(),
        }
    }
}

impl Duplex for StreamIo {}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.came.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => self.came = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = self.came.len().min(buffer.remaining());
        buffer.put_slice(&self.came[..bytes]);
        self.came.advance(bytes);
        // Fails for a stream that is over, where no window is needed.
        let _ = self.receive.flow_control().release_capacity(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(poll_room(&mut self.send, bytes.len(), cx)).map_err(broken)?;
        let taken = room.min(bytes.len());
        let data = Bytes::copy_from_slice(&bytes[..taken]);
        self.send.send_data(data, false).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    /// Ready at once: the connection's task flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
