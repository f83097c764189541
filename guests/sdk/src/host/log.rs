//! The node's log. Each line carries the handler, the build and the request's id by itself; it is cut at 4 KiB.

pub use super::imports::log::Level;
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn,
};

/// Logs one line.
pub fn log(level: Level, message: &str) {
    super::imports::log::log(level, message);
}

/// Logs a panic's text before it becomes a trap, which carries none.
pub(crate) fn panics() {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
    });
}

/// Logs a line of level debug: `log::debug!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Debug, &::std::format!($($part)*)) };
}

/// Logs a line of level info: `log::info!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Info, &::std::format!($($part)*)) };
}

/// Logs a line of level warn: `log::warn!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Warn, &::std::format!($($part)*)) };
}

/// Logs a line of level error: `log::error!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Error, &::std::format!($($part)*)) };
}
