//! Closed-loop loads: as many requests as a server can answer, and what they cost it.

use crate::process::{CpuTime, Server};
use anyhow::{Context, ensure};
use protoplex_tests::program;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Keep-alive connections.
const CONNECTIONS: usize = 64;
/// Of a load with large bodies: enough to keep all cores busy.
const BULK_CONNECTIONS: usize = 8;
/// Streams at once on each of the (few) connections of HTTP/2.
const STREAMS: usize = 16;
/// Seconds of one measurement.
const SECONDS: u64 = 3;
/// Requests before the clock starts fill caches and pools.
const WARM_SECONDS: u64 = 1;

/// What one measurement gave.
#[derive(Clone, Copy)]
pub struct Measured {
    pub requests_per_s: f64,
    pub cpu_us_per_request: f64,
    /// Part of it that was spent in the kernel.
    pub kernel_us_per_request: f64,
}

impl Measured {
    /// Figures of so many requests in so many seconds.
    pub fn of(requests: f64, seconds: f64, used: CpuTime) -> Self {
        Self {
            requests_per_s: requests / seconds,
            cpu_us_per_request: used.seconds() / requests * 1e6,
            kernel_us_per_request: used.kernel_s / requests * 1e6,
        }
    }

    /// The median of each figure.
    pub fn median(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| crate::median(rounds.iter().map(figure).collect());
        Self {
            requests_per_s: median(|measured| measured.requests_per_s),
            cpu_us_per_request: median(|measured| measured.cpu_us_per_request),
            kernel_us_per_request: median(|measured| measured.kernel_us_per_request),
        }
    }
}

/// One kind of load.
#[derive(Clone)]
pub struct Load {
    tool: Tool,
    path: String,
    over_tls: bool,
    connections: usize,
    script: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Tool {
    /// HTTP/1.1, one request after another on each connection.
    Wrk,
    /// HTTP/2.
    H2load,
    /// A connection for each request.
    Handshakes { resumed: bool },
    /// WebSocket messages that come back, one under way on each connection.
    Echo,
}

impl Load {
    /// GET, again and again, in HTTP/1.1.
    pub fn get(path: &str) -> Self {
        Self {
            tool: Tool::Wrk,
            path: path.to_owned(),
            over_tls: false,
            connections: CONNECTIONS,
            script: None,
        }
    }

    /// GET of a body so large that a few connections are enough.
    pub fn bulk(path: &str) -> Self {
        Self {
            connections: BULK_CONNECTIONS,
            ..Self::get(path)
        }
    }

    /// POST of that many bytes.
    pub fn post(path: &str, body_bytes: usize, folder: &Path) -> anyhow::Result<Self> {
        let text = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {body_bytes})\n");
        Self::bulk(path).script("post.lua", &text, folder)
    }

    /// The load on so many connections.
    pub fn on(self, connections: usize) -> Self {
        Self {
            connections,
            ..self
        }
    }

    /// GET over TLS, on connections that are kept.
    pub fn get_over_tls(path: &str) -> Self {
        Self {
            over_tls: true,
            ..Self::get(path)
        }
    }

    /// GET in HTTP/2 over TLS.
    pub fn http2(path: &str) -> Self {
        Self {
            tool: Tool::H2load,
            connections: BULK_CONNECTIONS,
            ..Self::get_over_tls(path)
        }
    }

    /// A TLS 1.3 handshake for each request of `/`.
    pub fn handshakes(resumed: bool) -> Self {
        Self {
            tool: Tool::Handshakes { resumed },
            ..Self::get_over_tls("/")
        }
    }

    /// Messages of 64 bytes by WebSocket; a request is one of them and its way back.
    pub fn echo(path: &str) -> Self {
        Self {
            tool: Tool::Echo,
            ..Self::get(path)
        }
    }

    /// What wrk asks for is up to a script.
    pub fn script(mut self, name: &str, text: &str, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(name);
        fs::write(&file, text)?;
        self.script = Some(file);
        Ok(self)
    }

    /// A load that is not measured.
    pub fn warm(&self, server: &Server) -> anyhow::Result<()> {
        self.run(server, WARM_SECONDS).map(drop)
    }

    /// The load once more. Returns how many requests were answered.
    pub fn requests(&self, server: &Server) -> anyhow::Result<f64> {
        self.run(server, SECONDS).map(|(requests, _)| requests)
    }

    /// One measurement.
    pub fn measure(&self, server: &Server) -> anyhow::Result<Measured> {
        let before = server.cpu_time()?;
        let (requests, seconds) = self.run(server, SECONDS)?;
        ensure!(requests > 0.0, "{} answered nothing", server.address());
        let used = server.cpu_time()? - before;
        Ok(Measured::of(requests, seconds, used))
    }

