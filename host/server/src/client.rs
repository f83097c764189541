//! Client of a request: the socket's other end, or whom a PROXY header or a trusted forwarder names.

use crate::Origin;
use protoplex_http::{
    HeaderField, Scheme,
    forward::{address, elements, scheme},
};
use protoplex_net::{AddressRange, Peer, any_contains};
use std::net::IpAddr;

/// Client of a request.
pub(crate) struct RequestClient {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) scheme: Scheme,
    pub(crate) forwarder: Option<IpAddr>,
}

impl From<Origin> for RequestClient {
    fn from(origin: Origin) -> Self {
        Self {
            address: origin.client,
            port: origin.client_port,
            scheme: origin.scheme,
            forwarder: None,
        }
    }
}

impl RequestClient {
    /// Finds the client of a request by `peer`. Forwarding headers are read only where the peer may write them, and
    /// believed as far as they name addresses in `forwarders`.
    pub(crate) fn of(
        peer: &Peer,
        scheme: Scheme,
        fields: &[HeaderField<'_>],
        forwarders: &[AddressRange],
    ) -> Self {
        if !peer.forwards {
            return Self {
                address: peer.address,
                port: peer.port,
                scheme,
                forwarder: None,
            };
        }
        let said = said(peer.address, fields, forwarders);
        Self {
            address: said.client,
            // A client that a forwarder names is known by the address alone.
            port: match said.client == peer.address {
                true => peer.port,
                false => 0,
            },
            scheme: said_scheme(fields).or(said.scheme).unwrap_or(scheme),
            forwarder: Some(peer.address),
        }
    }
}

/// Client of a request, as trusted forwarders name it.
struct ForwardedClient {
    client: IpAddr,
    /// Scheme of the client, which only `Forwarded` tells beside the address.
    scheme: Option<Scheme>,
}

/// Finds the right-most address of `X-Forwarded-For` that is no trusted forwarder's: what stands to its left was said
/// by it, or by somebody it believed. Without that header, `Forwarded` is read in the same way.
fn said(peer: IpAddr, fields: &[HeaderField<'_>], trusted: &[AddressRange]) -> ForwardedClient {
    let mut said = ForwardedClient {
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

/// Finds the scheme that the nearest forwarder tells.
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
    use tokio_util::sync::CancellationToken;

    fn client_of(forwards: bool, lines: &[(&str, &str)]) -> (String, Scheme) {
        let forwarders = ["10.0.0.0/8".parse().expect("a range")];
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
        let client = RequestClient::of(&peer, Scheme::Http, &fields, &forwarders);
        (client.address.to_string(), client.scheme)
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        for (lines, client) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            // A client that writes the header itself stands to the left of the truth.
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
            assert_eq!(client_of(true, &lines).0, client, "{lines:?}");
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
                client_of(true, &[("x-forwarded-proto", said)]).1,
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
            // Half a quoted string of a client hides nothing that stands to its right.
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
            assert_eq!(client_of(true, &lines), expected, "{lines:?}");
        }
        // `X-Forwarded-*` counts where both are there, and an empty one is none.
        let both = ("forwarded", "for=203.0.113.9;proto=https");
        for (named, client) in [("198.51.100.7", "198.51.100.7"), ("", "203.0.113.9")] {
            let lines = [("x-forwarded-for", named), both];
            assert_eq!(client_of(true, &lines).0, client);
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
            assert_eq!(client_of(false, lines), own);
        }
    }
}
