//! Channels whose rules can be kept.

use super::{
    is_name,
    limits::{WAIT_MS_MAX, at_most, not_zero},
};
use crate::manifest::{ITEM_BYTES, Live, LiveLimits, Namespace};

/// Kept for registrations.
const KEYS: &str = "keys";
/// One connection may hold so much of a child's memory.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Each is a place in two tables.
const SUBSCRIPTIONS_MAX: u64 = 10_000;
/// A WebSocket message is held whole.
const RECEIVED_BYTES_MAX: u64 = 64 << 20;
/// A client that sends more in a second is under no rate.
const RECEIVED_PER_S_MAX: u64 = 1_000_000;
/// More often costs more than what it finds.
const PING_MS_MIN: u64 = 1_000;
/// Kept for every channel that has one.
const HISTORY_MESSAGES_MAX: u64 = 100_000;
/// A day: what is older belongs into a datastore.
const HISTORY_MS_MAX: u64 = 86_400_000;
/// Connections of a child.
const SUBSCRIBERS_MAX: u64 = 1_000_000;
/// Kept for every channel.
const KEYS_MAX: u64 = 100_000;

/// Each is compared with what every browser says.
const ORIGINS_MAX: usize = 64;
/// Each is compared with what every client offers.
const SUBPROTOCOLS_MAX: usize = 64;
/// Ours, which speak of channels.
const OWN_SUBPROTOCOLS: &str = "protoplex.";

/// Faults of the section.
pub(super) fn faults(live: &Live) -> Vec<String> {
    let mut faults: Vec<_> = limits(&live.limits)
        .into_iter()
        .map(|fault| format!("live: {fault}"))
        .collect();
    faults.extend(pages(live).map(|fault| format!("live: {fault}")));
    for (name, namespace) in &live.namespaces {
        if name == KEYS {
            faults.push(format!(
                "live.namespaces has `{KEYS}`, which nodes use themselves for keys that change; name it otherwise"
            ));
        }
        if !is_name(name) {
            faults.push(format!(
                "live.namespaces has `{name}`; a namespace is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter"
            ));
        }
        let found = rules(namespace, &live.limits);
        let found = found.into_iter();
        faults.extend(found.map(|fault| format!("live.namespaces.{name}: {fault}")));
    }
    faults
}

/// Faults of who may connect, and of the protocol that is spoken then.
fn pages(live: &Live) -> impl Iterator<Item = String> {
    let wrong_origins = live.origins.iter().filter(|one| !is_origin(one));
    let origins = wrong_origins.map(|one| {
        format!(
            "origins has `{one}`; write it as a browser does, `https://app.example.com` or `http://localhost:5173`, \
             without a path, or `*` for all"
        )
    });
    let wrong_subprotocols = live.subprotocols.iter().filter(|one| !is_subprotocol(one));
    let subprotocols = wrong_subprotocols.map(|one| {
        format!(
            "subprotocols has `{one}`; a subprotocol is one word without separators, and `{OWN_SUBPROTOCOLS}…` is for \
             channels, which need no entry"
        )
    });
    let too_many = [
        ("origins", live.origins.len(), ORIGINS_MAX),
        ("subprotocols", live.subprotocols.len(), SUBPROTOCOLS_MAX),
    ]
    .into_iter()
    .filter_map(|(key, count, most)| at_most(key, count as u64, most as u64));
    origins.chain(subprotocols).chain(too_many)
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

/// A token (RFC 9110, section 5.6.2) that is none of ours.
fn is_subprotocol(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token) && !text.starts_with(OWN_SUBPROTOCOLS)
}

fn limits(limits: &LiveLimits) -> Vec<String> {
    let mut faults = Vec::new();
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
        faults.extend(not_zero(key, value).or_else(|| at_most(key, value, most)));
    }
    for (key, value) in [
        ("received_per_s_max", limits.received_per_s_max),
        ("received_burst_max", limits.received_burst_max),
    ] {
        let Some(value) = value.map(u64::from) else {
            continue;
        };
        faults.extend(not_zero(key, value).or_else(|| at_most(key, value, RECEIVED_PER_S_MAX)));
    }
    let ping_ms = limits.ping_ms;
    if !(PING_MS_MIN..=WAIT_MS_MAX).contains(&ping_ms) {
        faults.push(format!(
            "ping_ms is {ping_ms}; it must be from {PING_MS_MIN} to {WAIT_MS_MAX}"
        ));
    }
    faults
}

