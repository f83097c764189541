//! An admitted connection, by the protocol that it speaks.

use crate::{Service, context::ServerContext, http1, http2, secured::Secured};
use protoplex_http::Scheme;
use protoplex_net::{Connection, Onward, Protocol, Stream};
use std::sync::Arc;

/// Response to plain HTTP for which there is no room.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 24\r\nretry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable\n";

/// HTTP of either version, by ALPN or by the first bytes.
pub(crate) struct Http<S>(pub(crate) Arc<ServerContext<S>>);

impl<S> Clone for Http<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service> Protocol for Http<S> {
    async fn serve(&self, connection: Connection) -> Option<Onward> {
        let Connection { stream, peer } = connection;
        match stream {
            Stream::Plain(socket) => http1::serve(&self.0, socket, Scheme::Http, peer).await,
            // On the heap: a connection without TLS does not carry what one with it needs.
            Stream::Tls(stream) => {
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
