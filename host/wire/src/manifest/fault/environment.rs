//! Faults of a handler's environment variables.

use crate::manifest::World;

/// An environment that no instance could have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFault {
    /// The handler cannot read variables.
    #[error(
        "`environment` needs a handler that imports WASI, and this one is {0}; it reads `settings`"
    )]
    World(World),
    /// Too many variables.
    #[error("environment has {count} variables; {most} is the most")]
    Variables {
        /// Variables of the handler.
        count: usize,
        /// The most that there may be.
        most: usize,
    },
    /// Names and values are too long together.
    #[error("environment has {bytes} bytes; {most} is the most")]
    Bytes {
        /// Bytes of all names and values.
        bytes: usize,
        /// The most that there may be.
        most: usize,
    },
    /// A name that no variable can have.
    #[error("environment {0:?} is no name of a variable: it must not be empty nor have `=` in it")]
    Name(String),
    /// The value of the variable of that name has a NUL.
    #[error("environment {0:?} has a NUL in its value")]
    Value(String),
}
