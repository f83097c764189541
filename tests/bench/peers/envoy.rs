//! Envoy: a worker per core with a socket each, connections kept on both sides, no logs, nothing counted per route.

use super::workers;
use crate::process::{Server, free_address};
use anyhow::Context;
use protoplex_tests::repository;
use serde_json::json;
use std::{fs, path::Path, process::Command};

/// The program in the repository, where .ci/setup puts it.
const PROGRAM: &str = ".venv/bin/envoy";
/// Most connections, requests and waiting requests to the back end: more than there are clients.
const BACK_MAX: u32 = 4_096;

/// In front of the back end, with the usual word of who the visitor is.
pub fn relay(folder: &Path, back: &str) -> anyhow::Result<Server> {
    let address = free_address()?;
    let file = folder.join(format!("envoy-{}.json", address.replace(':', "-")));
    fs::write(&file, config(&address, back)?.to_string())?;
    let mut command = Command::new(repository().join(PROGRAM));
    command
        .args(["--concurrency", &workers().to_string()])
        .args(["--disable-hot-restart", "--log-level", "off"])
        .arg("--config-path")
        .arg(&file);
    Server::peer(command, &address)
}

fn config(address: &str, back: &str) -> anyhow::Result<serde_json::Value> {
    let socket_address = |at: &str| -> anyhow::Result<_> {
        let (host, port) = at.rsplit_once(':').context("an address has a port")?;
        let port: u16 = port.parse()?;
        Ok(json!({"socket_address": {"address": host, "port_value": port}}))
    };
    let (visitors, back) = (socket_address(address)?, socket_address(back)?);
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": true,
        "dynamic_stats": false,
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "visitors",
        "codec_type": "HTTP1",
        "use_remote_address": true,
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "back"}}],
        }]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    });
    let filter =
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let limits = json!({
        "max_connections": BACK_MAX,
        "max_pending_requests": BACK_MAX,
        "max_requests": BACK_MAX,
    });
    Ok(json!({"static_resources": {
        "listeners": [{
            "address": visitors,
            "enable_reuse_port": true,
            "filter_chains": [{"filters": [filter]}],
        }],
        "clusters": [{
            "name": "back",
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {"cluster_name": "back", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": back}}]},
            ]},
        }],
    }}))
}
