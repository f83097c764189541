//! The directory on its way through the parent: from the Seed, to the disk, to the children, and back as a word that
//! they all answer by it.

use crate::{
    seed_voice::SeedVoice,
    store::{read_cache, write_json},
    supervisor::Supervisor,
};
use protoplex_control::{
    messages::ToChild,
    socket::{PACKET_BYTES_MAX, sealed_memfd},
};
use protoplex_wire::{
    directory::{Delta, Directory, DirectoryFrame, Member},
    link::FromNode,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

#[cfg(test)]
mod tests;

const FILE: &str = "directory.json";

/// The fleet as it was last heard of: kept on disk for a start without the Seed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeptDirectory {
    hop_key: String,
    #[serde(flatten)]
    directory: Directory,
}

/// Owner of the node's copy of the directory.
pub(crate) struct DirectoryKeeper {
    path: PathBuf,
    kept: KeptDirectory,
    /// Members of a snapshot that is not all there.
    members: BTreeMap<String, Member>,
    /// The version that the Seed has heard is in use.
    acknowledged: u64,
}

impl DirectoryKeeper {
    /// Reads what was kept in the node's folder. A damaged file is set aside.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let kept = read_cache(&path)?;
        Ok(Self {
            path,
            kept,
            members: BTreeMap::new(),
            acknowledged: 0,
        })
    }

    /// Version of the directory that is kept.
    pub(crate) fn version(&self) -> u64 {
        self.kept.directory.version
    }

    /// Begins anew with a link: what was said on another one does not hold.
    pub(crate) fn link_connected(&mut self) {
        self.acknowledged = 0;
        self.members.clear();
    }

    /// Takes the fleet's key of internal requests.
    pub(crate) fn take_hop_key(
        &mut self,
        hop_key: String,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        if self.kept.hop_key == hop_key {
            return;
        }
        self.kept.hop_key = hop_key;
        self.write();
        self.give_all(supervisor, seed);
    }

    /// Takes a frame of a snapshot, and gives children the whole when it was the last.
    pub(crate) fn take_frame(
        &mut self,
        frame: DirectoryFrame,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        if let Some(whole) = self.whole(frame) {
            self.kept.directory = whole;
            self.write();
            self.give_all(supervisor, seed);
        }
    }

    /// The directory that ends with this frame; `None` where more follow, or it cannot be used.
    fn whole(&mut self, frame: DirectoryFrame) -> Option<Directory> {
        let version = frame.version;
        self.members.extend(frame.members);
        if frame.more {
            return None;
        }
        let members = std::mem::take(&mut self.members);
        match frame.slots.try_into() {
            Ok(slots) => Some(Directory {
                version,
                members,
                slots,
            }),
            Err(error) => {
                tracing::error!(%error, version, "a directory cannot be used; the one before stays");
                None
            }
        }
    }

    /// Takes a change of the directory, or asks for the whole where it does not fit.
    pub(crate) fn take_delta(
        &mut self,
        delta: Delta,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        if let Err(error) = self.kept.directory.apply(&delta) {
            tracing::warn!(%error, "a change of the directory does not fit; the whole is asked for");
            let held = self.version();
            return seed.tell(FromNode::DirectoryWanted { held });
        }
        self.write();
        let message = ToChild::DirectoryDelta(delta);
        let small = serde_json::to_vec(&message).is_ok_and(|text| text.len() < PACKET_BYTES_MAX);
        if !small {
            return self.give_all(supervisor, seed);
        }
        supervisor.send_all(&message);
        self.acknowledge(supervisor, seed);
    }

    fn write(&self) {
        if let Err(error) = write_json(&self.path, &self.kept) {
            tracing::warn!(
                error = format!("{error:#}"),
                "the directory cannot be written to disk; a start without the Seed would use an older one"
            );
        }
    }

    fn give_all(&mut self, supervisor: &mut Supervisor, seed: &mut SeedVoice) {
        for child in 0..supervisor.children() {
            self.give(child, supervisor);
        }
        self.acknowledge(supervisor, seed);
    }

    /// Gives one child the whole directory.
    pub(crate) fn give(&self, child: usize, supervisor: &mut Supervisor) {
        if !supervisor.has_process(child) {
            return;
        }
        let file = serde_json::to_vec(&self.kept.directory)
            .map_err(std::io::Error::from)
            .and_then(|text| sealed_memfd("directory", |file| file.write_all(&text)));
        match file {
            Ok(file) => {
                let hop_key = self.kept.hop_key.clone();
                supervisor.send(child, &ToChild::Directory { hop_key }, &[&file]);
            }
            Err(error) => tracing::error!(child, %error, "a child cannot be given the directory"),
        }
    }

    /// Tells the Seed, once for each version, when every child that takes orders relays by the directory that is kept.
    pub(crate) fn acknowledge(&mut self, supervisor: &Supervisor, seed: &mut SeedVoice) {
        let version = self.version();
        if seed.is_connected() && self.acknowledged != version && supervisor.all_relay_by(version) {
            self.acknowledged = version;
            seed.tell(FromNode::DirectoryAck { version });
        }
    }
}
