//! Two clocks. Neither can be waited on.

/// Milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> u64 {
    super::imports::clock::now_ms()
}

/// Nanoseconds of a clock that never goes back.
pub fn monotonic_ns() -> u64 {
    super::imports::clock::monotonic_ns()
}
