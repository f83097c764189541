//! Telemetry of a process for its operator: the log and where it goes.

pub mod log_output;
