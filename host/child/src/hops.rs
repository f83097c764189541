//! How many nodes of the fleet a request has passed. A handler that relays to the role of its own node sends a request
//! round in circles: each turn costs as much as a request, so it is ended after a few.

use super::request::Request;
use protoplex_http::Internal;

/// Relays from node to node that one request may take (508 above it). A proxy, an app, and one that it asks are two.
const HOPS_MAX: u32 = 4;

/// The relay that the request would take next, counted from 1; `None` where it has been relayed too often.
pub(super) fn next(request: &Request<'_>) -> Option<u32> {
    let taken = request.head.hop.internal.as_ref().map_or(0, taken);
    (taken < HOPS_MAX).then_some(taken + 1)
}

/// Relays that an internal request has taken: one at least, and the most where its origin is not believed.
fn taken(internal: &Internal<'_>) -> u32 {
    match (internal.relays, internal.origin) {
        (Some(relays), _) => relays.max(1),
        (None, Some(_)) => HOPS_MAX,
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_count_from_one_and_a_false_origin_is_too_many() {
        let origin = Some(&b"https 192.0.2.1 4711 0123456789abcdef 1"[..]);
        for (origin, relays, count) in [
            (origin, Some(1), 1),
            (origin, Some(4), 4),
            (origin, Some(0), 1),
            (origin, None, HOPS_MAX),
            (None, None, 1),
        ] {
            let internal = Internal {
                token: b"",
                origin,
                relays,
            };
            assert_eq!(taken(&internal), count, "{relays:?}");
        }
    }
}
