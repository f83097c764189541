//! What must hold for any frames of HTTP/2 as we look at them while they pass.

use super::{
    budget::FrameBudget,
    frames::{
        ACK, CONTINUATION, DATA, END_STREAM, FrameSummary, HEADERS, PING, RST_STREAM, SETTINGS,
        Scanner, WINDOW_UPDATE,
    },
};
use crate::Http2Limits;
use std::{collections::HashMap, time::Duration};

const MOST: u32 = 3;
const TINY_BYTES: u32 = 256;

/// Frames are told apart as a plain reading of all bytes does it, however they come, and the budget refuses exactly the
/// first that is one too many of its kind.
pub fn http2_frames(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let preface = usize::from(cut % 32);
    let Some(after_preface) = data.get(preface..) else {
        return;
    };
    let expected = plainly(after_preface);
    let (first, second) = data.split_at(usize::from(cut) % (data.len() + 1));
    for pieces in [&[data][..], &[first, second]] {
        assert_eq!(scanned(preface, pieces.iter().copied()), expected);
    }
    assert_eq!(scanned(preface, data.chunks(1)), expected, "byte by byte");
    let mut budget = FrameBudget::new(Http2Limits {
        interval: Duration::from_secs(3_600),
        resets_max: MOST,
        pings_max: MOST,
        settings_max: MOST,
        empty_frames_max: MOST,
        idle_frames_max: MOST,
        window_updates_max: MOST,
        window_update_bytes_min: TINY_BYTES,
        continuations_max: MOST,
        ..Http2Limits::default()
    });
    let mut counts = HashMap::new();
    for frame in &expected.0 {
        let is_too_many = kind(frame).is_some_and(|kind| {
            let count = counts.entry(kind).or_insert(0);
            *count += 1;
            *count > MOST
        });
        if frame.kind == HEADERS {
            counts.remove(&(CONTINUATION, false));
        }
        let refused = budget.received(frame).is_err();
        assert_eq!(refused, is_too_many, "{frame:?}");
        if refused {
            break;
        }
    }
}

/// The account that a frame counts on: its kind, and whether it is a tiny one. `None` where it costs its client enough.
fn kind(frame: &FrameSummary) -> Option<(u8, bool)> {
    let (is_ack, ends_stream) = (frame.flags & ACK != 0, frame.flags & END_STREAM != 0);
    match frame.kind {
        HEADERS => None,
        PING | SETTINGS if is_ack => None,
        DATA if ends_stream || frame.bytes > 0 => None,
        WINDOW_UPDATE => Some((WINDOW_UPDATE, frame.increment < TINY_BYTES)),
        kind @ (DATA | PING | SETTINGS | RST_STREAM | CONTINUATION) => Some((kind, false)),
        _ => Some((u8::MAX, false)),
    }
}

/// Frames whose heads are whole, bytes of `DATA`, and whether the last frame is.
type Seen = (Vec<FrameSummary>, u64, bool);

fn scanned<'a>(preface: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let (mut scanner, mut frames, mut data_bytes) = (Scanner::new(preface), Vec::new(), 0);
    for piece in pieces {
        scanner.scan(piece, |frame| frames.push(frame));
        data_bytes += scanner.take_data_bytes();
    }
    (frames, data_bytes, scanner.is_between_frames())
}

/// RFC 9113, section 4.1, as it is written.
fn plainly(mut bytes: &[u8]) -> Seen {
    let (mut frames, mut data_bytes) = (Vec::new(), 0);
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = &rest[..rest.len().min(length)];
        let word = match payload.first_chunk() {
            Some(word) if length == 4 => u32::from_be_bytes(*word),
            None if length == 4 && matches!(*kind, WINDOW_UPDATE | RST_STREAM) => break,
            _ => 0,
        };
        frames.push(FrameSummary {
            bytes: length,
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7fff_ffff,
            increment: if *kind == WINDOW_UPDATE {
                word & 0x7fff_ffff
            } else {
                0
            },
            code: if *kind == RST_STREAM { word } else { 0 },
        });
        if *kind == DATA {
            data_bytes += payload.len() as u64;
        }
        if payload.len() < length {
            return (frames, data_bytes, false);
        }
        bytes = &rest[length..];
    }
    (frames, data_bytes, bytes.is_empty())
}
