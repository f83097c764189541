//! Other end of a connection, and whom it may speak for.

use crate::{Account, AddressRange};
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Forwarders that are believed when they speak of others. None by default: whoever reaches the port could name
/// anybody.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Balancers: connections from here begin with a PROXY header, and are closed without one.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// Proxies that are believed when they name clients in their requests (in HTTP by `X-Forwarded-*` and `Forwarded`,
    /// of which the former count where both are there). Their connections are not counted: their clients are.
    pub forwarded_from: Vec<AddressRange>,
}

/// Other end of a connection, and what is known of it.
#[derive(Clone)]
pub struct Peer {
    /// Address of the other end, or the one that a PROXY header named.
    pub address: IpAddr,
    /// Port that belongs to `address`.
    pub port: u16,
    /// Whether the other end is a trusted forwarder.
    pub forwards: bool,
    /// Whether the connection came by a listener for the fleet's nodes.
    pub is_internal: bool,
    /// Account of the address, where its requests are limited. A forwarder has none: its clients have.
    pub account: Option<Arc<Account>>,
    /// Cancelled when the connection has to go: in a drain, or when its listener is retired.
    pub leaving: CancellationToken,
}
