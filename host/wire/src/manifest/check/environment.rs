//! A handler's environment variables: names and values that every guest can read, and few enough for every instance.

use super::Findings;
use crate::manifest::{EnvironmentFault, Handler, World};

/// Most variables of one handler.
const VARIABLES_MAX: usize = 128;
/// Most bytes of all names and values of one handler: each instance copies those that it asks for.
const BYTES_MAX: usize = 32 << 10;

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
        let (count, most) = (environment.len(), VARIABLES_MAX);
        found.add(EnvironmentFault::Variables { count, most });
    }
    let bytes: usize = (environment.iter())
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > BYTES_MAX {
        let most = BYTES_MAX;
        found.add(EnvironmentFault::Bytes { bytes, most });
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
