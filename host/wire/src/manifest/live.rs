//! Section `live` of a manifest: channels, and limits of live connections.

use super::defaults;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes that a message which waits for a connection takes of its queue besides its content.
pub const ITEM_BYTES: u64 = 64;

/// Size in bytes above which a message costs as much as several: it is inflated, looked at, and copied to a handler or
/// a channel.
pub const MESSAGE_UNIT_BYTES: u64 = 16 << 10;

/// Settings of live nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Limits on every connection.
    pub limits: LiveLimits,
    /// Origins whose pages may connect, beside those of the host that they ask: `https://app.example.com`, or `*` for all
    /// of them where no handler relies on cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Subprotocols of WebSockets that handlers speak: a client is told the first of those that it offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subprotocols: Vec<String>,
    /// Rules of channels, by the part of their name before `:`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, Namespace>,
}

/// Limits on one connection; the defaults are [`defaults::LIVE_LIMITS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveLimits {
    /// Bytes of messages that may wait for the connection.
    pub queue_bytes_max: u64,
    /// Channels that the connection may be subscribed to.
    pub subscriptions_max: u32,
    /// Bytes of one message that the client sends.
    pub received_bytes_max: u64,
    /// Messages a second that the client sends over time; absent: [`defaults::RECEIVED_PER_S`]. Who sends more is read
    /// more slowly, and nothing of it is lost. A message counts once more for each [`MESSAGE_UNIT_BYTES`] of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_per_s_max: Option<u32>,
    /// Messages that the client may be ahead of that rate; absent: [`defaults::RECEIVED_BURST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_burst_max: Option<u32>,
    /// Milliseconds between two pings; a connection that answers none of two in a row is closed.
    pub ping_ms: u64,
}

impl LiveLimits {
    /// Rate of received messages a second, and how many may be ahead of that.
    pub fn received_rate(&self) -> (u32, u32) {
        (
            self.received_per_s_max.unwrap_or(defaults::RECEIVED_PER_S),
            self.received_burst_max.unwrap_or(defaults::RECEIVED_BURST),
        )
    }
}

/// Cost of a message of so many bytes against a rate of messages.
pub fn message_cost(bytes: usize) -> u32 {
    let units = bytes as u64 / MESSAGE_UNIT_BYTES;
    u32::try_from(units).unwrap_or(u32::MAX).saturating_add(1)
}

/// Rules of the channels of a namespace, `NAMESPACE:KEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Clients that may subscribe.
    pub subscribe: Subscribe,
    /// Clients that may publish.
    pub publish: Publish,
    /// Whether subscribers are told who is there.
    pub presence: bool,
    /// Policy for messages to those who do not keep up.
    pub overflow: Overflow,
    /// Messages that a channel's history keeps, and a client may ask for again.
    pub history_messages_max: u32,
    /// Bytes of contents that a channel's history keeps.
    pub history_bytes_max: u64,
    /// Milliseconds for which a channel's history keeps a message.
    pub history_ms_max: u64,
    /// Bytes that one message may have.
    pub message_bytes_max: u64,
    /// Subscribers of one channel in one child.
    pub subscribers_max: u32,
    /// Idempotency keys that a channel remembers.
    pub keys_max: u32,
    /// Milliseconds for which a channel remembers an idempotency key.
    pub keys_ms_max: u64,
    /// Milliseconds that a subscriber may be gone before the others are told.
    pub leave_after_ms: u64,
}

/// Clients that may subscribe to a channel by themselves. Handlers with the grant always may, for their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subscribe {
    /// Every client whose connection a handler took.
    Anyone,
    /// Clients with a signed token for the channel.
    Token,
    /// No client by itself: handlers subscribe their connections.
    Handlers,
}

/// Clients that may publish to a channel by themselves. Handlers with the grant, and the HTTP API, always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// Clients that are subscribed to the channel.
    Subscribers,
    /// No client by itself: handlers and the HTTP API publish.
    Handlers,
}

/// Policy for a message to a connection whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The connection is closed, comes back and asks for what it missed.
    Disconnect,
    /// Older messages of the channel make room.
    DropOldest,
    /// Only the newest message of the channel waits, always.
    LatestOnly,
}
