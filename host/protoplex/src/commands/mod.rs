//! One module a command: arguments in, output and exit code out.

pub mod adopt;
pub mod build;
pub mod dev;
pub mod gc;
pub mod logs;
pub mod new;
pub mod processes;
pub mod push;
pub mod rollback;
pub mod show;

use anyhow::{Context as _, Result};
use protoplex_push::PushError;
use protoplex_seed_client::SeedClient;
use protoplex_wire::{BuildId, status::ApiCode};
use std::collections::BTreeSet;

/// Finds the build whose id starts with `prefix`, or whose release it is (`1.7`), among those of the history.
///
/// # Errors
/// When there is none, or more than one.
pub async fn build_by_prefix(client: &SeedClient, prefix: &str) -> Result<BuildId> {
    if let Ok(build) = prefix.parse() {
        return Ok(build);
    }
    let history = client.releases().await.context("asking for the history")?;
    let by_release = history.iter().find(|r| r.release.to_string() == prefix);
    if let Some(record) = by_release {
        return Ok(record.build);
    }
    let known: BTreeSet<BuildId> = history.into_iter().map(|record| record.build).collect();
    let fitting: Vec<BuildId> = known
        .into_iter()
        .filter(|build| build.to_string().starts_with(prefix))
        .collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(unknown(format!(
            "no build's id starts with `{prefix}`, and no release is called so; `protoplex releases` lists them"
        ))),
        several => Err(unknown(format!(
            "{} builds' ids start with `{prefix}`; give more digits",
            several.len()
        ))),
    }
}

/// Makes the Seed's refusal of a whole id that it does not know, for a part of one: a script sees the same exit code.
fn unknown(message: String) -> anyhow::Error {
    let code = ApiCode::Build.into();
    PushError::Refused { code, message }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::{
        manifest::Role,
        status::{Addresses, NodeStatus},
    };

    /// Makes a connected node of role app that runs this build.
    pub(super) fn node_running(name: &str, active: Option<BuildId>) -> NodeStatus {
        NodeStatus {
            node: name.to_owned(),
            role: Role::App,
            connected: true,
            addresses: Addresses::default(),
            host_version: String::new(),
            children: 2,
            children_ready: 2,
            active,
            heartbeat_age_ms: 0,
            requests: 0,
            errors: 0,
            traps: 0,
            region: String::new(),
            child_addresses: Vec::new(),
            leaving: false,
            fault: String::new(),
        }
    }
}
