//! One connection of HTTP/2: its frames, and the streams that they open.

use super::{stream::StreamOpener, watched::Watched};
use crate::{HttpLimits, Service};
use bytes::Bytes;
use h2::{
    Reason,
    server::{self, Builder, Handshake},
};
use protoplex_http2::{KeepAlive, Windows};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Silence after which a connection is pinged, and has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a ping: the worst mobile networks need seconds.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How a connection ended by itself.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// The connection closed as it should.
    Closed,
    /// The client did not answer a ping.
    Gone,
    Broken(h2::Error),
}

pub(super) struct Http2Connection<S, IO> {
    state: Http2Phase<Watched<S, IO>>,
    streams: StreamOpener<S>,
    windows: Windows,
    /// Counter of the bytes that came, for `KeepAlive`.
    heard: Arc<AtomicU64>,
    /// Whether no more streams are wanted.
    leaving: bool,
}

enum Http2Phase<IO> {
    Handshaking(Handshake<IO, Bytes>),
    Serving(server::Connection<IO, Bytes>, Option<KeepAlive>),
}

impl<S, IO> Http2Connection<S, IO>
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(
        io: Watched<S, IO>,
        streams: StreamOpener<S>,
        windows: Windows,
        limits: &HttpLimits,
    ) -> Self {
        let window_bytes = limits.h2_stream_window_bytes;
        let connection_bytes = limits.h2_windows().connection_bytes(window_bytes);
        let handshake = Builder::new()
            .initial_window_size(window_bytes)
            .initial_connection_window_size(connection_bytes)
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(limits.h2_header_list_bytes_max())
            .max_pending_accept_reset_streams(limits.h2.pending_resets_max)
            .max_local_error_reset_streams(Some(limits.h2.error_resets_max))
            .enable_connect_protocol()
            .handshake(io);
        Self {
            state: Http2Phase::Handshaking(handshake),
            heard: streams.activity.heard(),
            streams,
            windows,
            leaving: false,
        }
    }

    /// Reads, writes, and opens streams, until the connection ends by itself.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            match &mut self.state {
                Http2Phase::Handshaking(handshake) => match ready!(Pin::new(handshake).poll(cx)) {
                    Ok(connection) => self.begin(connection),
                    Err(error) => return Poll::Ready(ConnectionEnd::Broken(error)),
                },
                Http2Phase::Serving(connection, keep_alive) => {
                    // A client that opens many streams at once takes turns with others.
                    let turn = ready!(tokio::task::coop::poll_proceed(cx));
                    match connection.poll_accept(cx) {
                        Poll::Ready(Some(Ok((request, respond)))) => {
                            turn.made_progress();
                            self.streams.open(request, respond, cx);
                        }
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(ConnectionEnd::Broken(error));
                        }
                        Poll::Ready(None) => return Poll::Ready(ConnectionEnd::Closed),
                        Poll::Pending => {
                            if !self.streams.heads.settle() {
                                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                                continue;
                            }
                            let Some(keep_alive) = keep_alive else {
                                return Poll::Pending;
                            };
                            let received = self.streams.activity.received();
                            let is_used = connection.has_streams();
                            self.windows
                                .poll(received, is_used, connection, keep_alive, cx);
                            return keep_alive.poll_gone(cx).map(|()| ConnectionEnd::Gone);
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, mut connection: server::Connection<Watched<S, IO>, Bytes>) {
        if self.leaving {
            connection.graceful_shutdown();
        }
        let keep_alive = connection.ping_pong().map(|pings| {
            let heard = Arc::clone(&self.heard);
            KeepAlive::new(pings, heard, PING_INTERVAL, PING_TIMEOUT)
        });
        self.state = Http2Phase::Serving(connection, keep_alive);
    }

    /// Sends GOAWAY; streams that are open go on to their end.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        if let Http2Phase::Serving(connection, _) = &mut self.state {
            connection.graceful_shutdown();
        }
    }
}
