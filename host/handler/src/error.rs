//! Why a handler gave no answer, and what the client gets instead.

use http::StatusCode;

/// The cause that ended a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandlerError {
    /// The guest trapped; the text has its backtrace.
    #[error("trap: {0}")]
    Trap(String),
    /// More CPU time than `cpu_ms_max`.
    #[error("out of CPU time: {0} ms is the most (cpu_ms_max)")]
    Cpu(u64),
    /// No response head within `deadline_ms`.
    #[error("no answer within {0} ms (deadline_ms)")]
    Deadline(u64),
    /// A memory or table grew past its limit, and the guest died of it.
    #[error("out of memory: {0}")]
    Memory(String),
    /// A host call moved more than `hostcall_bytes_max` out of the guest.
    #[error(
        "a host call copied too much out of the guest: {0} bytes is the most (hostcall_bytes_max)"
    )]
    HostcallBytes(u64),
    /// An inline response above `response_bytes_max`.
    #[error("the response has {bytes} bytes; {max} is the most (response_bytes_max)")]
    ResponseTooLarge {
        /// Bytes of the response.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A response with a head above the limits, which no node would pass on.
    #[error("the response cannot be sent: {0}")]
    ResponseHead(&'static str),
    /// Every place is taken and the queue is full.
    #[error("{in_flight} requests in flight and {queued} waiting (in_flight_max, queue_max)")]
    Busy {
        /// Requests in flight.
        in_flight: u32,
        /// Requests waiting.
        queued: u32,
    },
    /// Too many responses are being sent: all that may be at once, or all of one client's share.
    #[error(
        "{0} responses are being sent, all that may be or all of one client's share (streams_max)"
    )]
    Streams(u32),
    /// No instance could be made.
    #[error("no instance: {0}")]
    Instantiate(String),
    /// The guest answered with an error of `wasi:http`.
    #[error("the handler answered with an error: {0}")]
    Guest(String),
    /// A decision outside the handler's grants, or one that makes no sense.
    #[error("refused decision: {0}")]
    Refused(String),
}

impl HandlerError {
    /// The client's status. The only place that picks it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Cpu(_) | Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy { .. } | Self::Streams(_) | Self::Instantiate(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Guest(_) => StatusCode::BAD_GATEWAY,
            Self::Trap(_)
            | Self::Memory(_)
            | Self::HostcallBytes(_)
            | Self::ResponseTooLarge { .. }
            | Self::ResponseHead(_)
            | Self::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Cpu(_) => "cpu",
            Self::Deadline(_) => "deadline",
            Self::Memory(_) => "memory",
            Self::HostcallBytes(_) => "hostcall-bytes",
            Self::ResponseTooLarge { .. } => "response-bytes",
            Self::ResponseHead(_) => "response-head",
            Self::Busy { .. } => "busy",
            Self::Streams(_) => "streams",
            Self::Instantiate(_) => "instantiate",
            Self::Guest(_) => "guest-error",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether an instance died of it (and not merely a request).
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Trap(_)
                | Self::Cpu(_)
                | Self::Deadline(_)
                | Self::Memory(_)
                | Self::HostcallBytes(_)
        )
    }
}
