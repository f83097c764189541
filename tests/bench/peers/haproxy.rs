//! HAProxy: a thread per core with a socket each, back-end connections shared by all, no logs.

use super::{PATH, workers};
use crate::process::{Server, free_address};
use std::{fs, path::Path, process::Command};

/// In front of the back end, with the usual word of who the visitor is.
pub fn relay(folder: &Path, back: &str) -> anyhow::Result<Server> {
    start(folder, back, "splice-auto")
}

/// HAProxy for large bodies, all of them spliced: left to itself it splices a part of them, at four times the cost.
pub fn bulk(folder: &Path, back: &str) -> anyhow::Result<Server> {
    start(folder, back, "splice-response")
}

fn start(folder: &Path, back: &str, splice: &str) -> anyhow::Result<Server> {
    let address = free_address()?;
    let file = folder.join(format!("haproxy-{}.cfg", address.replace(':', "-")));
    let config = format!(
        "global\n nbthread {}\n maxconn 4096\n\
         defaults\n mode http\n timeout client 75s\n timeout server 60s\n timeout connect 1s\n timeout http-keep-alive 75s\n\
         \x20option http-keep-alive\n http-reuse always\n option {splice}\n option forwardfor\n\
         frontend visitors\n bind {address} shards by-thread\n http-request set-header X-Forwarded-Proto http\n\
         \x20default_backend back\n\
         backend back\n server back {back} pool-max-conn -1\n",
        workers(),
    );
    fs::write(&file, config)?;
    let mut command = Command::new("haproxy");
    command
        .env("PATH", PATH)
        .args(["-db", "-q", "-f"])
        .arg(&file);
    Server::peer(command, &address)
}
