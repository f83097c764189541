//! `protoplex:host/settings`: settings of the build that the handler's grants name.

use crate::{bindings::host::protoplex::host::settings::Host, state::HostState};
use std::sync::Arc;

impl HostState {
    /// Value of the setting of that name.
    pub(super) fn setting(&self, name: &str) -> Option<Arc<str>> {
        self.context.as_ref()?.settings.get(name).map(Arc::clone)
    }
}

impl Host for HostState {
    fn get(&mut self, name: String) -> Option<String> {
        self.setting(&name).map(|value| value.to_string())
    }
}
