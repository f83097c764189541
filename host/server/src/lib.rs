//! HTTP/1.1 and HTTP/2 over `net`, to one [`Service`]: from a connection to a request's head and body, and from a reply
//! to bytes; and what each request came to, for an access log.
//!
//! HTTP/1.1 is a loop of our own, one task a connection; HTTP/2 is the `h2` crate's frames and our streams. What a request
//! means is not decided here.

mod access;
mod body_rules;
mod client;
mod connection;
mod context;
mod counters;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http1;
mod http2;
mod identity;
mod limits;
mod origin;
mod refusal;
mod reply;
mod secured;
mod server;
mod service;
mod silence;
mod tunnel;

pub use access::{Access, AccessLog};
pub use counters::{HttpCause, HttpCounters};
pub use limits::{HEAD_BYTES_LIMIT, HEADERS_LIMIT, Http2Limits, HttpLimits, LINE_BYTES_LIMIT};
pub use origin::Origin;
pub use server::{ALPN, Server, ServerSettings};
pub use service::Service;
