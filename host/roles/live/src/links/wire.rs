//! What goes over a link: a greeting each way, then frames, each behind its length (32 bits, big-endian). A length of
//! nothing is a sign of life.

use bytes::{BufMut, Bytes, BytesMut};
use protoplex_channels::{FRAME_BYTES_MAX, Frame};
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
    out.put_u32(u32::try_from(text.len()).map_err(io::Error::other)?);
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
    let frame = Frame::decode(whole.freeze());
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    frame.map(Some).map_err(invalid)
}
