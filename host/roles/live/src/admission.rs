//! Whether there is room for one more live connection. A session of a client that polls, a stream beside others on one
//! connection, and what a proxy relays take no connection here that could be counted, so each is counted here: by all
//! that the child holds, by the client's own address, and by what the handler's instances can hold.

use http::{HeaderValue, StatusCode, header};
use protoplex_child::reply;
use protoplex_handler::LiveHandler;
use protoplex_http::Reply;
use protoplex_net::{NetLimits, Share, Shares, SharesFull};
use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// One address may hold one in so many of the connections that a handler's instances have room for: no flood from one
/// place keeps all others out, however small the pool is.
const ADDRESS_PARTS: u32 = 4;
/// Time for which a child is said to be crowded after it had no room.
const CROWDED: Duration = Duration::from_secs(10);

/// Counts live connections, and refuses those above the shares of the child and of each address.
pub(super) struct Admission {
    pub(super) shares: Shares,
    by_address: AtomicU64,
    by_child: AtomicU64,
    /// When the child was last full, on the clock of `shares`; 0 if it never was.
    full_at_ns: AtomicU64,
}

impl Admission {
    /// Shares of a child without connections.
    pub(super) fn new(limits: &NetLimits) -> Self {
        Self {
            shares: Shares::new(limits),
            by_address: AtomicU64::new(0),
            by_child: AtomicU64::new(0),
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// A share for a client that asks to be connected to a handler.
    pub(super) fn admit(
        &self,
        client: IpAddr,
        handler: &LiveHandler,
        request_id: &str,
    ) -> Result<Share, Reply> {
        let of_handler = handler.connections_max();
        let address_max = of_handler.map_or(u32::MAX, |all| all.div_ceil(ADDRESS_PARTS));
        let full = match self.shares.take(client, address_max) {
            Ok(share) => return Ok(share),
            Err(full) => full,
        };
        Err(match full {
            SharesFull::Address => {
                self.by_address.fetch_add(1, Relaxed);
                let seconds = HeaderValue::from_static("1");
                reply::status(StatusCode::TOO_MANY_REQUESTS, request_id)
                    .with(header::RETRY_AFTER, seconds)
            }
            SharesFull::Child => {
                self.by_child.fetch_add(1, Relaxed);
                self.full_at_ns.store(self.shares.now_ns().max(1), Relaxed);
                reply::unavailable(request_id)
            }
        })
    }

    /// Whether a client was refused a short while ago because the child had no room.
    pub(super) fn is_crowded(&self) -> bool {
        let full_at_ns = self.full_at_ns.load(Relaxed);
        let since = self.shares.now_ns().saturating_sub(full_at_ns);
        full_at_ns > 0 && Duration::from_nanos(since) < CROWDED
    }

    /// Clients that were refused, by cause.
    pub(super) fn refused(&self) -> [(&'static str, u64); 2] {
        [
            ("live-address-connections", self.by_address.load(Relaxed)),
            ("live-connections", self.by_child.load(Relaxed)),
        ]
    }
}
