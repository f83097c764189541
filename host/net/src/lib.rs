//! From sockets to connections: accepts, admits, counts and drains them, whatever is spoken on them.
//!
//! In: listeners, and a [`Protocol`]. Out: to that protocol each admitted [`AcceptedConnection`], behind its PROXY header and its
//! TLS handshake. What is said on a connection is not known here.

mod accept;
mod accounts;
mod address_range;
mod connections;
mod counters;
mod drain;
mod duplex;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guards;
mod limits;
mod listen;
mod opening;
mod pace;
mod peer;
mod probe;
mod protocol;
mod proxy_protocol;
mod sends;
mod shares;
mod shed;
mod socket;
mod splice;
mod tickets;
mod timer;
mod tls;

pub use accept::accept_all;
pub use accounts::{Account, Accounts, ConnectionPermit, OverLimit, RequestPermit};
pub use address_range::{AddressRange, any_contains};
pub use connections::{ConnectionSettings, Connections};
pub use counters::{ConnectionCounters, RefusalCause};
pub use duplex::Duplex;
pub use guards::{GaugeGuard, OwnedGaugeGuard};
pub use limits::NetLimits;
pub use listen::ListenHandle;
pub use pace::{PaceMeter, PaceRule};
pub use peer::{Peer, Trust};
pub use probe::probe;
pub use protocol::{
    AcceptedConnection, ConnectionStream, ConnectionTask, Entrance, Protocol, Security, TlsHandoff,
};
pub use sends::{BatchRefusal, SendTask, batch_sends};
pub use shares::{Rate, Share, Shares, SharesFull};
pub use socket::Socket;
pub use splice::{Splice, Spliced};
pub use tickets::TicketSecret;
pub use timer::Timer;
pub use tls::{Certificates, Pem, TlsError};
