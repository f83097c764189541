//! Starts the real program and talks to it as visitors, operators and load generators do.

mod fleet;
mod http;
mod load;

pub use fleet::{Fleet, Node, Pushed, children, repository, signal};
pub use http::{Connection, Response};
pub use load::{Load, LoadReport};
