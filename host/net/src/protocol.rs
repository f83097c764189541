//! The protocol that a listener's connections speak, as the listener sees it.

use crate::{Peer, Socket};
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Rest of a connection that left its protocol, in a task of its own. The connection counts as open until it is done.
pub type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes a connection that begins with a TLS handshake where connections are plain.
pub type TlsHandoff = Arc<dyn Fn(TcpStream) -> ConnectionTask + Send + Sync>;

/// A protocol that is spoken on admitted connections. Clones are handles to one.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Serves a connection to its end, or until it goes on with another protocol, which is given back.
    ///
    /// # Cancel safety
    /// Never dropped before it is ready, unless the process ends. [`Peer::leaving`] tells when to go.
    fn serve(
        &self,
        connection: AcceptedConnection,
    ) -> impl Future<Output = Option<ConnectionTask>> + Send;

    /// Response to a plain client for whom there is no room, before its connection is closed. A TLS client is told
    /// nothing: a handshake costs more than most requests.
    fn busy(&self) -> &'static [u8] {
        &[]
    }
}

/// An admitted connection, behind its PROXY header and its TLS handshake.
pub struct AcceptedConnection {
    /// Byte stream of the connection.
    pub stream: ConnectionStream,
    /// Other end of the connection.
    pub peer: Peer,
}

/// Byte stream of a connection.
pub enum ConnectionStream {
    /// The socket itself.
    Plain(Socket),
    /// TLS session. Boxed: it has more than a kilobyte, and moves from hand to hand.
    Tls(Box<TlsStream<Socket>>),
}

/// How connections come in by a listener.
#[derive(Clone)]
pub struct Entrance {
    /// Whether they begin with TLS.
    pub security: Security,
    /// Whether nodes of the fleet connect here: neither a balancer nor a forwarder then speaks for anybody.
    pub is_internal: bool,
}

/// Whether connections begin with a TLS handshake.
#[derive(Clone)]
pub enum Security {
    /// No connection does.
    Plain,
    /// Every connection does.
    Tls,
    /// Some connections do: those are handed off.
    Either(TlsHandoff),
}
