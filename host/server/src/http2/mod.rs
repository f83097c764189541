//! HTTP/2: frames by `h2`; the service, the heads and replies, and the limits are those of HTTP/1.1.
//!
//! In: a socket. A connection's task reads and writes it, and asks the service as soon as a request's head is there.
//! What is ready goes out at once; a reply that has to be waited for has a task of its own.

mod activity;
mod budget;
mod congestion;
mod connection;
mod delivery;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guards;
mod heads;
mod request;
mod response;
mod stream;
mod watched;

use crate::{HttpCause, Service, context::ServerContext};
use activity::{Activity, QuietReason};
use connection::{ConnectionEnd, Http2Connection};
use heads::UnreadHeads;
use protoplex_http::Scheme;
use protoplex_http2::Windows;
use protoplex_net::Peer;
use std::{future::poll_fn, sync::Arc, time::Duration};
use stream::StreamOpener;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use watched::Watched;

/// Longest time that a client may do nothing after a GOAWAY.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Serves one connection to its end.
pub(crate) async fn serve<S, IO>(
    context: &Arc<ServerContext<S>>,
    io: IO,
    scheme: Scheme,
    peer: Peer,
) where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let leaving = peer.leaving.clone();
    let limits = &context.limits;
    let activity = Activity::new(limits.write_rule());
    let heads = UnreadHeads::new(Arc::clone(context), &peer);
    let io = Watched::new(Arc::clone(context), io, &activity, heads.clone());
    let windows = Windows::new(limits.h2_windows(), &context.window_budget);
    let streams = StreamOpener::new(
        Arc::clone(context),
        activity.clone(),
        heads.clone(),
        scheme,
        peer,
    );
    let mut connection = Http2Connection::new(io, streams, windows, limits);
    let since = Instant::now();
    let (unasked, idle) = (limits.net.first_byte_timeout, limits.idle_timeout);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll(cx)) => Some(ended),
        quiet = activity.quiet(since, unasked, idle) => match quiet {
            QuietReason::Idle => {
                let cause = match heads.end_partial() {
                    true => HttpCause::SlowHead,
                    false => HttpCause::Idle,
                };
                context.counters.count(cause);
                None
            }
            // A client that takes nothing would not take a GOAWAY either.
            QuietReason::Slow => return context.counters.count(HttpCause::SlowReader),
        },
        () = context.connections.leave_unasked(&leaving, since) => None,
    };
    let ended = if ended.is_none() {
        connection.leave();
        let grace = idle.min(GOAWAY_GRACE);
        tokio::select! {
            ended = poll_fn(|cx| connection.poll(cx)) => Some(ended),
            _ = activity.quiet(Instant::now(), grace, grace) => None,
        }
    } else {
        ended
    };
    match ended {
        Some(ConnectionEnd::Broken(error)) => {
            if !error.is_io() {
                context.counters.count(HttpCause::Http2Protocol);
            }
            if let Some(reason) = error.reason().filter(|_| error.is_library()) {
                heads.end(reason);
            }
            tracing::debug!(%error, "an HTTP/2 connection of a client ended with an error");
        }
        Some(ConnectionEnd::Gone) => context.counters.count(HttpCause::Idle),
        Some(ConnectionEnd::Closed) | None => {}
    }
}
