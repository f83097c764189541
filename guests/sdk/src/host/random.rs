//! Random numbers, fit for keys.

/// Draws 64 random bits.
pub fn u64() -> u64 {
    super::imports::random::u64()
}

/// Draws at most 4096 random bytes.
pub fn bytes(length: u32) -> Vec<u8> {
    super::imports::random::bytes(length)
}
