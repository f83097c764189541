//! From the bytes of a connection to whole messages. Parts are unmasked where they lie; a message is refused at the head
//! of the frame that makes it too large.

use super::{
    Opcode, Violation, code,
    deflate::{TOO_LARGE, inflate, inflate_beginning},
    frame::{FrameHead, unmask},
};
use bytes::{Buf, Bytes, BytesMut};

/// Bytes kept of a message that is too large: enough to tell which it is.
const BEGINNING_BYTES: usize = 128;
/// Bytes kept of a compressed message that is too large, before it is inflated.
const DEFLATED_BEGINNING_BYTES: usize = 1_024;

/// Limits on what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of one message, inflated.
    pub message_bytes_max: usize,
    /// Bytes, as they come, of one message above that limit which are read and thrown away, so that the connection goes
    /// on; one with more ends it.
    pub discarded_bytes_max: u64,
    /// Frames of one message: empty ones add nothing to its bytes, and a message of them would never end.
    pub frames_max: u32,
}

/// What the reader found: a frame, or a whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// A message of UTF-8.
    Text(Bytes),
    /// A message of bytes.
    Binary(Bytes),
    /// Frame of a message, and not its last. It says nothing, but costs what a frame costs: whoever reads counts it.
    Part,
    /// Ping, to be answered with a pong of the same content.
    Ping(Bytes),
    /// Pong, the answer to a ping.
    Pong(Bytes),
    /// Message above the limit that was thrown away; how it began.
    TooLarge {
        /// First bytes of the message, inflated.
        beginning: Bytes,
        /// All bytes of the message, as they came.
        bytes: u64,
    },
    /// End of the other side: its code, where it gave one, and its reason.
    Close(Option<u16>, Bytes),
}

/// Message of which some has come.
#[derive(Debug)]
struct PartialMessage {
    opcode: Opcode,
    is_deflated: bool,
    /// Content so far; of a message that is too large, the beginning.
    content: BytesMut,
    is_too_large: bool,
    /// Bytes as they came, those of the frame that is under way included.
    bytes: u64,
    frames: u32,
    /// Bytes of the content that are known to be UTF-8.
    checked: usize,
}

/// Reader of one connection: from its bytes to whole messages.
#[derive(Debug)]
pub struct MessageReader {
    limits: MessageLimits,
    may_deflate: bool,
    /// Frame that is under way, and how much of it has come.
    frame: Option<(FrameHead, u64)>,
    message: Option<Box<PartialMessage>>,
    control: BytesMut,
}

impl MessageReader {
    /// Makes the reader of a connection; `may_deflate` where the handshake agreed on it.
    pub fn new(limits: MessageLimits, may_deflate: bool) -> Self {
        Self {
            limits,
            may_deflate,
            frame: None,
            message: None,
            control: BytesMut::new(),
        }
    }

