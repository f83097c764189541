//! The node's log. Each line carries the handler, the build and the request's id by itself; it is cut at 4 KiB.

pub use super::imports::log::Level;
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn,
};

/// One line.
pub fn log(level: Level, message: &str) {
    super::imports::log::log(level, message);
}

/// A panic becomes a trap, which carries no text; so the text goes to the log first.
pub(crate) fn panics() {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
    });
}

/// `log::debug!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Debug, &::std::format!($($part)*)) };
}

/// `log::info!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Info, &::std::format!($($part)*)) };
}

/// `log::warn!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Warn, &::std::format!($($part)*)) };
}

/// `log::error!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($part:tt)*) => { $crate::host::log::log($crate::host::log::Level::Error, &::std::format!($($part)*)) };
}
