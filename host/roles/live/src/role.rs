//! Live as the role of a child.

use super::{Live, admission::Admission, builtin, connect, secrets::Secrets};
use anyhow::Context;
use futures::future::BoxFuture;
use protoplex_child::{
    build::LoadedBuild,
    metrics::{Labelled, RoleMetrics},
    request::Request,
    role::{RoleService, RoleStart},
};
use protoplex_control::{child_files::ChildFiles, messages::HAND_OVER_MAX};
use protoplex_fleet::SideFile;
use protoplex_http::{Answer, Body, Head};
use protoplex_net::TlsHandoff;
use protoplex_wire::directory::{ChildId, Directory};
use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

/// Between two looks whether other children have taken this child's channels.
const HAND_OVER_LOOK: Duration = Duration::from_millis(20);

/// Connections, channels and links of one child. Children of other roles keep no channel, and hear of changed keys.
struct LiveRole(Arc<Live>);

/// Starts the role in a child, without connections. The rules of channels come with the first build.
///
/// # Errors
/// The secrets or the node's own certificate cannot be used.
pub fn start(start: &RoleStart<'_>) -> anyhow::Result<Arc<dyn RoleService>> {
    let secrets = secrets_of(start.files)?;
    let admission = Admission::new(start.limits);
    let live = Arc::new(Live::new(
        Arc::clone(start.child),
        start.config.role,
        secrets,
        admission,
    ));
    let index = u16::try_from(start.config.index).context("there are fewer children")?;
    let place = ChildId {
        node: start.config.node.as_str().into(),
        child: index,
    };
    Live::set_identity(&live, place, &start.files.member)?;
    let ticking = Arc::clone(&live);
    // Ticks go on while the child drains.
    let ticks = async move { ticking.tick_all().await };
    start.child.background.spawn(ticks);
    Ok(Arc::new(LiveRole(live)))
}

/// Checks the fleet's secrets, as a child would read them.
///
/// # Errors
/// They cannot be used.
pub fn check_secrets(file: &SideFile) -> anyhow::Result<()> {
    Secrets::parse(file).map(drop)
}

fn secrets_of(files: &ChildFiles) -> anyhow::Result<Secrets> {
    let secrets = files.secrets.as_ref().map(Secrets::parse);
    Ok(secrets.transpose()?.unwrap_or_default())
}

impl RoleService for LiveRole {
    fn own_paths(&self) -> Option<&'static str> {
        Some(builtin::PREFIX)
    }

    fn own_request(&self, head: &Head<'_>, body: Body) -> Result<Answer, Body> {
        builtin::answer(&self.0, head, body)
    }

    fn session_request<'a>(&self, request: Request<'a>) -> Result<Answer, Request<'a>> {
        connect::of_session(&self.0, request)
    }

    fn connect(&self, handler: usize, request: Request<'_>) -> Answer {
        connect::connect(&self.0, handler, request)
    }

    fn links(&self) -> Option<TlsHandoff> {
        let live = Arc::clone(&self.0);
        Some(Arc::new(move |stream| {
            Box::pin(Live::answer_link(Arc::clone(&live), stream))
        }))
    }

    fn directory_changed(&self, directory: &Directory, nodes: &HashSet<IpAddr>) {
        self.0.set_fleet(nodes.clone());
        self.0.take_directory(directory);
    }

    fn files_changed(&self, files: &ChildFiles) -> anyhow::Result<()> {
        self.0.set_secrets(secrets_of(files)?);
        Ok(())
    }

    fn build_activated(&self, build: &Arc<LoadedBuild>) {
        Live::switched(&self.0, build);
    }

    fn build_expired(&self, build: &Arc<LoadedBuild>) {
        Live::leave_build(&self.0, build);
    }

    fn drain(&self, window: Duration) {
        Live::drain(&self.0, window);
    }

    fn handed_over(&self) -> BoxFuture<'_, ()> {
        Box::pin(handed_over(&self.0))
    }

    fn metrics(&self) -> RoleMetrics {
        RoleMetrics {
            gauges: self.0.gauges().into(),
            counters: self.0.counts().into(),
            refused: self.0.refused().into(),
            labelled: vec![Labelled {
                name: "protoplex_live_backlog_bytes",
                help: "What waits for the slowest connections.",
                label: "connection",
                samples: self.0.backlogs(),
            }],
        }
    }
}

/// Waits until other children have taken the channels that are theirs now.
async fn handed_over(live: &Live) {
    let deadline = tokio::time::Instant::now() + HAND_OVER_MAX;
    while live.handing_over() > 0 {
        if tokio::time::Instant::now() > deadline {
            let channels = live.handing_over();
            tracing::warn!(
                channels,
                "no other child took over channels before the hand-over deadline; their history is lost"
            );
            return;
        }
        tokio::time::sleep(HAND_OVER_LOOK).await;
    }
}
