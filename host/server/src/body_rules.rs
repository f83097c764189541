//! Pace at which a request's body has to come: what its route says, else what the limits say, which ask for more while
//! the child is crowded.

use crate::HttpLimits;
use protoplex_http::{BodyPace, ClientPace};
use protoplex_net::PaceRule;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Share of `connections_max` from which on a child is crowded.
const CROWDED_PERCENT: usize = 50;

/// Rules for the pace of bodies at one server.
#[derive(Debug)]
pub(crate) struct BodyRules {
    own: PaceRule,
    /// Rule for a request that a node of ours sent.
    inner: PaceRule,
    /// Longest silence between two pieces of a body that nobody is held up by, or in a conversation.
    two_way_silence_max: Duration,
    crowded_bytes_per_s_min: u32,
    /// Open connections, and the number of them that is a crowd.
    connections: Arc<AtomicUsize>,
    crowd: usize,
}

impl BodyRules {
    pub(crate) fn new(limits: &HttpLimits, connections: &Arc<AtomicUsize>) -> Self {
        Self {
            own: PaceRule {
                still_max: limits.body_timeout,
                window: limits.body_grace,
                bytes_per_s_min: limits.body_bytes_per_s_min,
            },
            inner: limits.inner_rule(),
            two_way_silence_max: limits.two_way_silence_max,
            crowded_bytes_per_s_min: limits.crowded_body_bytes_per_s_min,
            connections: Arc::clone(connections),
            crowd: (limits.net.connections_max * CROWDED_PERCENT / 100).max(1),
        }
    }

    /// Rule for a wait that begins now; `said` is the service's word on the request. `None` where the client owes
    /// nothing.
    pub(crate) fn now(&self, said: Option<ClientPace>, pace: BodyPace) -> Option<PaceRule> {
        match (said, pace) {
            (_, BodyPace::Answered) => None,
            (Some(ClientPace::JudgedBefore), _) => Some(self.inner),
            (_, BodyPace::TwoWay) => Some(PaceRule {
                still_max: self.two_way_silence_max,
                window: self.two_way_silence_max,
                bytes_per_s_min: 0,
            }),
            (_, BodyPace::Owed) => Some(self.owed(said)),
        }
    }

    /// Longest silence of client and service at once in a conversation; `said` is the service's word on the request.
    pub(crate) fn silence_max(&self, said: Option<ClientPace>) -> Duration {
        match said {
            Some(ClientPace::JudgedBefore) => self.inner.still_max,
            _ => self.two_way_silence_max,
        }
    }

    fn owed(&self, said: Option<ClientPace>) -> PaceRule {
        let (timeout, bytes_per_s_min) = match said {
            Some(ClientPace::Body {
                timeout,
                bytes_per_s_min,
            }) => (timeout, bytes_per_s_min),
            Some(ClientPace::JudgedBefore) | None => (None, None),
        };
        PaceRule {
            still_max: timeout.unwrap_or(self.own.still_max),
            window: self.own.window,
            bytes_per_s_min: bytes_per_s_min.unwrap_or_else(|| self.bytes_per_s_min()),
        }
    }

    fn bytes_per_s_min(&self) -> u32 {
        let is_crowded = self.connections.load(Relaxed) >= self.crowd;
        match is_crowded {
            true => self.crowded_bytes_per_s_min.max(self.own.bytes_per_s_min),
            false => self.own.bytes_per_s_min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_crowded_child_asks_for_a_rate_unless_the_route_sets_one() {
        let mut limits = HttpLimits::default();
        limits.net.connections_max = 10;
        let connections = Arc::new(AtomicUsize::new(4));
        let rules = BodyRules::new(&limits, &connections);
        let route = |bytes_per_s_min| {
            Some(ClientPace::Body {
                timeout: Some(MINUTE),
                bytes_per_s_min,
            })
        };
        for (open, rate) in [(4, 0), (5, 240), (10, 240)] {
            connections.store(open, Relaxed);
            for (said, still_max, rate) in [
                (None, limits.body_timeout, rate),
                (route(None), MINUTE, rate),
                (route(Some(0)), MINUTE, 0),
                (route(Some(7)), MINUTE, 7),
                (Some(ClientPace::JudgedBefore), limits.inner_idle_timeout, 0),
            ] {
                let rule = rules.now(said, BodyPace::Owed).expect("it is owed");
                assert_eq!((rule.still_max, rule.bytes_per_s_min), (still_max, rate));
            }
        }
    }

    #[test]
    fn a_conversation_has_its_own_limit_until_the_response_begins() {
        let limits = HttpLimits::default();
        let rules = BodyRules::new(&limits, &Arc::default());
        let two_way = rules.now(None, BodyPace::TwoWay).map(|rule| rule.still_max);
        assert_eq!(two_way, Some(limits.two_way_silence_max));
        assert!(rules.now(None, BodyPace::Answered).is_none());
    }
}
