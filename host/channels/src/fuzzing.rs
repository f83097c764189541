//! Properties that must hold for any bytes on a link between two children. The fuzz target is `just fuzz live-link`.

use crate::{
    Child, ConnectionLimits, Effects, Frame, History, Memory, Mesh, Overflow, Patience, Rules,
    limits::{HELD_BYTES_MAX, PUBLISHES_BYTES_MAX, PULLED_BYTES_MAX},
};
use bytes::{Buf, Bytes};
use std::sync::Arc;

const ME: Child = Child(1);
const OTHER: Child = Child(2);
const STEP_MS: u64 = 500;

/// Frames are read back as they were written, and a mesh takes any of them: it panics at none, what it keeps for others
/// has its bounds, and each frame that it sends in turn is read as it was written.
pub fn live_link(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let mut mesh = mesh(first);
    let (mut data, mut now_ms) = (Bytes::copy_from_slice(data), 1);
    while let Ok(bytes) = data.try_get_u32() {
        let bytes = (bytes as usize).min(data.len());
        let Ok(frame) = Frame::decode(data.split_to(bytes)) else {
            // A link ends here, and comes back.
            sent(mesh.unlinked(now_ms, OTHER));
            sent(mesh.linked(now_ms, OTHER));
            continue;
        };
        assert_reads_back(&frame);
        sent(mesh.received(now_ms, OTHER, frame));
        now_ms += STEP_MS;
        sent(mesh.tick(now_ms));
        let waiting_max = HELD_BYTES_MAX + PUBLISHES_BYTES_MAX + PULLED_BYTES_MAX;
        assert!(mesh.waiting_bytes() <= waiting_max);
    }
    sent(mesh.gone(now_ms, OTHER));
    sent(mesh.tick(now_ms + 60_000));
}

/// A child that has one connection and is linked to one other. Bits of `setting` say who owns the channels, now and
/// before, and whether the connection is a member.
fn mesh(setting: u8) -> Mesh<u8> {
    let rules = Rules {
        history: History {
            messages_max: 4,
            bytes_max: 100,
            age_ms_max: 10_000,
        },
        overflow: Overflow::Disconnect,
        memory: Memory {
            keys_max: 4,
            age_ms_max: 10_000,
        },
        patience: Patience {
            leave_after_ms: 1_000,
            expires_after_ms: 10_000,
        },
        message_bytes_max: 40,
        subscribers_max: 4,
    };
    let mut last = 0;
    let numbers = move || {
        last += 1;
        last
    };
    let mut mesh = Mesh::new([("n".into(), rules)], numbers, ME);
    let owner = |bit: u8| if setting & bit == 0 { ME } else { OTHER };
    let (before, now) = (owner(1), owner(2));
    sent(mesh.place(0, 1, move |_| Some(before)));
    sent(mesh.linked(0, OTHER));
    let id = mesh.open(ConnectionLimits {
        queue_bytes_max: 1_000,
        subscriptions_max: 4,
    });
    let channel: Arc<str> = "n:a".into();
    let member = (setting & 4 != 0).then(|| "me".into());
    sent(mesh.subscribe(0, 1, id, &channel, None, member));
    sent(mesh.publish(0, 2, &channel, "hello".into(), Some("key")));
    sent(mesh.place(0, 2, move |_| Some(now)));
    mesh
}

fn sent(effects: Effects<u8>) {
    for (child, frame) in &effects.send {
        assert_eq!(*child, OTHER, "there is no other link");
        assert_reads_back(frame);
    }
}

fn assert_reads_back(frame: &Frame) {
    let encoded = frame.encode().expect("it is small");
    let again = Frame::decode(encoded.slice(4..)).expect("it is a frame");
    assert_eq!(again.encode().expect("it is small"), encoded, "{frame:?}");
}
