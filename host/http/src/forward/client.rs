//! What a relayed head says of its client: whom a trusted forwarder named, and this hop.

use super::element::elements;
use crate::Head;
use std::{borrow::Cow, net::IpAddr};

/// Makes the headers that tell of the client, without the host where the client named none. `before` has the request's
/// own values, in one line; they count if a trusted forwarder said them.
pub(super) fn client_fields(
    head: &Head<'_>,
    before: impl Fn(&str) -> Option<String>,
) -> [(&'static str, String); 4] {
    let scheme = head.scheme.as_str();
    let from = head.forwarder.unwrap_or(head.client);
    let before = |name: &str| head.forwarder.and_then(|_| before(name));
    let forwarded = before("forwarded");
    let host = before("x-forwarded-host")
        .or_else(|| asked_host(forwarded.as_deref()?, head.client))
        .unwrap_or_else(|| head.authority.to_owned());
    let hops = match before("x-forwarded-for") {
        Some(hops) => format!("{hops}, {from}"),
        // `Forwarded` alone named the client.
        None if from != head.client => format!("{}, {from}", head.client),
        None => from.to_string(),
    };
    let forwarded = match forwarded {
        Some(hops) => format!("{hops}, {}", element(from, head.authority, scheme)),
        None => element(head.client, &host, scheme),
    };
    [
        ("x-forwarded-for", hops),
        ("x-forwarded-proto", scheme.to_owned()),
        ("x-forwarded-host", host),
        ("forwarded", forwarded),
    ]
}

/// Finds the host that the client asked for, as a trusted forwarder tells it.
fn asked_host(forwarded: &str, client: IpAddr) -> Option<String> {
    let mut elements = elements(forwarded);
    let of_client = elements.find(|element| element.node() == Some(client))?;
    of_client.host().map(Cow::into_owned)
}

/// Joins all values of a header in one line. A forwarder writes ASCII, and an empty value says nothing: others are left
/// out.
pub(super) fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let text = values.filter_map(|value| std::str::from_utf8(value.trim_ascii()).ok());
    let values: Vec<&str> = text
        .filter(|value| value.is_ascii() && !value.is_empty())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Writes the element of `Forwarded` for one hop.
fn element(client: IpAddr, host: &str, scheme: &str) -> String {
    let node = match client {
        IpAddr::V4(_) => client.to_string(),
        IpAddr::V6(_) => format!("\"[{client}]\""),
    };
    match host {
        "" => format!("for={node};proto={scheme}"),
        _ => format!("for={node};host=\"{host}\";proto={scheme}"),
    }
}
