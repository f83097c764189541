//! A node: the parent process that holds sockets, Seed link and builds, and the children that answer requests.

mod awake;
pub mod channel;
pub mod child;
mod child_files;
pub mod config;
pub mod control;
mod descriptors;
pub mod ingress;
pub mod log_output;
pub mod parent;
