//! Metrics that a role adds to those of its child.

/// Name, help and value of a metric without labels of its own.
pub type Sample = (&'static str, &'static str, u64);

/// Metrics that a role adds to those of its child.
#[derive(Default)]
pub struct RoleMetrics {
    /// Values of this moment.
    pub gauges: Vec<Sample>,
    /// Counts since the child's start.
    pub counters: Vec<Sample>,
    /// Clients that were refused, by cause.
    pub refused: Vec<(&'static str, u64)>,
    /// Families with a label of their own.
    pub labelled: Vec<Labelled>,
}

/// A gauge with one label.
pub struct Labelled {
    /// Name of the family.
    pub name: &'static str,
    /// Help text: what the family measures.
    pub help: &'static str,
    /// Name of the label.
    pub label: &'static str,
    /// Values by the label's.
    pub samples: Vec<(String, u64)>,
}
