//! Starts the real program and talks to it as visitors, operators and load generators do.

mod browser;
mod fleet;
mod http;
mod https;
mod live;
mod load;
mod meta;
mod nodes;
mod origin;
mod program;
mod small_disk;
mod wire;

pub use browser::{Browser, Page};
pub use fleet::{Fleet, Node, Pushed, children, program, repository, said, signal};
pub use http::{Connection, Response};
pub use https::Https;
pub use live::{CHANNELS, Socket};
pub use load::{Load, LoadReport};
pub use nodes::{
    cpu_time, descriptors, has_unread_packets, is_alive, is_ready, kill_node, limit_descriptors,
};
pub use origin::{Origin, answer_each, head_of, ok_with, read_head};
pub use program::{Program, free_address, python};
pub use small_disk::SmallDisk;
pub use wire::Wire;
