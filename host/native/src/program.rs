//! Path of the running program, to start more processes of it.

use std::{io, path::PathBuf};

/// Path of the file that this process runs. Where the file was replaced on disk since (a new build, an upgrade), the
/// kernel's own link to the old one: a parent and its children always speak the same protocol.
///
/// # Errors
/// There is no `/proc`.
pub fn this_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() {
        path
    } else {
        PathBuf::from("/proc/self/exe")
    })
}
