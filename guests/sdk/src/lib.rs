//! What a handler author in Rust needs.
//!
//! - `edge`: a handler that sees the head of a request and decides. Nothing it does can block.
//! - `app`: a handler that reads a body and streams an answer, against plain `wasi:http` 0.3.
//!
//! A crate takes one of the two as a feature, because each brings the imports of its world.

#[cfg(feature = "app")]
pub mod app;
#[cfg(feature = "edge")]
pub mod edge;
