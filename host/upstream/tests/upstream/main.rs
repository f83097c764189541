//! Relaying on real sockets: TLS, HTTP/2, health checks and the PROXY protocol, as servers see them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod announced;
mod continues;
mod counted;
#[path = "../../../http2/tests/shared/far.rs"]
mod far;
mod grpc;
mod h2;
mod h2_streams;
mod h2_windows;
mod heads;
mod health;
mod support;
mod tls;
mod tunnels;
mod two_way;
mod uploads;
