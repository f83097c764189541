//! Buffers that connections read into. One that is empty goes back to its thread, and the next connection that has
//! something to read takes it while it is warm: a connection that waits has none.

use bytes::{Bytes, BytesMut};
use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Room in a buffer that is kept: for a usual head, or a small body.
const ROOM_BYTES: usize = 8 << 10;
/// Room in the largest buffer that is kept.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Most buffers that a thread keeps: as many connections as have read part of something.
const KEPT_MAX: usize = 64;

thread_local!(static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) });

/// Bytes that a connection has read and not used yet. `ReadBuffer::default()` holds no memory.
#[derive(Debug, Default)]
pub struct ReadBuffer(BytesMut);

impl ReadBuffer {
    /// Makes room to read so many bytes more.
    pub fn make_room(&mut self, bytes: usize) {
        if self.0.capacity() == 0 && bytes <= ROOM_BYTES {
            let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
            self.0 = kept.unwrap_or_else(|| BytesMut::with_capacity(ROOM_BYTES));
        }
        self.0.reserve(bytes);
    }

    /// Gives an empty buffer back to the thread while nothing comes. A large one stays, for the rest of a body.
    pub fn pause(&mut self) {
        if self.0.capacity() <= KEPT_BYTES_MAX {
            self.release();
        }
    }

    /// Gives an empty buffer back to the thread, or frees it; one that is not empty stays as it is.
    pub fn release(&mut self) {
        if !self.0.is_empty() || self.0.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        // A part of it may still be on its way, as a body.
        if buffer.try_reclaim(ROOM_BYTES) && buffer.capacity() <= KEPT_BYTES_MAX {
            // A thread at its end keeps nothing.
            let _ = KEPT.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT_MAX {
                    kept.push(buffer);
                }
            });
        }
    }

    /// The bytes that were read, for somebody else.
    pub fn freeze(self) -> Bytes {
        self.0.freeze()
    }
}

impl Deref for ReadBuffer {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.0
    }
}

impl DerefMut for ReadBuffer {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_is_read_into_by_the_next_connection() {
        let mut first = ReadBuffer::default();
        first.make_room(ROOM_BYTES);
        first.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let place = first.as_ptr();
        first.release();
        assert_eq!(&first[..3], b"GET", "what is not used yet stays");
        first.clear();
        first.release();
        assert_eq!(first.capacity(), 0);
        let mut second = ReadBuffer::default();
        second.make_room(ROOM_BYTES);
        assert_eq!(second.as_ptr(), place);
        assert!(second.is_empty() && second.capacity() >= ROOM_BYTES);
    }

    #[test]
    fn a_buffer_with_a_part_still_in_use_or_a_large_one_is_not_kept() {
        let mut shared = ReadBuffer::default();
        shared.make_room(ROOM_BYTES);
        shared.extend_from_slice(b"body");
        let body = shared.split_to(4).freeze();
        shared.release();
        let mut large = ReadBuffer::default();
        large.make_room(8 * ROOM_BYTES);
        large.pause();
        assert!(
            large.capacity() >= 8 * ROOM_BYTES,
            "more of the body will come"
        );
        large.release();
        assert_eq!(large.capacity(), 0);
        let mut next = ReadBuffer::default();
        next.make_room(ROOM_BYTES);
        next.extend_from_slice(b"other");
        assert!(next.capacity() <= KEPT_BYTES_MAX);
        assert_eq!(body, "body");
    }
}
