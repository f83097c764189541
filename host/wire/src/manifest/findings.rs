//! Collector of the faults that checks find.

use super::fault::{FaultKind, ManifestFault, ManifestPath, NumberFault};
use std::{borrow::Cow, ops::RangeInclusive};

/// One part of a manifest that is being checked, and all faults found so far.
pub(super) struct Findings<'a> {
    at: ManifestPath,
    found: &'a mut Vec<ManifestFault>,
}

impl<'a> Findings<'a> {
    /// Makes a collector that begins at the whole manifest.
    pub(super) fn new(found: &'a mut Vec<ManifestFault>) -> Self {
        let at = ManifestPath::default();
        Self { at, found }
    }

    /// Narrows the collector to the part at `key`.
    pub(super) fn key(&mut self, key: impl Into<Cow<'static, str>>) -> Findings<'_> {
        Findings {
            at: self.at.key(key),
            found: self.found,
        }
    }

    /// Narrows the collector to a member of this list, from 0.
    pub(super) fn index(&mut self, index: usize) -> Findings<'_> {
        Findings {
            at: self.at.index(index),
            found: self.found,
        }
    }

    /// Adds a fault of this part.
    pub(super) fn add(&mut self, kind: impl Into<FaultKind>) {
        self.found.push(ManifestFault {
            at: self.at.clone(),
            kind: kind.into(),
        });
    }

    /// Adds a fault of the value at `key`.
    pub(super) fn add_at(&mut self, key: &'static str, kind: impl Into<FaultKind>) {
        self.key(key).add(kind);
    }

    pub(super) fn at_most(&mut self, key: &'static str, value: u64, most: u64) {
        if value > most {
            self.add_at(key, NumberFault::TooMuch { value, most });
        }
    }

    pub(super) fn not_zero(&mut self, key: &'static str, value: u64) {
        if value == 0 {
            self.add_at(key, NumberFault::Zero);
        }
    }

    /// Checks that a number is from 1 to `most`, where 0 would let nothing pass.
    pub(super) fn some_at_most(&mut self, key: &'static str, value: u64, most: u64) {
        self.not_zero(key, value);
        self.at_most(key, value, most);
    }

    /// Checks that a number lies in a range that does not begin at 0.
    pub(super) fn within(&mut self, key: &'static str, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.add_at(key, NumberFault::OutOfRange { value, least, most });
        }
    }

    /// Checks that a list has at most `most` members.
    pub(super) fn few(&mut self, key: &'static str, count: usize, most: usize) {
        if count > most {
            let (count, most) = (count as u64, most as u64);
            self.add_at(key, NumberFault::TooMany { count, most });
        }
    }
}
