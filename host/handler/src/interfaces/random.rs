//! `protoplex:host/random`: numbers from `rand`'s thread-local generator, which the kernel reseeds; a system call for each
//! would cost too much.

use crate::{bindings::host::protoplex::host::random::Host, state::HostState};

/// `random.bytes` gives at most this many a call.
const RANDOM_BYTES_MAX: u32 = 4 << 10;

impl Host for HostState {
    fn u64(&mut self) -> u64 {
        rand::random()
    }

    fn bytes(&mut self, length: u32) -> Vec<u8> {
        let length = length.min(RANDOM_BYTES_MAX) as usize;
        let words = std::iter::repeat_with(|| rand::random::<u64>().to_le_bytes());
        words.flatten().take(length).collect()
    }
}
