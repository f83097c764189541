//! HTTP/1.1: one task a connection drives reading, the service and writing. RFC 9112, strictly: what could be read in
//! two ways is refused and the connection closed.

mod body;
mod closing;
mod connection;
mod half_closed;
pub(crate) mod head;
mod intake;
mod output;
mod relayed;
mod respond;
mod target;
mod waiting;
mod wire;

pub(crate) use connection::serve;
