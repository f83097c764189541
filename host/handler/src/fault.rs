//! Why a component cannot run here.

use protoplex_wire::release::Stage;

/// A component that cannot be compiled, linked or warmed up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct BuildFault {
    /// The step that failed.
    pub stage: Stage,
    /// Why, for people.
    pub reason: String,
}

impl BuildFault {
    pub(crate) fn new(stage: Stage, error: &wasmtime::Error) -> Self {
        Self {
            stage,
            reason: format!("{error:#}"),
        }
    }
}
