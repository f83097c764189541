//! The end of a command: the exit code, and what is said on stderr.

use protoplex_push::{PushError, SourceFaults};
use std::process::ExitCode;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done; a release was promoted.
    Done = 0,
    /// Anything that has no code of its own.
    Failed = 1,
    /// The release was reverted.
    Reverted = 3,
    /// The release still runs.
    TimedOut = 4,
    /// The build was refused, and nothing changed.
    Refused = 5,
    /// The build is the fleet's, but no node runs it, or none of a role that has nodes: it waits for them.
    Unreached = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The code of an error.
pub fn code_of(error: &anyhow::Error) -> Code {
    if error.is::<SourceFaults>() {
        return Code::Refused;
    }
    match error.downcast_ref::<PushError>() {
        Some(PushError::Refused { .. } | PushError::Conflict { .. }) => Code::Refused,
        Some(PushError::Client(_) | PushError::Read { .. }) | None => Code::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_manifest_is_a_refusal() {
        let error = anyhow::Error::new(SourceFaults::one("x.toml", "no")).context("packaging");
        assert_eq!(code_of(&error), Code::Refused);
        assert_eq!(code_of(&anyhow::anyhow!("else")), Code::Failed);
    }
}
