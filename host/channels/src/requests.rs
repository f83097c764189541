//! Publications that other children sent for their clients: one that comes again, because an answer was lost with its
//! link, gets the first answer again.

use crate::{Published, limits::REMEMBERED_MS};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Requests of one sender, which is known by a number of its own. It says with each request below which of its numbers
/// all have been answered: what is remembered is therefore no more than what it may have under way
/// ([`crate::limits::PUBLISHES_MAX`]), and what comes late, on a way that was given up, is known by its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    origin: u64,
    settled: u64,
    answers: Vec<(u64, Published)>,
    age_ms: u64,
}

#[derive(Debug, Default)]
struct Sender {
    settled: u64,
    answers: BTreeMap<u64, Published>,
    heard_ms: u64,
}

/// Answers to publications of other children, by the sender's number.
#[derive(Debug, Default)]
pub(crate) struct Requests(HashMap<u64, Sender>);

/// State of a request when it comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    New,
    /// The request had this answer.
    Again(Published),
    /// The sender has an answer, or gave the request up.
    Late,
}

impl Requests {
    pub fn of(handed: Vec<Answered>, now_ms: u64) -> Self {
        let senders = handed.into_iter().map(|handed| {
            let sender = Sender {
                settled: handed.settled,
                answers: handed.answers.into_iter().collect(),
                heard_ms: now_ms.saturating_sub(handed.age_ms),
            };
            (handed.origin, sender)
        });
        Self(senders.collect())
    }

    pub fn hand_over(&self, now_ms: u64) -> Vec<Answered> {
        let senders = self.0.iter().map(|(origin, sender)| Answered {
            origin: *origin,
            settled: sender.settled,
            answers: sender.answers.iter().map(|(n, p)| (*n, *p)).collect(),
            age_ms: now_ms.saturating_sub(sender.heard_ms),
        });
        senders.collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A request came.
    pub fn came(&mut self, now_ms: u64, origin: u64, number: u64, settled: u64) -> Request {
        let sender = self.0.entry(origin).or_default();
        sender.heard_ms = now_ms;
        if settled > sender.settled {
            sender.settled = settled;
            sender.answers = sender.answers.split_off(&settled);
        }
        if number < sender.settled {
            return Request::Late;
        }
        let known = sender.answers.get(&number);
        known.map_or(Request::New, |answer| Request::Again(*answer))
    }

    /// A new request was answered.
    pub fn answered(&mut self, origin: u64, number: u64, answer: Published) {
        if let Some(sender) = self.0.get_mut(&origin) {
            sender.answers.insert(number, answer);
        }
    }

    pub fn trim(&mut self, now_ms: u64) {
        self.0
            .retain(|_, sender| now_ms.saturating_sub(sender.heard_ms) < REMEMBERED_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    #[test]
    fn a_request_has_one_answer_until_its_sender_has_it() {
        let published = |offset| Published {
            position: Position { epoch: 1, offset },
            repeated: false,
        };
        let mut requests = Requests::default();
        assert_eq!(requests.came(0, 1, 5, 5), Request::New);
        requests.answered(1, 5, published(1));
        assert_eq!(requests.came(0, 1, 6, 5), Request::New);
        requests.answered(1, 6, published(2));
        // Another sender has numbers of its own, and what was handed over is not forgotten.
        let mut requests = Requests::of(requests.hand_over(5), 5);
        assert_eq!(requests.came(5, 2, 5, 5), Request::New);
        assert_eq!(requests.came(5, 1, 5, 5), Request::Again(published(1)));
        assert_eq!(requests.came(5, 1, 7, 6), Request::New);
        assert_eq!(requests.came(5, 1, 5, 5), Request::Late);
        assert_eq!(requests.came(5, 1, 6, 6), Request::Again(published(2)));
        requests.trim(5 + REMEMBERED_MS);
        assert!(requests.is_empty());
    }
}
