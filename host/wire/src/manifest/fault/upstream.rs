//! Faults of upstreams.

/// Servers that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// A name that would be taken for a built-in upstream or an address.
    #[error("`:` is kept for built-in upstreams")]
    Name,
    /// No server at all.
    #[error("it has no address")]
    NoAddress,
    /// An address that is none.
    #[error("address `{0}` must be host:port")]
    Address(String),
    /// A server that is named again.
    #[error("address `{0}` stands there twice")]
    AddressTwice(String),
    /// PROXY protocol on connections that clients share.
    #[error(
        "proxy_protocol names one visitor for each connection, and HTTP/2 shares them; write protocol = \"http1\" or \
         \"https-http1\""
    )]
    SharedConnections,
    /// A queue that nothing would ever wait in.
    #[error("queue_max has no meaning without in_flight_max: nothing is ever full")]
    NeverFull,
    /// A wait without a queue.
    #[error("queue_timeout_ms has no meaning without queue_max")]
    NoQueue,
    /// A queue without a wait.
    #[error("queue_timeout_ms is 0, so nothing could ever wait")]
    NoWait,
    /// A share of servers that is none.
    #[error(
        "ejection.servers_percent_max is {0}; it must be from 1 to 100, and ejection.failures = 0 ejects none"
    )]
    EjectedPercent(u32),
    /// A check that would end after the next has begun.
    #[error(
        "health.timeout_ms is {timeout_ms}; it must be from 1 to health.interval_ms, which is {interval_ms}"
    )]
    HealthTimeout {
        /// Time that a check may take.
        timeout_ms: u64,
        /// Time from one check to the next.
        interval_ms: u64,
    },
    /// TLS with a plain protocol.
    #[error(
        "tls has no meaning with a plain protocol; write protocol = \"https\" or \"https-http1\""
    )]
    PlainProtocol,
    /// A name that stands in no certificate.
    #[error("tls.server_name `{0}` must be a name as certificates have it, without a port")]
    ServerName(String),
    /// More authorities than anybody has.
    #[error("tls.ca has {bytes} bytes; {most} is the most")]
    AuthoritiesBytes {
        /// Bytes of the file.
        bytes: usize,
        /// The most that there may be.
        most: usize,
    },
    /// Authorities in another form.
    #[error(
        "tls.ca must be PEM: certificates between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
    )]
    NoPem,
}
