//! Check of the section `live`: channels whose rules can be kept.

use super::{Findings, limits::WAIT_MS_MAX};
use crate::{
    manifest::{ITEM_BYTES, Live, LiveFault, LiveLimits, Namespace},
    names::is_name,
};

/// Namespace of changed keys, which no build may define.
const KEYS: &str = "keys";
/// Most bytes in a connection's queue: one connection may hold so much of a child's memory.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Most subscriptions of a connection: each is an entry in two tables.
const SUBSCRIPTIONS_MAX: u64 = 10_000;
/// Most bytes of a received message: a WebSocket message is held whole.
const RECEIVED_BYTES_MAX: u64 = 64 << 20;
/// Most messages a second: a client that may send more is under no rate.
const RECEIVED_PER_S_MAX: u64 = 1_000_000;
/// Fewest milliseconds between two pings: more often costs more than what it finds.
const PING_MS_MIN: u64 = 1_000;
/// Most messages in a history, which is kept for every channel that has one.
const HISTORY_MESSAGES_MAX: u64 = 100_000;
/// Most milliseconds of a history: a day. What is older belongs into a datastore.
const HISTORY_MS_MAX: u64 = 86_400_000;
/// Most subscribers of a channel in one child: the connections of a child.
const SUBSCRIBERS_MAX: u64 = 1_000_000;
/// Most idempotency keys, which are kept for every channel.
const KEYS_MAX: u64 = 100_000;

/// Most origins: each is compared with what every browser says.
const ORIGINS_MAX: usize = 64;
/// Most subprotocols: each is compared with what every client offers.
const SUBPROTOCOLS_MAX: usize = 64;
/// Beginning of the host's own subprotocols, which speak of channels.
const OWN_SUBPROTOCOLS: &str = "protoplex.";

/// Checks the section `live`.
pub(super) fn check(found: &mut Findings<'_>, live: &Live) {
    check_limits(&mut found.key("limits"), &live.limits);
    check_pages(found, live);
    for (name, namespace) in &live.namespaces {
        let mut found = found.key("namespaces");
        let mut found = found.key(name.clone());
        check_name(&mut found, name);
        check_rules(&mut found, namespace, &live.limits);
    }
}

fn check_name(found: &mut Findings<'_>, name: &str) {
    if name == KEYS {
        found.add(LiveFault::OwnNamespace(KEYS));
    }
    if !is_name(name) {
        found.add(LiveFault::Namespace(name.to_owned()));
    }
}

/// Checks who may connect, and the protocol that is spoken then.
fn check_pages(found: &mut Findings<'_>, live: &Live) {
    for (index, origin) in live.origins.iter().enumerate() {
        if !is_origin(origin) {
            let fault = LiveFault::Origin(origin.clone());
            found.key("origins").index(index).add(fault);
        }
    }
    for (index, subprotocol) in live.subprotocols.iter().enumerate() {
        if !is_subprotocol(subprotocol) {
            let fault = LiveFault::Subprotocol {
                subprotocol: subprotocol.clone(),
                own: OWN_SUBPROTOCOLS,
            };
            found.key("subprotocols").index(index).add(fault);
        }
    }
    found.few("origins", live.origins.len(), ORIGINS_MAX);
    found.few("subprotocols", live.subprotocols.len(), SUBPROTOCOLS_MAX);
}

/// Whether a text is an origin as the header `Origin` has it (RFC 6454, section 6.2), which has no default port and no
/// capitals.
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let is_fine =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !authority.is_empty() && !authority.ends_with(default_port) && authority.bytes().all(is_fine)
}

/// Whether a text is a token (RFC 9110, section 5.6.2) and no subprotocol of the host's own.
fn is_subprotocol(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token) && !text.starts_with(OWN_SUBPROTOCOLS)
}

fn check_limits(found: &mut Findings<'_>, limits: &LiveLimits) {
    for (key, value, most) in [
        ("queue_bytes_max", limits.queue_bytes_max, QUEUE_BYTES_MAX),
        (
            "subscriptions_max",
            limits.subscriptions_max.into(),
            SUBSCRIPTIONS_MAX,
        ),
        (
            "received_bytes_max",
            limits.received_bytes_max,
            RECEIVED_BYTES_MAX,
        ),
    ] {
        found.some_at_most(key, value, most);
    }
    for (key, value) in [
        ("received_per_s_max", limits.received_per_s_max),
        ("received_burst_max", limits.received_burst_max),
    ] {
        if let Some(value) = value {
            found.some_at_most(key, value.into(), RECEIVED_PER_S_MAX);
        }
    }
    found.within("ping_ms", limits.ping_ms, PING_MS_MIN..=WAIT_MS_MAX);
}

fn check_rules(found: &mut Findings<'_>, rules: &Namespace, limits: &LiveLimits) {
    let queue = limits.queue_bytes_max;
    let message = rules.message_bytes_max;
    found.not_zero("message_bytes_max", message);
    if message > queue / 2 {
        let fault = LiveFault::MessageBytes { message, queue };
        found.add_at("message_bytes_max", fault);
    }
    check_history(found, rules, queue);
    for (key, value, most) in [
        (
            "history_messages_max",
            rules.history_messages_max.into(),
            HISTORY_MESSAGES_MAX,
        ),
        ("history_ms_max", rules.history_ms_max, HISTORY_MS_MAX),
        ("keys_max", rules.keys_max.into(), KEYS_MAX),
        ("keys_ms_max", rules.keys_ms_max, HISTORY_MS_MAX),
        ("leave_after_ms", rules.leave_after_ms, WAIT_MS_MAX),
    ] {
        found.at_most(key, value, most);
    }
    let subscribers = rules.subscribers_max.into();
    found.some_at_most("subscribers_max", subscribers, SUBSCRIBERS_MAX);
}

