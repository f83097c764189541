//! Properties that must hold for any bytes on a link between two children. A fuzz target (`just fuzz live-link`) and a
//! short random test call the same function.

use crate::{
    Child, ConnectionLimits, Effects, Frame, History, Memory, Mesh, Overflow, PresenceDelays,
    Rules,
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
        presence: PresenceDelays {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameError;

    const ROUNDS: usize = 20_000;
    /// Heads of frames of each kind, and how many contents follow.
    const HEADS: [(&str, usize); 23] = [
        (
            r#"{"Subscribe":{"serial":1,"from":null,"members":["a"],"others":["b"]}}"#,
            0,
        ),
        (
            r#"{"Subscribe":{"serial":2,"from":{"epoch":1,"offset":1},"members":[],"others":[]}}"#,
            0,
        ),
        (r#"{"Unsubscribe":{"stays":false}}"#, 0),
        (r#"{"Here":{"members":["a","c"]}}"#, 0),
        (r#"{"Member":{"member":"a","here":true}}"#, 0),
        (
            r#"{"Recover":{"request":1,"from":{"epoch":3,"offset":0}}}"#,
            0,
        ),
        (r#"{"Members":{"request":1}}"#, 0),
        (r#"{"Publish":{"number":1,"settled":0,"key":null}}"#, 1),
        (r#"{"Publish":{"number":2,"settled":2,"key":"key"}}"#, 1),
        (
            r#"{"Subscribed":{"serial":1,"position":{"epoch":9,"offset":2},"missed":[{"age_ms":1}],"members":["x"]}}"#,
            1,
        ),
        (
            r#"{"Subscribed":{"serial":1,"position":{"epoch":9,"offset":0},"missed":null,"members":[]}}"#,
            0,
        ),
        (r#"{"Message":{"position":{"epoch":9,"offset":1}}}"#, 1),
        (
            r#"{"Recovered":{"request":1,"position":{"epoch":9,"offset":2},"missed":[{"age_ms":0},{"age_ms":9}]}}"#,
            2,
        ),
        (r#"{"MembersAre":{"request":1,"members":["a"]}}"#, 0),
        (r#""Moved""#, 0),
        (r#"{"Pull":{"versions":[1,2]}}"#, 0),
        (r#""Nothing""#, 0),
        (r#""Elsewhere""#, 0),
        (
            r#"{"Handover":{"moves":1,"position":{"epoch":9,"offset":2},"kept":[{"age_ms":1},{"age_ms":1}],"keys":[],"requests":[],"members":[]}}"#,
            2,
        ),
        (
            r#"{"Handover":{"moves":1,"position":{"epoch":9,"offset":1},"kept":[{"age_ms":18446744073709551615}],"keys":[{"key":"k","answer":{"epoch":9,"offset":1},"age_ms":18446744073709551615}],"requests":[{"origin":7,"settled":1,"answers":[[1,{"position":{"epoch":9,"offset":1},"repeated":false}]],"age_ms":18446744073709551615}],"members":[{"member":"a","at":[[7,18446744073709551615]],"gone_ms":18446744073709551615}]}}"#,
            1,
        ),
        (r#"{"Taken":{"epoch":3,"moves":1}}"#, 0),
        (r#"{"Declined":{"epoch":3,"moves":1}}"#, 0),
        (
            r#"{"Published":{"number":1,"answer":{"Ok":{"position":{"epoch":9,"offset":1},"repeated":false}}}}"#,
            0,
        ),
    ];
    /// Heads with numbers that no child comes to.
    const CONTRADICTIONS: [(&str, usize); 3] = [
        (
            r#"{"Message":{"position":{"epoch":9,"offset":18446744073709551615}}}"#,
            1,
        ),
        (
            r#"{"Handover":{"moves":1,"position":{"epoch":9,"offset":0},"kept":[{"age_ms":1},{"age_ms":1}],"keys":[],"requests":[],"members":[]}}"#,
            2,
        ),
        (
            r#"{"Handover":{"moves":18446744073709551615,"position":{"epoch":9,"offset":2},"kept":[{"age_ms":1},{"age_ms":1}],"keys":[],"requests":[],"members":[]}}"#,
            2,
        ),
    ];

    /// A small generator of our own, so that a failure is repeated.
    fn below(state: &mut u64, n: usize) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % n
    }

    fn frame(version: usize, (body, contents): (&str, usize)) -> Vec<u8> {
        let head = format!(r#"{{"version":{version},"origin":7,"channel":"n:a","body":{body}}}"#);
        let mut pieces = vec![head.as_bytes()];
        pieces.extend(vec![&b"text"[..]; contents]);
        let behind_length = |piece: &[u8]| [&(piece.len() as u32).to_be_bytes(), piece].concat();
        behind_length(
            &pieces
                .into_iter()
                .flat_map(behind_length)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn heads_are_frames_unless_they_contradict_themselves() {
        let decode = |head| Frame::decode(frame(1, head)[4..].to_vec().into());
        for head in HEADS {
            assert!(decode(head).is_ok(), "{head:?}: {:?}", decode(head));
        }
        for head in CONTRADICTIONS {
            let refused = matches!(decode(head), Err(FrameError::Contradiction));
            assert!(refused, "{head:?}");
        }
    }

    #[test]
    fn any_frames_in_any_order_harm_nobody() {
        let mut random = 1;
        for round in 0..ROUNDS {
            let mut data = vec![round as u8];
            for _ in 0..8 {
                let head = HEADS[below(&mut random, HEADS.len())];
                data.extend(frame(1 + below(&mut random, 3), head));
            }
            if round % 2 == 0 {
                let at = below(&mut random, data.len());
                data[at] = below(&mut random, 256) as u8;
            }
            live_link(&data);
        }
    }
}
