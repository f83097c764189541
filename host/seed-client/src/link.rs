//! The node's end of the Seed link.

use super::{ClientError, StreamedResponse, streams::broken};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use hyper::body::Incoming;
use protoplex_fleet::lines::FrameLines;
use protoplex_wire::link::{self, FromNode, FromSeed, Hello};
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Frames that may wait for the connection: more than a minute of heartbeats.
const QUEUE_FRAMES_MAX: usize = 64;

/// Sending half of a node's link. A clone speaks on the same link.
#[derive(Clone)]
pub struct LinkSender {
    frames: mpsc::Sender<Bytes>,
}

impl LinkSender {
    /// Sends a message, waiting for a place in the queue. Returns `false` when the link has ended. Cancel safe.
    pub async fn send(&self, message: &FromNode) -> bool {
        self.frames.send(link::encode(message).into()).await.is_ok()
    }

    /// Sends a message if there is a place in the queue.
    pub fn try_send(&self, message: &FromNode) -> bool {
        self.frames.try_send(link::encode(message).into()).is_ok()
    }

    /// Whether the queue is full, because the other end does not read.
    pub fn is_full(&self) -> bool {
        self.frames.capacity() == 0
    }

    /// Returns when the link has ended.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

pub(super) fn sender(
    hello: Hello,
) -> (
    LinkSender,
    impl http_body::Body<Data = Bytes, Error = Infallible> + Send,
) {
    let (frames, mut queue) = mpsc::channel::<Bytes>(QUEUE_FRAMES_MAX);
    let first = Bytes::from(link::encode(&FromNode::Hello(Box::new(hello))));
    let rest = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let lines = stream::once(async { first }).chain(rest);
    (
        LinkSender { frames },
        StreamBody::new(lines.map(|line| Ok(Frame::data(line)))),
    )
}

/// Receiving half of a node's link.
pub struct LinkReceiver {
    lines: FrameLines<BodyDataStream<Incoming>>,
}

impl LinkReceiver {
    pub(super) fn new(response: StreamedResponse) -> Self {
        Self {
            lines: response.lines(),
        }
    }

    /// Receives the next message; `None` when the Seed ended the link. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::Frame`] for a line that is no known message: after an unknown type the link goes on, after
    /// any other it should be dropped. Else the link broke.
    pub async fn next(&mut self) -> Option<Result<FromSeed, ClientError>> {
        match self.lines.next().await? {
            Ok(line) => Some(link::decode(&line).map_err(ClientError::Frame)),
            Err(error) => Some(Err(broken(error))),
        }
    }
}
