//! The host's side of what guests import: a file for each interface, for all worlds that import it.

mod channels;
mod clock;
mod connection;
mod log;
pub(crate) mod outgoing;
pub(crate) mod output;
mod random;
mod request;
mod settings;
mod types;
