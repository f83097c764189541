//! Headers that go on from a request to an app handler or an upstream.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use protoplex_http::{Head, field, forward};

/// A copy of the request's end-to-end headers, with the forwarding ones written by us. A request from a node of our
/// own keeps those that the node wrote.
pub(super) fn headers(head: &Head<'_>, from_our_node: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 8);
    let all = head.headers.iter();
    for field in all.filter(|field| !field::is_disguised(field.name)) {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(field.name.as_bytes()),
            HeaderValue::from_bytes(field.value),
        ) {
            headers.append(name, value);
        }
    }
    forward::strip_hop_by_hop(&mut headers);
    if let Ok(host) = HeaderValue::from_str(head.authority)
        && !host.is_empty()
    {
        // As it was matched, whatever the client wrote and by whichever protocol.
        headers.insert(header::HOST, host);
    }
    if !from_our_node {
        forward::overwrite_forwarded(head, &mut headers);
    }
    headers
}
