//! Two clocks. Neither can be waited on.

/// Reads the wall clock: milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> u64 {
    super::imports::clock::now_ms()
}

/// Reads a clock that never goes back, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    super::imports::clock::monotonic_ns()
}
