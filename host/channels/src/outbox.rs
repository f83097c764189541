//! The queue of one connection: bounded in bytes, with a policy for each message that does not fit. A slow reader costs
//! its own queue, and nobody else's time.

use crate::Message;
use std::{collections::VecDeque, sync::Arc};

/// Cost of a waiting item besides its content, so that empty ones are bounded as well.
pub const ITEM_BYTES: usize = 64;

/// Policy for a message to a connection that does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Only the newest message of the channel waits; each replaces the one before. For what is a state, such as a price.
    LatestOnly,
    /// Messages of this channel that wait longest make room. For what is worth less the older it is.
    DropOldest,
    /// The connection is closed: nothing may be missed unnoticed, and a client that comes back asks for what it missed.
    Disconnect,
}

/// Number of a subscription at its connection, by which queued messages name their channel.
pub type SubscriptionNumber = u32;

/// A waiting item, in the order in which it is written.
#[derive(Debug)]
pub enum Item<R> {
    /// A message of a subscription.
    Message(SubscriptionNumber, Arc<Message>),
    /// An answer to this connection, with its size in bytes, which nothing may drop.
    Reply(R, usize),
}

/// The outcome of [`Outbox::message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// The message waits.
    Yes,
    /// The message waits, and so many others do not any more.
    Dropped(usize),
    /// There is no room: the connection has to be closed.
    Overflowed,
}

/// The bounded queue of one connection. `R` is an item of the caller, whatever the transport makes of it.
#[derive(Debug)]
pub struct Outbox<R> {
    items: VecDeque<Item<R>>,
    bytes: usize,
    bytes_max: usize,
    dropped: u64,
}

impl<R> Outbox<R> {
    /// An empty queue of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            bytes_max,
            dropped: 0,
        }
    }

    /// Bytes that wait, [`ITEM_BYTES`] for each item included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that were dropped since the beginning.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The next to be written.
    pub fn pop(&mut self) -> Option<Item<R>> {
        let item = self.items.pop_front()?;
        self.bytes -= size(&item);
        Some(item)
    }

    /// An answer waits; `false` where there is no room, and the connection has to be closed.
    pub fn reply(&mut self, reply: R, bytes: usize) -> bool {
        let item = Item::Reply(reply, bytes);
        let fits = self.bytes + size(&item) <= self.bytes_max;
        if fits {
            self.push(item);
        }
        fits
    }

    /// A message waits, as far as the channel's policy goes.
    pub fn message(
        &mut self,
        subscription: SubscriptionNumber,
        message: &Arc<Message>,
        overflow: Overflow,
    ) -> Queued {
        let item = Item::Message(subscription, Arc::clone(message));
        let bytes = size(&item);
        let before = self.items.len();
        match overflow {
            Overflow::LatestOnly => self.forget(subscription, |_| true),
            Overflow::DropOldest if self.bytes + bytes > self.bytes_max => {
                let mut excess = (self.bytes + bytes).saturating_sub(self.bytes_max);
                self.forget(subscription, |size| {
                    let goes = excess > 0;
                    excess = excess.saturating_sub(size);
                    goes
                });
            }
            Overflow::DropOldest | Overflow::Disconnect => {}
        }
        let mut gone = before - self.items.len();
        let fits = self.bytes + bytes <= self.bytes_max;
        if fits {
            self.push(item);
        } else if overflow == Overflow::Disconnect {
            return Queued::Overflowed;
        } else {
            gone += 1; // Other channels fill the queue, or this message alone is above it.
        }
        self.dropped += gone as u64;
        match gone {
            0 => Queued::Yes,
            gone => Queued::Dropped(gone),
        }
    }

    fn push(&mut self, item: Item<R>) {
        self.bytes += size(&item);
        self.items.push_back(item);
    }

    /// Takes waiting messages of a subscription out, oldest first, for which `goes` says so of their size.
    fn forget(&mut self, subscription: SubscriptionNumber, mut goes: impl FnMut(usize) -> bool) {
        let bytes = &mut self.bytes;
        self.items.retain(|item| {
            let size = size(item);
            let out = matches!(item, Item::Message(of, _) if *of == subscription) && goes(size);
            *bytes -= if out { size } else { 0 };
            !out
        });
    }
}

fn size<R>(item: &Item<R>) -> usize {
    ITEM_BYTES
        + match item {
            Item::Message(_, message) => message.data.len(),
            Item::Reply(_, bytes) => *bytes,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    fn message(offset: u64, bytes: usize) -> Arc<Message> {
        let position = Position { epoch: 1, offset };
        Arc::new(Message::new(position, vec![0; bytes].into()))
    }

    fn waiting(outbox: &mut Outbox<&'static str>) -> Vec<String> {
        let bytes = outbox.bytes();
        let mut seen = 0;
        let items = std::iter::from_fn(|| outbox.pop());
        let names = items.map(|item| {
            seen += size(&item);
            match item {
                Item::Message(of, message) => format!("{of}:{}", message.position.offset),
                Item::Reply(reply, _) => reply.to_owned(),
            }
        });
        let names = names.collect();
        assert_eq!((seen, outbox.bytes()), (bytes, 0));
        names
    }

    #[test]
    fn each_policy_does_what_it_says_and_order_is_kept() {
        for (overflow, expected, last) in [
            (
                Overflow::LatestOnly,
                vec!["other", "2:1", "1:5"],
                Queued::Dropped(1),
            ),
            (
                Overflow::DropOldest,
                vec!["other", "2:1", "1:3", "1:4", "1:5"],
                Queued::Dropped(1),
            ),
            (
                Overflow::Disconnect,
                vec!["1:1", "other", "2:1", "1:2", "1:3"],
                Queued::Overflowed,
            ),
        ] {
            let mut outbox = Outbox::new(5 * (ITEM_BYTES + 10));
            outbox.message(1, &message(1, 10), overflow);
            assert!(outbox.reply("other", 10));
            outbox.message(2, &message(1, 10), Overflow::Disconnect);
            for offset in 2..=4 {
                outbox.message(1, &message(offset, 10), overflow);
            }
            assert_eq!(outbox.message(1, &message(5, 10), overflow), last);
            assert_eq!(waiting(&mut outbox), expected, "{overflow:?}");
        }
    }

    #[test]
    fn nothing_passes_the_bound_whatever_the_policy() {
        for overflow in [Overflow::LatestOnly, Overflow::DropOldest] {
            let mut outbox: Outbox<&str> = Outbox::new(ITEM_BYTES + 50);
            assert!(outbox.reply("full", 50));
            assert!(!outbox.reply("more", 0));
            assert_eq!(
                outbox.message(1, &message(1, 0), overflow),
                Queued::Dropped(1)
            );
            assert_eq!(
                outbox.message(1, &message(2, 200), overflow),
                Queued::Dropped(1)
            );
            assert_eq!((outbox.bytes(), outbox.dropped()), (ITEM_BYTES + 50, 2));
        }
    }
}
