//! Telemetry of a process for its operator: the log and where it goes; what it allocates.

pub mod allocations;
pub mod log_output;
