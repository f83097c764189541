//! Carries out the parent's messages, one after another, until it says `drain` or is gone.

use super::{ending::End, start::Child};
use crate::{fleet::Fleet, inherited::whole_directory};
use anyhow::Context;
use protoplex_control::{
    child_files::ChildFiles,
    ingress,
    messages::{FromChild, ToChild},
};
use protoplex_net::TicketSecret;
use std::{fs::File, ops::ControlFlow, os::fd::OwnedFd};

/// Reasons are cut here: a packet has room for them, however they are escaped.
const REASON_BYTES_MAX: usize = 16 << 10;

impl Child {
    /// Carries out messages until the parent says `drain`, or is gone.
    pub(super) async fn apply_all(&mut self) -> anyhow::Result<End> {
        self.send(&FromChild::Started).await;
        loop {
            let received = self.channel.receive_with::<ToChild>(&self.reserve).await?;
            let Some((message, fds)) = received else {
                return Ok(End::Orphaned);
            };
            if self.apply(message, fds).await?.is_break() {
                return Ok(End::Drained);
            }
            self.reserve.refill();
        }
    }

    /// Carries out only messages that concern requests in flight, until the parent is gone.
    pub(super) async fn apply_while_draining(&mut self) -> anyhow::Result<()> {
        while let Some((message, fds)) = self.channel.receive_with(&self.reserve).await? {
            match message {
                ToChild::Native { .. }
                | ToChild::Prepare { .. }
                | ToChild::Activate { .. }
                | ToChild::Adopt { .. }
                | ToChild::Disown { .. }
                | ToChild::Drain => {}
                message => drop(self.apply(message, fds).await?),
            }
            self.reserve.refill();
        }
        Ok(())
    }

    /// Carries out one message.
    async fn apply(
        &mut self,
        message: ToChild,
        fds: Vec<OwnedFd>,
    ) -> anyhow::Result<ControlFlow<()>> {
        match message {
            ToChild::Native { component } => {
                if let Some(fd) = fds.into_iter().next() {
                    self.native.insert(component, File::from(fd));
                }
            }
            ToChild::Prepare { release, build } => {
                let answer = match self.prepare(build, fds).await {
                    Ok(()) => FromChild::Prepared { release, build },
                    Err(mut fault) => {
                        let end = fault.reason.floor_char_boundary(REASON_BYTES_MAX);
                        fault.reason.truncate(end);
                        FromChild::Failed {
                            release,
                            build,
                            stage: fault.stage,
                            reason: fault.reason,
                        }
                    }
                };
                self.send(&answer).await;
            }
            ToChild::Activate { release, build } => {
                let answer = self.activate(release, build);
                self.send(&answer).await;
            }
            ToChild::Abandon { build, .. } => {
                self.context.builds.abandon(&build);
                self.forget_native();
            }
            ToChild::Directory { hop_key } => {
                let file = fds.into_iter().next();
                self.directory = whole_directory(file).context("the directory cannot be read")?;
                self.hop_key = hop_key;
                self.relay_by_directory().await;
            }
            ToChild::DirectoryDelta(delta) => match self.directory.apply(&delta) {
                Ok(()) => self.relay_by_directory().await,
                Err(error) => {
                    tracing::error!(%error, "a change of the directory does not fit; asking the parent for the whole directory");
                    self.send(&FromChild::DirectoryWanted).await;
                }
            },
            ToChild::Certificates => self.take_files(fds.into_iter().next()),
            ToChild::Tickets { epoch, secret } => self.set_tickets(epoch, &secret)?,
            ToChild::Adopt { index } => match self.listen(index) {
                // Those who come to a sibling wait for its successor, and those who are here stay.
                Err(error) if index != self.config.index => tracing::error!(
                    child = index,
                    error = format!("{error:#}"),
                    "a sibling's socket is not accepted on"
                ),
                listening => listening?,
            },
            ToChild::Disown { index } => self.stop_listening(index),
            ToChild::Metrics => self.send_metrics().await,
            ToChild::Drain => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Encrypts session tickets of TLS by this secret from now on.
    fn set_tickets(&self, epoch: u64, secret: &str) -> anyhow::Result<()> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(secret, &mut bytes).context("the tickets' secret")?;
        self.certificates.set_ticket_secret(TicketSecret {
            epoch,
            secret: bytes,
        });
        Ok(())
    }

    /// New handshakes and tokens go by what the parent has read now. If that cannot be used, by what came before.
    fn take_files(&self, file: Option<OwnedFd>) {
        let take = || {
            let files = ChildFiles::of(file)?;
            let (default, by_name) = files.public.pems();
            self.certificates.replace(&default, &by_name)?;
            self.role.files_changed(&files)
        };
        match take() {
            Ok(()) => tracing::info!("new certificates are used"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "new certificates cannot be used; the old ones stay"
            ),
        }
    }

    /// Gives the directory to all that relays or trusts by it, and tells the parent its version.
    async fn relay_by_directory(&self) {
        let fleet = Fleet::new(&self.hop_key, &self.directory, &self.config.region);
        let nodes = ingress::addresses(&self.directory.by_role());
        self.role.directory_changed(&self.directory, &nodes);
        self.server.set_fleet(nodes);
        self.context.servers.set_fleet(fleet);
        let version = self.directory.version;
        self.send(&FromChild::Directory { version }).await;
    }
}
