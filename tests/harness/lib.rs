//! Starts the real program and talks to it as visitors, operators and load generators do.

mod fleet;
mod http;
mod https;
mod load;
mod meta;
mod origin;
mod program;

pub use fleet::{Fleet, Node, Pushed, children, program, repository, said, signal};
pub use http::{Connection, Response};
pub use https::Https;
pub use load::{Load, LoadReport};
pub use origin::{Origin, head_of, read_head};
pub use program::{Program, free_address, python};
