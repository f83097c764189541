//! The loop on real sockets: what a connection promises to clients, good and bad, and to the service.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod access;
mod bodies;
mod connections;
mod conversations;
mod deadlines;
mod differential;
mod drain;
#[path = "../../../http2/tests/shared/far.rs"]
mod far;
mod faults;
mod grammar;
mod half_closed;
mod http2;
mod http2_abuse;
mod http2_interim;
mod http2_limits;
mod http2_windows;
mod ingress;
mod overload;
mod replies;
mod support;
mod tls;
mod token;
