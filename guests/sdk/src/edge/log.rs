//! The node's log. Each line carries the handler, the build and the request's id by itself; it is cut at 4 KiB.

pub use super::bindings::protoplex::edge::log::Level;
pub use crate::{
    __edge_log_debug as debug, __edge_log_error as error, __edge_log_info as info,
    __edge_log_warn as warn,
};

/// One line.
pub fn log(level: Level, message: &str) {
    super::bindings::protoplex::edge::log::log(level, message);
}

/// `log::debug!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __edge_log_debug {
    ($($part:tt)*) => { $crate::edge::log::log($crate::edge::log::Level::Debug, &::std::format!($($part)*)) };
}

/// `log::info!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __edge_log_info {
    ($($part:tt)*) => { $crate::edge::log::log($crate::edge::log::Level::Info, &::std::format!($($part)*)) };
}

/// `log::warn!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __edge_log_warn {
    ($($part:tt)*) => { $crate::edge::log::log($crate::edge::log::Level::Warn, &::std::format!($($part)*)) };
}

/// `log::error!("{} things", n)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __edge_log_error {
    ($($part:tt)*) => { $crate::edge::log::log($crate::edge::log::Level::Error, &::std::format!($($part)*)) };
}
