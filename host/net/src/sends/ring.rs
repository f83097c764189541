//! The one use of `io_uring`: many sends in one system call, none of which is in flight when it returns.

use io_uring::{IoUring, opcode, squeue, types};
use rustix::net::{SendFlags, socketpair};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

/// A send never waits, and never ends the process.
const PLAIN: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// In a ring a send that is short has to fail, since only failures are told.
const IN_RING: SendFlags = PLAIN.union(SendFlags::from_bits_retain(libc::MSG_WAITALL as u32));

/// Why sends are not gathered.
#[derive(Debug, thiserror::Error)]
pub enum BatchRefusal {
    /// The kernel is too old, or `io_uring` is forbidden (by seccomp, or `kernel.io_uring_disabled`).
    #[error("the system gives no io_uring: {0}")]
    Setup(io::Error),
    /// Several threads run tasks.
    #[error("the runtime has several threads")]
    Threads,
    /// The operator does not want it.
    #[error("PROTOPLEX_IO_URING is 0")]
    Unwanted,
    /// The kernel does not tell of sends that were short.
    #[error("a send that a socket took half of was not told as such")]
    Untold,
}

/// A ring that only sends.
pub(super) struct Ring {
    ring: IoUring,
    /// Whether the kernel refused a whole submission: sends go out one by one from then on.
    is_broken: bool,
}

impl Ring {
    /// Makes a ring for so many sends at once, and tries it.
    ///
    /// # Errors
    /// There is none to be had, or it does not tell of short sends.
    pub(super) fn new(sends_max: usize) -> Result<Self, BatchRefusal> {
        let entries = u32::try_from(sends_max).unwrap_or(u32::MAX);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(entries)
            .map_err(BatchRefusal::Setup)?;
        let mut ring = Self {
            ring,
            is_broken: false,
        };
        ring.try_short_sends()?;
        Ok(ring)
    }

    /// Makes the sends, as many as the ring has room for at most, and tells of each that did not go through: how much
    /// the socket took, or why nothing.
    pub(super) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (RawFd, &'a [u8])> + Clone,
        mut tell: impl FnMut(usize, io::Result<usize>),
    ) {
        let one_by_one = |from: usize, tell: &mut dyn FnMut(usize, io::Result<usize>)| {
            for (number, (fd, bytes)) in sends.clone().enumerate().skip(from) {
                match send(fd, bytes) {
                    Ok(sent) if sent == bytes.len() => {}
                    sent => tell(number, sent),
                }
            }
        };
        if self.is_broken {
            return one_by_one(0, &mut tell);
        }
        let mut count = 0;
        for (fd, bytes) in sends.clone() {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), len)
                .flags(IN_RING.bits() as i32)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(count as u64);
            // SAFETY: `bytes` outlives this call, and no send outlives its submission: it may not wait.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                break;
            }
            count += 1;
        }
        let mut submitted = 0;
        while submitted < count {
            match self.ring.submit() {
                Ok(0) => break,
                Ok(more) => submitted += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "io_uring refuses sends; they go out one by one from here on");
                    break;
                }
            }
        }
        for told in self.ring.completion() {
            let number = usize::try_from(told.user_data()).unwrap_or(usize::MAX);
            let sent = usize::try_from(told.result());
            tell(
                number,
                sent.map_err(|_| io::Error::from_raw_os_error(-told.result())),
            );
        }
        if submitted < count {
            self.is_broken = true;
        }
        // Those that found no place in the ring, too.
        one_by_one(submitted, &mut tell);
    }

    /// Fills a pair of sockets that nobody reads: what does not go through must be told.
    fn try_short_sends(&mut self) -> Result<(), BatchRefusal> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, _theirs) = pair.map_err(|errno| BatchRefusal::Setup(errno.into()))?;
        let bytes = vec![0; 1 << 20];
        sockopt::set_socket_send_buffer_size(&ours, 1)
            .map_err(|errno| BatchRefusal::Setup(errno.into()))?;
        let mut told = Vec::new();
        for _ in 0..2 {
            self.send_all([(ours.as_raw_fd(), &bytes[..])].into_iter(), |_, sent| {
                told.push(sent);
            });
        }
        match &told[..] {
            [Ok(part), Err(full)]
                if *part < bytes.len() && full.kind() == io::ErrorKind::WouldBlock =>
            {
                Ok(())
            }
            _ => Err(BatchRefusal::Untold),
        }
    }
}

/// Sends as much as the socket takes.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: a queued socket's descriptor is open: whoever closes it makes the sends of the turn first.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(rustix::net::send(fd, bytes, PLAIN)?)
}
