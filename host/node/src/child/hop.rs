//! The build id on internal hops. A node sends it with a token that only the fleet's nodes can make, and only for a few
//! minutes, so that no visitor can choose a build, and who has read a token has it for nothing.

use arc_swap::ArcSwapOption;
use hmac::{Hmac, Mac};
use protoplex_wire::BuildId;
use sha2::Sha256;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Tokens are made anew this often: one MAC a minute costs nothing.
const WINDOW: Duration = Duration::from_secs(60);
/// A token is good for so many windows before and after its own: clocks of a fleet differ, and five minutes are what
/// Kerberos has allowed them for thirty years.
const SKEW_WINDOWS_MAX: u64 = 5;

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HopFault {
    /// No node of this fleet made it.
    #[error("its token is none of this fleet's")]
    Forged,
    /// The token was good once, or will be.
    #[error(
        "its token is of another time; compare the clocks of this node and the one that sent it"
    )]
    OtherTime,
}

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
    window: u64,
    value: String,
}

/// The window that a time falls into.
fn window(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs() / WINDOW.as_secs()
}

impl HopKey {
    /// From 64 hexadecimal digits; anything else makes a key that fits nothing.
    pub(super) fn new(text: &str) -> Self {
        Self {
            secret: hex::decode(text).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn mac(&self, build: &BuildId, window: u64) -> Option<Hmac<Sha256>> {
        if self.secret.is_empty() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(b"protoplex-hop-v2:");
        mac.update(build.as_bytes());
        mac.update(&window.to_be_bytes());
        Some(mac)
    }

    /// The header's value for a build, `<build id>:<window>:<token>`; `None` before the fleet's secret is known.
    pub(super) fn value(&self, build: &BuildId, now: SystemTime) -> Option<String> {
        let window = window(now);
        if let Some(made) = &*self.made.load()
            && made.build == *build
            && made.window == window
        {
            return Some(made.value.clone());
        }
        let token = self.mac(build, window)?.finalize().into_bytes();
        let value = format!("{build}:{window}:{}", hex::encode(&token[..16]));
        self.made.store(Some(Arc::new(Known {
            build: *build,
            window,
            value: value.clone(),
        })));
        Some(value)
    }

    /// The build that a value names, if a node of this fleet wrote it, and not long ago.
    pub(super) fn verify(&self, value: &[u8], now: SystemTime) -> Result<BuildId, HopFault> {
        let fresh = |made: u64| match made.abs_diff(window(now)) <= SKEW_WINDOWS_MAX {
            true => Ok(()),
            false => Err(HopFault::OtherTime),
        };
        if let Some(known) = &*self.verified.load()
            && is_same(known.value.as_bytes(), value)
        {
            return fresh(known.window).map(|()| known.build);
        }
        let known = self.check(value).ok_or(HopFault::Forged)?;
        let build = known.build;
        fresh(known.window)?;
        self.verified.store(Some(Arc::new(known)));
        Ok(build)
    }

    fn check(&self, value: &[u8]) -> Option<Known> {
        let value = std::str::from_utf8(value).ok()?;
        let mut parts = value.splitn(3, ':');
        let build: BuildId = parts.next()?.parse().ok()?;
        let window: u64 = parts.next()?.parse().ok()?;
        let token = hex::decode(parts.next()?).ok()?;
        (token.len() == 16).then_some(())?;
        self.mac(&build, window)?
            .verify_truncated_left(&token)
            .ok()?;
        Some(Known {
            build,
            window,
            value: value.to_owned(),
        })
    }
}

/// In a time that does not tell how much was right.
fn is_same(known: &[u8], said: &[u8]) -> bool {
    known.len() == said.len() && known.iter().zip(said).fold(0, |odd, (a, b)| odd | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_030;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_node_of_the_fleet_can_name_a_build() {
        let (ours, theirs) = (HopKey::new(&"ab".repeat(32)), HopKey::new(&"cd".repeat(32)));
        let (build, now) = (BuildId::of(b"build"), at(NOW));
        let value = ours.value(&build, now).unwrap();
        for _ in 0..2 {
            assert_eq!(ours.verify(value.as_bytes(), now), Ok(build));
            assert_eq!(ours.value(&build, now), Some(value.clone()));
        }
        let other = BuildId::of(b"other");
        assert_ne!(ours.value(&other, now), Some(value.clone()));
        let window = (NOW / 60).to_string();
        let later = (NOW / 60 + 1).to_string();
        for forged in [
            value.replace(&value[..8], "00000000"),
            value.replace(&window, &later),
            value.replacen(':', ":00", 2),
            format!("{build}:"),
            format!("{build}:{window}:"),
            "0:0".to_owned(),
            String::new(),
        ] {
            let found = ours.verify(forged.as_bytes(), now);
            assert_eq!(found, Err(HopFault::Forged), "{forged}");
        }
        assert_eq!(theirs.verify(value.as_bytes(), now), Err(HopFault::Forged));
        let none = HopKey::default();
        assert_eq!(none.value(&build, now), None);
        assert_eq!(none.verify(value.as_bytes(), now), Err(HopFault::Forged));
    }

    #[test]
    fn a_token_is_good_for_some_minutes_whichever_clock_is_ahead() {
        let build = BuildId::of(b"build");
        let sender = HopKey::new(&"ab".repeat(32));
        let value = sender.value(&build, at(NOW)).unwrap();
        assert_ne!(sender.value(&build, at(NOW + 60)), Some(value.clone()));
        let skew = SKEW_WINDOWS_MAX * WINDOW.as_secs();
        // Known already, and not.
        for receiver in [HopKey::new(&"ab".repeat(32)), HopKey::new(&"ab".repeat(32))] {
            for good in [NOW - skew, NOW, NOW + skew] {
                assert_eq!(receiver.verify(value.as_bytes(), at(good)), Ok(build));
            }
            for bad in [NOW - skew - 60, NOW + skew + 60, NOW + 86_400] {
                let found = receiver.verify(value.as_bytes(), at(bad));
                assert_eq!(found, Err(HopFault::OtherTime), "{bad}");
            }
        }
    }
}