    /// Requests and seconds.
    fn run(&self, server: &Server, seconds: u64) -> anyhow::Result<(f64, f64)> {
        let (scheme, address) = match self.over_tls {
            true => ("https", server.tls_address()),
            false => ("http", server.address()),
        };
        let url = format!("{scheme}://{address}{}", self.path);
        match self.tool {
            Tool::Wrk => self.wrk(&url, seconds),
            Tool::H2load => self.h2load(&url, seconds),
            Tool::Handshakes { resumed } => handshakes(&address, resumed, seconds),
            Tool::Echo => self.echoes(&address, seconds),
        }
    }

    fn echoes(&self, address: &str, seconds: u64) -> anyhow::Result<(f64, f64)> {
        let mut load = Command::new(program()?.with_file_name("bench-live"));
        load.args(["echo", address, &self.path]);
        load.args([self.connections.to_string(), seconds.to_string()]);
        let text = output(&mut load)?;
        let [echoed, seconds] = figures(&text)?[..] else {
            anyhow::bail!("bench-live says two figures: {text}");
        };
        Ok((echoed, seconds))
    }

    fn wrk(&self, url: &str, seconds: u64) -> anyhow::Result<(f64, f64)> {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c", &self.connections.to_string()]);
        wrk.args(["-d", &seconds.to_string()]);
        if let Some(script) = &self.script {
            wrk.arg("-s").arg(script);
        }
        let text = output(wrk.arg(url))?;
        ensure!(
            !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "{url} failed:\n{text}"
        );
        let line = text.lines().find(|line| line.contains(" requests in "));
        let line = line.context("wrk says how many")?;
        let (requests, rest) = line.split_once(" requests in ").context("how many")?;
        let time = rest.split(',').next().context("how long")?;
        Ok((requests.trim().parse()?, seconds_of(time)?))
    }

    fn h2load(&self, url: &str, seconds: u64) -> anyhow::Result<(f64, f64)> {
        let mut h2load = Command::new("h2load");
        h2load.args(["-t1", "-c", &self.connections.to_string()]);
        h2load.args(["-m", &STREAMS.to_string(), "-D", &seconds.to_string()]);
        let text = output(h2load.arg(url))?;
        let counts = text.lines().find_map(|line| line.strip_prefix("requests:"));
        let counts: Vec<(&str, &str)> = counts
            .context("h2load says how many")?
            .split(',')
            .filter_map(|count| count.trim().split_once(' '))
            .collect();
        let count = |what| counts.iter().find(|(_, name)| *name == what);
        for fault in ["failed", "errored", "timeout"] {
            ensure!(
                count(fault).is_some_and(|(n, _)| *n == "0"),
                "{url} failed:\n{text}"
            );
        }
        let (succeeded, _) = count("succeeded").context("h2load says how many")?;
        let time = text
            .lines()
            .find_map(|line| line.strip_prefix("finished in "));
        let time = time.and_then(|time| time.split(',').next());
        Ok((succeeded.parse()?, seconds_of(time.context("how long")?)?))
    }
}

fn handshakes(address: &str, resumed: bool, seconds: u64) -> anyhow::Result<(f64, f64)> {
    let kind = if resumed { "resumed" } else { "full" };
    let mut load = Command::new(program()?.with_file_name("bench-tls"));
    let text = output(load.args([address, kind, &seconds.to_string()]))?;
    let [all, of_them_resumed, seconds] = figures(&text)?[..] else {
        anyhow::bail!("bench-tls says three figures: {text}");
    };
    // One that could have been resumed and was not is no resumed handshake, and what it cost was for nothing.
    let counted = if resumed { of_them_resumed } else { all };
    Ok((counted, seconds))
}

/// Numbers of a line.
pub fn figures(text: &str) -> anyhow::Result<Vec<f64>> {
    let figures = text.split_whitespace().map(str::parse::<f64>);
    figures
        .collect::<Result<_, _>>()
        .with_context(|| format!("these are no figures: {text:?}"))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output();
    let output =
        output.with_context(|| format!("{command:?} cannot be started; run ./.ci/setup"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {text}{errors}"
    );
    Ok(text)
}

/// `1.5s`, `900.00ms`, `1.02m`.
fn seconds_of(text: &str) -> anyhow::Result<f64> {
    let (number, unit) = text.split_at(
        text.find(|c: char| c.is_ascii_alphabetic())
            .context("a time has a unit")?,
    );
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => anyhow::bail!("{text} is no time"),
    };
    Ok(number.parse::<f64>()? * unit)
}
