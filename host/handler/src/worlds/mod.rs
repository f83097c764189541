//! The worlds that handlers are written for: how each is linked, instantiated and called.

pub(crate) mod app;
pub(crate) mod edge;
pub(crate) mod live;
