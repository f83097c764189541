//! What stands between visitors and handlers, as a node's configuration says it: whom to believe, limits,
//! certificates, the access log. Each part has a default.

use crate::descriptors;
use protoplex_edge::{AddressRange, HEAD_BYTES_LIMIT, Limits, Trust};
use protoplex_wire::{manifest::Role, status::Addresses};
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

/// The section `ingress`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingress {
    /// Load balancers whose connections begin with a PROXY header (version 1 or 2), on both public ports. A
    /// connection from there without one is closed.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// HTTP proxies whose `X-Forwarded-*` and `Forwarded` are believed, kept and extended.
    pub trust_forwarded_from: Vec<AddressRange>,
    /// Certificates beside the default one, chosen by the name that a client asks for. Changed files are taken
    /// without a restart, those of the default one too.
    pub certificates: Vec<CertificateFiles>,
    /// From "not ready" to the end of accepting, so that load balancers notice.
    pub drain_delay_ms: u64,
    /// JSON lines, one a request; none without it. A file that is moved away is made anew.
    pub access_log: Option<PathBuf>,
    /// Limits of the node.
    pub limits: IngressLimits,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM, the certificate first, then its chain.
    pub cert: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
}

/// Where something is left out, the default of [`Limits`] holds. Numbers of connections and requests are the node's
/// and divided over its children, as the kernel divides connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressLimits {
    /// Connections; lowered to what the descriptor limit allows.
    pub connections_max: Option<usize>,
    /// Connections of one address (IPv6: one /64).
    pub address_connections_max: Option<u32>,
    /// Requests at once of one address.
    pub address_in_flight_max: Option<u32>,
    /// Requests a second of one address.
    pub address_requests_per_s: Option<u32>,
    /// How many it may be ahead.
    pub address_burst_requests: Option<u32>,
    /// Messages a second of one address, on all of its live connections.
    pub address_messages_per_s: Option<u32>,
    /// How many it may be ahead.
    pub address_burst_messages: Option<u32>,
    /// Ranges without limits by address, in the place of this machine.
    pub address_exempt: Option<Vec<AddressRange>>,
    /// Bytes a second that a request's body must bring.
    pub body_bytes_per_s_min: Option<u32>,
    /// The same while at least half of the connections are open.
    pub crowded_body_bytes_per_s_min: Option<u32>,
    /// Bytes a second that a client must take of a reply.
    pub write_bytes_per_s_min: Option<u32>,
    /// Of TLS.
    pub handshake_timeout_ms: Option<u64>,
    /// From accept to the first byte.
    pub first_byte_timeout_ms: Option<u64>,
    /// From a head's first byte to its last.
    pub head_timeout_ms: Option<u64>,
    /// Between requests.
    pub idle_timeout_ms: Option<u64>,
    /// Between two pieces of a request's body.
    pub body_timeout_ms: Option<u64>,
    /// Over how much waiting the rate of a body is measured.
    pub body_grace_ms: Option<u64>,
    /// Between two pieces of a body that is one side of a conversation by HTTP/2, before the server has answered.
    pub two_way_silence_max_ms: Option<u64>,
    /// Until a blocked write gets on.
    pub write_timeout_ms: Option<u64>,
    /// Over what time a drain closes idle connections, where they are many.
    pub drain_window_ms: Option<u64>,
    /// Idle connections that a drain closes in a second, at most, while the window lasts.
    pub drain_closes_per_s: Option<u32>,
    /// A request's head, in either protocol and on every hop; at least 1 KiB, at most 1 MiB.
    #[serde(deserialize_with = "head_bytes")]
    pub head_bytes_max: Option<usize>,
    /// Streams at once on an HTTP/2 connection.
    pub h2_streams_max: Option<u32>,
    /// What a distant client may send on an HTTP/2 stream before it hears that it was taken.
    pub h2_stream_window_bytes_max: Option<u32>,
}