fn check_history(found: &mut Findings<'_>, rules: &Namespace, queue: u64) {
    let (bytes, messages) = (rules.history_bytes_max, rules.history_messages_max);
    let in_queue = bytes.saturating_add(ITEM_BYTES * u64::from(messages));
    if in_queue > queue / 2 {
        let fault = LiveFault::History {
            bytes,
            messages,
            in_queue,
            queue,
        };
        found.add_at("history_bytes_max", fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::check::told;
    use crate::manifest::{Overflow, Publish, Subscribe};

    fn fine() -> (LiveLimits, Namespace) {
        let limits = LiveLimits {
            queue_bytes_max: 1_000,
            subscriptions_max: 1,
            received_bytes_max: 1,
            received_per_s_max: None,
            received_burst_max: Some(1),
            ping_ms: 1_000,
        };
        let rules = Namespace {
            subscribe: Subscribe::Anyone,
            publish: Publish::Subscribers,
            presence: true,
            overflow: Overflow::Disconnect,
            history_messages_max: 0,
            history_bytes_max: 500,
            history_ms_max: 0,
            message_bytes_max: 500,
            subscribers_max: 1,
            keys_max: 0,
            keys_ms_max: 0,
            leave_after_ms: 0,
        };
        (limits, rules)
    }

    #[test]
    fn origins_and_subprotocols_are_written_as_browsers_say_them() {
        let found = |origins: &[&str], subprotocols: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            let live = Live {
                origins: owned(origins),
                subprotocols: owned(subprotocols),
                ..Live::default()
            };
            told("live", |found| check_pages(found, &live))
        };
        let origins = [
            "*",
            "https://app.example.com",
            "http://localhost:5173",
            "https://[2001:db8::1]:8443",
        ];
        assert!(found(&origins, &["mqtt", "graphql-transport-ws"]).is_empty());
        for origin in [
            "app.example.com",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "https://*.example.com",
            "ftp://example.com",
            "null",
            "",
        ] {
            assert_eq!(found(&[origin], &[]).len(), 1, "{origin}");
        }
        for subprotocol in ["", "two words", "a,b", "protoplex.v1"] {
            assert_eq!(found(&[], &[subprotocol]).len(), 1, "{subprotocol}");
        }
        assert_eq!(found(&[], &["a"; 65]).len(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_says_so() {
        let (limits, rules) = fine();
        let refused = |change: &dyn Fn(&mut LiveLimits, &mut Namespace), name: &str, says: &str| {
            let (mut limits, mut rules) = (limits, rules);
            change(&mut limits, &mut rules);
            let namespaces = [(name.to_owned(), rules)].into();
            let live = Live {
                limits,
                namespaces,
                ..Live::default()
            };
            let found = told("live", |found| check(found, &live));
            match says {
                "" => assert_eq!(found, Vec::<String>::new()),
                says => assert!(found.iter().any(|f| f.contains(says)), "{says}: {found:?}"),
            }
        };
        refused(&|_, _| {}, "chat", "");
        refused(&|_, _| {}, "Chat", "live.namespaces has `Chat`");
        refused(&|_, _| {}, "keys", "which nodes use themselves");
        refused(
            &|l, _| l.queue_bytes_max = 0,
            "chat",
            "queue_bytes_max is 0",
        );
        refused(&|l, _| l.queue_bytes_max = 1 << 40, "chat", "the most");
        refused(
            &|l, _| l.subscriptions_max = 10_001,
            "chat",
            "subscriptions_max is 10001",
        );
        refused(
            &|l, _| l.received_bytes_max = 1 << 40,
            "chat",
            "received_bytes_max",
        );
        refused(
            &|l, _| l.received_per_s_max = Some(0),
            "chat",
            "received_per_s_max is 0",
        );
        refused(
            &|l, _| l.received_burst_max = Some(1_000_001),
            "chat",
            "received_burst_max is 1000001",
        );
        refused(&|l, _| l.ping_ms = 999, "chat", "ping_ms is 999");
        refused(
            &|_, r| r.message_bytes_max = 501,
            "chat",
            "half of live.queue_bytes_max",
        );
        refused(&|_, r| r.history_bytes_max = 501, "chat", "what it missed");
        let messages = |l: &mut LiveLimits, r: &mut Namespace, most| {
            (l.queue_bytes_max, r.history_messages_max) = (1_000 + 2 * 640, most);
        };
        refused(&|l, r| messages(l, r, 10), "chat", "");
        refused(&|l, r| messages(l, r, 11), "chat", "queue_bytes_max = 2408");
        refused(
            &|_, r| r.message_bytes_max = 0,
            "chat",
            "message_bytes_max is 0",
        );
        refused(
            &|_, r| r.history_messages_max = 100_001,
            "chat",
            "history_messages_max",
        );
        refused(
            &|_, r| r.history_ms_max = 86_400_001,
            "chat",
            "history_ms_max",
        );
        refused(&|_, r| r.keys_max = 100_001, "chat", "keys_max");
        refused(&|_, r| r.keys_ms_max = 86_400_001, "chat", "keys_ms_max");
        refused(
            &|_, r| r.leave_after_ms = 3_600_001,
            "chat",
            "leave_after_ms",
        );
        refused(
            &|_, r| r.subscribers_max = 0,
            "chat",
            "subscribers_max is 0",
        );
    }
}
