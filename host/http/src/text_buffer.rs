//! Text that lives as long as a message, such as a head, in a buffer that its thread uses again.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Room in a new buffer: a usual head fits.
const BYTES_USUAL: usize = 1_024;
/// Largest buffer that is kept.
const KEPT_BYTES_MAX: usize = 8 << 10;
/// Most buffers that a thread keeps: as many as it writes between two turns.
const KEPT_MAX: usize = 64;

thread_local!(static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });

/// Text of a message. Its buffer goes back to the thread that drops it. The default has none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TextBuffer(Vec<u8>);

impl TextBuffer {
    /// Makes an empty text with room for a usual head.
    pub fn new() -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        Self(kept.unwrap_or_else(|| Vec::with_capacity(BYTES_USUAL)))
    }

    /// Takes a buffer, if it has none.
    pub fn make_room(&mut self) {
        if self.0.capacity() == 0 {
            *self = Self::new();
        }
    }

    /// Empties the text. A buffer that is not too large goes back to the thread.
    pub fn release(&mut self) {
        if self.0.capacity() <= KEPT_BYTES_MAX {
            *self = Self::default();
        } else {
            self.0.clear();
        }
    }
}

impl From<Vec<u8>> for TextBuffer {
    fn from(text: Vec<u8>) -> Self {
        Self(text)
    }
}

impl Clone for TextBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.extend_from_slice(self);
        copy
    }
}

impl Deref for TextBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for TextBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for TextBuffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if (BYTES_USUAL..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            // A thread at its end keeps nothing.
            let _ = KEPT.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT_MAX {
                    kept.push(buffer);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_empty_then() {
        let mut text = TextBuffer::new();
        text.extend_from_slice(b"GET / HTTP/1.1");
        let buffer = text.as_ptr();
        drop(text);
        let again = TextBuffer::new();
        assert_eq!(again.as_ptr(), buffer);
        assert!(again.is_empty());
        for odd in [1, KEPT_BYTES_MAX + 1] {
            drop(TextBuffer(Vec::with_capacity(odd)));
            let capacity = TextBuffer::new().capacity();
            assert!(
                (BYTES_USUAL..=KEPT_BYTES_MAX).contains(&capacity),
                "a small one would grow, and a large one would stay: {capacity}"
            );
        }
    }
}
