//! Links to other children: one connection of mutual TLS to each that channels want to speak to, dialled by either side,
//! on the listener that each child of a live node has for itself.

mod table;
mod wire;

use super::{Live, hub::Hub, watch};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use protoplex_channels::{Child, Effects, Frame};
use protoplex_control::awake;
use protoplex_fleet::{
    identity::{self, Expected},
    mutual_tls::{self, MemberFiles},
};
use protoplex_wire::{directory::Directory, manifest::Role};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
pub(super) use table::ME;
use table::{Dialled, Linked, Place, Table};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};
use wire::Hello;

/// Until a connection stands, with its handshake and greeting.
const LINK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two signs of life on a link.
const BEAT: Duration = Duration::from_millis(500);
/// Longest silence of a link: well below the time that a new owner waits for a channel.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Frames that wait for one link; who cannot take them in time is asked to begin again.
const WAITING_MAX: usize = 16 << 10;
/// Bytes gathered for one write.
const GATHER_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    table: Mutex<Table>,
    identity: OnceLock<Identity>,
}

struct Identity {
    me: Place,
    /// A number of this process alone.
    process: u64,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    live: Weak<Live>,
}

impl Links {
    /// Frames for links that stand, and links that are wanted.
    pub(super) fn send(&self, frames: Vec<(Child, Frame)>, wanted: Vec<Child>) {
        if frames.is_empty() && wanted.is_empty() {
            return;
        }
        let mut table = self.table.lock();
        for (child, frame) in frames {
            let Some(frames) = table.frames(child) else {
                continue;
            };
            let sent = match frame.encode() {
                Ok(frame) => frames.try_send(frame).is_ok(),
                Err(error) => {
                    tracing::error!(%error, channel = %frame.channel(), "a frame cannot be sent");
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
                tokio::spawn(dial(live, place, address));
            }
        }
    }

    /// Links that stand.
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
    pub(super) fn introduce(
        live: &Arc<Live>,
        (node, child): (&str, u16),
        files: &MemberFiles,
    ) -> anyhow::Result<()> {
        let identity = Identity {
            me: (node.into(), child),
            process: rand::random(),
            connector: TlsConnector::from(mutual_tls::client_config(
                files,
                Expected::NodeOf(Role::Live),
            )?),
            acceptor: TlsAcceptor::from(mutual_tls::server_config(files)?),
            live: Arc::downgrade(live),
        };
        // Once in a process.
        let _ = live.links.identity.set(identity);
        Ok(())
    }

    /// Takes the owners of channels from a directory.
    pub(super) fn take_directory(&self, directory: &Directory) {
        let Some(identity) = self.links.identity.get() else {
            return;
        };
        let gone = self.links.table.lock().take(directory);
        self.tell(|hub, now_ms| {
            let mut table = self.links.table.lock();
            table::place(&mut table, &identity.me, hub, now_ms)
        });
        self.mourn(gone);
    }

    /// Channels that other children have not taken yet, though they are theirs.
    pub(super) fn handing_over(&self) -> usize {
        self.hub().handing_over()
    }

    fn mourn(&self, gone: Vec<Child>) {
        for child in gone {
            self.tell(|hub, now_ms| hub.gone(now_ms, child));
        }
    }

    /// Somebody speaks TLS on this child's own listener. Returns when it is known who. The link itself is no visitor's
    /// connection: a drain does not wait for its end, and hands channels over by it.
    pub(super) async fn answer_link(live: Arc<Live>, stream: TcpStream) {
        match accept(&live, stream).await {
            Ok((place, role, process, io)) => drop(tokio::spawn(async move {
                let by = (process, Dialled::ByThem, role);
                if let Err(error) = Self::run(&live, &place, by, io).await {
                    tracing::debug!(node = %place.0, child = place.1, error = format!("{error:#}"), "a link broke");
                }
            })),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "a link was not taken");
            }
        }
    }

    /// A link stands: its frames are heard until it breaks.
    async fn run(
        live: &Arc<Live>,
        place: &Place,
        (process, dialled, role): (u64, Dialled, Role),
        io: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> anyhow::Result<()> {
        let identity = live.links.identity()?;
        let (sender, frames) = mpsc::channel(WAITING_MAX);
        let smaller = identity.me < *place;
        let mut linked = None;
        live.tell(|hub, now_ms| {
            let mut table = live.links.table.lock();
            linked = table.link(place, process, (dialled, smaller), sender);
            match &linked {
                Some(linked) => live.begin((hub, now_ms), &mut table, &identity.me, linked),
                None => Effects::default(),
            }
        });
        // The other link is kept, by both sides.
        let Some(Linked { child, link, .. }) = linked else {
            return Ok(());
        };
        tracing::debug!(node = %place.0, child = place.1, "a link stands");
        let (read, write) = tokio::io::split(io);
        let ended = tokio::select! {
            ended = hear(live, (child, link, role), read) => ended,
            ended = speak(frames, write) => ended,
        };
        let mut gone = Vec::new();
        live.tell(|hub, now_ms| {
            let (was_up, forgotten) = live.links.table.lock().unlink(child, link);
            gone = forgotten;
            match was_up {
                true => hub.unlinked(now_ms, child),
                false => Effects::default(),
            }
        });
        live.mourn(gone);
        Ok(ended?)
    }

    /// Tells the hub of a new link, and of what it means.
    fn begin(
        &self,
        (hub, now_ms): (&mut Hub, u64),
        table: &mut Table,
        me: &Place,
        linked: &Linked,
    ) -> Effects<super::hub::Ticket> {
        let mut effects = Effects::default();
        if linked.replaced {
            let before = linked.gone.unwrap_or(linked.child);
            let unlinked = hub.unlinked(now_ms, before);
            effects.extend(self.hand_on(hub, unlinked));
        }
        if let Some(gone) = linked.gone {
            let gone = hub.gone(now_ms, gone);
            effects.extend(self.hand_on(hub, gone));
            let placed = table::place(table, me, hub, now_ms);
            effects.extend(self.hand_on(hub, placed));
        }
        let linked = hub.linked(now_ms, linked.child);
        effects.extend(self.hand_on(hub, linked));
        effects
    }
}

