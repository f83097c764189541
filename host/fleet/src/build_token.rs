//! The token by which an internal request names a build. Only the fleet's nodes can make one, and it is good for a few
//! minutes: no client can choose a build, and who has read a token has little by it.
//!
//! What a node says of the client beside a token, the request's origin, has a MAC of its own, by a key that only the
//! fleet's nodes can make of the token: who has read a token says nothing of clients by it. Who reads a whole request may
//! send its origin again while the token is good: nothing in a request says that it was there before.

use arc_swap::ArcSwapOption;
use hmac::{Hmac, Mac};
use protoplex_wire::BuildId;
use sha2::Sha256;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Time for which a token is made: one MAC a minute costs nothing.
const WINDOW: Duration = Duration::from_secs(60);
/// A token is good for so many windows before and after its own: clocks of a fleet differ, and five minutes are what
/// Kerberos has allowed them for thirty years.
const SKEW_WINDOWS_MAX: u64 = 5;

/// Purpose of a build token's MAC: a prefix of what is signed.
const TOKEN_PURPOSE: &[u8] = b"protoplex-hop-v2:";
/// Purpose of the MAC that is the key of a token's origins: a prefix of what is signed.
const ORIGIN_PURPOSE: &[u8] = b"protoplex-origin-v1:";

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildTokenFault {
    /// No node of this fleet made the token.
    #[error("its token is none of this fleet's")]
    Forged,
    /// The token is of another time: it was valid once, or will be.
    #[error(
        "its token is of another time; compare the clocks of this node and the one that sent it"
    )]
    OtherTime,
}

/// The fleet's secret, and what is made of it: build tokens, and keys of origins' MACs.
#[derive(Default)]
pub struct HopKey {
    secret: Vec<u8>,
    /// The last token that was made and the last that was verified: a fleet runs one build at a time, and a MAC for
    /// each request would cost more than the rest of an internal request's head.
    made: ArcSwapOption<BuildToken>,
    verified: ArcSwapOption<BuildToken>,
}

/// Shows nothing: whoever reads it could speak for any node.
impl fmt::Debug for HopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HopKey").finish_non_exhaustive()
    }
}

/// A build token, and the key of the origins that stand beside it.
pub struct BuildToken {
    /// Id of the build that the token names.
    pub build: BuildId,
    window: u64,
    value: String,
    /// A MAC that has its key already, so that an origin costs no more than the hash of its own text: 0.4 µs at each
    /// end.
    origins: Hmac<Sha256>,
}

/// Shows the build, and nothing that vouches for it.
impl fmt::Debug for BuildToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BuildToken");
        shown.field("build", &self.build).finish_non_exhaustive()
    }
}

impl BuildToken {
    /// The header's value, `<build id>:<window>:<token>`.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// A MAC for one origin: takes its text, and is finished or compared then.
    pub fn origin_mac(&self) -> Hmac<Sha256> {
        self.origins.clone()
    }
}

/// Number of the window that a time falls into.
fn window(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs() / WINDOW.as_secs()
}

