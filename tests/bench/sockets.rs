//! Many WebSockets of one thread, as the bench's clients hold them: nothing is kept of a connection but its socket, and
//! the beginning of a frame whose end has not come. What a client saves goes to all servers alike.

use anyhow::{Context, bail, ensure};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::{AsFd, OwnedFd},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::Timespec,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Nothing takes this long while a connection is opened.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// Events of one wait.
const EVENTS: usize = 1_024;
/// Number of everything that is watched beside the sockets.
const OTHER: u64 = u64::MAX;
/// Descriptors that are no sockets.
const DESCRIPTORS: u64 = 64;
/// The channel protocol.
const PROTOCOL: &str = "protoplex.v1";

/// Opcodes (RFC 6455, section 11.8).
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

struct Socket {
    /// `None` once it has closed.
    stream: Option<TcpStream>,
    rest: Vec<u8>,
}

/// See the module.
pub struct Sockets {
    epoll: OwnedFd,
    all: Vec<Socket>,
    closed: usize,
    events: Vec<epoll::Event>,
    room: Box<[u8]>,
}

/// The outcome of a wait.
#[derive(PartialEq, Eq)]
pub enum Woken {
    /// Nothing in time.
    Nothing,
    /// Only sockets.
    Sockets,
    /// Something else that is watched, and maybe sockets.
    Other,
}

impl Sockets {
    /// Without any.
    pub fn new() -> anyhow::Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, most)?;
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            all: Vec::new(),
            closed: 0,
            events: Vec::with_capacity(EVENTS),
            room: vec![0; READ_BYTES].into(),
        })
    }

    /// So many to a path, one after another; with a channel, they speak the channel protocol and are subscribed to it.
    pub fn open(
        &mut self,
        (address, path): (&str, &str),
        count: usize,
        channel: Option<&str>,
    ) -> anyhow::Result<()> {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let count_max = most.saturating_sub(DESCRIPTORS);
        ensure!(
            count as u64 <= count_max,
            "{count} connections need more than the {most} descriptors that one process may have"
        );
        for _ in 0..count {
            let (stream, rest) = connect(address, path, channel)
                .with_context(|| format!("connection {} to {address}{path}", self.all.len()))?;
            let data = EventData::new_u64(self.all.len() as u64);
            epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
            let stream = Some(stream);
            self.all.push(Socket { stream, rest });
        }
        Ok(())
    }

    /// Waits for this, too.
    pub fn watch(&self, other: impl AsFd) -> anyhow::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            other,
            EventData::new_u64(OTHER),
            EventFlags::IN,
        )?)
    }

    /// Number of sockets that were opened.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Number of sockets that are closed.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Another handle of one of them, to send from another thread.
    pub fn sender(&self, index: usize) -> anyhow::Result<TcpStream> {
        let stream = self.all[index].stream.as_ref();
        Ok(stream.context("it is open")?.try_clone()?)
    }

    /// Sends text.
    pub fn send(&self, index: usize, text: &[u8]) -> anyhow::Result<()> {
        let stream = self.all[index].stream.as_ref();
        send(stream.context("it has closed")?, text)
    }

    /// Waits for whatever comes, for so long at most, and gives every message to `take`, with the number of its
    /// connection. Signs of life are answered.
    pub fn wait(
        &mut self,
        max: Duration,
        mut take: impl FnMut(usize, &[u8]),
    ) -> anyhow::Result<Woken> {
        let max = Timespec::try_from(max)?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&max)) {
            Ok(0) => return Ok(Woken::Nothing),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Woken::Sockets),
            Err(error) => return Err(error.into()),
        }
        let mut woken = Woken::Sockets;
        for event in &self.events {
            let data = event.data.u64();
            if data == OTHER {
                woken = Woken::Other;
                continue;
            }
            let index = usize::try_from(data)?;
            let goes_on = self.all[index].read(&mut self.room, &mut |text| take(index, text));
            if !goes_on {
                self.all[index].stream = None;
                self.closed += 1;
            }
        }
        Ok(woken)
    }
}

impl Socket {
    /// Reads once. Whether the connection goes on.
    fn read(&mut self, room: &mut [u8], take: &mut impl FnMut(&[u8])) -> bool {
        let Some(stream) = &mut self.stream else {
            return true;
        };
        let read = match stream.read(room) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if self.rest.is_empty() {
            let read = &room[..read];
            let Some(taken) = frames(stream, read, take) else {
                return false;
            };
            self.rest = read[taken..].to_vec();
        } else {
            self.rest.extend_from_slice(&room[..read]);
            let Some(taken) = frames(stream, &self.rest, take) else {
                return false;
            };
            self.rest = self.rest[taken..].to_vec();
        }
        true
    }
}

/// Gives the messages of all whole frames to `take`. How many bytes they have; `None` where the last one closes.
fn frames(mut stream: &TcpStream, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Option<usize> {
    let mut taken = 0;
    while let Some((opcode, content, length)) = frame(&bytes[taken..]) {
        match opcode {
            TEXT | BINARY => take(content),
            // Nobody writes so much that one of these few bytes has no room.
            PING => stream.write_all(&masked(PONG, content)).ok()?,
            CLOSE => return None,
            _ => {}
        }
        taken += length;
    }
    Some(taken)
}

/// Opcode, content and length of a server's frame that is all there.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second {
        127 => {
            let length = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
        }
        126 => {
            let length = bytes.get(2..4)?.try_into().ok()?;
            (4, usize::from(u16::from_be_bytes(length)))
        }
        length => (2, usize::from(length)),
    };
    let content = bytes.get(head..head + length)?;
    Some((first & 0x0f, content, head + length))
}

/// A client's frame of few bytes. The mask is zero, which a client that is attacked by nobody may choose.
fn masked(opcode: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a client of the bench says little");
    assert!(length < 126, "a client of the bench says little");
    let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(content);
    frame
}

/// Sends text, of fewer than 126 bytes.
pub fn send(mut stream: &TcpStream, text: &[u8]) -> anyhow::Result<()> {
    Ok(stream.write_all(&masked(TEXT, text))?)
}

/// A connection, and what came on it that is not read yet.
fn connect(
    address: &str,
    path: &str,
    channel: Option<&str>,
) -> anyhow::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    let protocol = channel.map(|_| format!("Sec-WebSocket-Protocol: {PROTOCOL}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        protocol.unwrap_or_default()
    );
    stream.write_all(request.as_bytes())?;
    let mut rest = Vec::new();
    let end = loop {
        more(&mut stream, &mut rest)?;
        if let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&rest[..end]);
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    rest.drain(..end);
    if let Some(channel) = channel {
        let command = format!(r#"{{"id":1,"subscribe":{{"channel":"{channel}"}}}}"#);
        send(&stream, command.as_bytes())?;
        answer(&mut stream, &mut rest)?;
    }
    stream.set_nonblocking(true)?;
    Ok((stream, rest))
}

/// Reads on until the command is answered.
fn answer(stream: &mut TcpStream, rest: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        while let Some((_, content, length)) = frame(rest) {
            let content = String::from_utf8_lossy(content).into_owned();
            rest.drain(..length);
            if content.contains(r#""id":1"#) {
                ensure!(content.contains(r#""ok""#), "{content}");
                return Ok(());
            }
        }
        more(stream, rest)?;
    }
}

fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut piece = [0; 4 << 10];
    match stream.read(&mut piece)? {
        0 => bail!("it was closed"),
        read => rest.extend_from_slice(&piece[..read]),
    }
    Ok(())
}
