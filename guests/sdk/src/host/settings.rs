//! Settings of the build, as far as the handler's grants name them.

/// The setting's value.
pub fn get(name: &str) -> Option<String> {
    super::imports::settings::get(name)
}
