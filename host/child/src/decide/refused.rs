//! Decisions that are refused.

use protoplex_handler::HandlerError;

/// Refuses a decision: what is wrong with it, and the remedy, for the log.
pub(super) fn refused<T>(text: impl Into<String>) -> Result<T, HandlerError> {
    Err(HandlerError::Refused(text.into()))
}
