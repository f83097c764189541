//! Pushpin: subscribers by WebSocket, messages by its HTTP API, no limit on their rate, logs of faults only. Its own
//! test resource stands in for an origin: it subscribes who comes to the channel `test`, and what is published goes the
//! same way as with an origin behind.

use super::PATH;
use crate::process::{Server, free_address};
use anyhow::Context;
use std::{fs, path::Path, process::Command};

/// Where subscribers connect to.
pub const SUBSCRIBERS: &str = "/ws";
/// They are subscribed to it.
pub const CHANNEL: &str = "test";
/// Debian's folder of what the program itself needs.
const LIBRARY: &str = "/usr/lib/pushpin";

/// The server, and the address of its HTTP API.
pub fn start(folder: &Path) -> anyhow::Result<(Server, String)> {
    let (address, api) = (free_address()?, free_address()?);
    let root = folder.join("pushpin");
    let folder = |name: &str| {
        let folder = root.join(name);
        fs::create_dir_all(&folder).map(|()| folder.display().to_string())
    };
    let (run, log) = (folder("run")?, folder("log")?);
    let (api_address, api_port) = api.split_once(':').context("an address has a port")?;
    let config = format!(
        "[global]\ninclude={LIBRARY}/internal.conf\nrundir={run}\nipc_prefix=pushpin-\nport_offset=0\n\
         [runner]\nservices=condure,pushpin-proxy,pushpin-handler\nlogdir={log}\nlog_level=1\n\
         client_buffer_size=8192\nclient_maxconn=50000\n\
         [proxy]\nroutesfile=routes\n\
         [handler]\npush_in_spec=ipc://{run}/push-in\npush_in_sub_specs=ipc://{run}/push-in-sub\n\
         push_in_http_addr={api_address}\npush_in_http_port={api_port}\npush_in_http_max_body_size=1000000\n\
         stats_spec=ipc://{run}/stats\ncommand_spec=ipc://{run}/command\n\
         message_rate=10000000\nmessage_hwm=10000000\n"
    );
    let file = root.join("pushpin.conf");
    fs::write(&file, config)?;
    fs::write(root.join("routes"), "* test\n")?;
    let mut command = Command::new("pushpin");
    command
        .env("PATH", PATH)
        .arg(format!("--config={}", file.display()))
        .arg(format!("--port={address}"));
    Ok((Server::peer(command, &address)?, api))
}
