//! A request's body between the connection, which reads it, and whoever wants it: a slot of one piece. The reader is at
//! most one more piece ahead of the consumer, so backpressure reaches the client.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use protoplex_http::BodyError;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

#[derive(Default)]
struct PieceSlot {
    piece: Option<Bytes>,
    /// Trailers, which come after the last piece.
    trailers: Option<HeaderMap>,
    ended: bool,
    error: Option<BodyError>,
    /// Whether the consumer waits for a piece.
    wanted: bool,
    consumer_gone: bool,
    consumer: Option<Waker>,
    producer: Option<Waker>,
}

/// Connection's end of the slot. There is no slot where there is no body: most requests have none.
pub(super) struct BodyProducer(Option<Arc<Mutex<PieceSlot>>>);

/// Service's end of the slot.
pub(super) struct BodyConsumer {
    slot: Arc<Mutex<PieceSlot>>,
    /// Bytes of the body still to come, where the head announced how many.
    left: Option<u64>,
}

/// What the consumer asks of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyDemand {
    /// The consumer waits for more of the body.
    More,
    /// Nothing for now; the connection's task is woken when that changes.
    Nothing,
    /// The consumer is gone: nobody will ask again.
    Gone,
}

impl BodyProducer {
    /// Makes the slot of a request with a body, or none.
    pub(super) fn new(has_body: bool) -> Self {
        Self(has_body.then(Arc::default))
    }

    /// Makes the body for the service; `None` where there is none.
    pub(super) fn consumer(&self, length: Option<u64>) -> Option<BodyConsumer> {
        let slot = Arc::clone(self.0.as_ref()?);
        Some(BodyConsumer { slot, left: length })
    }

    pub(super) fn want(&self, cx: &mut Context<'_>) -> BodyDemand {
        let Some(slot) = &self.0 else {
            return BodyDemand::Gone;
        };
        let mut slot = slot.lock();
        if slot.consumer_gone {
            return BodyDemand::Gone;
        }
        if slot.wanted && slot.piece.is_none() {
            return BodyDemand::More;
        }
        slot.producer = Some(cx.waker().clone());
        BodyDemand::Nothing
    }

    /// Whether somebody waits for the body, or may do so `later`.
    pub(super) fn may_want(&self, later: bool) -> bool {
        let wants = |slot: &PieceSlot| !slot.consumer_gone && (later || slot.wanted);
        self.0.as_ref().is_some_and(|slot| wants(&slot.lock()))
    }

    pub(super) fn give(&self, piece: Bytes) {
        self.change(|slot| slot.piece = Some(piece));
    }

    pub(super) fn give_last(&self, piece: Bytes) {
        self.change(|slot| {
            slot.piece = Some(piece);
            slot.ended = true;
        });
    }

    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        self.change(|slot| {
            slot.trailers = trailers;
            slot.ended = true;
        });
    }

    pub(super) fn fail(&self, error: BodyError) {
        self.change(|slot| slot.error = Some(error));
    }

    fn change(&self, change: impl FnOnce(&mut PieceSlot)) {
        let Some(slot) = &self.0 else {
            return;
        };
        let mut slot = slot.lock();
        change(&mut slot);
        slot.wanted = false;
        if let Some(consumer) = slot.consumer.take() {
            drop(slot);
            consumer.wake();
        }
    }
}

impl Drop for BodyProducer {
    /// Tells whoever still reads the body, such as an app that works on after its response was cut, that the rest will
    /// not come.
    fn drop(&mut self) {
        let is_open = |slot: &PieceSlot| !slot.ended && slot.error.is_none() && !slot.consumer_gone;
        if self.0.as_ref().is_some_and(|slot| is_open(&slot.lock())) {
            self.fail(BodyError::Incomplete("the connection ended".into()));
        }
    }
}

impl Drop for BodyConsumer {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        slot.consumer_gone = true;
        slot.piece = None;
        if let Some(producer) = slot.producer.take() {
            drop(slot);
            producer.wake();
        }
    }
}

impl HttpBody for BodyConsumer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { slot, left } = self.get_mut();
        let mut slot = slot.lock();
        if let Some(piece) = slot.piece.take() {
            *left = left.map(|left| left.saturating_sub(piece.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(error) = &slot.error {
            return Poll::Ready(Some(Err(error.clone())));
        }
        if slot.ended {
            return Poll::Ready(slot.trailers.take().map(|t| Ok(Frame::trailers(t))));
        }
        slot.wanted = true;
        slot.consumer = Some(cx.waker().clone());
        if let Some(producer) = slot.producer.take() {
            drop(slot);
            producer.wake();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.slot.lock();
        slot.ended && slot.piece.is_none() && slot.trailers.is_none() && slot.error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;
