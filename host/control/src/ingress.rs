//! Settings of a node for its clients: which proxies to believe, limits, certificates, the access log. Each has a
//! default.

use crate::descriptors;
use protoplex_net::{AddressRange, Trust};
use protoplex_server::{HEAD_BYTES_LIMIT, HEADERS_LIMIT, HttpLimits, LINE_BYTES_LIMIT};
use protoplex_wire::{manifest::Role, status::Addresses};
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    net::IpAddr,
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

/// The section `ingress` of a node's configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingress {
    /// Load balancers whose connections begin with a PROXY header (version 1 or 2), on both public ports. A
    /// connection from there without one is closed.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// HTTP proxies whose `X-Forwarded-*` and `Forwarded` are believed, kept and extended. Where they say both of a client,
    /// its address is by `X-Forwarded-For` and its scheme by `X-Forwarded-Proto`.
    pub trust_forwarded_from: Vec<AddressRange>,
    /// Certificates beside the default one, chosen by the name that a client asks for. Changed files are taken
    /// without a restart, those of the default one too.
    pub certificates: Vec<CertificateFiles>,
    /// From "not ready" to the end of accepting, so that load balancers notice.
    pub drain_delay_ms: u64,
    /// File of the access log, a line of JSON for each request; absent: none is written. A file that is moved away is
    /// made anew.
    pub access_log: Option<PathBuf>,
    /// Limits of the node.
    pub limits: IngressLimits,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM, the certificate first, then its chain.
    pub cert: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
}

/// Limits of a node for its clients. Where one is left out, the default of [`HttpLimits`] holds. Numbers of connections
/// and requests are the node's and divided over its children, as the kernel divides connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressLimits {
    /// Open connections; lowered to what the descriptor limit allows.
    #[serde(deserialize_with = "at_least_one::connections_max")]
    pub connections_max: Option<usize>,
    /// Open connections of one address (IPv6: one /64).
    #[serde(deserialize_with = "at_least_one::address_connections_max")]
    pub address_connections_max: Option<u32>,
    /// Requests in flight of one address.
    #[serde(deserialize_with = "at_least_one::address_in_flight_max")]
    pub address_in_flight_max: Option<u32>,
    /// Requests a second of one address.
    #[serde(deserialize_with = "at_least_one::address_requests_per_s")]
    pub address_requests_per_s: Option<u32>,
    /// Requests that one address may be ahead of its rate.
    #[serde(deserialize_with = "at_least_one::address_burst_requests")]
    pub address_burst_requests: Option<u32>,
    /// Messages a second of one address, on all of its live connections.
    #[serde(deserialize_with = "at_least_one::address_messages_per_s")]
    pub address_messages_per_s: Option<u32>,
    /// Messages that one address may be ahead of its rate.
    #[serde(deserialize_with = "at_least_one::address_burst_messages")]
    pub address_burst_messages: Option<u32>,
    /// Ranges of addresses without limits; absent: this machine's.
    pub address_exempt: Option<Vec<AddressRange>>,
    /// Bytes a second that a request's body must bring.
    pub body_bytes_per_s_min: Option<u32>,
    /// Bytes a second that a request's body must bring while at least half of the connections are open.
    pub crowded_body_bytes_per_s_min: Option<u32>,
    /// Bytes a second that a client must take of a response.
    pub write_bytes_per_s_min: Option<u32>,
    /// Milliseconds for the TLS handshake.
    #[serde(deserialize_with = "at_least_one::handshake_timeout_ms")]
    pub handshake_timeout_ms: Option<u64>,
    /// Milliseconds from accept to the first byte.
    #[serde(deserialize_with = "at_least_one::first_byte_timeout_ms")]
    pub first_byte_timeout_ms: Option<u64>,
    /// Milliseconds from the first byte of a head to its last.
    #[serde(deserialize_with = "at_least_one::head_timeout_ms")]
    pub head_timeout_ms: Option<u64>,
    /// Milliseconds that a connection may idle between two requests.
    #[serde(deserialize_with = "at_least_one::idle_timeout_ms")]
    pub idle_timeout_ms: Option<u64>,
    /// Milliseconds between two pieces of a request's body.
    #[serde(deserialize_with = "at_least_one::body_timeout_ms")]
    pub body_timeout_ms: Option<u64>,
    /// Milliseconds of waiting over which the rate of a body is measured.
    pub body_grace_ms: Option<u64>,
    /// Milliseconds of silence in a conversation: of the client before a server of HTTP/2 or gRPC has answered, and of
    /// client and app at once where an app answers while the request goes on.
    #[serde(deserialize_with = "at_least_one::two_way_silence_max_ms")]
    pub two_way_silence_max_ms: Option<u64>,
    /// Milliseconds until a blocked write makes progress.
    #[serde(deserialize_with = "at_least_one::write_timeout_ms")]
    pub write_timeout_ms: Option<u64>,
    /// Milliseconds over which a drain closes idle connections, where they are many.
    pub drain_window_ms: Option<u64>,
    /// Idle connections that a drain closes in a second, at most, while the window lasts.
    #[serde(deserialize_with = "at_least_one::drain_closes_per_s")]
    pub drain_closes_per_s: Option<u32>,
    /// Bytes of a request's head, in either protocol and on every hop; at least 1 KiB, at most 1 MiB.
    #[serde(deserialize_with = "head_bytes")]
    pub head_bytes_max: Option<usize>,
    /// Bytes of a request line, within `head_bytes_max`; at least 1 KiB, at most 60 KiB.
    #[serde(deserialize_with = "line_bytes")]
    pub line_bytes_max: Option<usize>,
    /// Header lines of a request; at least 16, at most 256.
    #[serde(deserialize_with = "headers")]
    pub headers_max: Option<usize>,
    /// Streams open at once on an HTTP/2 connection.
    #[serde(deserialize_with = "at_least_one::h2_streams_max")]
    pub h2_streams_max: Option<u32>,
    /// Bytes that a distant client may send on an HTTP/2 stream before it hears that they were taken.
    #[serde(deserialize_with = "h2_window")]
    pub h2_stream_window_bytes_max: Option<u32>,
}

