//! Limits of connections, whatever is spoken on them. Each has a default and a reason.

use crate::AddressRange;
use std::time::Duration;

/// Addresses of this machine.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Limits on what clients may take of a child by connections.
#[derive(Clone, Debug)]
pub struct NetLimits {
    /// TLS handshake: a slow phone on a bad network needs seconds, an attacker would take for ever.
    pub handshake_timeout: Duration,
    /// Longest wait from accept to the first byte.
    pub first_byte_timeout: Duration,
    /// Connections of one child; more are told so and closed. A node lowers it to what its descriptors allow.
    pub connections_max: usize,
    /// Longest wait from accept to the end of a PROXY header: a balancer sends it in its first packet.
    pub proxy_header_timeout: Duration,
    /// Connections of one address to one child. A household or an office behind one address opens dozens.
    pub address_connections_max: u32,
    /// Requests of one address at once in one child: some connections' worth of HTTP/2 streams.
    pub address_in_flight_max: u32,
    /// Requests of one address in a second to one child, over time: far above what people do, far below what one
    /// machine can send.
    pub address_requests_per_s: u32,
    /// Requests that an address may be ahead of its rate: a page with all that is on it, for many at once.
    pub address_burst_requests: u32,
    /// Messages of one address in a second, on all of its live connections in one child: an office in which many draw
    /// at once sends some thousand; each costs a handler some microseconds. Who sends more is read more slowly.
    pub address_messages_per_s: u32,
    /// Messages that an address may be ahead of `address_messages_per_s`.
    pub address_burst_messages: u32,
    /// Addresses that are counted at once, about 150 bytes each.
    pub addresses_max: usize,
    /// Addresses that are under no limit by address: this machine by default, where tests, probes and a local balancer
    /// run.
    pub address_exempt: Vec<AddressRange>,
    /// Idle connections that a drain closes in a second, at most, in one child, so that they do not all come back at once.
    pub drain_closes_per_s: u32,
    /// Time over which a drain closes idle connections, however many there are.
    pub drain_window: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            connections_max: 16_384,
            proxy_header_timeout: Duration::from_secs(5),
            address_connections_max: 1_024,
            address_in_flight_max: 1_024,
            address_requests_per_s: 2_000,
            address_burst_requests: 8_000,
            address_messages_per_s: 5_000,
            address_burst_messages: 20_000,
            addresses_max: 65_536,
            address_exempt: LOOPBACK
                .map(|range| range.parse().expect("it is a range"))
                .into(),
            drain_closes_per_s: 2_000,
            drain_window: Duration::from_secs(5),
        }
    }
}
