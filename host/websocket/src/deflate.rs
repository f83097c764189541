//! Raw DEFLATE without context takeover (RFC 7692, section 7.2). One compressor a thread serves all connections.

use super::{Violation, code};
use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

/// Bytes with which a flush ends, and which are not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Bytes of room that are made at a time.
const STEP_BYTES: usize = 4 << 10;
/// Least bytes that are deflated: shorter text becomes no shorter.
const DEFLATE_BYTES_MIN: usize = 64;
/// Level of compression: above it each step costs much and saves little, for JSON of a few kilobytes.
const LEVEL: u32 = 4;

thread_local! {
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Deflates a message, to be framed with its bit set; `None` where that would not be shorter.
pub fn deflate(message: &[u8]) -> Option<Bytes> {
    if message.len() < DEFLATE_BYTES_MIN {
        return None;
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut out = Vec::with_capacity(message.len() / 2 + STEP_BYTES);
        loop {
            let read = deflate.total_in() as usize;
            deflate
                .compress_vec(&message[read..], &mut out, FlushCompress::Sync)
                .ok()?;
            if out.len() > message.len() + TAIL.len() {
                return None;
            }
            // A flush is whole when it leaves room.
            if deflate.total_in() as usize == message.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(STEP_BYTES);
        }
        out.ends_with(&TAIL)
            .then(|| out.truncate(out.len() - TAIL.len()))?;
        (out.len() < message.len()).then(|| out.into())
    })
}

/// Inflates a message to at most `bytes_max`: a few bytes that stand for gigabytes are refused while they unfold.
pub(super) fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let mut out = Vec::with_capacity((message.len() * 3).min(bytes_max) + STEP_BYTES);
        for input in [message, &TAIL[..]] {
            let before = inflate.total_in();
            loop {
                let read = (inflate.total_in() - before) as usize;
                let status =
                    inflate.decompress_vec(&input[read..], &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| BROKEN)?;
                if out.len() > bytes_max {
                    return Err(TOO_LARGE);
                }
                if status == Status::StreamEnd {
                    return Ok(out); // A last block: whatever follows is not part of the message.
                }
                let read = (inflate.total_in() - before) as usize;
                if read == input.len() && out.len() < out.capacity() {
                    break;
                }
                out.reserve(STEP_BYTES);
            }
        }
        Ok(out)
    })
}

/// Inflates the beginning of a message: up to `bytes_max`, and fewer where that is all that can be made out.
pub(super) fn inflate_beginning(message: &[u8], bytes_max: usize) -> Vec<u8> {
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        // The vector never grows: exactly `bytes_max` are made, however much follows.
        let mut out = Vec::with_capacity(bytes_max);
        // Fails for broken input, which has no beginning beyond what was made before.
        let _ = inflate.decompress_vec(message, &mut out, FlushDecompress::Sync);
        out
    })
}

const BROKEN: Violation = Violation {
    code: code::NOT_UTF8,
    reason: "a deflated message that cannot be inflated",
};
pub(super) const TOO_LARGE: Violation = Violation {
    code: code::TOO_LARGE,
    reason: "a message above the limit",
};
