//! The wire's promise to older and newer versions: these files are read and written back the same, for ever.
//!
//! A change that makes one of these tests fail breaks a fleet in the middle of an upgrade. Add files; do not edit them.

use protoplex_wire::{
    Digest, Manifest,
    directory::{self, Delta, Directory, DirectoryFrame},
    link::{self, FromNode, FromSeed, LinkFrameError},
    status::{
        AdoptOrder, ApiError, NodeStatus, ReleaseEvent, ReleaseOrder, ReleaseRecord, RollbackOrder,
        SeedStatus,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Every line of a golden file is read as `T` and must be written back as the same JSON.
fn check<T: Serialize + DeserializeOwned>(name: &str, text: &str, types: &[&str]) {
    let mut seen = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let golden: Value = serde_json::from_str(line).expect("a golden line is JSON");
        let message: T =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        let written: Value = serde_json::to_value(&message).expect("it can be written");
        assert_eq!(written, golden, "{name} changed its form");
        if let Some(kind) = golden.get("type").and_then(Value::as_str) {
            seen.push(kind.to_owned());
        }
    }
    for kind in types {
        assert!(
            seen.iter().any(|k| k == kind),
            "{name} has no example of `{kind}`"
        );
    }
}

#[test]
fn messages_of_a_node_keep_their_form() {
    let text = include_str!("golden/from-node.ndjson");
    let types = ["hello", "heartbeat", "prepared", "ack", "nack"];
    check::<FromNode>("from-node", text, &types);
    let text = include_str!("golden/from-node-directory.ndjson");
    let types = ["hello", "directory-ack", "directory-wanted", "leaving"];
    check::<FromNode>("from-node-directory", text, &types);
    let text = include_str!("golden/from-node-build.ndjson");
    check::<FromNode>("from-node-build", text, &["hello"]);
}

#[test]
fn messages_of_the_seed_keep_their_form() {
    let text = include_str!("golden/from-seed.ndjson");
    let types = ["welcome", "prepare", "activate", "abandon"];
    check::<FromSeed>("from-seed", text, &types);
    let text = include_str!("golden/from-seed-directory.ndjson");
    let types = ["directory", "directory-delta", "left"];
    check::<FromSeed>("from-seed-directory", text, &types);
}

#[test]
fn the_operators_answers_keep_their_form() {
    let events = include_str!("golden/release-events.ndjson");
    let types = ["started", "node", "activating", "finished"];
    check::<ReleaseEvent>("release-events", events, &types);
    check::<ReleaseOrder>("orders", include_str!("golden/orders.ndjson"), &[]);
    check::<RollbackOrder>("rollbacks", include_str!("golden/rollbacks.ndjson"), &[]);
    check::<ReleaseRecord>("records", include_str!("golden/records.ndjson"), &[]);
    check::<NodeStatus>("nodes", include_str!("golden/nodes.ndjson"), &[]);
    let live = include_str!("golden/nodes-live.ndjson");
    check::<NodeStatus>("nodes-live", live, &[]);
    check::<SeedStatus>("status", include_str!("golden/status.ndjson"), &[]);
    let hold = include_str!("golden/status-hold.ndjson");
    check::<SeedStatus>("status-hold", hold, &[]);
    check::<AdoptOrder>("adopts", include_str!("golden/adopts.ndjson"), &[]);
    let away = include_str!("golden/records-away.ndjson");
    check::<ReleaseRecord>("records-away", away, &[]);
    check::<ApiError>("errors", include_str!("golden/errors.ndjson"), &[]);
}

#[test]
fn made_against_nothing_is_told_from_made_against_anything() {
    let lines: Vec<ReleaseOrder> = include_str!("golden/orders.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).expect("an order"))
        .collect();
    assert_eq!(lines[0].made_against, None);
    assert_eq!(lines[1].made_against, Some(None));
    assert!(matches!(lines[2].made_against, Some(Some(_))));
}

#[test]
fn a_canonical_manifest_keeps_its_id() {
    for (bytes, id) in [
        (
            &include_bytes!("golden/manifest.json")[..],
            include_str!("golden/manifest.id"),
        ),
        (
            include_bytes!("golden/manifest-upstreams.json"),
            include_str!("golden/manifest-upstreams.id"),
        ),
    ] {
        let manifest =
            Manifest::parse(bytes).expect("a golden manifest is canonical and consistent");
        assert_eq!(manifest.canonical(), bytes);
        assert_eq!(manifest.id().to_string(), id.trim());
        assert_eq!(Digest::of(bytes).to_string(), id.trim());
    }
}

#[test]
fn a_manifest_in_another_form_is_refused() {
    let text = include_str!("golden/manifest.json");
    let spaced = text.replacen(':', ": ", 1);
    let error = Manifest::parse(spaced.as_bytes()).expect_err("not canonical");
    assert!(error.to_string().contains("canonical"), "{error}");
    let more = text.replacen('{', "{\"extra\":1,", 1);
    let error = Manifest::parse(more.as_bytes()).expect_err("unknown field");
    assert!(error.to_string().contains("extra"), "{error}");
}

#[test]
fn unknown_fields_are_ignored_and_unknown_types_told_apart() {
    let line = br#"{"type":"abandon","release":{"epoch":1,"sequence":2,"later":true},"why":"new"}"#;
    assert!(matches!(link::decode(line), Ok(FromSeed::Abandon { .. })));
    let line = br#"{"type":"hibernate","release":{"epoch":1,"sequence":2}}"#;
    match link::decode::<FromSeed>(line) {
        Err(LinkFrameError::UnknownType(kind)) => assert_eq!(kind, "hibernate"),
        other => panic!("{other:?}"),
    }
    for line in [
        &br#"{"type":"abandon"}"#[..],
        br#"{"release":{}}"#,
        b"no json",
        br#"{"type":"nack","release":{"epoch":1,"sequence":2},"stage":"moon","reason":"","elapsed_ms":0}"#,
    ] {
        assert!(matches!(link::decode::<FromNode>(line), Err(LinkFrameError::Syntax(_) | LinkFrameError::UnknownType(_))));
    }
    let nack = br#"{"type":"nack","release":{"epoch":1,"sequence":2},"stage":"moon","reason":"","elapsed_ms":0}"#;
    assert!(matches!(
        link::decode::<FromNode>(nack),
        Err(LinkFrameError::Syntax(_))
    ));
}

#[test]
fn a_frame_over_the_limit_is_refused_unread() {
    let line = vec![b' '; link::FRAME_BYTES_MAX + 1];
    assert!(matches!(
        link::decode::<FromSeed>(&line),
        Err(LinkFrameError::TooLong(_))
    ));
}

#[test]
fn a_key_of_a_namespace_falls_into_its_slot_for_ever() {
    for line in include_str!("golden/slots.txt").lines() {
        let mut words = line.split(' ');
        let (namespace, key, slot) = (words.next(), words.next(), words.next());
        let found = directory::slot_of(namespace.expect("a namespace"), key.expect("a key"));
        assert_eq!(slot, Some(found.to_string().as_str()), "{line}");
    }
}

/// The golden snapshot and the golden change belong together: what one leads to is the other's next version.
#[test]
fn a_directory_change_applies_to_the_version_it_names_only() {
    let lines = include_str!("golden/from-seed-directory.ndjson").lines();
    let (mut held, mut delta) = (Directory::default(), Delta::default());
    for line in lines {
        match link::decode::<FromSeed>(line.as_bytes()).expect("a message") {
            FromSeed::Directory(DirectoryFrame {
                version,
                members,
                slots,
                more: false,
            }) => {
                let slots = slots.try_into().expect("a table");
                held = Directory {
                    version,
                    members,
                    slots,
                };
            }
            FromSeed::DirectoryDelta(change) => delta = change,
            _ => {}
        }
    }
    let before = held.clone();
    held.apply(&delta).expect("it fits");
    assert_eq!(held.version, delta.to);
    assert_eq!(held.since(&before), delta);
    let after = held.clone();
    assert!(held.apply(&delta).is_err(), "it does not fit twice");
    assert_eq!(held, after);
}