/// The least that [`IngressLimits::head_bytes_max`] may be: browsers send about that much.
const HEAD_BYTES_LEAST: usize = 1 << 10;

/// The least that [`IngressLimits::headers_max`] may be: browsers send about that many.
const HEADERS_LEAST: usize = 16;

fn head_bytes<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    within(value, "head_bytes_max", HEAD_BYTES_LEAST..=HEAD_BYTES_LIMIT)
}

fn line_bytes<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    within(value, "line_bytes_max", HEAD_BYTES_LEAST..=LINE_BYTES_LIMIT)
}

fn headers<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    within(value, "headers_max", HEADERS_LEAST..=HEADERS_LIMIT)
}

/// Windows of HTTP/2 are smaller than 2^31 bytes (RFC 9113, section 6.9.1).
const H2_WINDOW_BYTES_LIMIT: u32 = (1 << 31) - 1;

fn h2_window<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    within(
        value,
        "h2_stream_window_bytes_max",
        1..=H2_WINDOW_BYTES_LIMIT,
    )
}

/// Settings by which nobody would be served if they were 0. The others stand for no limit then, or for no delay.
macro_rules! at_least_one {
    ($($name:ident: $type:ident),* $(,)?) => {
        mod at_least_one {
            $(pub(super) fn $name<'de, D: serde::Deserializer<'de>>(
                value: D,
            ) -> Result<Option<$type>, D::Error> {
                super::within(value, stringify!($name), 1..=$type::MAX)
            })*
        }
    };
}

at_least_one! {
    connections_max: usize,
    address_connections_max: u32,
    address_in_flight_max: u32,
    address_requests_per_s: u32,
    address_burst_requests: u32,
    address_messages_per_s: u32,
    address_burst_messages: u32,
    handshake_timeout_ms: u64,
    first_byte_timeout_ms: u64,
    head_timeout_ms: u64,
    idle_timeout_ms: u64,
    body_timeout_ms: u64,
    two_way_silence_max_ms: u64,
    write_timeout_ms: u64,
    drain_closes_per_s: u32,
    h2_streams_max: u32,
}

/// Reads a setting whose value must lie in a range.
fn within<'de, D: Deserializer<'de>, T>(
    value: D,
    name: &str,
    room: RangeInclusive<T>,
) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + PartialOrd + Display,
{
    let said = Option::<T>::deserialize(value)?;
    match said {
        Some(number) if !room.contains(&number) => {
            let (least, most) = room.into_inner();
            Err(serde::de::Error::custom(format!(
                "{name} is {number}; write {least} to {most}"
            )))
        }
        said => Ok(said),
    }
}

impl Ingress {
    /// Sources whose PROXY headers and forwarding headers are believed.
    pub fn trust(&self) -> Trust {
        Trust {
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            forwarded_from: self.trust_forwarded_from.clone(),
        }
    }

    /// Limits of one child, which are its share of the node's. Idle connections are gone by half the drain's deadline.
    pub fn limits(&self, children: usize, drain_timeout: Duration) -> HttpLimits {
        let mut limits = self.limits.of_child(children);
        let by_descriptors = descriptors::connections(descriptors::limit());
        limits.net.connections_max = limits.net.connections_max.min(by_descriptors);
        limits.net.drain_window = limits.net.drain_window.min(drain_timeout / 2);
        limits
    }
}

