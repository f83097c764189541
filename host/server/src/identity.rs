//! Ids of requests: unique and cheap. They are names, not secrets: who sees one can compute the next.

/// Makes the ids of one connection.
pub(crate) struct RequestIds {
    next: u64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self {
            next: rand::random(),
        }
    }

    /// Makes an id of 16 hexadecimal digits: a counter from a random start, mixed (splitmix64).
    pub(crate) fn next(&mut self) -> [u8; 16] {
        self.next = self.next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.next;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut digits = [0; 16];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(mixed >> (60 - 4 * at)) as usize & 15];
        }
        digits
    }
}

/// Text of an id.
pub(crate) fn text(id: &[u8; 16]) -> &str {
    std::str::from_utf8(id).unwrap_or_default()
}
