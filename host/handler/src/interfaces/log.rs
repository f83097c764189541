//! `protoplex:host/log`: lines of the node's log.

use crate::{
    bindings::host::protoplex::host::log::{Host, Level},
    state::HostState,
};

/// A log line is cut here: a guest must not fill the disk with one request.
const LOG_LINE_BYTES_MAX: usize = 4 << 10;

impl Host for HostState {
    fn log(&mut self, level: Level, message: String) {
        let message: &str = message
            .get(..message.floor_char_boundary(LOG_LINE_BYTES_MAX))
            .unwrap_or_default();
        let (handler, build) = self
            .context
            .as_ref()
            .map_or(("", String::new()), |context| {
                (context.handler.as_str(), context.build.short())
            });
        let request = self.request.request_id();
        match level {
            Level::Debug => {
                tracing::debug!(target: "guest", handler, build, request, "{message}")
            }
            Level::Info => {
                tracing::info!(target: "guest", handler, build, request, "{message}")
            }
            Level::Warn => {
                tracing::warn!(target: "guest", handler, build, request, "{message}")
            }
            Level::Error => {
                tracing::error!(target: "guest", handler, build, request, "{message}");
                self.last_error = Some(message.replace('\n', " "));
            }
        }
    }
}
