//! Control of a node's children by their parent: messages, the socket that carries them, files and
//! descriptors that travel with them, and the section of a node's configuration that both read.

pub mod awake;
pub mod child_files;
pub mod descriptors;
pub mod ingress;
pub mod messages;
pub mod socket;