async fn hear(
    live: &Live,
    (child, link, role): (Child, u64, Role),
    read: impl AsyncRead + Unpin,
) -> io::Result<()> {
    let mut read = BufReader::new(read);
    loop {
        let frame = awake::timeout(SILENCE_MAX, wire::read(&mut read)).await;
        let frame = frame.ok_or(io::ErrorKind::TimedOut)??;
        let Some(frame) = frame else { continue };
        if !live.links.table.lock().is_up(child, link) {
            return Ok(());
        }
        if role != Role::Live && !frame.is_registration(watch::NAMESPACE) {
            tracing::debug!(%role, channel = &**frame.channel(), "a node that keeps no channels may only hear of keys");
            continue;
        }
        live.tell(|hub, now_ms| hub.received(now_ms, child, frame));
    }
}

/// Until nobody has anything to say on it any more.
async fn speak(
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

async fn dial(live: Arc<Live>, place: Place, address: Arc<str>) {
    if let Err(error) = dialled(&live, &place, &address).await {
        tracing::debug!(node = %place.0, child = place.1, error = format!("{error:#}"), "a child was not reached");
    }
}

async fn dialled(live: &Arc<Live>, place: &Place, address: &str) -> anyhow::Result<()> {
    let identity = live.links.identity()?;
    let greeted = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let address: SocketAddr = address.parse()?;
        let name = ServerName::from(address.ip());
        let mut tls = identity.connector.connect(name, stream).await?;
        let role = role_of(tls.get_ref().1.peer_certificates(), &place.0)?;
        ensure!(role == Role::Live, "{} is a node of role {role}", place.0);
        wire::write_hello(&mut tls, &hello(identity, place)).await?;
        let hello = wire::read_hello(&mut tls).await?;
        check(&hello, identity, place)?;
        anyhow::Ok((hello.process, tls))
    };
    let greeted = awake::timeout(LINK_TIMEOUT, greeted).await;
    let (process, tls) = greeted.context("it says nothing")??;
    Live::run(live, place, (process, Dialled::ByUs, Role::Live), tls).await
}

async fn accept(
    live: &Arc<Live>,
    stream: TcpStream,
) -> anyhow::Result<(Place, Role, u64, TlsStream<TcpStream>)> {
    let identity = live.links.identity()?;
    let greeted = async {
        let mut tls = identity.acceptor.accept(stream).await?;
        let theirs = wire::read_hello(&mut tls).await?;
        let role = role_of(tls.get_ref().1.peer_certificates(), &theirs.node)?;
        let place: Place = (theirs.node.as_str().into(), theirs.child);
        check(&theirs, identity, &place)?;
        wire::write_hello(&mut tls, &hello(identity, &place)).await?;
        anyhow::Ok((place, role, theirs.process, tls))
    };
    let greeted = awake::timeout(LINK_TIMEOUT, greeted).await;
    greeted.context("it says nothing")?
}

/// The role of the node at the other end, which must have that name by its certificate. Any node may dial, because each
/// can be asked for changes of keys; only live ones are dialled.
fn role_of(certificates: Option<&[CertificateDer<'_>]>, name: &str) -> anyhow::Result<Role> {
    match mutual_tls::identity(certificates) {
        Some(identity::Identity::Node { role, name: found }) if found == name => Ok(role),
        found => bail!("{name} should be a node, and its certificate says {found:?}"),
    }
}

fn hello(identity: &Identity, to: &Place) -> Hello {
    Hello {
        protocol: wire::PROTOCOL,
        node: identity.me.0.to_string(),
        child: identity.me.1,
        process: identity.process,
        to_node: to.0.to_string(),
        to_child: to.1,
    }
}

fn check(hello: &Hello, identity: &Identity, place: &Place) -> anyhow::Result<()> {
    let ours = (hello.to_node.as_str(), hello.to_child);
    ensure!(
        hello.protocol == wire::PROTOCOL,
        "protocol {}",
        hello.protocol
    );
    ensure!(
        ours == (&*identity.me.0, identity.me.1),
        "{ours:?} is meant"
    );
    let theirs = (hello.node.as_str(), hello.child);
    ensure!(theirs == (&*place.0, place.1), "{theirs:?} answers");
    Ok(())
}
