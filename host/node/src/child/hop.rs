//! The build id on internal hops. A proxy sends it with a token that only the fleet's nodes can make, so that no
//! visitor can choose a build.

use arc_swap::ArcSwapOption;
use hmac::{Hmac, Mac};
use protoplex_wire::BuildId;
use sha2::Sha256;
use std::sync::Arc;

/// Carries `<build id>:<token>`.
pub(super) const HOP_HEADER: &str = "protoplex-build";

/// The fleet's secret.
#[derive(Debug, Default)]
pub(super) struct HopKey {
    secret: Vec<u8>,
    /// The last value that was made and the last that was verified: a fleet runs one build at a time, and a MAC for
    /// each request would cost more than the rest of the hop's head.
    made: ArcSwapOption<Known>,
    verified: ArcSwapOption<Known>,
}

#[derive(Debug)]
struct Known {
    build: BuildId,
    value: String,
}

impl HopKey {
    /// From 64 hexadecimal digits; anything else makes a key that fits nothing.
    pub(super) fn new(text: &str) -> Self {
        Self {
            secret: hex::decode(text).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn mac(&self, build: &BuildId) -> Option<Hmac<Sha256>> {
        if self.secret.is_empty() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(b"protoplex-hop-v1:");
        mac.update(build.as_bytes());
        Some(mac)
    }

    /// The header's value for a build; `None` before the fleet's secret is known.
    pub(super) fn value(&self, build: &BuildId) -> Option<String> {
        if let Some(made) = &*self.made.load()
            && made.build == *build
        {
            return Some(made.value.clone());
        }
        let value = self.make(build)?;
        let (build, made) = (*build, value.clone());
        self.made
            .store(Some(Arc::new(Known { build, value: made })));
        Some(value)
    }

    fn make(&self, build: &BuildId) -> Option<String> {
        let token = self.mac(build)?.finalize().into_bytes();
        Some(format!("{build}:{}", hex::encode(&token[..16])))
    }

    /// The build that a value names, if a node of this fleet wrote it.
    pub(super) fn verify(&self, value: &[u8]) -> Option<BuildId> {
        if let Some(known) = &*self.verified.load()
            && is_same(known.value.as_bytes(), value)
        {
            return Some(known.build);
        }
        let build = self.check(value)?;
        let value = std::str::from_utf8(value).ok()?.to_owned();
        self.verified.store(Some(Arc::new(Known { build, value })));
        Some(build)
    }

    fn check(&self, value: &[u8]) -> Option<BuildId> {
        let (build, token) = std::str::from_utf8(value).ok()?.split_once(':')?;
        let build: BuildId = build.parse().ok()?;
        let token = hex::decode(token).ok()?;
        (token.len() == 16).then_some(())?;
        self.mac(&build)?.verify_truncated_left(&token).ok()?;
        Some(build)
    }
}

/// In a time that does not tell how much was right.
fn is_same(known: &[u8], said: &[u8]) -> bool {
    known.len() == said.len() && known.iter().zip(said).fold(0, |odd, (a, b)| odd | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_of_the_fleet_can_name_a_build() {
        let (ours, theirs) = (HopKey::new(&"ab".repeat(32)), HopKey::new(&"cd".repeat(32)));
        let build = BuildId::of(b"build");
        let value = ours.value(&build).unwrap();
        for _ in 0..2 {
            assert_eq!(ours.verify(value.as_bytes()), Some(build));
            assert_eq!(ours.value(&build), Some(value.clone()));
        }
        let other = BuildId::of(b"other");
        assert_ne!(ours.value(&other), Some(value.clone()));
        assert_eq!(
            ours.verify(value.replace(&value[..8], "00000000").as_bytes()),
            None
        );
        assert_eq!(theirs.verify(value.as_bytes()), None);
        assert_eq!(ours.verify(format!("{build}:").as_bytes()), None);
        assert_eq!(ours.verify(value.replace(':', ":00").as_bytes()), None);
        assert_eq!(HopKey::default().value(&build), None);
        assert_eq!(HopKey::default().verify(value.as_bytes()), None);
    }
}
