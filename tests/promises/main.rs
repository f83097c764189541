//! Promises, kept by real processes: `protoplex up` in a temporary folder, real components, loopback only.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, with the value in its message"
)]

mod alone;
mod apps;
mod commands;
mod connections;
mod deploys;
mod directory;
mod limits;
mod pushes;
mod relaying;
mod requests;
mod survival;
