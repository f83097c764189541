//! Where a request came in that a node of the fleet passes on: what was found out there holds on every hop.

use protoplex_http::Scheme;
use std::net::IpAddr;

/// A request's client, as the first node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port; 0 where only the address is known.
    pub client_port: u16,
    /// Scheme by which the client came.
    pub scheme: Scheme,
    /// The id that the client is told: 16 hexadecimal digits.
    pub request_id: [u8; 16],
    /// Relays from node to node that the request has taken.
    pub relays: u32,
}
