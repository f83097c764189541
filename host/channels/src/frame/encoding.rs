//! Form of frames on a link: a length, the frame as JSON behind its own length, and the contents of its messages, each
//! behind its length. All lengths are 32 bits, big-endian.

use super::Frame;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest frame, without its length: a channel that moves, with all of its history.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why bytes are no frame, or a frame cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Larger than [`FRAME_BYTES_MAX`].
    #[error("a frame of over {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// Lengths that do not fit to each other.
    #[error("a frame is shorter than it says")]
    Cut,
    /// A head that is no frame of this version.
    #[error("the head of a frame cannot be read: {0}")]
    Head(#[from] serde_json::Error),
    /// Numbers that no child can have come to, such as more messages than the stream has had.
    #[error("a frame that contradicts itself")]
    Contradiction,
    /// More or fewer contents than the frame has messages.
    #[error("a frame with other contents than it says")]
    WrongContents,
}

fn length(bytes: usize) -> Result<u32, FrameError> {
    match bytes <= FRAME_BYTES_MAX {
        true => Ok(bytes as u32),
        false => Err(FrameError::TooLarge),
    }
}

impl Frame {
    /// The frame as it travels, its length included.
    ///
    /// # Errors
    /// The frame is larger than [`FRAME_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let head = serde_json::to_vec(self)?;
        let data = self.data();
        let bytes = 4 + head.len() + data.iter().map(|piece| 4 + piece.len()).sum::<usize>();
        let mut out = BytesMut::with_capacity(4 + bytes);
        out.put_u32(length(bytes)?);
        out.put_u32(length(head.len())?);
        out.put_slice(&head);
        for piece in data {
            out.put_u32(length(piece.len())?);
            out.put_slice(&piece);
        }
        Ok(out.freeze())
    }

    /// Reads a frame from the bytes behind its length.
    ///
    /// # Errors
    /// They are not one frame.
    pub fn decode(mut whole: Bytes) -> Result<Self, FrameError> {
        let mut piece = || {
            let bytes = whole.try_get_u32().map_err(|_| FrameError::Cut)? as usize;
            match bytes <= whole.len() {
                true => Ok((whole.split_to(bytes), whole.is_empty())),
                false => Err(FrameError::Cut),
            }
        };
        let (head, mut is_last) = piece()?;
        let frame: Self = serde_json::from_slice(&head)?;
        if !frame.is_possible() {
            return Err(FrameError::Contradiction);
        }
        let mut data = Vec::new();
        while !is_last {
            let content;
            (content, is_last) = piece()?;
            data.push(content);
        }
        let frame = frame.with_data(data);
        frame.map_err(|_| FrameError::WrongContents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Body, KeptMessage};

    fn frame(body: Body) -> Frame {
        Frame {
            version: 7,
            origin: 9,
            channel: "room:1".into(),
            body,
        }
    }

    #[test]
    fn frames_round_trip_and_no_prefix_of_a_frame_is_read() {
        let kept = |text: &'static str| KeptMessage {
            age_ms: 1,
            data: text.into(),
        };
        let publish = Body::Publish {
            number: 1,
            settled: 0,
            key: Some("k".into()),
            data: "hello".into(),
        };
        let recovered = Body::Recovered {
            request: 3,
            position: "abc-3".parse().expect("a position"),
            missed: Some(vec![kept("a"), kept("")]),
        };
        for body in [publish, recovered, Body::Moved] {
            let sent = frame(body).encode().expect("it is small");
            let whole = sent.slice(4..);
            let read = Frame::decode(whole.clone()).expect("it is one frame");
            assert_eq!(read.encode().expect("it is small"), sent, "{read:?}");
            for end in 0..whole.len() {
                assert!(Frame::decode(whole.slice(..end)).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn a_frame_with_more_contents_than_messages_is_refused() {
        let sent = frame(Body::Moved).encode().expect("it is small");
        let more = [&sent[4..], &[0; 4]].concat();
        let refused = Frame::decode(more.into());
        assert!(matches!(refused, Err(FrameError::WrongContents)));
    }
}
