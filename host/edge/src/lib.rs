//! Listeners, TLS, HTTP/1.1 and HTTP/2: from a socket to a request head and body, and from a reply to bytes.
//!
//! HTTP/1.1 is a loop of our own, one task a connection; HTTP/2 is the `h2` crate's frames and our
//! streams. Both call one [`Service`]. What a request means is not decided here.

mod access;
mod addresses;
mod counters;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guards;
mod http1;
mod http2;
mod identity;
mod io;
mod limits;
mod origin;
mod pace;
mod proxy_protocol;
mod ranges;
mod server;
mod shares;
mod shed;
mod splice;
mod tickets;
mod timer;
mod tls;
mod tunnel;
pub mod upstream;
mod visitor;

pub use access::{Access, AccessLog};
pub use counters::{Cause, Counters};
pub use limits::{
    HEAD_BYTES_LIMIT, HEADERS_LIMIT, Http2Limits, LINE_BYTES_LIMIT, Limits,
};
pub use origin::Origin;
pub use ranges::AddressRange;
pub use server::{Divert, ListenHandle, Server, Settings};
pub use shares::{Full, Rate, Share, Shares};
pub use tickets::TicketSecret;
pub use tls::{Certificates, Pem, TlsError};
pub use visitor::Trust;

use protoplex_http::{Answer, Body, Head, HeaderField, Internal};

/// What connections call for each request.
pub trait Service: Send + Sync + 'static {
    /// Answers now, or with a future that the connection polls and drops when the client goes away.
    fn call(&self, head: &Head<'_>, body: Body) -> Answer;

    /// Where a request came in that a node of the fleet passes on, if what it says of that is believed; `fields` are its
    /// header lines. The origin then holds for the request's head, for its response's id and in the log. Asked on
    /// internal listeners alone, before [`Self::call`].
    fn origin(&self, _internal: &Internal<'_>, _fields: &[HeaderField<'_>]) -> Option<Origin> {
        None
    }
}