impl IngressLimits {
    fn of_child(&self, children: usize) -> HttpLimits {
        fn set<T: Clone>(limit: &mut T, said: Option<&T>) {
            if let Some(said) = said {
                *limit = said.clone();
            }
        }
        let share = |said: Option<u32>| {
            let children = u32::try_from(children.max(1)).unwrap_or(u32::MAX);
            said.map(|whole| whole.div_ceil(children))
        };
        let time = |said: Option<u64>| said.map(Duration::from_millis);
        let connections = self.connections_max;
        let mut limits = HttpLimits::default();
        set(
            &mut limits.net.connections_max,
            connections
                .map(|whole| whole.div_ceil(children.max(1)))
                .as_ref(),
        );
        for (limit, said) in [
            (
                &mut limits.net.address_connections_max,
                share(self.address_connections_max),
            ),
            (
                &mut limits.net.address_in_flight_max,
                share(self.address_in_flight_max),
            ),
            (
                &mut limits.net.address_requests_per_s,
                share(self.address_requests_per_s),
            ),
            (
                &mut limits.net.address_burst_requests,
                share(self.address_burst_requests),
            ),
            (
                &mut limits.net.address_messages_per_s,
                share(self.address_messages_per_s),
            ),
            (
                &mut limits.net.address_burst_messages,
                share(self.address_burst_messages),
            ),
            (
                &mut limits.net.drain_closes_per_s,
                share(self.drain_closes_per_s),
            ),
            (&mut limits.body_bytes_per_s_min, self.body_bytes_per_s_min),
            (
                &mut limits.crowded_body_bytes_per_s_min,
                self.crowded_body_bytes_per_s_min,
            ),
            (
                &mut limits.write_bytes_per_s_min,
                self.write_bytes_per_s_min,
            ),
            (&mut limits.h2_streams_max, self.h2_streams_max),
            (
                &mut limits.h2_stream_window_bytes_max,
                self.h2_stream_window_bytes_max,
            ),
        ] {
            set(limit, said.as_ref());
        }
        for (limit, said) in [
            (&mut limits.net.handshake_timeout, self.handshake_timeout_ms),
            (
                &mut limits.net.first_byte_timeout,
                self.first_byte_timeout_ms,
            ),
            (&mut limits.head_timeout, self.head_timeout_ms),
            (&mut limits.idle_timeout, self.idle_timeout_ms),
            (&mut limits.body_timeout, self.body_timeout_ms),
            (&mut limits.body_grace, self.body_grace_ms),
            (&mut limits.two_way_silence_max, self.two_way_silence_max_ms),
            (&mut limits.write_timeout, self.write_timeout_ms),
            (&mut limits.net.drain_window, self.drain_window_ms),
        ] {
            set(limit, time(said).as_ref());
        }
        set(&mut limits.head_bytes_max, self.head_bytes_max.as_ref());
        set(&mut limits.line_bytes_max, self.line_bytes_max.as_ref());
        set(&mut limits.headers_max, self.headers_max.as_ref());
        set(&mut limits.net.address_exempt, self.address_exempt.as_ref());
        limits
    }
}

/// Host addresses of the fleet's nodes: where clients reach them, and where other nodes do.
pub fn addresses(nodes: &BTreeMap<Role, Vec<Addresses>>) -> HashSet<IpAddr> {
    let nodes = nodes.values().flatten();
    let urls = nodes.flat_map(|node| [&node.http, &node.internal]);
    urls.filter_map(|url| host(url)).collect()
}

fn host(url: &str) -> Option<IpAddr> {
    let authority = url.split_once("://")?.1;
    let host = authority.rsplit_once(':')?.0;
    host.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_says_only_what_differs_and_nothing_unknown() {
        let text = r#"{"proxy_protocol_from":["10.0.0.0/8"],"limits":{"address_connections_max":9,"idle_timeout_ms":7}}"#;
        let ingress: Ingress = serde_json::from_str(text).expect("it parses");
        let limits = ingress.limits(2, Duration::from_secs(1));
        assert_eq!(limits.net.address_connections_max, 5);
        assert_eq!(limits.idle_timeout, Duration::from_millis(7));
        assert_eq!(limits.net.drain_window, Duration::from_millis(500));
        let larger = r#"{"limits":{"line_bytes_max":61440,"headers_max":256}}"#;
        let larger: Ingress = serde_json::from_str(larger).expect("it parses");
        let larger = larger.limits(2, Duration::from_secs(1));
        assert_eq!((larger.line_bytes_max, larger.headers_max), (61_440, 256));
        assert_eq!(limits.head_timeout, HttpLimits::default().head_timeout);
        for bad in [
            r#"{"limits":{"adress_connections_max":9}}"#,
            r#"{"trust_forwarded_from":["10.0.0.0/33"]}"#,
            r#"{"certificates":[{"cert":"a"}]}"#,
            r#"{"limits":{"head_bytes_max":1048577}}"#,
            r#"{"limits":{"head_bytes_max":0}}"#,
            r#"{"limits":{"line_bytes_max":61441}}"#,
            r#"{"limits":{"line_bytes_max":100}}"#,
            r#"{"limits":{"headers_max":257}}"#,
            r#"{"limits":{"headers_max":15}}"#,
            r#"{"limits":{"connections_max":0}}"#,
            r#"{"limits":{"h2_streams_max":0}}"#,
            r#"{"limits":{"address_in_flight_max":0}}"#,
            r#"{"limits":{"head_timeout_ms":0}}"#,
            r#"{"limits":{"h2_stream_window_bytes_max":2147483648}}"#,
        ] {
            assert!(serde_json::from_str::<Ingress>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fleets_nodes_are_known_by_their_addresses() {
        for (url, expected) in [
            ("http://10.0.0.5:8080", Some("10.0.0.5")),
            ("http://[2001:db8::1]:8080", Some("2001:db8::1")),
            ("http://node:8080", None),
        ] {
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
