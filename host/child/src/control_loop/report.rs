//! Reports to the parent: the beat, by which it knows that this child lives, and the text of the metrics.

use super::start::Child;
use crate::{
    context::ChildContext,
    metrics::{Metrics, Sample, Seen},
    service::Requests,
    upstream,
};
use protoplex_control::{
    messages::{Beat, FromChild},
    socket::{ControlSocket, sealed_memfd},
};
use protoplex_server::Server;
use protoplex_telemetry::{allocations, log_output};
use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Between two signs of life. A sibling accepts in the place of a child that leaves out four of them.
const BEAT_PERIOD: Duration = Duration::from_millis(250);

/// Idle connections to upstreams are looked at once in so many beats.
const SWEEP_BEATS: u64 = 20;

/// Says that this process lives, however long an order takes. Returns when the parent is gone.
pub(super) async fn beat(
    channel: Arc<ControlSocket>,
    context: Arc<ChildContext>,
    server: Arc<Server<Requests>>,
) {
    let mut ticks = tokio::time::interval(BEAT_PERIOD);
    for beats in 0_u64.. {
        ticks.tick().await;
        if beats % SWEEP_BEATS == 0 {
            context.servers.sweep();
            context
                .builds
                .now()
                .all()
                .for_each(|build| build.upstreams.sweep());
        }
        let beat = FromChild::Beat(beat_of(&context.metrics, &server));
        if channel.send(&beat, &[]).await.is_err() {
            return;
        }
    }
}

fn beat_of(metrics: &Metrics, server: &Server<Requests>) -> Beat {
    Beat {
        requests: metrics.requests.load(Relaxed),
        errors: metrics.errors.load(Relaxed),
        traps: metrics.traps.load(Relaxed),
        in_flight: server.in_flight() as u64,
        connections: server.connections() as u64,
    }
}

impl Child {
    /// Sends the text of this child's metrics as a sealed file.
    pub(super) async fn send_metrics(&self) {
        let beat = beat_of(&self.context.metrics, &self.server);
        let build = self
            .context
            .builds
            .now()
            .active
            .as_ref()
            .map(|build| build.id.to_string())
            .unwrap_or_default();
        let mut loads = self.context.servers.loads();
        let held = self.context.builds.now();
        upstream::add_loads(&mut loads, held.all().map(|build| &build.upstreams));
        drop(held);
        let text = self.context.metrics.text(&Seen {
            child: self.config.index,
            build: &build,
            gauges: self.gauges(&beat),
            refused: {
                let refused = self.server.connection_counters().all();
                refused.chain(self.server.counters().all()).collect()
            },
            role: self.role.metrics(),
            loads,
        });
        let file = self
            .reserve
            .lend(|| sealed_memfd("metrics", |file| file.write_all(text.as_bytes())));
        let sent = match &file {
            Ok(file) => {
                let files = [file.as_fd()];
                self.channel.send(&FromChild::Metrics, &files).await
            }
            Err(error) => Err(io::Error::from(error.kind())),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "this child's metrics could not be sent to the parent");
        }
    }

    /// Numbers of this moment, with their names in metrics and what they say.
    fn gauges(&self, beat: &Beat) -> Vec<Sample> {
        let means = &self.context.servers.means;
        let mut gauges = vec![
            (
                "protoplex_in_flight",
                "Requests being answered.",
                beat.in_flight,
            ),
            (
                "protoplex_connections",
                "Open connections.",
                beat.connections,
            ),
            (
                "protoplex_tunnels",
                "Connections and streams that were switched to another protocol.",
                self.server.tunnels() as u64,
            ),
            (
                "protoplex_tasks",
                "Accept loops, connections, streams, and what runs for servers.",
                (self.server.tasks() + means.tasks.len()) as u64,
            ),
            (
                "protoplex_server_connections",
                "Open connections to servers, those of builds that are gone included.",
                means.connected.open() as u64,
            ),
            (
                "protoplex_access_log_dropped",
                "Lines of the access log for which there was no room.",
                self.access_log.as_ref().map_or(0, |log| log.dropped()),
            ),
            (
                "protoplex_log_lines_lost",
                "Lines of the log that could not be written.",
                log_output::lost(),
            ),
            (
                "protoplex_pool_instances",
                "Component instances alive.",
                self.runtime.instances(),
            ),
        ];
        if let Some(count) = allocations::count() {
            gauges.push((
                "protoplex_allocations",
                "Allocations since the child's start.",
                count,
            ));
        }
        gauges
    }
}
