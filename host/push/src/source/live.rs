//! `[live]` and `[live.namespaces.NAME]` as people write them.

use super::upstream::{number, word};
use crate::{defaults, reader::TomlSection};
use protoplex_wire::manifest::{Live, LiveLimits, Namespace};

pub(super) fn read(mut section: TomlSection<'_>) -> Live {
    let default = defaults::LIVE_LIMITS;
    let mut large = |key, default| section.integer(key).map_or(default, |at| at.value);
    let limits = LiveLimits {
        queue_bytes_max: large("queue_bytes_max", default.queue_bytes_max),
        received_bytes_max: large("received_bytes_max", default.received_bytes_max),
        ping_ms: large("ping_ms", default.ping_ms),
        subscriptions_max: number(&mut section, "subscriptions_max", default.subscriptions_max),
        received_per_s_max: section.integer_u32("received_per_s_max").map(|at| at.value),
        received_burst_max: section.integer_u32("received_burst_max").map(|at| at.value),
    };
    let (origins, subprotocols) = (section.strings("origins"), section.strings("subprotocols"));
    let namespaces = section.named_sections("namespaces");
    let live = Live {
        limits,
        origins,
        subprotocols,
        namespaces: namespaces
            .into_iter()
            .map(|(name, section)| (name, namespace(section)))
            .collect(),
    };
    section.finish();
    live
}

fn namespace(mut section: TomlSection<'_>) -> Namespace {
    let default = defaults::NAMESPACE;
    let mut large = |key, default| section.integer(key).map_or(default, |at| at.value);
    let rules = Namespace {
        history_bytes_max: large("history_bytes_max", default.history_bytes_max),
        history_ms_max: large("history_ms_max", default.history_ms_max),
        message_bytes_max: large("message_bytes_max", default.message_bytes_max),
        keys_ms_max: large("keys_ms_max", default.keys_ms_max),
        leave_after_ms: large("leave_after_ms", default.leave_after_ms),
        history_messages_max: number(
            &mut section,
            "history_messages_max",
            default.history_messages_max,
        ),
        subscribers_max: number(&mut section, "subscribers_max", default.subscribers_max),
        keys_max: number(&mut section, "keys_max", default.keys_max),
        subscribe: word(&mut section, "subscribe").unwrap_or(default.subscribe),
        publish: word(&mut section, "publish").unwrap_or(default.publish),
        overflow: word(&mut section, "overflow").unwrap_or(default.overflow),
        presence: section
            .boolean("presence")
            .map_or(default.presence, |at| at.value),
    };
    section.finish();
    rules
}
