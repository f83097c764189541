//! Check of limits: a slip of the pen must not make a node promise what it does not have.

use super::Findings;
use crate::manifest::Limits;

/// Most bytes of an instance's memory: a slot of the instance pool holds as much.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Most elements of a table: a slot of the instance pool holds a table of as many.
const TABLE_ELEMENTS_MAX: u64 = 1 << 20;
/// Most core instances in a component: componentized interpreters have dozens.
const INSTANCES_MAX: u64 = 1_000;
/// Most CPU time in milliseconds: ten minutes. More is a batch job, and no request.
const CPU_MS_MAX: u64 = 600_000;
/// Most milliseconds of any wait: an hour. More is a batch job, and no request.
pub(super) const WAIT_MS_MAX: u64 = 3_600_000;
/// Most bytes that one host call may copy: no copy can be larger than a memory.
const HOSTCALL_BYTES_MAX: u64 = MEMORY_BYTES_MAX;
/// Most requests in flight in one child, which has no room for more at once.
pub(super) const IN_FLIGHT_MAX: u64 = 100_000;
/// Most requests in a queue: a request that would wait behind so many is told 503 sooner.
pub(super) const QUEUE_MAX: u64 = 1_000_000;

pub(super) fn check(found: &mut Findings<'_>, limits: &Limits) {
    let memory = limits.memory_bytes_max;
    found.within("memory_bytes_max", memory, 1..=MEMORY_BYTES_MAX);
    for (key, value, most) in [
        (
            "table_elements_max",
            limits.table_elements_max,
            TABLE_ELEMENTS_MAX,
        ),
        ("instances_max", limits.instances_max.into(), INSTANCES_MAX),
        ("cpu_ms_max", limits.cpu_ms_max, CPU_MS_MAX),
        ("deadline_ms", limits.deadline_ms, WAIT_MS_MAX),
        (
            "hostcall_bytes_max",
            limits.hostcall_bytes_max,
            HOSTCALL_BYTES_MAX,
        ),
        ("in_flight_max", limits.in_flight_max.into(), IN_FLIGHT_MAX),
    ] {
        found.some_at_most(key, value, most);
    }
    found.at_most("queue_max", limits.queue_max.into(), QUEUE_MAX);
    for (key, value) in [
        ("streams_max", limits.streams_max),
        ("outgoing_max", limits.outgoing_max),
    ] {
        if let Some(value) = value {
            found.some_at_most(key, value.into(), IN_FLIGHT_MAX);
        }
    }
}
