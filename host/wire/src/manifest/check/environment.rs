//! A handler's environment variables: names and values that every guest can read, and few enough for every instance.

use crate::manifest::{Handler, World};

/// Variables of one handler.
const VARIABLES_MAX: usize = 128;
/// Names and values of one handler together: each instance copies those that it asks for.
const BYTES_MAX: usize = 32 << 10;

/// Faults of a handler's environment.
pub(super) fn faults(handler: &Handler) -> Vec<String> {
    let environment = &handler.environment;
    let mut faults = Vec::new();
    if environment.is_empty() {
        return faults;
    }
    let has_environment = handler.world.is_app() || handler.world == World::EdgeWasi;
    if !has_environment {
        faults.push(format!(
            "`environment` needs a handler that imports WASI, and this one is {}; it reads `settings`",
            handler.world
        ));
    }
    if environment.len() > VARIABLES_MAX {
        faults.push(format!(
            "environment has {} variables; {VARIABLES_MAX} is the most",
            environment.len()
        ));
    }
    let bytes: usize = (environment.iter())
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > BYTES_MAX {
        faults.push(format!(
            "environment has {bytes} bytes; {BYTES_MAX} is the most"
        ));
    }
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.push(format!(
                "environment {name:?} is no name of a variable: it must not be empty nor have `=` in it"
            ));
        }
        if value.contains('\0') {
            faults.push(format!("environment {name:?} has a NUL in its value"));
        }
    }
    faults
}
