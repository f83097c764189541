//! Rights to subscriptions, when a switch of builds narrows them.
//!
//! A subscription is by its handler, by a token, or because anyone may. What the rules of the new build refuse ends, and
//! the client is told; whoever opens the namespace again lets clients subscribe again. A connection without the channel
//! protocol has no word for that: it hears no more of the channel.

use super::{
    Live, Out,
    client::{Client, ClientState},
    encode,
    error_code::ErrorCode,
};
use protoplex_wire::manifest::{self, Namespace, Subscribe};

/// Whether rules refuse a subscription that others, before them, allowed.
pub(super) fn are_narrowed(before: &manifest::Live, after: &manifest::Live) -> bool {
    let mut namespaces = before.namespaces.iter();
    namespaces.any(|(name, namespace)| {
        strictness(after.namespaces.get(name)) > strictness(Some(namespace))
    })
}

/// Each refuses what the one below it refuses.
fn strictness(namespace: Option<&Namespace>) -> u8 {
    match namespace.map(|namespace| namespace.subscribe) {
        Some(Subscribe::Anyone) => 0,
        Some(Subscribe::Token) => 1,
        Some(Subscribe::Handlers) => 2,
        None => 3,
    }
}

/// Why a subscription is not allowed any more: a word for programs, and one for people.
fn refused(
    rules: &manifest::Live,
    state: &ClientState,
    channel: &str,
) -> Option<(ErrorCode, &'static str)> {
    let name = channel.split(':').next().unwrap_or_default();
    let Some(namespace) = rules.namespaces.get(name) else {
        return Some((ErrorCode::Unknown, "there is no such namespace any more"));
    };
    let is_by_handler = state.by_handler.contains(channel);
    match namespace.subscribe {
        Subscribe::Token if !is_by_handler && !state.tokens.contains_key(channel) => {
            Some((ErrorCode::Forbidden, "the channel needs a signed token now"))
        }
        Subscribe::Handlers if !is_by_handler => Some((
            ErrorCode::Forbidden,
            "only its handler subscribes to this channel now",
        )),
        _ => None,
    }
}

impl Live {
    /// Ends the subscriptions of a client that are not allowed any more.
    pub(super) fn end_refused(&self, client: &Client) {
        let mut state = client.state.lock();
        let rules = self.rules();
        let channels: Vec<_> = self.hub().subscriptions(client.id).cloned().collect();
        for channel in channels {
            let Some((code, message)) = refused(&rules, &state, &channel) else {
                continue;
            };
            self.leave(client, &mut state, &channel);
            if !client.is_raw {
                self.queue(client, Out::Object(encode::ended(&channel, code, message)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(subscribe: &[(&str, Subscribe)]) -> manifest::Live {
        let namespaces = subscribe.iter().map(|&(name, subscribe)| {
            let namespace = Namespace {
                subscribe,
                publish: manifest::Publish::Handlers,
                presence: false,
                overflow: manifest::Overflow::Disconnect,
                history_messages_max: 0,
                history_bytes_max: 0,
                history_ms_max: 0,
                message_bytes_max: 1,
                subscribers_max: 1,
                keys_max: 0,
                keys_ms_max: 0,
                leave_after_ms: 0,
            };
            (name.to_owned(), namespace)
        });
        manifest::Live {
            namespaces: namespaces.collect(),
            ..manifest::Live::default()
        }
    }

    #[test]
    fn rules_are_narrowed_where_they_refuse_what_was_allowed() {
        use Subscribe::{Anyone, Handlers, Token};
        let before = rules(&[("a", Token), ("b", Anyone)]);
        for (after, expected) in [
            (rules(&[("a", Token), ("b", Anyone)]), false),
            (
                rules(&[("a", Anyone), ("b", Anyone), ("c", Handlers)]),
                false,
            ),
            (rules(&[("a", Token), ("b", Token)]), true),
            (rules(&[("a", Handlers), ("b", Anyone)]), true),
            (rules(&[("a", Token)]), true),
            (rules(&[]), true),
        ] {
            assert_eq!(are_narrowed(&before, &after), expected, "{after:?}");
        }
        assert!(!are_narrowed(&rules(&[]), &before));
    }
}