fn rules(rules: &Namespace, limits: &LiveLimits) -> Vec<String> {
    let mut faults = Vec::new();
    let queue = limits.queue_bytes_max;
    let message = rules.message_bytes_max;
    faults.extend(not_zero("message_bytes_max", message));
    if message > queue / 2 {
        faults.push(format!(
            "message_bytes_max is {message}; at most half of live.queue_bytes_max, which is {queue}, or two messages \
             would close every connection"
        ));
    }
    faults.extend(too_much_history(rules, queue));
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
        faults.extend(at_most(key, value, most));
    }
    let (key, value) = ("subscribers_max", rules.subscribers_max.into());
    faults.extend(not_zero(key, value).or_else(|| at_most(key, value, SUBSCRIBERS_MAX)));
    faults
}

/// A history that nobody could be given again would be kept in vain.
fn too_much_history(rules: &Namespace, queue: u64) -> Option<String> {
    let (bytes, messages) = (rules.history_bytes_max, rules.history_messages_max);
    let in_queue = bytes.saturating_add(ITEM_BYTES * u64::from(messages));
    (in_queue > queue / 2).then(|| {
        let enough = in_queue.saturating_mul(2);
        format!(
            "history_bytes_max is {bytes}, and history_messages_max {messages}: with {ITEM_BYTES} bytes for each \
             message, {in_queue} bytes wait for one who has missed all of it, more than half of live.queue_bytes_max, \
             which is {queue}, and nobody could ever be given what it missed; keep less, or write queue_bytes_max = \
             {enough} in [live]"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
            pages(&live).collect::<Vec<_>>()
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
        let check = |change: &dyn Fn(&mut LiveLimits, &mut Namespace), name: &str, says: &str| {
            let (mut limits, mut rules) = (limits, rules);
            change(&mut limits, &mut rules);
            let namespaces = [(name.to_owned(), rules)].into();
            let found = faults(&Live {
                limits,
                namespaces,
                ..Live::default()
            });
            match says {
                "" => assert_eq!(found, Vec::<String>::new()),
                says => assert!(found.iter().any(|f| f.contains(says)), "{says}: {found:?}"),
            }
        };
        check(&|_, _| {}, "chat", "");
        check(&|_, _| {}, "Chat", "live.namespaces has `Chat`");
        check(&|_, _| {}, "keys", "which nodes use themselves");
        check(
            &|l, _| l.queue_bytes_max = 0,
            "chat",
            "queue_bytes_max is 0",
        );
        check(&|l, _| l.queue_bytes_max = 1 << 40, "chat", "the most");
        check(
            &|l, _| l.subscriptions_max = 10_001,
            "chat",
            "subscriptions_max is 10001",
        );
        check(
            &|l, _| l.received_bytes_max = 1 << 40,
            "chat",
            "received_bytes_max",
        );
        check(
            &|l, _| l.received_per_s_max = Some(0),
            "chat",
            "received_per_s_max is 0",
        );
        check(
            &|l, _| l.received_burst_max = Some(1_000_001),
            "chat",
            "received_burst_max is 1000001",
        );
        check(&|l, _| l.ping_ms = 999, "chat", "ping_ms is 999");
        check(
            &|_, r| r.message_bytes_max = 501,
            "chat",
            "half of live.queue_bytes_max",
        );
        check(&|_, r| r.history_bytes_max = 501, "chat", "what it missed");
        let messages = |l: &mut LiveLimits, r: &mut Namespace, most| {
            (l.queue_bytes_max, r.history_messages_max) = (1_000 + 2 * 640, most);
        };
        check(&|l, r| messages(l, r, 10), "chat", "");
        check(&|l, r| messages(l, r, 11), "chat", "queue_bytes_max = 2408");
        check(
            &|_, r| r.message_bytes_max = 0,
            "chat",
            "message_bytes_max is 0",
        );
        check(
            &|_, r| r.history_messages_max = 100_001,
            "chat",
            "history_messages_max",
        );
        check(
            &|_, r| r.history_ms_max = 86_400_001,
            "chat",
            "history_ms_max",
        );
        check(&|_, r| r.keys_max = 100_001, "chat", "keys_max");
        check(&|_, r| r.keys_ms_max = 86_400_001, "chat", "keys_ms_max");
        check(
            &|_, r| r.leave_after_ms = 3_600_001,
            "chat",
            "leave_after_ms",
        );
        check(
            &|_, r| r.subscribers_max = 0,
            "chat",
            "subscribers_max is 0",
        );
    }
}
