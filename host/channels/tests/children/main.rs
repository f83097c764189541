//! Promises of children to each other, one promise at a time.

mod fleet;

mod limits;
mod mirrors;
mod moves;
