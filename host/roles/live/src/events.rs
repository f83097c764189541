//! Server-sent events: what waits for the client, as one endless answer. What the client has to say comes by requests of
//! their own (see [`super::poll::commands`]).

use super::{client::Handle, encode};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use protoplex_http::{Reply, ReplyBody, StreamError};
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Events gathered for one write.
const GATHER_BYTES: usize = 64 << 10;

/// The answer to who asked for events.
pub(super) fn begin(handle: Handle) -> Reply {
    let ping = Duration::from_millis(handle.live().rules().limits.ping_ms.max(1));
    let events = Events {
        handle,
        ping,
        timer: Box::pin(tokio::time::sleep(ping)),
        over: false,
    };
    let mut reply = Reply::empty(StatusCode::OK)
        .with(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        )
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather would gather for ever.
    reply.lines.push(b"x-accel-buffering", b"no");
    reply.body = ReplyBody::Stream(events.boxed_unsync());
    reply
}

struct Events {
    handle: Handle,
    ping: Duration,
    timer: Pin<Box<Sleep>>,
    over: bool,
}

impl Events {
    /// Takes what waits, as events; sets `over` at the end.
    fn gather(&mut self) -> Vec<u8> {
        let (live, id) = (self.handle.live(), self.handle.client.id);
        let (mut hub, mut out, mut messages) = (live.hub(), Vec::new(), 0);
        let mut end = None;
        while out.len() < GATHER_BYTES {
            let Some(item) = hub.next(id) else { break };
            messages += u64::from(matches!(item, protoplex_channels::Item::Message(..)));
            let of = |number| hub.channel_of(id, number).cloned();
            match encode::event(item, &of) {
                Ok(event) => out.extend_from_slice(&event),
                Err((code, reason)) => {
                    out.append(&mut encode::last_event(code, &reason));
                    end = Some((code, reason));
                    break;
                }
            }
        }
        // `ends` locks the state of the client, which comes before the hub.
        drop(hub);
        if let Some((code, reason)) = end {
            self.over = true;
            self.handle.ends(code, &reason);
        }
        live.counters.delivered.fetch_add(messages, Relaxed);
        out
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        self.handle.client.register(cx.waker());
        if let Some((code, reason)) = self.handle.client.killed() {
            self.handle.ends(code, reason);
            self.over = true;
        }
        if self.over {
            return Poll::Ready(None);
        }
        let events = self.gather();
        if !events.is_empty() {
            let next = Instant::now() + self.ping;
            self.timer.as_mut().reset(next);
            return Poll::Ready(Some(Ok(Frame::data(events.into()))));
        }
        std::task::ready!(self.timer.as_mut().poll(cx));
        let next = Instant::now() + self.ping;
        self.timer.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))))
    }
}
