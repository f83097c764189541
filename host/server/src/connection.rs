//! Serves an admitted connection by the version of HTTP that it speaks.

use crate::{Service, context::ServerContext, http1, http2, secured::Secured};
use protoplex_http::Scheme;
use protoplex_net::{AcceptedConnection, ConnectionStream, ConnectionTask, Protocol};
use std::sync::Arc;

/// Response to plain HTTP for which there is no room.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 24\r\nretry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable\n";

/// HTTP as a [`Protocol`] of `net`: the version is told by ALPN or by the first bytes.
pub(crate) struct HttpProtocol<S>(pub(crate) Arc<ServerContext<S>>);

impl<S> Clone for HttpProtocol<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service> Protocol for HttpProtocol<S> {
    async fn serve(&self, connection: AcceptedConnection) -> Option<ConnectionTask> {
        let AcceptedConnection { stream, peer } = connection;
        match stream {
            ConnectionStream::Plain(socket) => {
                http1::serve(&self.0, socket, Scheme::Http, peer).await
            }
            // On the heap: a connection without TLS does not carry what one with it needs.
            ConnectionStream::Tls(stream) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = Secured(stream);
                if is_http2 {
                    Box::pin(http2::serve(&self.0, stream, Scheme::Https, peer)).await;
                    None
                } else {
                    Box::pin(http1::serve(&self.0, stream, Scheme::Https, peer)).await
                }
            }
        }
    }

    fn busy(&self) -> &'static [u8] {
        BUSY
    }
}
