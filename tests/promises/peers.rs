//! Other proxies in front of the same server, so that a test can say what they make of the same bytes.

use protoplex_tests::{Program, free_address};

/// A proxy that relays everything to one server. It ends with this.
pub struct Peer {
    pub name: &'static str,
    pub address: String,
    _program: Program,
}

/// nginx and HAProxy, which give a server `timeout_ms` and take a request's body as it comes.
pub fn peers(server: &str, timeout_ms: u32) -> anyhow::Result<[Peer; 2]> {
    Ok([nginx(server, timeout_ms)?, haproxy(server, timeout_ms)?])
}

fn nginx(server: &str, timeout_ms: u32) -> anyhow::Result<Peer> {
    let address = free_address()?;
    let config = format!(
        "daemon off; worker_processes 1; pid nginx.pid; events {{}}\n\
         http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         server {{ listen {address}; location / {{ proxy_pass http://{server}; proxy_http_version 1.1;\n\
         proxy_request_buffering off; proxy_read_timeout {timeout_ms}ms; proxy_send_timeout {timeout_ms}ms; }} }} }}\n"
    );
    let args = ["-p", ".", "-c", "nginx.conf", "-e", "errors.log"];
    started(
        "nginx",
        address,
        Program::start("nginx", &args, &[("nginx.conf", &config)])?,
    )
}

fn haproxy(server: &str, timeout_ms: u32) -> anyhow::Result<Peer> {
    let address = free_address()?;
    let config = format!(
        "global\n nbthread 1\n\
         defaults\n mode http\n timeout client 30s\n timeout server {timeout_ms}ms\n timeout connect 1s\n\
         frontend front\n bind {address}\n default_backend back\n\
         backend back\n server one {server}\n"
    );
    let files = [("haproxy.cfg", config.as_str())];
    started(
        "haproxy",
        address,
        Program::start("haproxy", &["-db", "-f", "haproxy.cfg"], &files)?,
    )
}

fn started(name: &'static str, address: String, mut program: Program) -> anyhow::Result<Peer> {
    program.wait_for_port(&address)?;
    Ok(Peer {
        name,
        address,
        _program: program,
    })
}
