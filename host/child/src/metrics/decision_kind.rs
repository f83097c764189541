//! Kinds of what a handler's calls came to, each with its counter: those of decisions, and two more.

use protoplex_handler::decision::Decision;

const DECISIONS: usize = Decision::KINDS.len();

/// The counter that a call raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionKind(usize);

impl DecisionKind {
    /// A run of an app handler.
    pub(crate) const APP: Self = Self(Decision::APP);
    /// A call of a live handler.
    pub const LIVE: Self = Self(DECISIONS);
    /// A call that failed, or whose decision was refused.
    pub const ERROR: Self = Self(DECISIONS + 1);
    /// Number of kinds.
    pub(super) const COUNT: usize = DECISIONS + 2;

    /// The kind of a decision.
    pub(crate) fn of(decision: &Decision) -> Self {
        Self(decision.kind())
    }

    /// Place of the kind's counter.
    pub(super) fn index(self) -> usize {
        self.0
    }

    /// Labels of all counters, in the order of their places.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        Decision::KINDS.into_iter().chain(["live", "error"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_handler::decision::{Redirect, Text};

    #[test]
    fn every_kind_has_a_counter_of_its_own_name() {
        let names: Vec<_> = DecisionKind::names().collect();
        assert_eq!(names.len(), DecisionKind::COUNT);
        let name = |kind: DecisionKind| names[kind.index()];
        assert_eq!(name(DecisionKind::APP), "app");
        assert_eq!(name(DecisionKind::LIVE), "live");
        assert_eq!(name(DecisionKind::ERROR), "error");
        let redirect = Decision::Redirect(Redirect {
            status: 301,
            location: Text::from("/"),
        });
        assert_eq!(name(DecisionKind::of(&redirect)), "redirect");
        assert_eq!(name(DecisionKind::of(&Decision::App("a".into()))), "app");
    }
}
