//! The end of a command: the exit code, and what is said on stderr.

use protoplex_push::{PushError, SourceFaults};
use std::process::ExitCode;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandExit {
    /// Done; if a release was ordered, it was promoted.
    Done = 0,
    /// Failed in a way that has no code of its own.
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

impl From<CommandExit> for ExitCode {
    fn from(code: CommandExit) -> Self {
        Self::from(code as u8)
    }
}

/// Maps an error to its exit code.
pub fn code_of(error: &anyhow::Error) -> CommandExit {
    if error.is::<SourceFaults>() {
        return CommandExit::Refused;
    }
    match error.downcast_ref::<PushError>() {
        Some(PushError::Refused { .. } | PushError::Conflict { .. }) => CommandExit::Refused,
        Some(PushError::Client(_) | PushError::Read { .. }) | None => CommandExit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_manifest_is_a_refusal() {
        let error = anyhow::Error::new(SourceFaults::one("x.toml", "no")).context("packaging");
        assert_eq!(code_of(&error), CommandExit::Refused);
        assert_eq!(code_of(&anyhow::anyhow!("else")), CommandExit::Failed);
    }
}
