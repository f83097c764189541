//! Links to other children: one connection of mutual TLS to each that channels want to speak to, dialled by either side,
//! on the listener that each child of a live node has for itself.

mod table;
mod wire;

use super::{
    Live,
    hub::{Hub, Ticket},
    watch,
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use protoplex_channels::{Child, Effects, Frame};
use protoplex_control::awake;
use protoplex_fleet::{
    identity::{self, Expected},
    mutual_tls::{self, MemberFiles},
};
use protoplex_wire::{
    directory::{ChildId, Directory},
    manifest::Role,
};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
pub(super) use table::ME;
use table::{DialledBy, LinkRequest, NewLink, Table};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};
use wire::Hello;

/// Timeout for a link to come up, handshake and greeting included.
const LINK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two heartbeats on a link without frames.
const BEAT: Duration = Duration::from_millis(500);
/// Longest silence of a link: well below the time that a new owner waits for a channel.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Frames that wait for one link; who cannot take them in time is asked to begin again.
const WAITING_MAX: usize = 16 << 10;
/// Bytes gathered for one write.
const GATHER_BYTES: usize = 256 << 10;

/// The links of this child. Their table is locked under the hub: see [`Live`].
#[derive(Default)]
pub(super) struct Links {
    table: Mutex<Table>,
    identity: OnceLock<Identity>,
}

/// What a link proves and says of this child.
struct Identity {
    place: ChildId,
    /// A random number of this process, by which others notice a restart.
    process: u64,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    live: Weak<Live>,
}

/// The child at the other end of a link, as its certificate and its greeting say.
struct Peer {
    place: ChildId,
    role: Role,
    /// The peer's random number: another one is another process.
    process: u64,
}

impl Links {
    /// Locks the table while the hub is locked, which `_hub` proves.
    fn table_under(&self, _hub: &Hub) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Queues frames for the links that are up, and dials the ones that are wanted.
    pub(super) fn send(&self, hub: &Hub, frames: Vec<(Child, Frame)>, wanted: Vec<Child>) {
        if frames.is_empty() && wanted.is_empty() {
            return;
        }
        let mut table = self.table_under(hub);
        for (child, frame) in frames {
            let Some(frames) = table.frames(child) else {
                continue;
            };
            let sent = match frame.encode() {
                Ok(frame) => frames.try_send(frame).is_ok(),
                Err(error) => {
                    tracing::error!(%error, channel = %frame.channel(), "a frame for another child cannot be encoded; its link is restarted");
                    false
                }
            };
            if !sent {
                // It ends when its sender is gone, and both sides begin again.
                table.hang_up(child);
            }
        }
        for child in wanted {
            if let Some((place, address)) = table.dial(child)
                && let Some(identity) = self.identity.get()
                && let Some(live) = identity.live.upgrade()
            {
                let child = Arc::clone(&live.child);
                child.background.spawn(dial(live, place, address));
            }
        }
    }

    /// Number of links that are up.
    pub(super) fn len(&self) -> usize {
        self.table.lock().links()
    }

    fn identity(&self) -> anyhow::Result<&Identity> {
        self.identity.get().context("this child has no links")
    }
}

impl Live {
    /// Sets the identity of this child for others, and the certificates by which both sides know each other.
    ///
    /// # Errors
    /// They cannot be used.
    pub(super) fn set_identity(
        live: &Arc<Live>,
        place: ChildId,
        files: &MemberFiles,
    ) -> anyhow::Result<()> {
        let identity = Identity {
            place,
            process: rand::random(),
            connector: TlsConnector::from(mutual_tls::client_config(
                files,
                Expected::NodeOf(Role::Live),
            )?),
            acceptor: TlsAcceptor::from(mutual_tls::server_config(files)?),
            live: Arc::downgrade(live),
        };
        // Once in a process.
        let _ = live.channels.links.identity.set(identity);
        Ok(())
    }

    /// Takes the owners of channels from a directory.
    pub(super) fn take_directory(&self, directory: &Directory) {
        let links = &self.channels.links;
        let Some(identity) = links.identity.get() else {
            return;
        };
        let gone = links.table.lock().take(directory);
        self.apply(|hub, now_ms| {
            let mut table = links.table_under(hub);
            table::place(&mut table, &identity.place, hub, now_ms)
        });
        self.forget_children(gone);
    }

    /// Channels that other children have not taken yet, though they are theirs.
    pub(super) fn handing_over(&self) -> usize {
        self.hub().handing_over()
    }

