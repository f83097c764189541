//! Long polling, and requests that carry what a client has to say.

use super::{
    Live,
    client::{Client, Handle},
    encode::{self, Text},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use protoplex_http::{Answer, Body, Head, Reply};
use protoplex_net::Rate;
use protoplex_wire::manifest::message_cost;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Time that a request waits for something to tell: below the 30 seconds after which common middleboxes give up.
const WAIT: Duration = Duration::from_secs(25);
/// A client that asks for nothing for so long is gone.
const ABSENCE_MAX: Duration = Duration::from_secs(40);
/// Time without a poll after which a session ends while the child has no room for others: a client that is there asks again within some round trips.
const CROWDED_ABSENCE_MAX: Duration = Duration::from_secs(10);
/// Objects gathered for one answer.
const GATHER_BYTES: usize = 64 << 10;
/// Requests with commands wait this long, where their client is ahead of its rate; below the time in which the client for
/// pages takes the network for dead.
const HELD_BACK_MAX: Duration = Duration::from_secs(5);
/// Commands of one request that are done before others have their turn.
const TURN_COMMANDS_MAX: usize = 32;
/// The last batch that the client has.
const ACK_HEADER: &str = "protoplex-ack";

/// Connections of clients that poll, by session.
#[derive(Default)]
pub(super) struct Polls(Mutex<HashMap<Box<str>, Arc<PollSession>>>);

struct PollSession {
    handle: Handle,
    batches: Mutex<Batches>,
}

struct Batches {
    /// The number of the last one, and its objects: given again until the client says that it has it.
    last: (u64, Bytes),
    seen: Instant,
    /// Raised with every request: an older one that still waits gives up.
    asked: u64,
    /// Requests that wait for something to tell.
    waiting: u32,
}

impl Polls {
    /// Lets go of clients that ask for nothing any more: sooner where others need the room.
    pub(super) fn expire(&self, is_crowded: bool) {
        let absence_max = match is_crowded {
            true => CROWDED_ABSENCE_MAX,
            false => ABSENCE_MAX,
        };
        let gone = |polled: &Arc<PollSession>| {
            let batches = polled.batches.lock();
            batches.waiting == 0 && batches.seen.elapsed() > absence_max
        };
        let mut all = self.0.lock();
        let expired: Vec<_> = all.extract_if(|_, polled| gone(polled)).collect();
        // Their end is told to handlers, which may do something about others.
        drop(all);
        drop(expired);
    }
}

/// The first answer to who polls: the objects that wait, the welcome among them.
pub(super) fn begin(live: &Arc<Live>, handle: Handle) -> Reply {
    let (objects, is_over) = gather(&handle);
    if is_over {
        return json(objects);
    }
    let Some(session) = handle.client.session_id.clone() else {
        return Reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let polled = PollSession {
        handle,
        batches: Mutex::new(Batches {
            last: (0, Bytes::new()),
            seen: Instant::now(),
            asked: 0,
            waiting: 0,
        }),
    };
    live.connections
        .polls
        .0
        .lock()
        .insert(session, Arc::new(polled));
    json(objects)
}

/// Answers with what happened since; waits for it.
pub(super) fn next(live: &Arc<Live>, session: &str, head: &Head<'_>) -> Answer {
    let polled = live.connections.polls.0.lock().get(session).cloned();
    let Some(polled) = polled else {
        return Answer::Ready(gone());
    };
    let ack = head.header_str(ACK_HEADER).and_then(|ack| ack.parse().ok());
    let ack = ack.unwrap_or(0_u64);
    let (live, session) = (Arc::clone(live), Box::<str>::from(session));
    let asked = {
        let mut batches = polled.batches.lock();
        batches.seen = Instant::now();
        batches.asked += 1;
        batches.asked
    };
    // Made now: the client may go away before the future is polled.
    let waiting = Waiting::new(Arc::clone(&polled));
    Answer::Later(Box::pin(async move {
        let _waiting = waiting;
        let batch = poll_fn(|cx| polled.poll_batch(ack, asked, cx));
        let (batch, is_over) = tokio::time::timeout(WAIT, batch)
            .await
            .unwrap_or((None, false));
        if is_over {
            live.connections.polls.0.lock().remove(&session);
            if batch.is_none() {
                return gone();
            }
        }
        let (number, objects) = batch.unwrap_or((ack, Bytes::from_static(b"[]")));
        let mut body = format!("{{\"batch\":{number},\"objects\":").into_bytes();
        body.extend_from_slice(&objects);
        body.push(b'}');
        json(body.into())
    }))
}

/// A request that waits; a session that has one is not idle, and is seen when it ends.
struct Waiting(Arc<PollSession>);

impl Waiting {
    fn new(polled: Arc<PollSession>) -> Self {
        polled.batches.lock().waiting += 1;
        Self(polled)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut batches = self.0.batches.lock();
        batches.waiting -= 1;
        batches.seen = Instant::now();
    }
}

impl PollSession {
    /// The next batch, or the last one again, and whether the connection is over.
    fn poll_batch(
        &self,
        ack: u64,
        asked: u64,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<(u64, Bytes)>, bool)> {
        let mut batches = self.batches.lock();
        if batches.last.0 > ack {
            return Poll::Ready((Some(batches.last.clone()), false));
        }
        if batches.asked != asked {
            return Poll::Ready((None, false));
        }
        if let Some((code, reason)) = self.handle.client.killed() {
            self.handle.ends(code, reason);
            return Poll::Ready((None, true));
        }
        self.handle.client.register(cx.waker());
        let (objects, is_over) = gather(&self.handle);
        if &objects[..] == b"[]" {
            return Poll::Pending;
        }
        batches.last = (batches.last.0.max(ack) + 1, objects);
        Poll::Ready((Some(batches.last.clone()), is_over))
    }
}

/// Takes what waits, as an array, and whether that is the end; its last object says so then.
fn gather(handle: &Handle) -> (Bytes, bool) {
    let (live, id) = (handle.live(), handle.client.id);
    let (mut hub, mut out, mut messages) = (live.hub(), vec![b'['], 0);
    let mut end = None;
    while out.len() < GATHER_BYTES {
        let Some(item) = hub.next(id) else { break };
        messages += u64::from(matches!(item, protoplex_channels::Item::Message(..)));
        let of = |number| hub.channel_of(id, number).cloned();
        let object = match encode::text(item, &of) {
            Text::Object(object) | Text::Message(object, _) => object,
            Text::Nothing => continue,
            Text::End(code, reason) => {
                let (_, reason) = end.insert((code, reason));
                encode::closed(code, reason)
            }
        };
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&object);
        if end.is_some() {
            break;
        }
    }
    // `ends` locks the state of the client, which comes before the hub.
    drop(hub);
    out.push(b']');
    live.counters.delivered.fetch_add(messages, Relaxed);
    if let Some((code, reason)) = &end {
        handle.ends(*code, reason);
    }
    (out.into(), end.is_some())
}

/// A request with what a client has to say: a command, or an array of them.
pub(super) fn commands(live: &Arc<Live>, client: Arc<Client>, body: Body) -> Answer {
    let limits = live.rules().limits;
    let bytes_max = usize::try_from(limits.received_bytes_max).unwrap_or(usize::MAX);
    let live = Arc::clone(live);
    Answer::Later(Box::pin(async move {
        let Ok(body) = Limited::new(body, bytes_max).collect().await else {
            let text = format!("commands have at most {bytes_max} bytes\n");
            return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, text);
        };
        let body = body.to_bytes();
        let Ok(text) = std::str::from_utf8(&body) else {
            return Reply::text(StatusCode::BAD_REQUEST, "commands are JSON\n");
        };
        let input = super::commands::ClientInput {
            live: &live,
            client: &client,
        };
        // One alone, or no JSON at all.
        let commands = serde_json::from_str::<Vec<&RawValue>>(text);
        let commands = commands.map_or(vec![text], |all| {
            all.into_iter().map(RawValue::get).collect()
        });
        let cost = commands.iter().map(|command| message_cost(command.len()));
        let cost = cost.fold(0, u32::saturating_add);
        let (per_s, burst) = limits.received_rate();
        match input.charge(&Rate::new(per_s, burst), cost, HELD_BACK_MAX) {
            Ok(Duration::ZERO) => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(away) => return too_many(away),
        }
        for turn in commands.chunks(TURN_COMMANDS_MAX) {
            turn.iter().for_each(|command| input.command(command));
            if commands.len() > TURN_COMMANDS_MAX {
                tokio::task::yield_now().await;
            }
        }
        Reply::empty(StatusCode::ACCEPTED)
    }))
}

fn too_many(away: Duration) -> Reply {
    let text = "more commands than the rate of this connection allows\n";
    let seconds = HeaderValue::from(away.as_secs() + 1);
    Reply::text(StatusCode::TOO_MANY_REQUESTS, text).with(header::RETRY_AFTER, seconds)
}

pub(super) fn gone() -> Reply {
    Reply::text(
        StatusCode::GONE,
        "there is no such session any more; connect again\n",
    )
}

fn json(body: Bytes) -> Reply {
    Reply::empty(StatusCode::OK)
        .with(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with_body(body)
}
