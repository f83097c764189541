//! Promises, kept by real processes: `protoplex up` in a temporary folder, real components, loopback only.

mod deploys;
mod limits;
mod requests;
mod survival;