    /// Tells the channels of children that are gone for good.
    fn forget_children(&self, gone: Vec<Child>) {
        for child in gone {
            self.apply(|hub, now_ms| hub.gone(now_ms, child));
        }
    }

    /// Takes a link from a TLS connection on this child's own listener. Returns when the peer is known. A drain does not
    /// wait for the link's end: channels are handed over by it.
    pub(super) async fn answer_link(live: Arc<Live>, stream: TcpStream) {
        match accept(&live, stream).await {
            Ok((peer, io)) => {
                let child = Arc::clone(&live.child);
                child.background.spawn(async move {
                    if let Err(error) = Self::run_link(&live, &peer, DialledBy::Them, io).await {
                        let ChildId { node, child } = &peer.place;
                        tracing::debug!(%node, child, error = format!("{error:#}"), "a link to another child broke");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(
                    error = format!("{error:#}"),
                    "a link that another child dialled was refused"
                );
            }
        }
    }

    /// Runs a link whose ends know each other, until it breaks.
    async fn run_link(
        live: &Arc<Live>,
        peer: &Peer,
        dialled_by: DialledBy,
        io: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> anyhow::Result<()> {
        let identity = live.channels.links.identity()?;
        let (sender, frames) = mpsc::channel(WAITING_MAX);
        let links = &live.channels.links;
        let ChildId { node, child } = &peer.place;
        let own = &identity.place;
        let request = LinkRequest {
            place: &peer.place,
            process: peer.process,
            dialled_by,
            is_smaller: (&own.node, own.child) < (node, *child),
            frames: sender,
        };
        let mut link = None;
        live.apply(|hub, now_ms| {
            let mut table = links.table_under(hub);
            link = table.link(request);
            match &link {
                Some(link) => live.begin_link(hub, now_ms, &mut table, link),
                None => Effects::default(),
            }
        });
        // Without one, both sides keep the other link.
        let Some(link) = link else {
            return Ok(());
        };
        tracing::debug!(%node, child, "a link to another child is up");
        let (read, write) = tokio::io::split(io);
        let ended = tokio::select! {
            ended = read_loop(live, &link, peer.role, read) => ended,
            ended = write_loop(frames, write) => ended,
        };
        let mut gone = Vec::new();
        live.apply(
            |hub, now_ms| match links.table_under(hub).unlink(link.child, link.id) {
                Some(forgotten) => {
                    gone = forgotten;
                    hub.unlinked(now_ms, link.child)
                }
                None => Effects::default(),
            },
        );
        live.forget_children(gone);
        Ok(ended?)
    }

    /// Tells the hub of a new link: that one before it broke, that a process before it is gone, and that it is up.
    fn begin_link(
        &self,
        hub: &mut Hub,
        now_ms: u64,
        table: &mut Table,
        link: &NewLink,
    ) -> Effects<Ticket> {
        let mut effects = Effects::default();
        if link.replaced {
            let before = link.gone.unwrap_or(link.child);
            let unlinked = hub.unlinked(now_ms, before);
            effects.extend(self.queue_answers(hub, unlinked));
        }
        if let Some(gone) = link.gone
            && let Some(identity) = self.channels.links.identity.get()
        {
            let gone = hub.gone(now_ms, gone);
            effects.extend(self.queue_answers(hub, gone));
            let placed = table::place(table, &identity.place, hub, now_ms);
            effects.extend(self.queue_answers(hub, placed));
        }
        let linked = hub.linked(now_ms, link.child);
        effects.extend(self.queue_answers(hub, linked));
        effects
    }
}

/// Gives the frames of a link to the channels, until it breaks, or another link takes its place.
async fn read_loop(
    live: &Live,
    link: &NewLink,
    role: Role,
    read: impl AsyncRead + Unpin,
) -> io::Result<()> {
    let mut read = BufReader::new(read);
    loop {
        let frame = awake::timeout(SILENCE_MAX, wire::read(&mut read)).await;
        let frame = frame.ok_or(io::ErrorKind::TimedOut)??;
        let Some(frame) = frame else { continue };
        let links = &live.channels.links;
        if !links.table.lock().is_up(link.child, link.id) {
            return Ok(());
        }
        if role != Role::Live && !frame.is_registration(watch::NAMESPACE) {
            tracing::debug!(%role, channel = &**frame.channel(), "a frame was dropped: a node of this role may only register for keys");
            continue;
        }
        live.apply(|hub, now_ms| hub.received(now_ms, link.child, frame));
    }
}

/// Writes frames, and a sign of life where there are none, until the sender of frames is dropped.
async fn write_loop(
    mut frames: mpsc::Receiver<Bytes>,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut gathered = Vec::new();
    loop {
        match timeout(BEAT, frames.recv()).await {
            Ok(Some(frame)) => gathered.extend_from_slice(&frame),
            Ok(None) => return Ok(()),
            Err(_) => gathered.extend_from_slice(&wire::nothing()),
        }
        while gathered.len() < GATHER_BYTES
            && let Ok(frame) = frames.try_recv()
        {
            gathered.extend_from_slice(&frame);
        }
        write.write_all(&gathered).await?;
        write.flush().await?;
        gathered.clear();
    }
}

async fn dial(live: Arc<Live>, place: ChildId, address: Arc<str>) {
    if let Err(error) = dialled(&live, &place, &address).await {
        tracing::debug!(node = %place.node, child = place.child, error = format!("{error:#}"), "a link to another child cannot be dialled");
    }
}

/// Dials a child, and runs the link.
async fn dialled(live: &Arc<Live>, place: &ChildId, address: &str) -> anyhow::Result<()> {
    let identity = live.channels.links.identity()?;
    let greeted = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let address: SocketAddr = address.parse()?;
        let name = ServerName::from(address.ip());
        let mut tls = identity.connector.connect(name, stream).await?;
        let role = role_of(tls.get_ref().1.peer_certificates(), &place.node)?;
        ensure!(
            role == Role::Live,
            "{} is a node of role {role}",
            place.node
        );
        wire::write_hello(&mut tls, &hello(identity, place)).await?;
        let hello = wire::read_hello(&mut tls).await?;
        check(&hello, identity, place)?;
        let peer = Peer {
            place: place.clone(),
            role,
            process: hello.process,
        };
        anyhow::Ok((peer, tls))
    };
    let greeted = awake::timeout(LINK_TIMEOUT, greeted).await;
    let (peer, tls) = greeted.context("no greeting in time")??;
    Live::run_link(live, &peer, DialledBy::Us, tls).await
}

/// Takes a connection that another child has dialled.
async fn accept(
    live: &Arc<Live>,
    stream: TcpStream,
) -> anyhow::Result<(Peer, TlsStream<TcpStream>)> {
    let identity = live.channels.links.identity()?;
    let greeted = async {
        let mut tls = identity.acceptor.accept(stream).await?;
        let theirs = wire::read_hello(&mut tls).await?;
        let role = role_of(tls.get_ref().1.peer_certificates(), &theirs.node)?;
        let place = ChildId {
            node: theirs.node.as_str().into(),
            child: theirs.child,
        };
        check(&theirs, identity, &place)?;
        wire::write_hello(&mut tls, &hello(identity, &place)).await?;
        let peer = Peer {
            place,
            role,
            process: theirs.process,
        };
        anyhow::Ok((peer, tls))
    };
    let greeted = awake::timeout(LINK_TIMEOUT, greeted).await;
    greeted.context("no greeting in time")?
}

/// The role of the node at the other end, which must have that name by its certificate. Any node may dial, because each
/// can be asked for changes of keys; only live ones are dialled.
fn role_of(certificates: Option<&[CertificateDer<'_>]>, name: &str) -> anyhow::Result<Role> {
    match mutual_tls::identity(certificates) {
        Some(identity::Identity::Node { role, name: found }) if found == name => Ok(role),
        found => bail!("{name} should be a node, and its certificate says {found:?}"),
    }
}

fn hello(identity: &Identity, to: &ChildId) -> Hello {
    Hello {
        protocol: wire::PROTOCOL,
        node: identity.place.node.to_string(),
        child: identity.place.child,
        process: identity.process,
        to_node: to.node.to_string(),
        to_child: to.child,
    }
}

fn check(hello: &Hello, identity: &Identity, place: &ChildId) -> anyhow::Result<()> {
    let ours = (hello.to_node.as_str(), hello.to_child);
    ensure!(
        hello.protocol == wire::PROTOCOL,
        "protocol {}",
        hello.protocol
    );
    ensure!(
        ours == (&*identity.place.node, identity.place.child),
        "{ours:?} is meant"
    );
    let theirs = (hello.node.as_str(), hello.child);
    ensure!(theirs == (&*place.node, place.child), "{theirs:?} answers");
    Ok(())
}
