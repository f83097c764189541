//! Faults of upstreams.

/// Servers that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// The name would be taken for a built-in upstream or an address.
    #[error("`:` is kept for built-in upstreams")]
    Name,
    /// The upstream has no server.
    #[error("it has no address")]
    NoAddress,
    /// The address of a server is none.
    #[error("address `{0}` must be host:port")]
    Address(String),
    /// A server is named twice.
    #[error("address `{0}` stands there twice")]
    AddressTwice(String),
    /// PROXY protocol is asked for on connections that clients share.
    #[error(
        "proxy_protocol names one client for each connection, and HTTP/2 shares them; write protocol = \"http1\" or \
         \"https-http1\""
    )]
    SharedConnections,
    /// There is a queue that nothing would ever wait in.
    #[error("queue_max has no meaning without in_flight_max: nothing is ever full")]
    NeverFull,
    /// There is a timeout for a queue, and no queue.
    #[error("queue_timeout_ms has no meaning without queue_max")]
    NoQueue,
    /// There is a queue, and no time to wait in it.
    #[error("queue_timeout_ms is 0, so nothing could ever wait")]
    NoWait,
    /// The share of servers is none.
    #[error(
        "ejection.servers_percent_max is {0}; it must be from 1 to 100, and ejection.failures = 0 ejects none"
    )]
    EjectedPercent(u32),
    /// A health check would end after the next has begun.
    #[error(
        "health.timeout_ms is {timeout_ms}; it must be from 1 to health.interval_ms, which is {interval_ms}"
    )]
    HealthTimeout {
        /// Milliseconds that a check may take.
        timeout_ms: u64,
        /// Milliseconds from one check to the next.
        interval_ms: u64,
    },
    /// There are settings of TLS with a protocol that has none.
    #[error(
        "tls has no meaning with a plain protocol; write protocol = \"https\" or \"https-http1\""
    )]
    PlainProtocol,
    /// No certificate can have this name.
    #[error("tls.server_name `{0}` must be a name as certificates have it, without a port")]
    ServerName(String),
    /// The file of authorities is too large.
    #[error("tls.ca has {bytes} bytes; {most} is the most")]
    AuthoritiesBytes {
        /// Size of the file in bytes.
        bytes: usize,
        /// The most bytes that the file may have.
        most: usize,
    },
    /// The file of authorities is not PEM.
    #[error(
        "tls.ca must be PEM: certificates between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
    )]
    NoPem,
}
