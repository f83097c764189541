//! Faults of grants.

/// A grant that could never match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// The text has the wrong form.
    #[error("grants.{key} has `{text}`; {remedy}")]
    Malformed {
        /// Kind of the grant, as its key.
        key: &'static str,
        /// Text of the grant.
        text: String,
        /// Form that the text must have.
        remedy: String,
    },
    /// The text names nothing that the host has.
    #[error("grants.{key} names `{text}`; {remedy}")]
    Nothing {
        /// Kind of the grant, as its key.
        key: &'static str,
        /// Text of the grant.
        text: String,
        /// Text that says what the host has.
        remedy: String,
    },
}
