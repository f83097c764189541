//! Accepts on the inherited sockets, this child's own and those of siblings, and shuts them.

use super::start::{Child, Listening};
use crate::inherited::{duplicate, shut};
use anyhow::Context;
use protoplex_http::Scheme;
use protoplex_net::ListenHandle;
use std::time::Duration;
use tokio::net::TcpListener;

/// Time for which a child without a parent goes on to accept: clients that came to a sibling that died are let in.
const ORPHAN_ACCEPTS_FOR: Duration = Duration::from_millis(50);

impl Child {
    /// Accepts on the sockets of the child of that index, unless it does so already.
    pub(super) fn listen(&mut self, index: usize) -> anyhow::Result<()> {
        if self.listening.contains_key(&index) {
            return Ok(());
        }
        let mut public = Vec::new();
        let mut internal = None;
        for (fds, scheme) in [
            (&self.config.http_fds, Scheme::Http),
            (&self.config.https_fds, Scheme::Https),
        ] {
            let fd = fds
                .get(index)
                .with_context(|| format!("there is no socket {index}"))?;
            public.push(self.server.listen(listener(*fd)?, scheme));
        }
        if let Some(fd) = self.config.relay_fds.get(index) {
            public.push(self.server.listen_internal(listener(*fd)?));
        }
        if let Some(fd) = self.config.internal_fds.get(index) {
            let listener = listener(*fd)?;
            internal = Some(match self.role.links() {
                Some(links) => self.server.listen_shared(listener, links),
                None => self.server.listen_internal(listener),
            });
        }
        let listening = Listening { public, internal };
        self.listening.insert(index, listening);
        Ok(())
    }

    /// Accepts no longer on the sockets of a sibling. Its own sockets stay.
    pub(super) fn stop_listening(&mut self, index: usize) {
        if index == self.config.index {
            return;
        }
        if let Some(Listening { public, internal }) = self.listening.remove(&index) {
            public.into_iter().for_each(ListenHandle::stop);
            // Connections that other nodes keep end, too: their keys are the other child's again.
            internal.into_iter().for_each(ListenHandle::retire);
        }
    }

    /// Lets in who has come to a sibling that died before the parent, or takes longer to see that the parent is gone.
    pub(super) async fn accept_for_siblings(&mut self) {
        for index in 0..self.config.children {
            if let Err(error) = self.listen(index) {
                tracing::warn!(
                    child = index,
                    error = format!("{error:#}"),
                    "a sibling's socket is not accepted on"
                );
            }
        }
        tokio::time::sleep(ORPHAN_ACCEPTS_FOR).await;
    }

    /// Shuts every listening socket, those of its siblings, too: they share a port with those of the parent's successor,
    /// and the kernel would go on to give them connections that nobody accepts.
    pub(super) fn shut(&mut self) {
        let config = &mut self.config;
        let sockets = [
            &mut config.http_fds,
            &mut config.https_fds,
            &mut config.relay_fds,
            &mut config.internal_fds,
        ];
        for fd in sockets.into_iter().flat_map(std::mem::take) {
            shut(fd);
        }
    }
}

/// A listener on an inherited socket, which stays open for siblings.
fn listener(fd: i32) -> anyhow::Result<TcpListener> {
    let listener = std::net::TcpListener::from(duplicate(fd)?);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}
