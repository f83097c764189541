//! Session tickets (RFC 5077, RFC 8446) that every child of a node can read, whichever made them.
//!
//! The parent makes one secret at its start and hands it to each child. The secret is a ratchet: every six hours each
//! holder replaces it by a hash of itself, by the clock and without a word to the others, so that a secret that leaks
//! tells nothing of tickets of before the last step but one. In TLS 1.3 a resumption makes new keys besides; in TLS 1.2
//! the ticket is all there is, which is why secrets are forgotten and never written to disk.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac, rand,
};
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds of an epoch. A ticket is good for one to two epochs: long enough for a client of the morning to be quick at
/// noon.
const EPOCH_S: u32 = 6 * 3_600;
const EPOCH_BYTES: usize = 8;
/// Most bytes of a ticket that a client presents; our tickets have some hundred, and a client's certificate is never in
/// them.
const TICKET_BYTES_MAX: usize = 16 << 10;

/// Secret that the tickets of one epoch are sealed with.
#[derive(Clone)]
pub struct TicketSecret {
    /// Number of the epoch, since 1970.
    pub epoch: u64,
    /// Secret of the epoch.
    pub secret: [u8; 32],
}

impl TicketSecret {
    /// Makes a secret of the epoch that is now. `None` where the system has no randomness.
    pub fn random() -> Option<Self> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).ok()?;
        let epoch = epoch_now();
        Some(Self { epoch, secret })
    }

    /// Moves on to the epoch that is now; secrets before it are forgotten.
    pub fn advance(&mut self) {
        self.advance_to(epoch_now());
    }

    fn advance_to(&mut self, epoch: u64) {
        while self.epoch < epoch {
            self.secret = derive(&self.secret, b"next epoch");
            self.epoch += 1;
        }
    }

    fn key(&self) -> Option<LessSafeKey> {
        let bytes = derive(&self.secret, b"ticket key");
        let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
        Some(LessSafeKey::new(key))
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({})", self.epoch)
    }
}

fn derive(secret: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, purpose);
    let mut derived = [0; 32];
    derived.copy_from_slice(tag.as_ref());
    derived
}

fn epoch_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / u64::from(EPOCH_S))
}

/// Seals and opens tickets, once there is a secret.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<Option<TicketKeys>>);

struct TicketKeys {
    secret: TicketSecret,
    now: LessSafeKey,
    before: Option<LessSafeKey>,
}

impl Tickets {
    pub(crate) fn set(&self, secret: TicketSecret) {
        if let Some(now) = secret.key() {
            let before = None;
            *self.0.lock() = Some(TicketKeys {
                secret,
                now,
                before,
            });
        }
    }

    /// Uses the key of epoch `of`, in epoch `now`. `None` where that key is gone, or not made yet.
    fn with_key<T>(
        &self,
        now: u64,
        of: u64,
        run: impl FnOnce(&LessSafeKey) -> Option<T>,
    ) -> Option<T> {
        let mut keys = self.0.lock();
        let keys = keys.as_mut()?;
        while keys.secret.epoch < now {
            keys.secret.advance_to(keys.secret.epoch + 1);
            let next = keys.secret.key()?;
            keys.before = Some(std::mem::replace(&mut keys.now, next));
        }
        match keys.secret.epoch.checked_sub(of) {
            Some(0) => run(&keys.now),
            Some(1) => run(keys.before.as_ref()?),
            _ => None,
        }
    }

    fn seal(&self, now: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let epoch = now.to_be_bytes();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = [&epoch[..], &nonce, plain].concat();
        let tag = self.with_key(now, now, |key| {
            let body = &mut ticket[EPOCH_BYTES + NONCE_LEN..];
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_separate_tag(nonce, Aad::from(epoch), body)
                .ok()
        })?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (epoch, rest) = ticket.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = sealed.to_vec();
        let bytes = self.with_key(now, u64::from_be_bytes(*epoch), |key| {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key
                .open_in_place(nonce, Aad::from(*epoch), &mut body)
                .ok()?;
            Some(plain.len())
        })?;
        body.truncate(bytes);
        Some(body)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.lock().is_some()
    }

    fn lifetime(&self) -> u32 {
        EPOCH_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(epoch_now(), plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(epoch_now(), ticket)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(epoch: u64) -> Tickets {
        let tickets = Tickets::default();
        tickets.set(TicketSecret {
            epoch,
            secret: [7; 32],
        });
        tickets
    }

    #[test]
    fn a_ticket_is_good_at_every_holder_for_two_epochs() {
        let (mine, yours) = (tickets(5), tickets(5));
        let ticket = mine.seal(5, b"session").expect("a ticket");
        assert_eq!(yours.open(5, &ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(yours.open(6, &ticket).as_deref(), Some(&b"session"[..]));
        // One that came late steps over epochs on its own.
        let later = mine.seal(9, b"later").expect("a ticket");
        assert_eq!(yours.open(9, &later).as_deref(), Some(&b"later"[..]));
        assert_eq!(yours.open(9, &ticket), None);
    }

    #[test]
    fn what_was_changed_or_cut_is_no_ticket() {
        let tickets = tickets(5);
        let ticket = tickets.seal(5, b"session").expect("a ticket");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.open(5, &changed), None, "{at}");
            assert_eq!(tickets.open(5, &ticket[..at]), None, "{at}");
        }
        assert_eq!(tickets.open(5, &vec![0; TICKET_BYTES_MAX + 1]), None);
        let other = Tickets::default();
        other.set(TicketSecret {
            epoch: 5,
            secret: [8; 32],
        });
        assert_eq!(other.open(5, &ticket), None);
    }
}
