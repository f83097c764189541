//! Starts the real program and talks to it as visitors, operators and load generators do.

mod fleet;
mod http;
mod load;
mod meta;

pub use fleet::{Fleet, Node, Pushed, children, program, repository, said, signal};
pub use http::{Connection, Response};
pub use load::{Load, LoadReport};