    /// Bytes held of a message that has not come whole.
    pub fn held(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.content.len())
    }

    /// Takes at most one frame from `input`; `None` when more of it has to come. Each whole frame is an event, so that
    /// whoever counts events counts frames.
    ///
    /// # Errors
    /// The client broke the protocol. Nothing more may be read.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<FrameEvent>, Violation> {
        let (head, came) = match self.frame {
            Some(frame) => frame,
            None => {
                let Some((head, bytes)) = FrameHead::parse(input)? else {
                    return Ok(None);
                };
                self.begin(&head)?;
                input.advance(bytes);
                (head, 0)
            }
        };
        let left = usize::try_from(head.bytes - came).unwrap_or(usize::MAX);
        let mut part = input.split_to(left.min(input.len()));
        unmask(&mut part, head.mask, came);
        let came = came + part.len() as u64;
        self.take(&head, part)?;
        if came < head.bytes {
            self.frame = Some((head, came));
            return Ok(None);
        }
        self.frame = None;
        self.end(&head).map(Some)
    }

    /// Begins a frame, if its head may stand here.
    fn begin(&mut self, head: &FrameHead) -> Result<(), Violation> {
        if head.opcode.is_control() {
            self.control.clear();
            return Ok(());
        }
        let is_first = head.opcode != Opcode::Continuation;
        if is_first == self.message.is_some() {
            return Err(Violation::protocol(match is_first {
                true => "a message begins within another",
                false => "a continuation of nothing",
            }));
        }
        if head.is_deflated && !(is_first && self.may_deflate) {
            return Err(Violation::protocol(
                "a deflated frame where none was agreed on",
            ));
        }
        let message = self.message.get_or_insert_with(|| {
            Box::new(PartialMessage {
                opcode: head.opcode,
                is_deflated: head.is_deflated,
                content: BytesMut::new(),
                is_too_large: false,
                bytes: 0,
                frames: 0,
                checked: 0,
            })
        });
        message.frames += 1;
        message.bytes = message.bytes.saturating_add(head.bytes);
        if message.frames > self.limits.frames_max {
            return Err(TOO_LARGE);
        }
        if message.bytes > self.limits.message_bytes_max as u64 {
            if message.bytes > self.limits.discarded_bytes_max {
                return Err(TOO_LARGE);
            }
            message.is_too_large = true;
            message.forget();
        }
        Ok(())
    }

    /// Takes a part of a frame's content. Text that is wrong already is not waited for.
    fn take(&mut self, head: &FrameHead, part: BytesMut) -> Result<(), Violation> {
        let Some(message) = self.message.as_mut().filter(|_| !head.opcode.is_control()) else {
            self.control.extend_from_slice(&part);
            return Ok(());
        };
        if message.is_too_large {
            let room = message
                .beginning_max()
                .saturating_sub(message.content.len());
            let kept = &part[..part.len().min(room)];
            message.content.extend_from_slice(kept);
            return Ok(());
        }
        if message.content.is_empty() {
            message.content = part;
        } else {
            message.content.extend_from_slice(&part);
        }
        if message.opcode == Opcode::Text && !message.is_deflated {
            message.checked += valid_up_to(&message.content[message.checked..])?;
        }
        Ok(())
    }

    /// Ends a frame: all of it has come.
    fn end(&mut self, head: &FrameHead) -> Result<FrameEvent, Violation> {
        if head.opcode.is_control() {
            let content = self.control.split().freeze();
            return Ok(match head.opcode {
                Opcode::Ping => FrameEvent::Ping(content),
                Opcode::Pong => FrameEvent::Pong(content),
                _ => close(content)?,
            });
        }
        let Some(message) = self.message.take_if(|_| head.is_final) else {
            return Ok(FrameEvent::Part);
        };
        if message.is_too_large {
            return Ok(message.too_large());
        }
        let is_text = message.opcode == Opcode::Text;
        let content: Bytes = if message.is_deflated {
            let content = match inflate(&message.content, self.limits.message_bytes_max) {
                Err(TOO_LARGE) if message.bytes <= self.limits.discarded_bytes_max => {
                    return Ok(message.too_large());
                }
                content => content?,
            };
            if is_text && valid_up_to(&content)? != content.len() {
                return Err(NOT_UTF8);
            }
            content.into()
        } else {
            if is_text && message.checked != message.content.len() {
                return Err(NOT_UTF8);
            }
            message.content.freeze()
        };
        Ok(match is_text {
            true => FrameEvent::Text(content),
            false => FrameEvent::Binary(content),
        })
    }
}

impl PartialMessage {
    fn beginning_max(&self) -> usize {
        match self.is_deflated {
            true => DEFLATED_BEGINNING_BYTES,
            false => BEGINNING_BYTES,
        }
    }

    /// Drops the content but for its beginning, in memory of its own.
    fn forget(&mut self) {
        let kept = self.content.len().min(self.beginning_max());
        self.content = BytesMut::from(&self.content[..kept]);
    }

    fn too_large(&self) -> FrameEvent {
        let mut beginning = match self.is_deflated {
            true => inflate_beginning(&self.content, BEGINNING_BYTES),
            false => self.content.to_vec(),
        };
        beginning.truncate(BEGINNING_BYTES);
        FrameEvent::TooLarge {
            beginning: beginning.into(),
            bytes: self.bytes,
        }
    }
}

/// Number of bytes that are UTF-8; what is left may become so with more.
fn valid_up_to(text: &[u8]) -> Result<usize, Violation> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(NOT_UTF8),
    }
}

/// Reads a closing frame (RFC 6455, sections 5.5.1 and 7.4).
fn close(content: Bytes) -> Result<FrameEvent, Violation> {
    let [a, b, reason @ ..] = &content[..] else {
        return match content.is_empty() {
            true => Ok(FrameEvent::Close(None, content)),
            false => Err(Violation::protocol("half a closing code")),
        };
    };
    let code = u16::from_be_bytes([*a, *b]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::protocol("a closing code that must not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(NOT_UTF8);
    }
    Ok(FrameEvent::Close(Some(code), content.slice(2..)))
}

const NOT_UTF8: Violation = Violation {
    code: code::NOT_UTF8,
    reason: "text that is not UTF-8",
};
