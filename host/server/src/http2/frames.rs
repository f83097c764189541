//! Reads the heads of frames that pass by (RFC 9113, section 4.1), to count what a client does. h2 parses the frames
//! for good; here none is refused for its form.

/// What the head of a frame says, and of some frames the first word of their payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameSummary {
    pub(super) bytes: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Increment of a `WINDOW_UPDATE`.
    pub(super) increment: u32,
    /// Error code of a `RST_STREAM`.
    pub(super) code: u32,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// Flag of `SETTINGS` and `PING`: an acknowledgement. The same bit is `END_STREAM` in `DATA` and `HEADERS`.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
/// Flag of `HEADERS` and `CONTINUATION`: the head is whole.
pub(super) const END_HEADERS: u8 = 4;

const HEAD_BYTES: usize = 9;
/// Bytes of payload that are read of a `WINDOW_UPDATE` or a `RST_STREAM`.
const WORD_BYTES: usize = 4;

/// Scanner of one direction of a connection.
pub(super) struct Scanner {
    /// Bytes to skip of the preface or a payload.
    skip: usize,
    head: [u8; HEAD_BYTES + WORD_BYTES],
    have: usize,
    /// Whether the bytes to skip are a payload of `DATA`.
    in_data: bool,
    /// Bytes of payloads of `DATA` that have passed.
    data_bytes: u64,
}

impl Scanner {
    /// Makes a scanner; `preface_bytes` come before the first frame.
    pub(super) fn new(preface_bytes: usize) -> Self {
        Self {
            skip: preface_bytes,
            head: [0; HEAD_BYTES + WORD_BYTES],
            have: 0,
            in_data: false,
            data_bytes: 0,
        }
    }

    /// Takes the number of bytes of `DATA` that have passed since the last call.
    pub(super) fn take_data_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.data_bytes)
    }

    /// Whether a frame has just ended, or none has begun.
    pub(super) fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Looks at bytes that pass, and calls `each` for every frame whose head is complete.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameSummary)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            if self.in_data {
                self.data_bytes += skipped as u64;
            }
            bytes = &bytes[skipped..];
            let taken = (self.needed() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have > 0 && self.have == self.needed() {
                each(self.complete());
            }
        }
    }

    fn needed(&self) -> usize {
        let has_word =
            self.have >= HEAD_BYTES && matches!(self.head[3], WINDOW_UPDATE | RST_STREAM);
        if has_word && self.length() == WORD_BYTES {
            HEAD_BYTES + WORD_BYTES
        } else {
            HEAD_BYTES
        }
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn complete(&mut self) -> FrameSummary {
        let word = |at: usize| {
            let bytes = [
                self.head[at],
                self.head[at + 1],
                self.head[at + 2],
                self.head[at + 3],
            ];
            u32::from_be_bytes(bytes)
        };
        let payload_seen = self.have - HEAD_BYTES;
        let payload_of = |kind| match payload_seen {
            WORD_BYTES if self.head[3] == kind => word(HEAD_BYTES),
            _ => 0,
        };
        let frame = FrameSummary {
            bytes: self.length(),
            kind: self.head[3],
            flags: self.head[4],
            stream: word(5) & 0x7fff_ffff,
            increment: payload_of(WINDOW_UPDATE) & 0x7fff_ffff,
            code: payload_of(RST_STREAM),
        };
        self.skip = frame.bytes - payload_seen;
        self.in_data = frame.kind == DATA;
        self.have = 0;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 3, DATA, END_STREAM, 0, 0, 0, 5, 1, 2, 3]);
        bytes.extend([0, 0, 4, WINDOW_UPDATE, 0, 0x80, 0, 0, 7, 0, 0, 1, 2]);
        bytes.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 0, 9, 0x80, 0, 0, 7]);
        bytes.extend([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
        let frame = |bytes, kind, flags, stream, increment| FrameSummary {
            bytes,
            kind,
            flags,
            stream,
            increment,
            code: 0,
        };
        let expected = [
            frame(3, DATA, END_STREAM, 5, 0),
            frame(4, WINDOW_UPDATE, 0, 7, 258),
            FrameSummary {
                code: 0x8000_0007,
                ..frame(4, RST_STREAM, 0, 9, 0)
            },
            frame(0, SETTINGS, ACK, 0, 0),
        ];
        for piece in 1..bytes.len() {
            let (mut scanner, mut seen) = (Scanner::new(24), Vec::new());
            for part in bytes.chunks(piece) {
                scanner.scan(part, |frame| seen.push(frame));
            }
            assert_eq!(seen, expected, "{piece}");
            assert_eq!(scanner.take_data_bytes(), 3, "{piece}");
            assert!(scanner.is_between_frames());
        }
    }
}
