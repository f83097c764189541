//! Channels that have left this child and have not been taken by another yet.

use crate::{Child, frame::Handover, limits::OFFER_MS};
use std::{collections::BTreeMap, sync::Arc};

/// A channel that is offered to its new owner.
pub(super) struct Offer {
    pub to: Child,
    pub handover: Handover,
    pub since_ms: u64,
    /// That child may have taken it. Nobody else may have it then, unless that child says that it did not.
    pub sent: bool,
    /// The offer was sent on the present link.
    pub on_link: bool,
}

/// The channels that are offered to their new owners, by name.
#[derive(Default)]
pub(super) struct Offers(BTreeMap<Arc<str>, Offer>);

impl Offers {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn insert(&mut self, channel: &Arc<str>, offer: Offer) {
        self.0.insert(Arc::clone(channel), offer);
    }

    pub fn get(&mut self, channel: &str) -> Option<&mut Offer> {
        self.0.get_mut(channel)
    }

    pub fn remove(&mut self, channel: &str) -> Option<Offer> {
        self.0.remove(channel)
    }

    pub fn channels(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }

    /// There is another link to that child, or none: what was sent may not have come.
    pub fn unlinked(&mut self, child: Child) {
        for offer in self.0.values_mut().filter(|offer| offer.to == child) {
            offer.on_link = false;
        }
    }

    /// That child is dead, and with it what it took.
    pub fn gone(&mut self, child: Child) {
        self.0.retain(|_, offer| offer.to != child || !offer.sent);
    }

    pub fn trim(&mut self, now_ms: u64) {
        self.0
            .retain(|_, offer| now_ms.saturating_sub(offer.since_ms) < OFFER_MS);
    }
}
