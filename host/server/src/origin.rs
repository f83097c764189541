//! Where a request came into the fleet, when a node passes it on: what was found out there holds on every hop.

use protoplex_http::Scheme;
use std::net::IpAddr;

/// Origin of a request, as the first node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Address of the client.
    pub client: IpAddr,
    /// Port of the client; 0 where only the address is known.
    pub client_port: u16,
    /// Scheme by which the client came.
    pub scheme: Scheme,
    /// Id that the client is told: 16 hexadecimal digits.
    pub request_id: [u8; 16],
    /// Relays from node to node that the request has taken.
    pub relays: u32,
}
