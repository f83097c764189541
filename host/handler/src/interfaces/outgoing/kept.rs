//! The number of connections to servers that a handler keeps for its next requests, of all hosts together. One that is
//! made above that serves its request and is closed then.

use super::resolver::CheckedResolver;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

type Tcp = HttpConnector<CheckedResolver>;
type Stream = TokioIo<TcpStream>;

/// Makes TCP connections, of which some may be kept.
#[derive(Clone)]
pub(super) struct KeptConnector {
    inner: Tcp,
    room: Arc<Semaphore>,
}

/// A connection, with a permit if it may be kept.
pub(super) struct Kept {
    io: Stream,
    permit: Option<OwnedSemaphorePermit>,
}

impl KeptConnector {
    pub(super) fn new(inner: Tcp, kept_max: usize) -> Self {
        let room = Arc::new(Semaphore::new(kept_max));
        Self { inner, room }
    }
}

impl tower_service::Service<Uri> for KeptConnector {
    type Response = Kept;
    type Error = <Tcp as tower_service::Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Kept, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (connecting, room) = (self.inner.call(server), Arc::clone(&self.room));
        Box::pin(async move {
            let io = connecting.await?;
            let permit = room.try_acquire_owned().ok();
            Ok(Kept { io, permit })
        })
    }
}

impl Connection for Kept {
    fn connected(&self) -> Connected {
        let connected = self.io.connected();
        if self.permit.is_none() {
            connected.poison();
        }
        connected
    }
}

impl Read for Kept {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Kept {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}
