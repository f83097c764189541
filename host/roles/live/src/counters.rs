//! Counters of a live child, and the numbers that it shows of itself.

use super::{Live, client::Client};
use protoplex_child::metrics::Sample;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections that are named in the metrics: enough to find who is slow, and few samples.
const BACKLOGS_MAX: usize = 5;
/// Smallest backlog that is shown: a smaller one has just not been written yet.
const BACKLOG_BYTES_MIN: usize = 64 << 10;

/// Counts of events since the child's start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Messages that were published here.
    pub(super) published: AtomicU64,
    /// Messages that were handed to transports.
    pub(super) delivered: AtomicU64,
    /// Messages of clients, given to handlers.
    pub(super) received: AtomicU64,
    /// Connections that a new build took over.
    pub(super) moved: AtomicU64,
    /// Connections that it could not take over.
    pub(super) not_moved: AtomicU64,
    /// Connections that were opened again without closing.
    pub(super) reopened: AtomicU64,
    /// Connections that were closed because they did not keep up.
    pub(super) slow: AtomicU64,
    /// Requests of pages whose origin the build does not list.
    pub(super) foreign: AtomicU64,
    /// Times that a client sent more than its rate, and was read more slowly or sent away.
    pub(super) held_back: AtomicU64,
}

impl Live {
    /// Numbers of this moment.
    pub(super) fn gauges(&self) -> [Sample; 5] {
        let clients = self.connections.ids();
        let hub = self.hub();
        let (channels, connections) = hub.counts();
        let waiting = clients.iter().filter_map(|id| hub.backlog(*id));
        let waiting: usize = waiting.map(|(bytes, _)| bytes).sum();
        [
            (
                "protoplex_live_channels",
                "Channels with subscribers or history.",
                channels as u64,
            ),
            (
                "protoplex_live_connections",
                "Connections of live handlers, whatever their transport.",
                connections as u64,
            ),
            (
                "protoplex_live_waiting_bytes",
                "Bytes that wait for connections.",
                waiting as u64,
            ),
            (
                "protoplex_live_links",
                "Links to other children.",
                self.channels.links.len() as u64,
            ),
            (
                "protoplex_live_tokens",
                "Subscriptions that end when their token does.",
                self.connections.expiries.len() as u64,
            ),
        ]
    }

    /// Counts since the child's start.
    pub(super) fn counts(&self) -> [Sample; 8] {
        let counters = &self.counters;
        [
            (
                "protoplex_live_published_total",
                "Messages published on channels of this child.",
                &counters.published,
            ),
            (
                "protoplex_live_delivered_total",
                "Messages handed to connections.",
                &counters.delivered,
            ),
            (
                "protoplex_live_received_total",
                "Messages of clients that handlers were told of.",
                &counters.received,
            ),
            (
                "protoplex_live_moved_total",
                "Connections that went on with another build.",
                &counters.moved,
            ),
            (
                "protoplex_live_not_moved_total",
                "Connections that stayed with a build until its drain deadline.",
                &counters.not_moved,
            ),
            (
                "protoplex_live_reopened_total",
                "Connections that were opened again without having closed.",
                &counters.reopened,
            ),
            (
                "protoplex_live_slow_total",
                "Connections that were closed because they did not keep up.",
                &counters.slow,
            ),
            (
                "protoplex_live_held_back_total",
                "Messages above the rate of their connection or address, after which it was read more slowly.",
                &counters.held_back,
            ),
        ]
        .map(|(name, help, counter)| (name, help, counter.load(Relaxed)))
    }

    /// The connections for which most waits, by address, transport and number: those that do not keep up.
    pub(super) fn backlogs(&self) -> Vec<(String, u64)> {
        let clients = self.connections.all();
        let hub = self.hub();
        let waiting = clients.iter().filter_map(|client| {
            let (bytes, _) = hub.backlog(client.id)?;
            (bytes >= BACKLOG_BYTES_MIN).then_some((bytes, client))
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        waiting.truncate(BACKLOGS_MAX);
        let named = waiting.into_iter().map(|(bytes, client)| {
            let Client {
                address,
                transport,
                id,
                ..
            } = &**client;
            (format!("{address} {transport:?} {id}"), bytes as u64)
        });
        named.collect()
    }
}
