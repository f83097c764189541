//! What a node's parent and its children say to each other, and on what: messages, the socket that carries them, files and
//! descriptors that travel with them, and the section of a node's configuration that both read.

pub mod awake;
pub mod child_files;
pub mod descriptors;
pub mod ingress;
pub mod messages;
pub mod socket;
