//! The handler crate's `inspect`, as `push` wants it.

use protoplex_push::Inspected;

/// Tells a component's world by its imports and exports.
///
/// # Errors
/// Why it has none, for its author.
pub fn inspect(wasm: &[u8]) -> Result<Inspected, String> {
    match protoplex_handler::inspect(wasm) {
        Ok(found) => Ok(Inspected {
            world: found.world,
            awaited_imports: found.awaited_imports,
        }),
        Err(fault) => Err(fault.reason),
    }
}
