//! Values that a build has where its author writes nothing. `push` writes most of them out; what a manifest leaves out,
//! nodes take from here as well: a change of [`RETRIES`], [`EJECTION`] or a time of upstreams changes builds that are out.

use super::{
    Ejection, Isolation, Limits, LiveLimits, Namespace, Overflow, Publish, Retries, Subscribe,
    World,
};

/// Requests after which a shared instance is replaced, so that a slow leak in a guest stays small.
pub const SHARED_REQUESTS_MAX: u64 = 100_000;
/// Requests after which an instance that serves several at once is replaced, so that a slow leak in a guest stays
/// small.
pub const CONCURRENT_REQUESTS_MAX: u64 = 100_000;
/// Bytes of memory of an edge handler: it computes on heads, so it needs little, and every child holds an instance of
/// each.
pub const EDGE_MEMORY_BYTES_MAX: u64 = 16 << 20;
/// Milliseconds of CPU time of an edge call, which blocks its child: neighbours wait at most this long.
pub const EDGE_CPU_MS_MAX: u64 = 5;
/// Milliseconds until an edge handler must have decided; only those with WASI imports can wait at all.
pub const EDGE_DEADLINE_MS: u64 = 1_000;
/// Table elements of an edge handler: function tables of ordinary guests have hundreds.
pub const EDGE_TABLE_ELEMENTS_MAX: u64 = 10_000;
/// Core instances of an edge handler: wit-component makes three or four.
pub const EDGE_INSTANCES_MAX: u32 = 16;
/// Bytes of an inline response, which is copied whole; what is larger belongs into an asset.
pub const EDGE_RESPONSE_BYTES_MAX: u64 = 256 << 10;
/// Bytes that one host call may copy out of a guest: copies happen on the child's thread.
pub const HOSTCALL_BYTES_MAX: u64 = 1 << 20;
/// Requests in flight in one child for an edge handler that waits.
pub const EDGE_IN_FLIGHT_MAX: u32 = 128;
/// Bytes of memory of an app, which does real work: JavaScript and Python engines start at 30 to 60 MiB.
pub const APP_MEMORY_BYTES_MAX: u64 = 128 << 20;
/// Milliseconds of CPU time of an app's request: a page is rendered in far less, and an endless loop ends here. Time
/// in which a stream waits gives four times as much back.
pub const APP_CPU_MS_MAX: u64 = 1_000;
/// Milliseconds until an app must respond: below the 60 seconds of load balancers, so that the client gets the host's
/// own response.
pub const APP_DEADLINE_MS: u64 = 30_000;
/// Table elements of an app: interpreters have tables of tens of thousands.
pub const APP_TABLE_ELEMENTS_MAX: u64 = 100_000;
/// Core instances of an app: componentized interpreters are several modules with adapters.
pub const APP_INSTANCES_MAX: u32 = 64;
/// Bytes of an app's response body; 0 is no limit: a stream costs its buffer, however long it is.
pub const APP_RESPONSE_BYTES_MAX: u64 = 0;
/// Requests in flight in one child for an app: at 128 MiB each this bounds a child's memory.
pub const APP_IN_FLIGHT_MAX: u32 = 64;
/// Requests that may wait for a permit before the rest is told 503.
pub const QUEUE_MAX: u32 = 256;
/// Responses that may be sent at once for each of `in_flight_max`: one that streams mostly waits for its client or its
/// guest, and costs an instance but hardly any CPU time. 256 by the default of `in_flight_max` are a quarter of a
/// child's instances.
pub const STREAMS_PER_PLACE: u32 = 4;
/// Requests that an app's guests have open at once in one child: each takes a descriptor, and four for each of
/// `in_flight_max` are more than pages need.
pub const OUTGOING_MAX: u32 = 256;
/// Value of `Host` in probes: no name that a route could have.
pub const PROBE_HOST: &str = "probe.invalid";
/// Milliseconds until a connection to a server is made: one of the own network accepts in milliseconds; a second is
/// one lost SYN.
pub const UPSTREAM_CONNECT_TIMEOUT_MS: u64 = 1_000;
/// Milliseconds until the head of a server's response: the deadline of app handlers, which an upstream often is.
pub const UPSTREAM_FIRST_BYTE_TIMEOUT_MS: u64 = 30_000;
/// Milliseconds after which a stream on which nothing moves in either direction is taken for dead. Event streams say
/// something every half minute; a two-way stream of gRPC may have nothing to say for minutes.
pub const UPSTREAM_IDLE_TIMEOUT_MS: u64 = 300_000;
/// Milliseconds that a request may wait for a server: after a second it is better told 503 than served late.
pub const UPSTREAM_QUEUE_TIMEOUT_MS: u64 = 1_000;
/// Retries of an upstream: another server mostly answers what one failed on; a fifth more requests is what servers in
/// trouble can bear.
pub const RETRIES: Retries = Retries {
    attempts_max: 1,
    budget_percent: 20,
};
/// Ejection of an upstream's servers: five failures in a row are no chance; ten seconds are a restart; half of the
/// servers must carry the rest.
pub const EJECTION: Ejection = Ejection {
    failures: 5,
    eject_ms: 10_000,
    servers_percent_max: 50,
};
/// Milliseconds between two health checks of a child at a server; three misses are then found within fifteen seconds.
pub const HEALTH_INTERVAL_MS: u64 = 5_000;
/// Milliseconds that a health check may take: a server that needs longer is unhealthy.
pub const HEALTH_TIMEOUT_MS: u64 = 2_000;
/// Failed checks in a row that make a server unhealthy: one lost packet or a pause for garbage must not take it out.
pub const HEALTH_UNHEALTHY_AFTER: u32 = 3;
/// Passed checks in a row that make a server healthy: one lucky response while it starts must not bring it back.
pub const HEALTH_HEALTHY_AFTER: u32 = 2;
/// Connections that share an instance, and its fate: a trap costs so many their state, and an instance for each would
/// cost every connection some hundred kilobytes.
pub const CONNECTIONS_PER_INSTANCE: u32 = 64;
/// Messages a second of one connection, over time: a pointer that is drawn with says something 60 to 120 times a second.
pub const RECEIVED_PER_S: u32 = 200;
/// Messages that one connection may be ahead: a page that subscribes to much, or comes back with all that it could not
/// say meanwhile.
pub const RECEIVED_BURST: u32 = 1_000;
/// Limits of a live connection. One whose queue is full is some hundred thousand small messages behind; a ping every
/// 25 seconds is below the 30 after which common middleboxes forget a silent connection.
pub const LIVE_LIMITS: LiveLimits = LiveLimits {
    queue_bytes_max: 1 << 20,
    subscriptions_max: 128,
    received_bytes_max: 64 << 10,
    // Left out of manifests: [`RECEIVED_PER_S`], [`RECEIVED_BURST`].
    received_per_s_max: None,
    received_burst_max: None,
    ping_ms: 25_000,
};
/// Rules of a namespace. A client whose network is away for some minutes, or whose node drains, misses nothing on a
/// channel that is not busier than this. Nobody may subscribe or publish whom the build does not name.
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
