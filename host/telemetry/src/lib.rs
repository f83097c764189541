//! What a process tells its operator: the log and where it goes.

pub mod log_output;
