//! The table of roles: what the command line, the port layout, checks, placement and children know of each.
//!
//! A role is added by a variant, its row, and a crate whose service the binary starts for it.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Purpose of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs edge handlers for clients, and relays.
    Proxy,
    /// Serves files of the build.
    Fileserver,
    /// Runs `wasi:http` handlers.
    App,
    /// Keeps long-lived connections and channels.
    Live,
}

/// Threads of a node's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One child for each core, with one thread: what it does never waits long.
    OneEach,
    /// Few children: only so many that they can stand in for each other, with the cores' threads between them: their handlers compute.
    SharedCores,
}

/// Facts of a role.
#[derive(Debug)]
pub struct RoleSpec {
    /// Role that the row is of.
    pub role: Role,
    /// Name in manifests, certificates and on the command line.
    pub name: &'static str,
    /// Number of the role's nodes in an `up` that says nothing else.
    pub up_nodes: u16,
    /// Threads of a child.
    pub threads: Threads,
    /// Whether clients come to it from outside: its public ports may be bound to every address, and balancers stand
    /// before it.
    pub faces_clients: bool,
    /// Whether its children have a listener each, and keys of namespaces are placed on them.
    pub takes_slots: bool,
    /// Whether its children keep the connections of live handlers, whose routes may be on no other role.
    pub keeps_connections: bool,
    /// Whether its children run app handlers that a handler decides on by name.
    pub runs_apps: bool,
    /// Whether it serves nobody without the fleet's secrets; other roles go without.
    pub needs_secrets: bool,
}

/// A role whose service adds nothing: handlers decide, and the child does what they decide.
const PLAIN: RoleSpec = RoleSpec {
    role: Role::Proxy,
    name: "proxy",
    up_nodes: 1,
    threads: Threads::OneEach,
    faces_clients: false,
    takes_slots: false,
    keeps_connections: false,
    runs_apps: false,
    needs_secrets: false,
};

/// Every role, in the order in which `up` numbers nodes.
pub static ROLES: [RoleSpec; 4] = [
    RoleSpec {
        faces_clients: true,
        ..PLAIN
    },
    RoleSpec {
        role: Role::App,
        name: "app",
        threads: Threads::SharedCores,
        runs_apps: true,
        ..PLAIN
    },
    RoleSpec {
        role: Role::Live,
        name: "live",
        takes_slots: true,
        keeps_connections: true,
        needs_secrets: true,
        ..PLAIN
    },
    RoleSpec {
        role: Role::Fileserver,
        name: "fileserver",
        ..PLAIN
    },
];

impl Role {
    /// The role's row of [`ROLES`].
    pub fn spec(self) -> &'static RoleSpec {
        let row = match self {
            Self::Proxy => 0,
            Self::App => 1,
            Self::Live => 2,
            Self::Fileserver => 3,
        };
        &ROLES[row]
    }

    /// Names of the roles for which something holds, for messages: `proxy, app or live`.
    pub fn names(which: impl Fn(&RoleSpec) -> bool) -> String {
        let names: Vec<_> = ROLES
            .iter()
            .filter(|row| which(row))
            .map(|row| row.name)
            .collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, before)) => format!("{} or {last}", before.join(", ")),
            None => String::new(),
        }
    }
}

/// Error for a word that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such role; it is {}", Role::names(|_| true))]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(name: &str) -> Result<Self, NoRole> {
        let mut rows = ROLES.iter();
        let row = rows.find(|row| row.name == name);
        row.map(|row| row.role).ok_or(NoRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_that_of_its_role_and_serialised_name() {
        for row in &ROLES {
            assert!(std::ptr::eq(row.role.spec(), row), "{}", row.name);
            let name = serde_json::to_string(&row.role).unwrap();
            assert_eq!(name, format!("\"{}\"", row.name));
            assert_eq!(row.name.parse(), Ok(row.role));
        }
        assert_eq!("mail".parse::<Role>(), Err(NoRole));
    }

    #[test]
    fn roles_are_listed_as_people_write_them() {
        assert_eq!(Role::names(|row| row.keeps_connections), "live");
        assert_eq!(Role::names(|_| true), "proxy, app, live or fileserver");
    }
}
