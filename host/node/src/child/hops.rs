//! How many nodes of the fleet a request has passed. A handler that relays to the role of its own node sends a request
//! round in circles: each turn costs as much as a request, so it is ended after a few.

use super::decide::Request;

/// Carries the relays so far, from the second on. Believed only beside a build that a node of ours vouched for.
pub(super) const HOPS_HEADER: &str = "protoplex-hops";
/// Relays from node to node that one request may take (508 above it). A proxy, an app, and one that it asks are two.
const HOPS_MAX: u32 = 4;

/// The relay that the request would take next, counted from 1; `None` where it has been relayed too often.
pub(super) fn next(request: &Request<'_>) -> Option<u32> {
    let taken = match request.from_our_node {
        true => taken(request.head.header_str(HOPS_HEADER)),
        false => 0,
    };
    (taken < HOPS_MAX).then_some(taken + 1)
}

/// Absent is one: most are relayed once, and need no header for it.
fn taken(header: Option<&str>) -> u32 {
    header.map_or(1, |count| count.parse().unwrap_or(HOPS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_counted_from_one_and_what_is_no_count_is_too_many() {
        for (header, count) in [
            (None, 1),
            (Some("2"), 2),
            (Some("4"), HOPS_MAX),
            (Some("-1"), HOPS_MAX),
            (Some(""), HOPS_MAX),
        ] {
            assert_eq!(taken(header), count, "{header:?}");
        }
    }
}
