//! The directory on its way through the parent: from the Seed, to the disk, to the children, and back as a word that
//! they all answer by it.

use super::{
    actor::Actor,
    children::Seat,
    store::{read_cache, write_json},
};
use protoplex_control::{
    messages::{PACKET_BYTES_MAX, ToChild},
    socket::sealed_memfd,
};
use protoplex_wire::{
    directory::{Delta, Directory, Member, Placed},
    link::FromNode,
    manifest::Role,
    status::Addresses,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::Write, path::Path};

const FILE: &str = "directory.json";

/// The fleet as it was last heard of: kept on disk for a start without the Seed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    hop_key: String,
    #[serde(flatten)]
    directory: Directory,
    /// Addresses that a version before members wrote in their place.
    #[serde(default, skip_serializing)]
    nodes: BTreeMap<Role, Vec<Addresses>>,
    /// Members of a snapshot that is not all there.
    #[serde(skip)]
    members: BTreeMap<String, Member>,
    /// The version that the Seed has heard is in use.
    #[serde(skip)]
    acked: u64,
}

impl Kept {
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut kept: Self = read_cache(&dir.join(FILE))?;
        if kept.directory.members.is_empty() && !kept.nodes.is_empty() {
            kept.directory = Directory::of_roles(kept.directory.version, &kept.nodes);
        }
        Ok(kept)
    }

    pub(super) fn version(&self) -> u64 {
        self.directory.version
    }

    /// Nothing of before holds on another link.
    pub(super) fn new_link(&mut self) {
        self.acked = 0;
        self.members.clear();
    }

    /// A frame of a snapshot. The whole, when it was the last.
    pub(super) fn part(
        &mut self,
        version: u64,
        nodes: &BTreeMap<Role, Vec<Addresses>>,
        members: BTreeMap<String, Member>,
        slots: Placed,
        more: bool,
    ) -> Option<Directory> {
        self.members.extend(members);
        if more {
            return None;
        }
        let members = std::mem::take(&mut self.members);
        if members.is_empty() {
            return Some(Directory::of_roles(version, nodes));
        }
        match slots.try_into() {
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
}

impl Actor {
    pub(super) async fn welcomed(&mut self, hop_key: String) {
        if self.kept.hop_key == hop_key {
            return;
        }
        self.kept.hop_key = hop_key;
        self.keep_directory();
        self.give_directory_to_all().await;
    }

    pub(super) async fn take_directory(&mut self, whole: Directory) {
        self.kept.directory = whole;
        self.keep_directory();
        self.give_directory_to_all().await;
    }

    pub(super) async fn change_directory(&mut self, delta: Delta) {
        if let Err(error) = self.kept.directory.apply(&delta) {
            tracing::warn!(%error, "the whole directory is asked for");
            let held = self.kept.directory.version;
            return self.tell_seed(FromNode::DirectoryWanted { held });
        }
        self.keep_directory();
        let message = ToChild::DirectoryDelta(delta);
        let small = serde_json::to_vec(&message).is_ok_and(|text| text.len() < PACKET_BYTES_MAX);
        if !small {
            return self.give_directory_to_all().await;
        }
        for index in 0..self.seats.len() {
            self.send(index, &message, &[]);
        }
        self.acknowledge().await;
    }

    fn keep_directory(&self) {
        if let Err(error) = write_json(&self.store.dir().join(FILE), &self.kept) {
            tracing::warn!(error = format!("{error:#}"), "the directory cannot be kept");
        }
    }

    async fn give_directory_to_all(&mut self) {
        for index in 0..self.seats.len() {
            self.give_directory(index).await;
        }
        self.acknowledge().await;
    }

    /// The whole of it for one child.
    pub(super) async fn give_directory(&mut self, index: usize) {
        if self.seats[index].process.is_none() {
            return;
        }
        let file = serde_json::to_vec(&self.kept.directory)
            .map_err(std::io::Error::from)
            .and_then(|text| sealed_memfd("directory", |file| file.write_all(&text)));
        match file {
            Ok(file) => {
                let hop_key = self.kept.hop_key.clone();
                self.send(index, &ToChild::Directory { hop_key }, &[&file]);
            }
            Err(error) => tracing::error!(child = index, %error, "a child has no directory"),
        }
    }

    /// Tells the Seed when every child that answers requests does so by what it said last.
    pub(super) async fn acknowledge(&mut self) {
        let version = self.kept.directory.version;
        let by_it = |seat: &Seat| seat.directory == version;
        let mut seats = self.seats.iter().filter(|seat| seat.takes_orders());
        if self.seed.is_some() && self.kept.acked != version && seats.all(by_it) {
            self.kept.acked = version;
            self.tell_seed(FromNode::DirectoryAck { version });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_directory_is_set_aside_and_keeps_no_node_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let damaged = r#"{"hop_key":"ab","version":7,"nod"#;
        std::fs::write(dir.path().join(FILE), damaged).unwrap();
        assert_eq!(Kept::read(dir.path()).unwrap().version(), 0);
        let aside = dir.path().join("directory.json.damaged");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
    }

    #[test]
    fn a_directory_of_before_there_were_members_still_leads_to_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"hop_key":"ab","version":7,"nodes":{"app":[
            {"http":"http://a","https":"","health":"","meta":"https://a"},
            {"http":"http://b","https":"","health":"","meta":"https://b"}]}}"#;
        std::fs::write(dir.path().join(FILE), old).unwrap();
        let kept = Kept::read(dir.path()).unwrap();
        assert_eq!(kept.directory.by_role()[&Role::App].len(), 2);
        write_json(&dir.path().join(FILE), &kept).unwrap();
        let again = Kept::read(dir.path()).unwrap();
        assert_eq!(again.directory, kept.directory);
    }
}
