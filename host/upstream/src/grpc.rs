//! Calls of gRPC: what their heads say of how they go on (gRPC over HTTP/2, "Requests").

use super::outbound::Outbound;
use std::time::Duration;

/// Longest `grpc-timeout` that gives a server more time than its upstream does. Clients that mean no deadline at all
/// write one of years; a client that waits for longer than this asks again.
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Most digits of a `grpc-timeout` (gRPC over HTTP/2).
const DIGITS_MAX: usize = 8;

/// What the head of a gRPC call says of its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcCall {
    /// How long the client waits for the whole response, if it says so; at most [`TIMEOUT_MAX`].
    pub(super) timeout: Option<Duration>,
}

impl GrpcCall {
    /// Reads a request as a gRPC call; `None` where it is none. Every client of gRPC takes trailers, so all others are
    /// told apart at once.
    pub(super) fn of(request: &Outbound) -> Option<Self> {
        if !request.takes_trailers {
            return None;
        }
        let (mut is_call, mut timeout) = (false, None);
        for (name, value) in request.parts().1 {
            if name.eq_ignore_ascii_case(b"content-type") {
                is_call = is_content_type(value);
            } else if name.eq_ignore_ascii_case(b"grpc-timeout") {
                timeout = parse(value);
            }
        }
        is_call.then_some(Self {
            timeout: timeout.map(|timeout| timeout.min(TIMEOUT_MAX)),
        })
    }
}

/// Whether a content type is `application/grpc`, alone or with a format or a parameter. `application/grpc-web` is
/// something else.
fn is_content_type(value: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    value
        .split_at_checked(GRPC.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(GRPC)
                && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        })
}

/// Reads a `grpc-timeout`: digits and a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3_600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_standard_has_them() {
        for (text, expected) in [
            ("30S", Some(Duration::from_secs(30))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("1500m", Some(Duration::from_millis(1_500))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("30", None),
            ("30s", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn calls_are_told_by_their_content_type() {
        for (text, is_call) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grp", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_content_type(text.as_bytes()), is_call, "{text}");
        }
    }
}
