//! `protoplex:host/settings`: settings of the build that the handler's grants name.

use crate::{bindings::host::protoplex::host::settings::Host, state::HostState};

impl Host for HostState {
    fn get(&mut self, name: String) -> Option<String> {
        self.context.as_ref()?.settings.get(&name).cloned()
    }
}
