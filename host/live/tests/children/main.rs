//! What children promise each other, one promise at a time.

mod fleet;

mod limits;
mod mirrors;
mod moves;
