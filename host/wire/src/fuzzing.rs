//! Properties that must hold for any bytes at all. Fuzz targets (`just fuzz`) and a short random test call the same
//! functions.

use crate::{
    Manifest,
    directory::Directory,
    link::{self, FromNode, FromSeed},
};
use serde::{Serialize, de::DeserializeOwned};

/// A manifest has one canonical form, which is read back, and what is taken is canonical and consistent.
pub fn manifest(data: &[u8]) {
    let parsed = Manifest::parse(data);
    let Ok(manifest) = serde_json::from_slice::<Manifest>(data) else {
        assert!(parsed.is_err());
        return;
    };
    let canonical = manifest.canonical();
    let is_consistent = manifest.check().is_ok();
    assert_eq!(parsed.is_ok(), is_consistent && canonical == data);
    let again: Manifest = serde_json::from_slice(&canonical).expect("its own form is read");
    assert_eq!(again, manifest);
    assert_eq!(again.canonical(), canonical);
    assert_eq!(Manifest::parse(&canonical).is_ok(), is_consistent);
    if is_consistent {
        for route in &manifest.routes {
            assert!(manifest.handlers.contains_key(&route.handler));
            assert!(route.path.starts_with('/'));
        }
    }
}

/// Lines of a node's link to the Seed, in either direction: what is read is written in one line and read back the same,
/// and no directory of them leads anywhere but where it says.
pub fn node_link(data: &[u8]) {
    let mut held = Directory::default();
    for line in data.split(|byte| *byte == b'\n') {
        round_trip::<FromNode>(line);
        let Some(message) = round_trip::<FromSeed>(line) else {
            continue;
        };
        if let FromSeed::DirectoryDelta(delta) = message {
            let mut next = held.clone();
            match next.apply(&delta) {
                Ok(()) => {
                    assert_eq!(next.version, delta.to);
                    let mut again = held.clone();
                    let applied = again.apply(&next.since(&held));
                    applied.expect("a change that was made is applied");
                    assert_eq!(again, next);
                    held = next;
                }
                Err(_) => assert_eq!(next, held, "what is refused changes nothing"),
            }
        }
    }
}

fn round_trip<T>(line: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let message: T = link::decode(line).ok()?;
    let written = link::encode(&message);
    let end = written.iter().position(|byte| *byte == b'\n');
    assert_eq!(end, Some(written.len() - 1), "a message is one line");
    if written.len() <= link::FRAME_BYTES_MAX {
        let again: T = link::decode(&written).expect("its own form is read");
        assert_eq!(again, message);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: usize = 20_000;
    const SEEDS: [&str; 6] = [
        include_str!("../tests/golden/manifest.json"),
        include_str!("../tests/golden/manifest-upstreams.json"),
        include_str!("../tests/golden/from-node.ndjson"),
        include_str!("../tests/golden/from-node-directory.ndjson"),
        include_str!("../tests/golden/from-seed.ndjson"),
        include_str!("../tests/golden/from-seed-directory.ndjson"),
    ];
    /// Pieces of JSON, and what stands at the edges of numbers.
    const PIECES: [&str; 12] = [
        "0",
        "1",
        "9",
        "18446744073709551615",
        "-1",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\\u0000",
    ];

    /// A small generator of our own, so that a failure is repeated.
    fn below(state: &mut u64, n: usize) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % n
    }

    #[test]
    fn nothing_that_is_nearly_right_is_read_in_two_ways() {
        let mut random = 1;
        for round in 0..ROUNDS {
            let mut data = SEEDS[round % SEEDS.len()].trim_end().as_bytes().to_vec();
            for _ in 0..below(&mut random, 3) {
                let at = below(&mut random, data.len());
                let end = (at + below(&mut random, 4)).min(data.len());
                let piece = PIECES[below(&mut random, PIECES.len())];
                data.splice(at..end, piece.bytes());
            }
            manifest(&data);
            node_link(&data);
        }
    }
}
