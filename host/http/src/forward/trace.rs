//! `traceparent` (W3C Trace Context): whether a request's is valid, and a new one where it has none.

/// Appends the value of a `traceparent` that begins a trace.
pub(super) fn new_trace(out: &mut Vec<u8>) {
    out.extend_from_slice(b"00-");
    hex(out, rand::random::<u64>().max(1));
    hex(out, rand::random());
    out.push(b'-');
    hex(out, rand::random::<u64>().max(1));
    out.extend_from_slice(b"-00");
}

fn hex(out: &mut Vec<u8>, number: u64) {
    let digit = |at: u32| b"0123456789abcdef"[(number >> at) as usize & 15];
    out.extend((0..16).rev().map(|at| digit(4 * at)));
}

/// Whether a value is a `traceparent` (W3C Trace Context, version 00).
pub(super) fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let some = |part: &[u8]| part.iter().any(|&b| b != b'0');
    value.len() == 55
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && hex(&value[3..35])
        && hex(&value[36..52])
        && hex(&value[53..])
        && some(&value[3..35])
        && some(&value[36..52])
}
