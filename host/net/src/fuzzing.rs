//! Properties that must hold for any bytes at all. A fuzz target (`just fuzz`) and a short random test call the same
//! function.

pub use crate::proxy_protocol::fuzzing::proxy_protocol;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Each makes sockets.
    const ROUNDS: usize = 2_000;
    const SEEDS: [&[u8]; 2] = [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\xdc\x04\x01\xbbGET",
    ];

    #[test]
    fn proxy_headers_hold_for_damaged_bytes() {
        let mut random = StdRng::seed_from_u64(0x9e37);
        for round in 0..ROUNDS {
            let mut data = vec![random.random()];
            data.extend_from_slice(SEEDS[round % SEEDS.len()]);
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..data.len());
                data[at] = random.random();
            }
            proxy_protocol(&data);
        }
    }
}
