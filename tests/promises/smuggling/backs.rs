//! Servers behind the proxy that say what they saw, each as one line a request: `RELAY ID STATUS "LINE"`.

use protoplex_tests::{Program, free_address, python, repository};

/// A server, and where its record is.
pub struct Back {
    pub address: String,
    program: Program,
    record: &'static str,
}

/// A server's record of one request.
#[derive(Debug)]
pub struct Seen {
    /// The header that only the handler sets.
    pub relay: String,
    /// The header that only the proxy sets.
    pub id: String,
    pub line: String,
}

impl Back {
    pub fn nginx() -> anyhow::Result<Self> {
        let address = free_address()?;
        let config = format!(
            "daemon off; worker_processes 1; pid nginx.pid; events {{}}\n\
             http {{ log_format seen '$http_x_relay $http_x_request_id $status \"$request\"'; access_log seen.log seen;\n\
             client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
             server {{ listen {address}; location / {{ return 200 \"hello\\n\"; }} }} }}\n"
        );
        let files = [("nginx.conf", config.as_str())];
        // `-p` is the folder that it runs in.
        let args = ["-p", ".", "-c", "nginx.conf", "-e", "errors.log"];
        Self::listening(Program::start("nginx", &args, &files)?, address, "seen.log")
    }

    pub fn haproxy() -> anyhow::Result<Self> {
        let address = free_address()?;
        let config = format!(
            "global\n nbthread 1\n log stdout len 8192 format raw local0\n\
             defaults\n mode http\n log global\n option dontlognull\n timeout client 30s\n timeout server 30s\n timeout connect 1s\n\
             \x20log-format \"%[var(txn.relay)] %[var(txn.id)] %ST %{{+Q}}r\"\n\
             frontend back\n bind {address}\n http-request set-var(txn.relay) req.hdr(x-relay)\n\
             \x20http-request set-var(txn.id) req.hdr(x-request-id)\n\
             \x20http-request wait-for-body time 10s\n\
             \x20http-request return status 200 content-type text/plain string hello\n"
        );
        let files = [("haproxy.cfg", config.as_str())];
        let program = Program::start("haproxy", &["-db", "-f", "haproxy.cfg"], &files)?;
        Self::listening(program, address, "out")
    }

    pub fn python() -> anyhow::Result<Self> {
        let script = repository().join("tests/drivers/back.py");
        let mut program = Program::start(python()?, &[&script.display().to_string()], &[])?;
        let port = program.wait_for("out", |out| {
            out.split_once('\n').map(|(port, _)| port.to_owned())
        })?;
        Self::listening(program, format!("127.0.0.1:{port}"), "out")
    }

    fn listening(
        mut program: Program,
        address: String,
        record: &'static str,
    ) -> anyhow::Result<Self> {
        program.wait_for_port(&address)?;
        Ok(Self {
            address,
            program,
            record,
        })
    }

    /// Everything up to a request whose line has this word.
    pub fn seen_until(&mut self, word: &str) -> anyhow::Result<Vec<Seen>> {
        let text = self.program.wait_for(self.record, |text| {
            let line_end = text.find(word).map(|at| text[at..].contains('\n'));
            (line_end == Some(true)).then(|| text.to_owned())
        })?;
        Ok(text.lines().filter_map(seen).collect())
    }
}

fn seen(line: &str) -> Option<Seen> {
    let (relay, rest) = line.split_once(' ')?;
    let (id, rest) = rest.split_once(' ')?;
    let (status, line) = rest.split_once(' ')?;
    // HAProxy may print other things as well.
    status.parse::<u16>().ok()?;
    Some(Seen {
        relay: relay.to_owned(),
        id: id.to_owned(),
        line: line.to_owned(),
    })
}
