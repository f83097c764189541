//! Frames (RFC 6455, section 5.2).

use super::Violation;
use bytes::{BufMut, Bytes, BytesMut};

/// Most bytes that a control frame carries.
pub(super) const CONTROL_BYTES_MAX: usize = 125;
/// Longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that began before.
    Continuation = 0,
    /// Message of UTF-8.
    Text = 1,
    /// Message of bytes.
    Binary = 2,
    /// End of the connection.
    Close = 8,
    /// Ping, to be answered with a pong of the same content.
    Ping = 9,
    /// Answer to a ping.
    Pong = 10,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }

    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// Head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    /// RSV1: whether the message is deflated.
    pub(super) is_deflated: bool,
    pub(super) bytes: u64,
    pub(super) mask: [u8; 4],
}

impl FrameHead {
    /// Reads a head, and returns it with its length in bytes; `None` until there is enough.
    pub(super) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        if first & 0x30 != 0 {
            return Err(Violation::protocol("a reserved bit is set"));
        }
        let opcode = Opcode::of(first & 0x0f);
        let opcode = opcode.ok_or(Violation::protocol("an opcode that is not defined"))?;
        if second & 0x80 == 0 {
            return Err(Violation::protocol("a client's frame without a mask"));
        }
        let (is_final, is_deflated) = (first & 0x80 != 0, first & 0x40 != 0);
        let short = second & 0x7f;
        if opcode.is_control()
            && (!is_final || is_deflated || usize::from(short) > CONTROL_BYTES_MAX)
        {
            return Err(Violation::protocol(
                "a control frame that is long, deflated or in parts",
            ));
        }
        let (bytes, rest, length) = match short {
            126 => match rest {
                [a, b, rest @ ..] => (u64::from(u16::from_be_bytes([*a, *b])), rest, 2),
                _ => return Ok(None),
            },
            127 => match rest {
                [a, b, c, d, e, f, g, h, rest @ ..] => (
                    u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
                    rest,
                    8,
                ),
                _ => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        if (length == 2 && bytes < 126)
            || (length == 8 && bytes <= u16::MAX.into())
            || bytes >> 63 == 1
        {
            return Err(Violation::protocol(
                "a length that is not written the shortest way",
            ));
        }
        let [a, b, c, d, ..] = rest else {
            return Ok(None);
        };
        let head = Self {
            opcode,
            is_final,
            is_deflated,
            bytes,
            mask: [*a, *b, *c, *d],
        };
        Ok(Some((head, 2 + length + 4)))
    }
}

/// Takes a mask off, in place; `at` is how much of the frame came before.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4], at: u64) {
    let turn = (at % 4) as u32 * 8;
    let mask = u32::from_le_bytes(mask).rotate_right(turn);
    let eight = u64::from(mask) << 32 | u64::from(mask);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let plain = u64::from_le_bytes(word.try_into().expect("eight bytes")) ^ eight;
        word.copy_from_slice(&plain.to_le_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(eight.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Makes a server's frame: a whole message or a control frame. `is_deflated` where `payload` is what
/// [`super::deflate()`] made.
pub fn frame(opcode: Opcode, is_deflated: bool, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES_MAX + payload.len());
    out.put_u8(0x80 | u8::from(is_deflated) << 6 | opcode as u8);
    match payload.len() {
        short @ ..126 => out.put_u8(short as u8),
        middle @ ..=0xffff => {
            out.put_u8(126);
            out.put_u16(middle as u16);
        }
        long => {
            out.put_u8(127);
            out.put_u64(long as u64);
        }
    }
    out.put_slice(payload);
    out.freeze()
}

/// Makes a closing frame; the reason is cut to what fits.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let most = CONTROL_BYTES_MAX - 2;
    let end = (0..=reason.len().min(most))
        .rev()
        .find(|end| reason.is_char_boundary(*end));
    let reason = &reason[..end.unwrap_or(0)];
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    frame(Opcode::Close, false, &payload)
}
