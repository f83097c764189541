//! Frames between children about a channel.

mod encoding;

pub use encoding::{FRAME_BYTES_MAX, FrameError};

use crate::{
    Change, ITEM_BYTES, Position, Published, Refusal, presence::Whereabouts, recent::KnownKey,
    requests::Answered,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Messages of one epoch and moves of a channel: more than there will be, and far from where numbers end.
const NUMBER_MAX: u64 = 1 << 62;

/// One frame of a link between two children, which keeps their order. Serialized, it lacks the contents of messages:
/// [`Frame::encode`] puts them behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Version of the sender's directory.
    pub(crate) version: u64,
    /// Number of the sender: its own, of this one process.
    pub(crate) origin: u64,
    pub(crate) channel: Arc<str>,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    // To an owner.
    /// From now on, or from where the mirror is. `members` are all that the sender has, `others` those it has heard of.
    Subscribe {
        serial: u64,
        from: Option<Position>,
        members: Vec<Arc<str>>,
        others: Vec<Arc<str>>,
    },
    /// The sender's members leave, unless it only asks elsewhere from now on.
    Unsubscribe {
        stays: bool,
    },
    /// Repeated: the mirror lives, and has these members.
    Here {
        members: Vec<Arc<str>>,
    },
    Member {
        member: Arc<str>,
        here: bool,
    },
    /// Messages since a position, for one who is further back, or ahead of the mirror.
    Recover {
        request: u64,
        from: Position,
    },
    Members {
        request: u64,
    },
    /// All numbers of this sender and channel below `settled` have their answers.
    Publish {
        number: u64,
        settled: u64,
        key: Option<Box<str>>,
        #[serde(skip)]
        data: Bytes,
    },

    // From an owner.
    /// `missed` ends at `position`; what it answers to, by `serial`, may have been asked again meanwhile.
    Subscribed {
        serial: u64,
        position: Position,
        missed: Option<Vec<KeptMessage>>,
        members: Vec<Arc<str>>,
    },
    Message {
        position: Position,
        #[serde(skip)]
        data: Bytes,
    },
    Presence(Change<Arc<str>>),
    Recovered {
        request: u64,
        position: Position,
        missed: Option<Vec<KeptMessage>>,
    },
    MembersAre {
        request: u64,
        members: Vec<Arc<str>>,
    },
    Published {
        number: u64,
        answer: Result<Published, Refusal>,
    },
    /// The channel is not here (any more): whatever was asked has to be asked elsewhere.
    Moved,

    // From owner to owner.
    /// A new owner wants it, which knows the directories of these versions.
    Pull {
        versions: Vec<u64>,
    },
    /// There is nothing of it here, and will not be.
    Nothing,
    /// The channel is on its way from somewhere else.
    Elsewhere,
    Handover(Box<Handover>),
    Taken {
        epoch: u64,
        moves: u64,
    },
    /// Not taken, neither now nor before.
    Declined {
        epoch: u64,
        moves: u64,
    },
}

/// A message of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptMessage {
    pub age_ms: u64,
    #[serde(skip)]
    pub data: Bytes,
}

/// All that an owner knows of a channel, with ages instead of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// Number of its handovers in this epoch; tells a repeated handover from one that returns.
    pub moves: u64,
    pub position: Position,
    pub kept: Vec<KeptMessage>,
    pub keys: Vec<KnownKey>,
    pub requests: Vec<Answered>,
    pub members: Vec<Whereabouts<Arc<str>>>,
}

/// Contents that do not fit to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WrongData;

impl Frame {
    /// The channel of the frame.
    pub fn channel(&self) -> &Arc<str> {
        &self.channel
    }

    /// Whether the frame only asks for the messages of a channel of that namespace: it changes nothing, and names nobody.
    pub fn is_registration(&self, namespace: &str) -> bool {
        let is_of = |namespace| {
            let key = self.channel.strip_prefix(namespace);
            key.is_some_and(|key| key.starts_with(':'))
        };
        is_of(namespace)
            && match &self.body {
                Body::Subscribe {
                    members, others, ..
                } => members.is_empty() && others.is_empty(),
                Body::Here { members } => members.is_empty(),
                Body::Unsubscribe { .. } | Body::Recover { .. } => true,
                _ => false,
            }
    }

