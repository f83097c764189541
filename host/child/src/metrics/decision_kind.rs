//! Kinds of what a handler's calls came to, each with its name in metrics. A decision that is added has its variant, its
//! name and its place in [`DecisionKind::ALL`] here, and nowhere else.

use protoplex_handler::decision::Decision;

/// The counter that a call raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionKind {
    /// An inline response.
    Respond,
    /// A redirect.
    Redirect,
    /// A relay to an upstream.
    Relay,
    /// A file of the build.
    Asset,
    /// A run of an app handler.
    App,
    /// A call of a live handler.
    Live,
    /// A call that failed, or whose decision was refused.
    Error,
}

impl DecisionKind {
    /// The kind of a decision.
    pub(crate) fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Respond(_) => Self::Respond,
            Decision::Redirect(_) => Self::Redirect,
            Decision::Relay(_) => Self::Relay,
            Decision::Asset(_) => Self::Asset,
            Decision::App(_) => Self::App,
        }
    }

    /// Every kind, in its own order.
    pub(super) const ALL: [Self; 7] = [
        Self::Respond,
        Self::Redirect,
        Self::Relay,
        Self::Asset,
        Self::App,
        Self::Live,
        Self::Error,
    ];

    /// The label of its counter.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Respond => "respond",
            Self::Redirect => "redirect",
            Self::Relay => "relay",
            Self::Asset => "asset",
            Self::App => "app",
            Self::Live => "live",
            Self::Error => "error",
        }
    }
}

/// A kind that is left out, or out of order, does not compile. `Error` is the last.
const _: () = {
    let mut index = 0;
    while index < DecisionKind::ALL.len() {
        assert!(DecisionKind::ALL[index] as usize == index);
        index += 1;
    }
    assert!(DecisionKind::Error as usize + 1 == DecisionKind::ALL.len());
};
