//! The build id on internal hops. A proxy sends it with a token that only the fleet's nodes can make, so that no
//! visitor can choose a build.

use hmac::{Hmac, Mac};
use protoplex_wire::BuildId;
use sha2::Sha256;

/// Carries `<build id>:<token>`.
pub(super) const HOP_HEADER: &str = "protoplex-build";

/// The fleet's secret.
#[derive(Clone, Debug, Default)]
pub(super) struct HopKey(Vec<u8>);

impl HopKey {
    /// From 64 hexadecimal digits; anything else makes a key that fits nothing.
    pub(super) fn new(text: &str) -> Self {
        Self(hex::decode(text).unwrap_or_default())
    }

    fn mac(&self, build: &BuildId) -> Option<Hmac<Sha256>> {
        if self.0.is_empty() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(b"protoplex-hop-v1:");
        mac.update(build.as_bytes());
        Some(mac)
    }

    /// The header's value for a build; `None` before the fleet's secret is known.
    pub(super) fn value(&self, build: &BuildId) -> Option<String> {
        let token = self.mac(build)?.finalize().into_bytes();
        Some(format!("{build}:{}", hex::encode(&token[..16])))
    }

    /// The build that a value names, if a node of this fleet wrote it.
    pub(super) fn verify(&self, value: &[u8]) -> Option<BuildId> {
        let (build, token) = std::str::from_utf8(value).ok()?.split_once(':')?;
        let build: BuildId = build.parse().ok()?;
        let token = hex::decode(token).ok()?;
        (token.len() == 16).then_some(())?;
        self.mac(&build)?.verify_truncated_left(&token).ok()?;
        Some(build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_of_the_fleet_can_name_a_build() {
        let (ours, theirs) = (HopKey::new(&"ab".repeat(32)), HopKey::new(&"cd".repeat(32)));
        let build = BuildId::of(b"build");
        let value = ours.value(&build).unwrap();
        assert_eq!(ours.verify(value.as_bytes()), Some(build));
        assert_eq!(theirs.verify(value.as_bytes()), None);
        assert_eq!(ours.verify(format!("{build}:").as_bytes()), None);
        assert_eq!(ours.verify(value.replace(':', ":00").as_bytes()), None);
        assert_eq!(HopKey::default().value(&build), None);
        assert_eq!(HopKey::default().verify(value.as_bytes()), None);
    }
}
