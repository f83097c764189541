//! Who a request is from: the socket's other end, whom a PROXY header names, or whom a trusted forwarder names.

use crate::{
    Origin,
    addresses::Address,
    ranges::{AddressRange, any_contains},
};
use protoplex_http::{HeaderField, Scheme};
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Who is believed when it speaks of others. Nobody by default: whoever reaches the port could name anybody.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Connections from here begin with a PROXY header, and are closed without one.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// `X-Forwarded-*` and `Forwarded` from here are kept and extended.
    pub forwarded_from: Vec<AddressRange>,
}

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Its address, or the one that a PROXY header named.
    pub(crate) address: IpAddr,
    /// Of the same.
    pub(crate) port: u16,
    /// It is a trusted forwarder.
    pub(crate) forwards: bool,
    /// Whether the connection came by a listener for the fleet's nodes.
    pub(crate) is_internal: bool,
    /// Its account, where its requests are limited. A forwarder has none: its visitors have.
    pub(crate) account: Option<Arc<Address>>,
    /// Cancelled when it is to go: a drain, or whom it came by is somebody else's again.
    pub(crate) leaving: CancellationToken,
}

/// Who a request is from.
pub(crate) struct Visitor {
    pub(crate) client: IpAddr,
    pub(crate) port: u16,
    pub(crate) scheme: Scheme,
    pub(crate) forwarder: Option<IpAddr>,
}

impl From<Origin> for Visitor {
    fn from(origin: Origin) -> Self {
        Self {
            client: origin.client,
            port: origin.client_port,
            scheme: origin.scheme,
            forwarder: None,
        }
    }
}

impl Peer {
    /// Reads forwarding headers only where the peer may write them.
    pub(crate) fn visitor(
        &self,
        scheme: Scheme,
        fields: &[HeaderField<'_>],
        trust: &Trust,
    ) -> Visitor {
        if !self.forwards {
            return Visitor {
                client: self.address,
                port: self.port,
                scheme,
                forwarder: None,
            };
        }
        let client = client(self.address, fields, &trust.forwarded_from);
        Visitor {
            client,
            // Whom a forwarder names is known by the address alone.
            port: if client == self.address { self.port } else { 0 },
            scheme: said_scheme(fields).unwrap_or(scheme),
            forwarder: Some(self.address),
        }
    }
}

/// The right-most address of `X-Forwarded-For` that is no trusted forwarder's: what stands to its left was said by
/// it, or by somebody it believed.
fn client(peer: IpAddr, fields: &[HeaderField<'_>], trusted: &[AddressRange]) -> IpAddr {
    let mut client = peer;
    let lines = values(fields, "x-forwarded-for").rev();
    for entry in lines.flat_map(|line| line.rsplit(',')) {
        // A forwarder that hides its client, or makes no sense, is the last one that we know.
        let Some(address) = address(entry.trim()) else {
            break;
        };
        client = address;
        if !any_contains(trusted, address) {
            break;
        }
    }
    client
}

/// An address, with a port or without: balancers write both.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// What the nearest forwarder says.
fn said_scheme(fields: &[HeaderField<'_>]) -> Option<Scheme> {
    let last = values(fields, "x-forwarded-proto").next_back()?;
    match last.rsplit(',').next().unwrap_or_default().trim() {
        said if said.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        said if said.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ => None,
    }
}

fn values<'a>(
    fields: &'a [HeaderField<'_>],
    name: &'a str,
) -> impl DoubleEndedIterator<Item = &'a str> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .filter_map(|field| std::str::from_utf8(field.value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(forwards: bool, lines: &[(&str, &str)]) -> (String, Scheme) {
        let trust = Trust {
            forwarded_from: vec!["10.0.0.0/8".parse().expect("a range")],
            ..Trust::default()
        };
        let fields: Vec<_> = lines
            .iter()
            .map(|(name, value)| HeaderField {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let peer = Peer {
            address: [10, 0, 0, 1].into(),
            port: 4711,
            is_internal: false,
            forwards,
            account: None,
            leaving: CancellationToken::new(),
        };
        let visitor = peer.visitor(Scheme::Http, &fields, &trust);
        (visitor.client.to_string(), visitor.scheme)
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_visitor() {
        for (lines, client) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            // A visitor that writes the header itself stands to the left of the truth.
            (&["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (
                &["6.6.6.6", "203.0.113.9, 10.0.0.7", " 10.0.0.8 "],
                "203.0.113.9",
            ),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            // All trusted: the first of them.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Nobody says anything that can be believed beyond this point.
            (&["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["6.6.6.6, "], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("X-Forwarded-For", *line))
                .collect();
            assert_eq!(visitor(true, &lines).0, client, "{lines:?}");
        }
    }

    #[test]
    fn the_scheme_is_the_one_that_the_nearest_forwarder_says() {
        for (said, scheme) in [
            ("https", Scheme::Https),
            ("http, HTTPS", Scheme::Https),
            ("https, http", Scheme::Http),
            ("gopher", Scheme::Http),
        ] {
            assert_eq!(
                visitor(true, &[("x-forwarded-proto", said)]).1,
                scheme,
                "{said}"
            );
        }
    }

    #[test]
    fn nobody_else_is_believed() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(
            visitor(false, &lines),
            ("10.0.0.1".to_owned(), Scheme::Http)
        );
    }
}
