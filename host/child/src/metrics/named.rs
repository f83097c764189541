//! Counters by name. They outlive the builds that use them, so that a push does not set them back.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// Counters that each have a name, up to a number of names, and one for all the rest.
#[derive(Debug)]
pub(crate) struct Named<K, T> {
    names_max: usize,
    known: Mutex<BTreeMap<K, Arc<T>>>,
    other: Arc<T>,
}

impl<K: Ord + Clone, T: Default> Named<K, T> {
    pub(super) fn new(names_max: usize) -> Self {
        Self {
            names_max,
            known: Mutex::default(),
            other: Arc::default(),
        }
    }

    /// The counters of a name, for as long as a build holds them. Where all names are taken, those that no build
    /// uses any more are forgotten; where that does not help, it is what all others share.
    pub(crate) fn of(&self, name: K) -> Arc<T> {
        let mut known = self.known.lock();
        if let Some(counters) = known.get(&name) {
            return Arc::clone(counters);
        }
        if known.len() >= self.names_max {
            known.retain(|_, counters| Arc::strong_count(counters) > 1);
        }
        if known.len() >= self.names_max {
            return Arc::clone(&self.other);
        }
        Arc::clone(known.entry(name).or_default())
    }

    /// All names and their counters, in order, and what the others share under the name `other`.
    pub(super) fn all(&self, other: K) -> Vec<(K, Arc<T>)> {
        let known = self.known.lock();
        let named = known
            .iter()
            .map(|(name, counters)| (name.clone(), Arc::clone(counters)));
        named.chain([(other, Arc::clone(&self.other))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn names_above_the_limit_share_a_counter_and_unused_ones_go() {
        let named = Named::<&str, AtomicU64>::new(2);
        let (a, b) = (named.of("a"), named.of("b"));
        a.fetch_add(1, Relaxed);
        for name in ["c", "d"] {
            named.of(name).fetch_add(1, Relaxed);
        }
        let counts = || {
            let all = named.all("(other)");
            let counts = all.iter().map(|(name, n)| (*name, n.load(Relaxed)));
            counts.collect::<Vec<_>>()
        };
        assert_eq!(counts(), [("a", 1), ("b", 0), ("(other)", 2)]);
        assert!(Arc::ptr_eq(&a, &named.of("a")), "it outlives its build");
        drop(b);
        named.of("e").fetch_add(1, Relaxed);
        assert_eq!(counts(), [("a", 1), ("e", 1), ("(other)", 2)]);
        drop(a);
        for push in 0..100 {
            let names = ["f", "g", "h", "i", "j"];
            drop(named.of(names[push % names.len()]));
            assert!(counts().len() <= 3);
        }
    }
}
