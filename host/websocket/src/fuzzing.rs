//! What must hold for anything that a client sends on a WebSocket.

use crate::{
    FrameEvent, MessageLimits, MessageReader, Opcode, Violation, frame,
    frame::{CONTROL_BYTES_MAX, unmask},
};
use bytes::{BufMut, BytesMut};

const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 512,
    discarded_bytes_max: 2_048,
    frames_max: 8,
};
/// More than the beginning of any message that is thrown away.
const BEGINNING_BYTES_MAX: usize = 128;

/// Messages are the same however the bytes are cut, within their limits, and read back as they were.
pub fn websocket(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = events([data]);
    let (first, second) = data.split_at(usize::from(cut) % (data.len() + 1));
    assert_eq!(events([first, second]), whole, "in two pieces");
    assert_eq!(events(data.chunks(1)), whole, "byte by byte");
    for event in &whole.0 {
        let (opcode, payload) = match event {
            FrameEvent::Text(text) => {
                assert!(text.len() <= LIMITS.message_bytes_max);
                assert!(std::str::from_utf8(text).is_ok(), "text is UTF-8");
                (Opcode::Text, text)
            }
            FrameEvent::Binary(content) => {
                assert!(content.len() <= LIMITS.message_bytes_max);
                (Opcode::Binary, content)
            }
            FrameEvent::Ping(content) => (Opcode::Ping, content),
            FrameEvent::Pong(content) => (Opcode::Pong, content),
            FrameEvent::TooLarge { beginning, bytes } => {
                assert!(beginning.len() <= BEGINNING_BYTES_MAX);
                assert!(*bytes <= LIMITS.discarded_bytes_max);
                continue;
            }
            FrameEvent::Part | FrameEvent::Close(..) => continue,
        };
        assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
        let sent = client_frame(opcode, payload, [cut, 7, cut, 9]);
        assert_eq!(events([&sent[..]]), (vec![event.clone()], None));
    }
}

/// Events of the input as it comes, and the violation that ended it.
fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<FrameEvent>, Option<Violation>) {
    let mut reader = MessageReader::new(LIMITS, true);
    let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.read(&mut buffer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
            assert!(reader.held() <= LIMITS.message_bytes_max);
        }
    }
    (events, None)
}

/// A frame as clients send them.
fn client_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> BytesMut {
    let plain = frame(opcode, false, payload);
    let (head, payload) = plain.split_at(plain.len() - payload.len());
    let mut out = BytesMut::from(head);
    out[1] |= 0x80;
    out.put_slice(&mask);
    let masked = out.len();
    out.put_slice(payload);
    unmask(&mut out[masked..], mask, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const ROUNDS: usize = 30_000;
    /// Text in two frames around a ping, masked with nothing.
    const SEED: &[u8] =
        b"\x01\x83\0\0\0\0abc\x89\x80\0\0\0\0\x80\x82\0\0\0\0\xc3\xa4\x88\x82\0\0\0\0\x03\xe8";

    #[test]
    fn frames_hold_for_damaged_bytes() {
        let mut random = StdRng::seed_from_u64(0x9e37);
        for _ in 0..ROUNDS {
            let mut data = vec![random.random()];
            data.extend_from_slice(SEED);
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..data.len());
                data[at] = random.random();
            }
            websocket(&data);
        }
    }
}
