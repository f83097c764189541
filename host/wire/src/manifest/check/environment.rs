//! A handler's environment variables: names and values that every guest can read, and few enough for every instance.

use super::Findings;
use crate::manifest::{Handler, World};

/// Variables of one handler.
const VARIABLES_MAX: usize = 128;
/// Names and values of one handler together: each instance copies those that it asks for.
const BYTES_MAX: usize = 32 << 10;

/// An environment that no instance could have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentFault {
    /// The handler cannot read variables.
    #[error(
        "`environment` needs a handler that imports WASI, and this one is {0}; it reads `settings`"
    )]
    World(World),
    /// Too many variables.
    #[error("environment has {0} variables; {VARIABLES_MAX} is the most")]
    Variables(usize),
    /// Names and values are too long together.
    #[error("environment has {0} bytes; {BYTES_MAX} is the most")]
    Bytes(usize),
    /// A name that no variable can have.
    #[error("environment {0:?} is no name of a variable: it must not be empty nor have `=` in it")]
    Name(String),
    /// The value of the variable of that name has a NUL.
    #[error("environment {0:?} has a NUL in its value")]
    Value(String),
}

pub(super) fn check(found: &mut Findings<'_>, handler: &Handler) {
    let environment = &handler.environment;
    if environment.is_empty() {
        return;
    }
    let has_environment = handler.world.is_app() || handler.world == World::EdgeWasi;
    if !has_environment {
        found.add(EnvironmentFault::World(handler.world));
    }
    if environment.len() > VARIABLES_MAX {
        found.add(EnvironmentFault::Variables(environment.len()));
    }
    let bytes: usize = (environment.iter())
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > BYTES_MAX {
        found.add(EnvironmentFault::Bytes(bytes));
    }
    for (name, value) in environment {
        let mut found = found.key(name.clone());
        if name.is_empty() || name.contains(['=', '\0']) {
            found.add(EnvironmentFault::Name(name.clone()));
        }
        if value.contains('\0') {
            found.add(EnvironmentFault::Value(name.clone()));
        }
    }
}
