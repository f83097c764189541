//! Faults of grants.

/// A grant that could never match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// A text of the wrong form.
    #[error("grants.{key} has `{text}`; {remedy}")]
    Malformed {
        /// The kind of grant.
        key: &'static str,
        /// The text.
        text: String,
        /// The form that it must have.
        remedy: String,
    },
    /// A text that names nothing there is.
    #[error("grants.{key} names `{text}`; {remedy}")]
    Nothing {
        /// The kind of grant.
        key: &'static str,
        /// The text.
        text: String,
        /// What there is.
        remedy: String,
    },
}