/// The least that [`IngressLimits::head_bytes_max`] may be: browsers send about that much.
const HEAD_BYTES_LEAST: usize = 1 << 10;

fn head_bytes<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    let said = Option::<usize>::deserialize(value)?;
    match said {
        Some(bytes) if !(HEAD_BYTES_LEAST..=HEAD_BYTES_LIMIT).contains(&bytes) => {
            Err(serde::de::Error::custom(format!(
                "head_bytes_max is {bytes}; write {HEAD_BYTES_LEAST} to {HEAD_BYTES_LIMIT}"
            )))
        }
        said => Ok(said),
    }
}

impl Ingress {
    /// Who is believed.
    pub(crate) fn trust(&self) -> Trust {
        Trust {
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            forwarded_from: self.trust_forwarded_from.clone(),
        }
    }

    /// The limits of one child. Idle connections are gone by half the drain's deadline.
    pub(crate) fn limits(&self, children: usize, drain_timeout: Duration) -> Limits {
        let mut limits = self.limits.of_child(children);
        let by_descriptors = descriptors::connections(descriptors::limit());
        limits.connections_max = limits.connections_max.min(by_descriptors);
        limits.drain_window = limits.drain_window.min(drain_timeout / 2);
        limits
    }
}

impl IngressLimits {
    fn of_child(&self, children: usize) -> Limits {
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
        let mut limits = Limits::default();
        set(
            &mut limits.connections_max,
            connections
                .map(|whole| whole.div_ceil(children.max(1)))
                .as_ref(),
        );
        for (limit, said) in [
            (
                &mut limits.address_connections_max,
                share(self.address_connections_max),
            ),
            (
                &mut limits.address_in_flight_max,
                share(self.address_in_flight_max),
            ),
            (
                &mut limits.address_requests_per_s,
                share(self.address_requests_per_s),
            ),
            (
                &mut limits.address_burst_requests,
                share(self.address_burst_requests),
            ),
            (
                &mut limits.address_messages_per_s,
                share(self.address_messages_per_s),
            ),
            (
                &mut limits.address_burst_messages,
                share(self.address_burst_messages),
            ),
            (
                &mut limits.drain_closes_per_s,
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
            (&mut limits.handshake_timeout, self.handshake_timeout_ms),
            (&mut limits.first_byte_timeout, self.first_byte_timeout_ms),
            (&mut limits.head_timeout, self.head_timeout_ms),
            (&mut limits.idle_timeout, self.idle_timeout_ms),
            (&mut limits.body_timeout, self.body_timeout_ms),
            (&mut limits.body_grace, self.body_grace_ms),
            (&mut limits.two_way_silence_max, self.two_way_silence_max_ms),
            (&mut limits.write_timeout, self.write_timeout_ms),
            (&mut limits.drain_window, self.drain_window_ms),
        ] {
            set(limit, time(said).as_ref());
        }
        set(&mut limits.head_bytes_max, self.head_bytes_max.as_ref());
        set(&mut limits.address_exempt, self.address_exempt.as_ref());
        limits
    }
}

/// The addresses of the fleet's nodes: where visitors reach them, and where other nodes do.
pub(crate) fn addresses(nodes: &BTreeMap<Role, Vec<Addresses>>) -> HashSet<IpAddr> {
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
        assert_eq!(limits.address_connections_max, 5);
        assert_eq!(limits.idle_timeout, Duration::from_millis(7));
        assert_eq!(limits.drain_window, Duration::from_millis(500));
        assert_eq!(limits.head_timeout, Limits::default().head_timeout);
        for bad in [
            r#"{"limits":{"adress_connections_max":9}}"#,
            r#"{"trust_forwarded_from":["10.0.0.0/33"]}"#,
            r#"{"certificates":[{"cert":"a"}]}"#,
            r#"{"limits":{"head_bytes_max":1048577}}"#,
            r#"{"limits":{"head_bytes_max":0}}"#,
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
