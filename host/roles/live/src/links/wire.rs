//! Form of frames on a link: a length, the frame as JSON behind its own length, and the contents of its messages, each
//! behind its length. All lengths are 32 bits, big-endian. Nothing at all is a sign of life.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protoplex_channels::Frame;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame: a channel that moves, with all of its history.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// The largest greeting.
const HELLO_BYTES_MAX: usize = 4 << 10;
/// Raised where old and new do not understand each other.
pub(super) const PROTOCOL: u32 = 1;

/// The first words of either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// Node of the sender.
    pub(super) node: String,
    pub(super) child: u16,
    /// A number of that process alone.
    pub(super) process: u64,
    /// Node that is meant: a sibling may answer for a child that is dead.
    pub(super) to_node: String,
    pub(super) to_child: u16,
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

pub(super) async fn write_hello(
    io: &mut (impl AsyncWrite + Unpin),
    hello: &Hello,
) -> io::Result<()> {
    let text = serde_json::to_vec(hello)?;
    let mut out = BytesMut::with_capacity(text.len() + 4);
    out.put_u32(length(text.len())?);
    out.put_slice(&text);
    io.write_all(&out).await?;
    io.flush().await
}

pub(super) async fn read_hello(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let bytes = io.read_u32().await? as usize;
    if bytes > HELLO_BYTES_MAX {
        return Err(invalid("a greeting is shorter"));
    }
    let mut text = vec![0; bytes];
    io.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

fn length(bytes: usize) -> io::Result<u32> {
    match bytes <= FRAME_BYTES_MAX {
        true => Ok(bytes as u32),
        false => Err(invalid("a frame above the limit")),
    }
}

/// A frame as it travels.
pub(super) fn encode(frame: &Frame) -> io::Result<Bytes> {
    let head = serde_json::to_vec(frame)?;
    let data = frame.data();
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

/// A sign of life.
pub(super) fn nothing() -> Bytes {
    Bytes::from_static(&[0; 4])
}

/// The next frame; `None` for a sign of life.
///
/// # Cancel safety
/// None: what has been read is lost with the future.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let bytes = io.read_u32().await? as usize;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes > FRAME_BYTES_MAX {
        return Err(invalid("a frame above the limit"));
    }
    let mut whole = BytesMut::zeroed(bytes);
    io.read_exact(&mut whole).await?;
    decode(whole.freeze()).map(Some)
}

fn decode(mut whole: Bytes) -> io::Result<Frame> {
    let mut piece = || {
        if whole.is_empty() {
            return Ok(None);
        }
        let short = || invalid("a frame is shorter than it says");
        let bytes = whole.try_get_u32().map_err(|_| short())? as usize;
        if bytes > whole.len() {
            return Err(short());
        }
        Ok(Some(whole.split_to(bytes)))
    };
    let head = piece()?.ok_or_else(|| invalid("a frame without a head"))?;
    let frame: Frame = serde_json::from_slice(&head)?;
    let mut data = Vec::new();
    while let Some(content) = piece()? {
        data.push(content);
    }
    frame
        .with_data(data)
        .map_err(|_| invalid("a frame with other contents than it says"))
}
