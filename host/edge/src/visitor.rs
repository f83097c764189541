//! The client of a request: the socket's other end, whom a PROXY header names, or whom a trusted forwarder names.

use crate::{
    Origin,
    addresses::Address,
    ranges::{AddressRange, any_contains},
};
use protoplex_http::{
    HeaderField, Scheme,
    forward::{address, elements, scheme},
};
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Forwarders that are believed when they speak of others. Nobody by default: whoever reaches the port could name
/// anybody.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Connections from here begin with a PROXY header, and are closed without one.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// `X-Forwarded-*` and `Forwarded` from here are believed, kept and extended. Where both are there, the former count.
    pub forwarded_from: Vec<AddressRange>,
}

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Address of the other end, or the one that a PROXY header named.
    pub(crate) address: IpAddr,
    /// Port of the same end.
    pub(crate) port: u16,
    /// The other end is a trusted forwarder.
    pub(crate) forwards: bool,
    /// Whether the connection came by a listener for the fleet's nodes.
    pub(crate) is_internal: bool,
    /// Account of the address, where its requests are limited. A forwarder has none: its visitors have.
    pub(crate) account: Option<Arc<Address>>,
    /// Cancelled when it is to go: a drain, or whom it came by is somebody else's again.
    pub(crate) leaving: CancellationToken,
}

/// The client of a request.
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
        let said = said(self.address, fields, &trust.forwarded_from);
        Visitor {
            client: said.client,
            // Whom a forwarder names is known by the address alone.
            port: match said.client == self.address {
                true => self.port,
                false => 0,
            },
            scheme: said_scheme(fields).or(said.scheme).unwrap_or(scheme),
            forwarder: Some(self.address),
        }
    }
}

/// The client of a request, as trusted forwarders name it.
struct Said {
    client: IpAddr,
    /// Only `Forwarded` says it beside the client.
    scheme: Option<Scheme>,
}

/// The right-most address of `X-Forwarded-For` that is no trusted forwarder's: what stands to its left was said by
/// it, or by somebody it believed. Where nobody says that, `Forwarded` is read in the same way.
fn said(peer: IpAddr, fields: &[HeaderField<'_>], trusted: &[AddressRange]) -> Said {
    let mut said = Said {
        client: peer,
        scheme: None,
    };
    let mut is_believed = |node: Option<IpAddr>| {
        // A forwarder that hides its client, or makes no sense, is the last one that we know.
        let Some(address) = node else {
            return false;
        };
        said.client = address;
        any_contains(trusted, address)
    };
    if values(fields, "x-forwarded-for").any(|line| !line.trim().is_empty()) {
        let lines = values(fields, "x-forwarded-for").rev();
        let _ = lines
            .flat_map(|line| line.rsplit(','))
            .all(|entry| is_believed(address(entry.trim())));
        return said;
    }
    let mut scheme = None;
    let lines = values(fields, "forwarded").rev();
    let _ = lines.flat_map(elements).all(|element| {
        scheme = element.scheme().or(scheme);
        is_believed(element.node())
    });
    said.scheme = scheme;
    said
}

/// Scheme that the nearest forwarder says.
fn said_scheme(fields: &[HeaderField<'_>]) -> Option<Scheme> {
    let last = values(fields, "x-forwarded-proto").next_back()?;
    scheme(last.rsplit(',').next().unwrap_or_default().trim())
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
            ("wss", Scheme::Https),
            ("https, WS", Scheme::Http),
        ] {
            assert_eq!(
                visitor(true, &[("x-forwarded-proto", said)]).1,
                scheme,
                "{said}"
            );
        }
    }

    #[test]
    fn a_forwarder_that_says_only_forwarded_is_believed() {
        use Scheme::{Http, Https};
        for (lines, client, scheme) in [
            (
                &["for=203.0.113.9;proto=https;host=shop.test"][..],
                "203.0.113.9",
                Https,
            ),
            (
                &["For=\"203.0.113.9:4711\"; Proto=HTTPS"],
                "203.0.113.9",
                Https,
            ),
            (&["for=\"[2001:db8::1]:47\""], "2001:db8::1", Http),
            (
                &["host=\"a,for=6.6.6.6\";for=203.0.113.9"],
                "203.0.113.9",
                Http,
            ),
            // From the right, and the scheme is the one by which the client came.
            (
                &[
                    "for=6.6.6.6;proto=http",
                    "for=203.0.113.9;proto=wss, for=10.0.0.7;proto=http",
                ],
                "203.0.113.9",
                Https,
            ),
            // Half a quoted string of a visitor hides nothing that stands to its right.
            (
                &["for=\"6.6.6.6, for=203.0.113.9;host=\"shop\""],
                "203.0.113.9",
                Http,
            ),
            // Whom a forwarder hides is not known, but how it came.
            (
                &["for=6.6.6.6, for=unknown;proto=https, for=10.0.0.2"],
                "10.0.0.2",
                Https,
            ),
            (&["for=_hidden"], "10.0.0.1", Http),
            (&["for=6.6.6.6, proto=https"], "10.0.0.1", Https),
            (&[""], "10.0.0.1", Http),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            let expected = (client.to_owned(), scheme);
            assert_eq!(visitor(true, &lines), expected, "{lines:?}");
        }
        // `X-Forwarded-*` counts where both are there, and an empty one is none.
        let both = ("forwarded", "for=203.0.113.9;proto=https");
        for (named, client) in [("198.51.100.7", "198.51.100.7"), ("", "203.0.113.9")] {
            let lines = [("x-forwarded-for", named), both];
            assert_eq!(visitor(true, &lines).0, client);
        }
    }

    #[test]
    fn nobody_else_is_believed() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=6.6.6.6;proto=https"),
        ];
        for lines in [&lines[..2], &lines[2..]] {
            let own = ("10.0.0.1".to_owned(), Scheme::Http);
            assert_eq!(visitor(false, lines), own);
        }
    }
}
