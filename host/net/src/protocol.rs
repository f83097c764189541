//! What is spoken on connections, as their listener sees it.

use crate::Peer;
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What goes on with a connection that left its protocol, in a task of its own. The connection counts as open until it is
/// done.
pub type Onward = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes a connection that begins with a TLS handshake where connections are plain.
pub type TlsHandoff = Arc<dyn Fn(TcpStream) -> Onward + Send + Sync>;

/// A protocol that is spoken on admitted connections. Clones are handles to one.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Serves a connection to its end, or until it goes on with another protocol, which is given back.
    ///
    /// # Cancel safety
    /// Never dropped before it is ready, unless the process ends. [`Peer::leaving`] tells when to go.
    fn serve(&self, connection: Connection) -> impl Future<Output = Option<Onward>> + Send;

    /// Said to a plain client for whom there is no room, before its connection is closed. A TLS client is told nothing: a
    /// handshake costs more than most requests.
    fn busy(&self) -> &'static [u8] {
        &[]
    }
}

/// An admitted connection, behind its PROXY header and its TLS handshake.
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// The other end.
    pub peer: Peer,
}

/// Bytes of a connection.
pub enum Stream {
    /// The socket itself.
    Plain(TcpStream),
    /// Inside TLS. Boxed: a TLS session is more than a kilobyte, and moves from hand to hand.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How connections come in by a listener.
#[derive(Clone)]
pub struct Entrance {
    /// Whether they begin with TLS.
    pub security: Security,
    /// Nodes of the fleet connect here by themselves: neither a balancer nor a forwarder speaks for anybody.
    pub is_internal: bool,
}

/// Whether connections begin with a TLS handshake.
#[derive(Clone)]
pub enum Security {
    /// They do not.
    Plain,
    /// They do.
    Tls,
    /// Some do: those go elsewhere.
    Either(TlsHandoff),
}