    /// Whether a child can have come to its numbers: what follows is counted on from them, and back.
    fn is_possible(&self) -> bool {
        let possible = |position: &Position, kept: usize| {
            (kept as u64..=NUMBER_MAX).contains(&position.offset)
        };
        match &self.body {
            Body::Subscribed {
                position, missed, ..
            }
            | Body::Recovered {
                position, missed, ..
            } => possible(position, missed.as_ref().map_or(0, Vec::len)),
            Body::Message { position, .. } => possible(position, 1),
            Body::Published { answer, .. } => {
                let published = answer.as_ref().ok();
                published.is_none_or(|published| possible(&published.position, 1))
            }
            Body::Handover(handover) => {
                possible(&handover.position, handover.kept.len()) && handover.moves <= NUMBER_MAX
            }
            _ => true,
        }
    }

    /// The contents of its messages, in order.
    fn data(&self) -> Vec<Bytes> {
        let kept = match &self.body {
            Body::Publish { data, .. } | Body::Message { data, .. } => return vec![data.clone()],
            Body::Subscribed { missed, .. } | Body::Recovered { missed, .. } => {
                missed.as_deref().unwrap_or_default()
            }
            Body::Handover(handover) => &handover.kept,
            _ => &[],
        };
        kept.iter().map(|kept| kept.data.clone()).collect()
    }

    /// The frame with the contents of its messages, in order: as many as it has messages.
    fn with_data(mut self, data: impl IntoIterator<Item = Bytes>) -> Result<Self, WrongData> {
        let mut all = data.into_iter();
        let kept: &mut [KeptMessage] = match &mut self.body {
            Body::Publish { data, .. } | Body::Message { data, .. } => {
                *data = all.next().ok_or(WrongData)?;
                &mut []
            }
            Body::Subscribed { missed, .. } | Body::Recovered { missed, .. } => {
                missed.as_deref_mut().unwrap_or_default()
            }
            Body::Handover(handover) => &mut handover.kept,
            _ => &mut [],
        };
        for kept in kept {
            kept.data = all.next().ok_or(WrongData)?;
        }
        match all.next() {
            None => Ok(self),
            Some(_) => Err(WrongData),
        }
    }

    /// Bytes, about, that the frame costs while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let names = |names: &[Arc<str>]| names.iter().map(|name| name.len()).sum::<usize>();
        ITEM_BYTES
            + match &self.body {
                Body::Publish { data, .. } => data.len(),
                Body::Handover(handover) => handover.kept.iter().map(|kept| kept.data.len()).sum(),
                Body::Here { members } => names(members),
                Body::Subscribe {
                    members, others, ..
                } => names(members) + names(others),
                _ => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_hears_of_a_key_and_changes_nothing() {
        let member: Arc<str> = "ann".into();
        let subscribe = |members: Vec<Arc<str>>| Body::Subscribe {
            serial: 1,
            from: None,
            members,
            others: Vec::new(),
        };
        let publish = Body::Publish {
            number: 1,
            settled: 0,
            key: None,
            data: Bytes::new(),
        };
        for (channel, body, is) in [
            ("keys:/a", subscribe(Vec::new()), true),
            ("keys:/a", Body::Unsubscribe { stays: false }, true),
            ("keys:/a", subscribe(vec![member]), false),
            ("keys:/a", publish, false),
            ("keys:/a", Body::Moved, false),
            ("room:/a", subscribe(Vec::new()), false),
            ("keysets:/a", subscribe(Vec::new()), false),
        ] {
            let frame = Frame {
                version: 1,
                origin: 1,
                channel: channel.into(),
                body,
            };
            assert_eq!(frame.is_registration("keys"), is, "{frame:?}");
        }
    }
}
