//! Faults of a handler's environment variables.

use crate::manifest::World;

/// An environment that no instance could have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFault {
    /// The world of the handler has no environment variables.
    #[error(
        "`environment` needs a handler that imports WASI, and this one is {0}; it reads `settings`"
    )]
    World(World),
    /// There are too many variables.
    #[error("environment has {count} variables; {most} is the most")]
    Variables {
        /// Number of variables of the handler.
        count: usize,
        /// The most variables that a handler may have.
        most: usize,
    },
    /// Names and values are too long together.
    #[error("environment has {bytes} bytes; {most} is the most")]
    Bytes {
        /// Bytes of all names and values.
        bytes: usize,
        /// The most bytes that they may have.
        most: usize,
    },
    /// No variable can have this name.
    #[error("environment {0:?} is no name of a variable: it must not be empty nor have `=` in it")]
    Name(String),
    /// The value of the variable of that name has a NUL.
    #[error("environment {0:?} has a NUL in its value")]
    Value(String),
}
