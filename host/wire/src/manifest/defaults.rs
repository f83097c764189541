//! Values that a build has where its author writes nothing. `push` writes most of them out; what a manifest leaves out,
//! nodes take from here as well: a change of [`RETRIES`], [`EJECTION`] or a time of upstreams changes builds that are out.

use super::{
    Ejection, Isolation, Limits, LiveLimits, Namespace, Overflow, Publish, Retries, Subscribe,
    World,
};

/// A shared instance is replaced after this many requests, so that a slow leak in a guest stays small.
pub const SHARED_REQUESTS_MAX: u64 = 100_000;
/// An instance that serves several requests at once is replaced after this many, for the same reason.
pub const CONCURRENT_REQUESTS_MAX: u64 = 100_000;
/// An edge handler computes on heads, so it needs little, and every child holds an instance of each.
pub const EDGE_MEMORY_BYTES_MAX: u64 = 16 << 20;
/// An edge call blocks its child: neighbours wait at most this long.
pub const EDGE_CPU_MS_MAX: u64 = 5;
/// Only edge handlers with WASI imports can wait at all.
pub const EDGE_DEADLINE_MS: u64 = 1_000;
/// Function tables of ordinary guests have hundreds of elements.
pub const EDGE_TABLE_ELEMENTS_MAX: u64 = 10_000;
/// wit-component makes three or four.
pub const EDGE_INSTANCES_MAX: u32 = 16;
/// An inline answer is copied whole; what is larger belongs into an asset.
pub const EDGE_RESPONSE_BYTES_MAX: u64 = 256 << 10;
/// Copies out of a guest happen on the child's thread.
pub const HOSTCALL_BYTES_MAX: u64 = 1 << 20;
/// One child takes on so many requests at once for an edge handler that waits.
pub const EDGE_IN_FLIGHT_MAX: u32 = 128;
/// An app does real work: JavaScript and Python engines start at 30 to 60 MiB.
pub const APP_MEMORY_BYTES_MAX: u64 = 128 << 20;
/// A page is rendered in far less; an endless loop ends here. Time in which a stream waits gives four times as much back.
pub const APP_CPU_MS_MAX: u64 = 1_000;
/// Below the 60 seconds of load balancers, so that the visitor gets our answer.
pub const APP_DEADLINE_MS: u64 = 30_000;
/// Interpreters have tables of tens of thousands of elements.
pub const APP_TABLE_ELEMENTS_MAX: u64 = 100_000;
/// Componentized interpreters are several modules with adapters.
pub const APP_INSTANCES_MAX: u32 = 64;
/// 0 is no limit: a stream costs its buffer, however long it is.
pub const APP_RESPONSE_BYTES_MAX: u64 = 0;
/// At 128 MiB each this bounds a child's memory.
pub const APP_IN_FLIGHT_MAX: u32 = 64;
/// Requests that may wait for a place before the rest is told 503.
pub const QUEUE_MAX: u32 = 256;
/// Responses that may be sent at once for each place: one that streams mostly waits for its client or its guest, and costs
/// an instance but hardly any CPU time. 256 by the default of `in_flight_max` are a quarter of a child's instances.
pub const STREAMS_PER_PLACE: u32 = 4;
/// Requests that an app's guests have open at once in one child: each takes a descriptor, and four for each place are more
/// than pages need.
pub const OUTGOING_MAX: u32 = 256;
/// `Host` of probes: no name that a route could have.
pub const PROBE_HOST: &str = "probe.invalid";
/// A server of one's own network accepts in milliseconds; a second is one lost SYN.
pub const UPSTREAM_CONNECT_TIMEOUT_MS: u64 = 1_000;
/// The deadline of app handlers, which an upstream often is.
pub const UPSTREAM_FIRST_BYTE_TIMEOUT_MS: u64 = 30_000;
/// A stream on which nothing moves in either direction for five minutes is taken for dead. Event streams say something
/// every half minute; a two-way stream of gRPC may have nothing to say for minutes.
pub const UPSTREAM_IDLE_TIMEOUT_MS: u64 = 300_000;
/// A request that has waited a second for a place is better told 503 than served late.
pub const UPSTREAM_QUEUE_TIMEOUT_MS: u64 = 1_000;
/// Another server mostly answers what one failed on; a fifth more requests is what servers in trouble can bear.
pub const RETRIES: Retries = Retries {
    attempts_max: 1,
    budget_percent: 20,
};
/// Five failures in a row are no chance; ten seconds are a restart; half of the servers must carry the rest.
pub const EJECTION: Ejection = Ejection {
    failures: 5,
    eject_ms: 10_000,
    servers_percent_max: 50,
};
/// Each child asks each server so often; three misses are then found within fifteen seconds.
pub const HEALTH_INTERVAL_MS: u64 = 5_000;
/// A health page that takes longer is not well.
pub const HEALTH_TIMEOUT_MS: u64 = 2_000;
/// One lost packet or a pause for garbage must not take a server out.
pub const HEALTH_UNHEALTHY_AFTER: u32 = 3;
/// One lucky answer of a server that is starting must not bring it back.
pub const HEALTH_HEALTHY_AFTER: u32 = 2;
/// Connections that share an instance, and its fate: a trap costs so many their state, and an instance of each would cost
/// every connection some hundred kilobytes.
pub const CONNECTIONS_PER_INSTANCE: u32 = 64;
/// Messages a second of one connection, over time: a pointer that is drawn with says something 60 to 120 times a second.
pub const RECEIVED_PER_S: u32 = 200;
/// Messages that one connection may be ahead: a page that subscribes to much, or comes back with all that it could not
/// say meanwhile.
pub const RECEIVED_BURST: u32 = 1_000;
/// A connection whose queue is full is some hundred thousand small messages behind; a ping every 25 seconds is below the
/// 30 after which common middleboxes forget a silent connection.
pub const LIVE_LIMITS: LiveLimits = LiveLimits {
    queue_bytes_max: 1 << 20,
    subscriptions_max: 128,
    received_bytes_max: 64 << 10,
    // Left out of manifests: [`RECEIVED_PER_S`], [`RECEIVED_BURST`].
    received_per_s_max: None,
    received_burst_max: None,
    ping_ms: 25_000,
};
/// A visitor whose network is away for some minutes, or whose node drains, misses nothing on a channel that is not busier
/// than this. Nobody is let in or heard that the build does not name.
pub const NAMESPACE: Namespace = Namespace {
    subscribe: Subscribe::Handlers,
    publish: Publish::Handlers,
    presence: false,
    overflow: Overflow::Disconnect,
    history_messages_max: 1_000,
    history_bytes_max: 256 << 10,
    history_ms_max: 300_000,
    message_bytes_max: 64 << 10,
    subscribers_max: 100_000,
    keys_max: 1_000,
    keys_ms_max: 300_000,
    leave_after_ms: 5_000,
};

