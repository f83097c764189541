//! Section `upstreams` of a manifest: servers that requests are relayed to, and how they are used.

use super::defaults;
use serde::{Deserialize, Serialize};

/// A group of servers that do the same. Counts and limits are per child: a node's limit is divided by its children.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Address of each server, `host:port`.
    pub addresses: Vec<String>,
    /// Protocol that is spoken to the servers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: UpstreamProtocol,
    /// Verification of TLS servers; by system roots and the address's own name where nothing is said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: UpstreamTls,
    /// Milliseconds until a connection is made, TLS included.
    pub connect_timeout_ms: u64,
    /// Milliseconds from the end of the request to the head of the response. Time in which the client has to bring
    /// more of its body does not count.
    pub first_byte_timeout_ms: u64,
    /// Milliseconds without a byte of either body once the response has begun, and between two writes of a request's
    /// body before.
    pub idle_timeout_ms: u64,
    /// Milliseconds from the request's head to the last byte of the response; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub total_timeout_ms: u64,
    /// Rule by which a server is chosen for a request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// Requests in flight to one server; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub in_flight_max: u32,
    /// Requests that may wait when every server has `in_flight_max`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue_max: u32,
    /// Milliseconds that a request may wait in the queue.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue_timeout_ms: u64,
    /// Rules by which failed requests are sent again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// Health checks: requests of the host's own that tell which servers are healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Rules by which servers that fail are left out for a while.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ejection: Ejection,
    /// Milliseconds after which a server that is new or healthy again gets its whole share; 0 is at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start_ms: u64,
    /// PROXY protocol header that begins each connection. A connection then serves one client only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Protocol that is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1 without TLS.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge, without TLS.
    H2c,
    /// TLS; HTTP/2 or HTTP/1.1 as the server chooses by ALPN.
    Https,
    /// HTTP/1.1 over TLS.
    HttpsHttp1,
}

/// Verification of a TLS upstream's certificate, and the certificate that it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Name in the server's certificate, and in SNI; the address's host where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM of the authorities that may have signed the server's certificate; the public web's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Whether the node's own certificate is presented. Keys of others are secrets, and no part of a build.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_certificate: bool,
}

/// Rule by which a server is chosen for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The server with the fewest requests in flight.
    #[default]
    LeastLoaded,
    /// By rendezvous hashing of the decision's key (of the client's address where it has none).
    Key,
}

/// Rules by which failed requests are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Attempts after the first one.
    pub attempts_max: u32,
    /// Retries as a share of the requests of the last ten seconds, in percent: a server in trouble is not made busier.
    pub budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        defaults::RETRIES
    }
}

/// Health checks: requests of the host's own that tell which servers are healthy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path and query of a GET; a response below 400 is a success.
    pub path: String,
    /// Value of `Host` in the check; the server's address where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Milliseconds from one check to the next.
    pub interval_ms: u64,
    /// Milliseconds until the head of the response to a check.
    pub timeout_ms: u64,
    /// Failures in a row after which a server is left out.
    pub unhealthy_after: u32,
    /// Successes in a row after which it is taken back.
    pub healthy_after: u32,
}

/// Rules by which servers that fail are left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row (no connection, no response, 502, 503, 504) after which a server is ejected; 0 is never.
    pub failures: u32,
    /// Milliseconds of the first ejection; each further one in a row is longer, up to ten times as much.
    pub eject_ms: u64,
    /// Percentage of all servers that may be ejected at once; at least one may if there are two or more.
    pub servers_percent_max: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        defaults::EJECTION
    }
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// Version 1, which is text.
    V1,
    /// Version 2, which is binary.
    V2,
}

impl Default for Upstream {
    /// An upstream without servers, with the values of [`defaults`].
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            protocol: UpstreamProtocol::default(),
            tls: UpstreamTls::default(),
            connect_timeout_ms: defaults::UPSTREAM_CONNECT_TIMEOUT_MS,
            first_byte_timeout_ms: defaults::UPSTREAM_FIRST_BYTE_TIMEOUT_MS,
            idle_timeout_ms: defaults::UPSTREAM_IDLE_TIMEOUT_MS,
            total_timeout_ms: 0,
            balance: Balance::default(),
            in_flight_max: 0,
            queue_max: 0,
            queue_timeout_ms: 0,
            retries: Retries::default(),
            health: None,
            ejection: Ejection::default(),
            slow_start_ms: 0,
            proxy_protocol: None,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