impl HopKey {
    /// Reads a secret of 64 hexadecimal digits; anything else makes a key that fits nothing.
    pub fn new(text: &str) -> Self {
        Self {
            secret: hex::decode(text).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn mac(&self, purpose: &[u8], build: &BuildId, window: u64) -> Option<Hmac<Sha256>> {
        if self.secret.is_empty() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(purpose);
        mac.update(build.as_bytes());
        mac.update(&window.to_be_bytes());
        Some(mac)
    }

    fn token(&self, build: BuildId, window: u64, value: String) -> Option<Arc<BuildToken>> {
        let key = self
            .mac(ORIGIN_PURPOSE, &build, window)?
            .finalize()
            .into_bytes();
        let origins = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        Some(Arc::new(BuildToken {
            build,
            window,
            value,
            origins,
        }))
    }

    /// Makes a build's token for the current window; `None` before the fleet's secret is known.
    pub fn make(&self, build: &BuildId, now: SystemTime) -> Option<Arc<BuildToken>> {
        let window = window(now);
        if let Some(made) = &*self.made.load()
            && made.build == *build
            && made.window == window
        {
            return Some(Arc::clone(made));
        }
        let token = self
            .mac(TOKEN_PURPOSE, build, window)?
            .finalize()
            .into_bytes();
        let value = format!("{build}:{window}:{}", hex::encode(&token[..16]));
        let made = self.token(*build, window, value)?;
        self.made.store(Some(Arc::clone(&made)));
        Some(made)
    }

    /// Reads a token that a node of this fleet wrote, not long ago.
    ///
    /// # Errors
    /// Another fleet or nobody made the token, or it is of another time.
    pub fn verify(
        &self,
        value: &[u8],
        now: SystemTime,
    ) -> Result<Arc<BuildToken>, BuildTokenFault> {
        let fresh =
            |token: &BuildToken| match token.window.abs_diff(window(now)) <= SKEW_WINDOWS_MAX {
                true => Ok(()),
                false => Err(BuildTokenFault::OtherTime),
            };
        if let Some(known) = &*self.verified.load()
            && is_same(known.value.as_bytes(), value)
        {
            return fresh(known).map(|()| Arc::clone(known));
        }
        let known = self.check(value).ok_or(BuildTokenFault::Forged)?;
        fresh(&known)?;
        self.verified.store(Some(Arc::clone(&known)));
        Ok(known)
    }

    fn check(&self, value: &[u8]) -> Option<Arc<BuildToken>> {
        let value = std::str::from_utf8(value).ok()?;
        let mut parts = value.splitn(3, ':');
        let build: BuildId = parts.next()?.parse().ok()?;
        let window: u64 = parts.next()?.parse().ok()?;
        let token = hex::decode(parts.next()?).ok()?;
        (token.len() == 16).then_some(())?;
        self.mac(TOKEN_PURPOSE, &build, window)?
            .verify_truncated_left(&token)
            .ok()?;
        self.token(build, window, value.to_owned())
    }
}

/// Compares two MACs in constant time, which does not tell how much was right.
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

    fn made(key: &HopKey, build: &BuildId, now: SystemTime) -> Option<String> {
        key.make(build, now).map(|token| token.value().to_owned())
    }

    fn verified(key: &HopKey, value: &[u8], now: SystemTime) -> Result<BuildId, BuildTokenFault> {
        key.verify(value, now).map(|token| token.build)
    }

    #[test]
    fn neither_secret_nor_token_is_shown_in_logs() {
        let key = HopKey::new(&"ab".repeat(32));
        let token = key.make(&BuildId::of(b"build"), at(NOW)).unwrap();
        let mac = token.value().rsplit(':').next().unwrap();
        // The key keeps the token that it made last.
        let shown = format!("{key:?} {token:?}");
        for secret in ["171, 171", &"ab".repeat(32), mac, token.value()] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn only_a_node_of_the_fleet_can_name_a_build() {
        let (ours, theirs) = (HopKey::new(&"ab".repeat(32)), HopKey::new(&"cd".repeat(32)));
        let (build, now) = (BuildId::of(b"build"), at(NOW));
        let value = made(&ours, &build, now).unwrap();
        for _ in 0..2 {
            assert_eq!(verified(&ours, value.as_bytes(), now), Ok(build));
            assert_eq!(made(&ours, &build, now), Some(value.clone()));
        }
        let other = BuildId::of(b"other");
        assert_ne!(made(&ours, &other, now), Some(value.clone()));
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
            let found = verified(&ours, forged.as_bytes(), now);
            assert_eq!(found, Err(BuildTokenFault::Forged), "{forged}");
        }
        let none = HopKey::default();
        assert_eq!(made(&none, &build, now), None);
        for key in [theirs, none] {
            let found = verified(&key, value.as_bytes(), now);
            assert_eq!(found, Err(BuildTokenFault::Forged));
        }
    }

    #[test]
    fn a_token_is_good_for_some_minutes_whichever_clock_is_ahead() {
        let build = BuildId::of(b"build");
        let sender = HopKey::new(&"ab".repeat(32));
        let value = made(&sender, &build, at(NOW)).unwrap();
        assert_ne!(made(&sender, &build, at(NOW + 60)), Some(value.clone()));
        let skew = SKEW_WINDOWS_MAX * WINDOW.as_secs();
        // Known already, and not.
        for receiver in [HopKey::new(&"ab".repeat(32)), HopKey::new(&"ab".repeat(32))] {
            for good in [NOW - skew, NOW, NOW + skew] {
                let found = verified(&receiver, value.as_bytes(), at(good));
                assert_eq!(found, Ok(build));
            }
            for bad in [NOW - skew - 60, NOW + skew + 60, NOW + 86_400] {
                let found = verified(&receiver, value.as_bytes(), at(bad));
                assert_eq!(found, Err(BuildTokenFault::OtherTime), "{bad}");
            }
        }
    }
}
