//! Things that the parent hands over: descriptors across exec, and sealed files.

use anyhow::Context;
use protoplex_wire::directory::Directory;
use std::{
    fs::File,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

/// Siblings read the same file, so nobody moves its cursor.
pub(super) fn whole_directory(file: Option<OwnedFd>) -> anyhow::Result<Directory> {
    let file = File::from(file.context("no file came with it")?);
    let mut text = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut text, 0)?;
    Ok(serde_json::from_slice(&text)?)
}

pub(super) fn inherited(fd: i32) -> anyhow::Result<OwnedFd> {
    anyhow::ensure!(fd > 2, "{fd} is no inherited descriptor");
    // SAFETY: the parent opened this descriptor for us across exec, and names it once; nothing else in this process
    // knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Shuts an inherited listening socket for all processes that hold it, and closes it here. Nothing may use its number
/// after that.
pub(super) fn shut(fd: i32) {
    // SAFETY: the parent opened it for us across exec and names it once; who calls has forgotten the number.
    let socket = unsafe { socket2::Socket::from_raw_fd(fd) };
    // One that a sibling has shut is what we want.
    let _ = socket.shutdown(std::net::Shutdown::Read);
}

/// A listening socket stays open for the next adoption, so what is used is a copy of the descriptor.
pub(super) fn duplicate(fd: i32) -> anyhow::Result<OwnedFd> {
    // SAFETY: the parent opened it for us across exec, and it stays open for the life of this process.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    borrowed
        .try_clone_to_owned()
        .with_context(|| format!("descriptor {fd} was not inherited"))
}
