//! How many nodes of the fleet a request has passed. A handler that relays to the role of its own node sends a request
//! round in circles: each turn costs as much as a request, so it is ended after a few.

use super::{decide::Request, origin};
use protoplex_http::Internal;

/// Relays from node to node that one request may take (508 above it). A proxy, an app, and one that it asks are two.
const HOPS_MAX: u32 = 4;

/// The relay that the request would take next, counted from 1; `None` where it has been relayed too often.
pub(super) fn next(request: &Request<'_>) -> Option<u32> {
    let taken = match request.head.hop.internal.filter(|_| request.from_our_node) {
        Some(internal) => taken(&internal),
        None => 0,
    };
    (taken < HOPS_MAX).then_some(taken + 1)
}

/// One at least: it came from a node. What cannot be read may hide any number.
fn taken(internal: &Internal<'_>) -> u32 {
    match internal.origin.map(origin::read) {
        None => 1,
        Some(origin) => origin.map_or(HOPS_MAX, |origin| origin.relays.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_counted_from_one_and_what_is_no_count_is_too_many() {
        for (relays, count) in [
            ("1", 1),
            ("2", 2),
            ("4", 4),
            ("0", 1),
            ("-1", HOPS_MAX),
            ("", HOPS_MAX),
        ] {
            let origin = format!("http 192.0.2.1 4711 0123456789abcdef {relays}");
            let internal = Internal {
                token: b"",
                origin: Some(origin.as_bytes()),
            };
            assert_eq!(taken(&internal), count, "{relays:?}");
        }
        let none = Internal {
            token: b"",
            origin: None,
        };
        assert_eq!(taken(&none), 1);
    }
}
