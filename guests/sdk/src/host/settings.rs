//! Settings of the build, as far as the handler's grants name them.

/// Reads a setting by name; `None` where the build has none, or the grants do not name it.
pub fn get(name: &str) -> Option<String> {
    super::imports::settings::get(name)
}
