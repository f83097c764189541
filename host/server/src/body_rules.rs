//! Pace at which a request's body has to come: what its route says, else what the limits say, which ask for more where
//! many are here.

use crate::Limits;
use protoplex_http::{ClientPace, Pace};
use protoplex_net::Rule;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// From this share of the connections that a child takes on it is crowded.
const CROWDED_PERCENT: usize = 50;

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct BodyRules {
    own: Rule,
    /// For a request that a node of ours sent.
    inner: Rule,
    /// Between two pieces of a body that nobody is held up by, or two words of either side.
    two_way_silence_max: Duration,
    crowded_bytes_per_s_min: u32,
    /// Connections that are open, and how many of them are a crowd.
    connections: Arc<AtomicUsize>,
    crowd: usize,
}

impl BodyRules {
    pub(crate) fn new(limits: &Limits, connections: &Arc<AtomicUsize>) -> Self {
        Self {
            own: Rule {
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

    /// The rule for a wait that begins now; `said` is the service's word on the request. None where the client owes
    /// nothing.
    pub(crate) fn now(&self, said: Option<ClientPace>, pace: Pace) -> Option<Rule> {
        match (said, pace) {
            (_, Pace::Answered) => None,
            (Some(ClientPace::JudgedBefore), _) => Some(self.inner),
            (_, Pace::TwoWay) => Some(Rule {
                still_max: self.two_way_silence_max,
                window: self.two_way_silence_max,
                bytes_per_s_min: 0,
            }),
            (_, Pace::Owed) => Some(self.owed(said)),
        }
    }

    /// How long a client and the service may both be silent in a conversation; `said` is the service's word on the
    /// request.
    pub(crate) fn silence_max(&self, said: Option<ClientPace>) -> Duration {
        match said {
            Some(ClientPace::JudgedBefore) => self.inner.still_max,
            _ => self.two_way_silence_max,
        }
    }

    fn owed(&self, said: Option<ClientPace>) -> Rule {
        let (timeout, bytes_per_s_min) = match said {
            Some(ClientPace::Body {
                timeout,
                bytes_per_s_min,
            }) => (timeout, bytes_per_s_min),
            Some(ClientPace::JudgedBefore) | None => (None, None),
        };
        Rule {
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
    fn a_rate_is_asked_for_where_it_is_crowded_unless_the_route_says_another() {
        let mut limits = Limits::default();
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
                let rule = rules.now(said, Pace::Owed).expect("it is owed");
                assert_eq!((rule.still_max, rule.bytes_per_s_min), (still_max, rate));
            }
        }
    }

    #[test]
    fn silence_in_a_conversation_has_a_limit_of_its_own_until_the_response_begins() {
        let limits = Limits::default();
        let rules = BodyRules::new(&limits, &Arc::default());
        let two_way = rules.now(None, Pace::TwoWay).map(|rule| rule.still_max);
        assert_eq!(two_way, Some(limits.two_way_silence_max));
        assert!(rules.now(None, Pace::Answered).is_none());
    }
}
