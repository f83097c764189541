//! Promises, kept by real processes: `protoplex up` in a temporary folder, real components, loopback only.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, with the value in its message"
)]

mod adopt;
mod alone;
mod apps;
mod carried;
mod commands;
mod conformance;
mod connections;
mod conversations;
mod counted;
mod cut;
mod cut_uploads;
mod deploys;
mod directory;
mod disks;
mod drains;
mod environment;
mod exhaustion;
mod gone;
mod grpc;
mod hops;
mod ingress;
mod lies;
mod limits;
mod live;
mod live_children;
mod logging;
mod loops;
mod messages;
mod mixed;
mod outgoing;
mod outlives;
mod patience;
mod peers;
mod places;
mod probes;
mod pushes;
mod relaying;
mod requests;
mod retention;
mod roles;
mod signals;
mod slow;
mod slow_limits;
mod smuggling;
mod supervision;
mod survival;
mod trailers;
mod trust;
mod tunnels;
mod undisturbed;
mod unreached;
mod uploads;
