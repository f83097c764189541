//! nginx: one worker per core with a socket each, connections kept for ever, no logs.

use super::{PATH, workers};
use crate::process::{Certificate, Server, free_address};
use protoplex_tests::repository;
use std::{fmt::Write, fs, path::Path, process::Command};

/// Idle connections to the back end that a worker keeps: more than there are clients.
const BACK_CONNECTIONS: usize = 512;

/// Static files with sendfile and an open-file cache.
pub fn files(folder: &Path) -> anyhow::Result<Server> {
    let root = repository().join("tests/bench/files");
    let root = format!("location / {{ root {}; }}", root.display());
    start(folder, &root, "", None)
}

/// An answer of its own, over TLS where there is a certificate.
pub fn respond(folder: &Path, certificate: Option<&Certificate>) -> anyhow::Result<Server> {
    let answer = "location / { default_type text/plain; return 200 \"\\n\"; }";
    start(folder, answer, "", certificate)
}

/// Everything from the back end over kept connections, with the usual word of who the visitor is; to HTTP/2 over TLS
/// where there is a certificate.
pub fn relay(
    folder: &Path,
    back: &str,
    certificate: Option<&Certificate>,
) -> anyhow::Result<Server> {
    let upstream = format!(
        "upstream back {{ server {back}; keepalive {BACK_CONNECTIONS}; keepalive_requests 1000000000; }}\n"
    );
    let pass = "location / { proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_set_header X-Forwarded-Proto $scheme; }";
    start(folder, pass, &upstream, certificate)
}

fn start(
    folder: &Path,
    location: &str,
    upstream: &str,
    certificate: Option<&Certificate>,
) -> anyhow::Result<Server> {
    let address = free_address()?;
    // Several run at once, each with files of its own.
    let folder = folder.join(format!("nginx-{}", address.replace(':', "-")));
    fs::create_dir_all(&folder)?;
    let (listen, tls) = match certificate {
        // What rustls does by default: 1.3 first, tickets, X25519.
        Some(Certificate { cert, key }) => (
            "ssl http2",
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519;\n\
                 ssl_session_cache shared:tls:10m; ssl_session_tickets on; ssl_buffer_size 4k;\n",
                cert.display(),
                key.display()
            ),
        ),
        None => ("", String::new()),
    };
    let mut config = format!(
        "daemon off; worker_processes {}; pid nginx.pid; error_log /dev/null crit; worker_rlimit_nofile 16384;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 75;\n\
         keepalive_requests 1000000000; open_file_cache max=1000; etag on; types {{ text/plain txt; }}\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n",
        workers(),
    );
    write!(
        config,
        "{upstream}server {{ listen {address} {listen} reuseport;\n{tls}{location} }} }}\n"
    )?;
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = Command::new("nginx");
    command
        .env("PATH", PATH)
        .arg("-p")
        .arg(&folder)
        .args(["-c", "nginx.conf", "-e", "/dev/null"]);
    Server::peer(command, &address)
}