/// The limits of a handler of `world`.
pub fn limits(world: World) -> Limits {
    if !world.is_app() {
        Limits {
            memory_bytes_max: EDGE_MEMORY_BYTES_MAX,
            table_elements_max: EDGE_TABLE_ELEMENTS_MAX,
            instances_max: EDGE_INSTANCES_MAX,
            cpu_ms_max: EDGE_CPU_MS_MAX,
            deadline_ms: EDGE_DEADLINE_MS,
            response_bytes_max: EDGE_RESPONSE_BYTES_MAX,
            hostcall_bytes_max: HOSTCALL_BYTES_MAX,
            in_flight_max: EDGE_IN_FLIGHT_MAX,
            queue_max: QUEUE_MAX,
            streams_max: None,
            outgoing_max: None,
        }
    } else {
        Limits {
            memory_bytes_max: APP_MEMORY_BYTES_MAX,
            table_elements_max: APP_TABLE_ELEMENTS_MAX,
            instances_max: APP_INSTANCES_MAX,
            cpu_ms_max: APP_CPU_MS_MAX,
            deadline_ms: APP_DEADLINE_MS,
            response_bytes_max: APP_RESPONSE_BYTES_MAX,
            hostcall_bytes_max: HOSTCALL_BYTES_MAX,
            in_flight_max: APP_IN_FLIGHT_MAX,
            queue_max: QUEUE_MAX,
            streams_max: None,
            outgoing_max: None,
        }
    }
}

/// The isolation of a handler of `world`.
pub fn isolation(world: World) -> Isolation {
    match world {
        World::Edge | World::EdgeWasi | World::Live => Isolation::Shared {
            requests_max: SHARED_REQUESTS_MAX,
        },
        World::LiveStateful => Isolation::Concurrent {
            concurrency: CONNECTIONS_PER_INSTANCE,
            requests_max: CONCURRENT_REQUESTS_MAX,
        },
        World::App02 | World::App03 => Isolation::PerRequest,
    }
}
