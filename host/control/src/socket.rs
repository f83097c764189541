//! The socket between a parent and a child: packets of JSON with file descriptors beside them.

use crate::{descriptors::Reserve, messages::PACKET_BYTES_MAX};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Most file descriptors in one packet.
pub const FDS_MAX: usize = 4;

/// One end of a control socket. Packets are whole or not at all; several tasks may send.
#[derive(Debug)]
pub struct ControlSocket(AsyncFd<OwnedFd>);

impl ControlSocket {
    /// Makes a socket of which one end is for a child. Both ends are close-on-exec; the child's is cleared in the
    /// child.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::from_fd(ours)?, theirs))
    }

    /// Wraps an inherited end.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` is open, and the same, for as long as the registration owns it.
        Ok(Self(unsafe {
            AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE)
        }?))
    }

    /// Sends one packet. Waits while the other end is behind.
    ///
    /// # Errors
    /// The other end is gone, or the packet is above [`PACKET_BYTES_MAX`].
    pub async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = serde_json::to_vec(message)?;
        if packet.len() > PACKET_BYTES_MAX || fds.len() > FDS_MAX {
            let text = format!(
                "a packet of {} bytes and {} descriptors",
                packet.len(),
                fds.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.0
            .async_io(Interest::WRITABLE, |fd| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !fds.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(fds));
                }
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(sendmsg(
                    fd,
                    &[IoSlice::new(&packet)],
                    &mut ancillary,
                    flags,
                )?)
            })
            .await
            .map(drop)
    }

    /// Receives the next packet, or `None` when the other end is gone.
    ///
    /// # Errors
    /// A packet that is no such message.
    ///
    /// # Cancel safety
    /// A packet is taken whole or stays.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_by(receive_packet).await
    }

    /// Receives a message where descriptors may have run out: those of a packet take the places of the reserve.
    ///
    /// # Errors
    /// The same.
    pub async fn receive_with<T: DeserializeOwned>(
        &self,
        reserve: &Reserve,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_by(|fd, packet| reserve.lend(|| receive_packet(fd, packet)))
            .await
    }

    async fn receive_by<T: DeserializeOwned>(
        &self,
        take: impl Fn(&OwnedFd, &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)>,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let received = self
            .0
            .async_io(Interest::READABLE, |fd| take(fd, &mut packet))
            .await;
        let (length, fds) = match received {
            Ok(received) => received,
            Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&packet[..length])?, fds)))
    }
}

fn receive_packet(fd: &OwnedFd, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(fd, &mut [IoSliceMut::new(packet)], &mut ancillary, flags)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((received.bytes, fds))
}

/// A memory file with this content that nobody can change any more.
///
/// # Errors
/// No memory or descriptors left, or what `fill` says.
pub fn sealed_memfd(
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(
        name,
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    fill(&mut file)?;
    file.flush()?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn packets_arrive_whole_with_their_descriptors() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let theirs = ControlSocket::from_fd(theirs).unwrap();
        let file = sealed_memfd("test", |file| file.write_all(b"content")).unwrap();
        ours.send(&"with", &[file.as_fd()]).await.unwrap();
        ours.send(&"without", &[]).await.unwrap();
        let (text, fds) = theirs.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("with", 1));
        // SAFETY: the file is sealed.
        let map = unsafe { memmap2::Mmap::map(&fds[0]) }.unwrap();
        assert_eq!(&map[..], b"content");
        assert!(
            File::from(fds.into_iter().next().unwrap())
                .write_all(b"x")
                .is_err()
        );
        let (text, fds) = theirs.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("without", 0));
        drop(ours);
        assert!(theirs.receive::<String>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_packet_above_the_limit_is_refused() {
        let (ours, _theirs) = ControlSocket::pair().unwrap();
        assert!(ours.send(&"x".repeat(PACKET_BYTES_MAX), &[]).await.is_err());
    }
}
