//! A node: the parent process that holds sockets, Seed link and builds, and the children that answer requests.

pub mod channel;
pub mod child;
pub mod config;
pub mod control;
mod descriptors;
pub mod ingress;
pub mod parent;
pub mod program;
