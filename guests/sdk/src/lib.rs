//! SDK for handlers in Rust.
//!
//! - `edge`: a handler that sees the head of a request and decides. Nothing it does can block.
//! - `live`: a handler that is told what happens on long-lived connections; `live-stateful`, where it remembers something
//!   of each. Nothing it does can block.
//! - `app`: a handler that reads a body and streams an answer, against plain `wasi:http` 0.3.
//!
//! A crate takes one of them as a feature, because each brings the imports of its world.

#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "edge")]
pub mod edge;
#[cfg(any(feature = "edge", feature = "live"))]
pub mod host;
pub mod json;
#[cfg(feature = "live")]
pub mod live;
