//! Open-loop load: requests leave on a fixed schedule, whatever became of those before, and what counts is the time
//! since a request was due.
//!
//! A thread for each connection, because a thread's sleep ends within microseconds while a runtime's timer counts
//! milliseconds, which is many times what is measured here.

use anyhow::{Context, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    num::NonZeroU64,
    time::{Duration, Instant},
};

const CONNECTIONS: usize = 32;
/// No answer takes this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Until all threads stand ready.
const LEAD: Duration = Duration::from_millis(50);

/// Milliseconds.
#[derive(Clone, Copy)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

/// `rate` requests a second for so long, over all connections.
pub fn measure(
    address: &str,
    path: &str,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Latency> {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let start = Instant::now() + LEAD;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut all = std::thread::scope(|scope| {
        let threads = (0..CONNECTIONS).map(|index| {
            let first = start + interval.mul_f64(index as f64 / CONNECTIONS as f64);
            let request = &request;
            scope.spawn(move || ask(address, request, first, interval, start + duration))
        });
        let threads: Vec<_> = threads.collect();
        let mut all = Vec::new();
        for thread in threads {
            let latencies = thread.join();
            all.extend(latencies.map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    all.sort_unstable();
    let percentile = |percent: usize| {
        let latency: Option<&Duration> = all.get(all.len() * percent / 100);
        latency.context("there were requests").map(in_ms)
    };
    Ok(Latency {
        p50: percentile(50)?,
        p99: percentile(99)?,
    })
}

fn in_ms(latency: &Duration) -> f64 {
    latency.as_secs_f64() * 1e3
}

fn ask(
    address: &str,
    request: &str,
    mut due: Instant,
    interval: Duration,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    // A nanosecond instead of the usual fifty microseconds.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    let mut buffer = Vec::new();
    let mut latencies = Vec::new();
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        answer(&mut stream, &mut buffer)?;
        latencies.push(due.elapsed());
        due += interval;
    }
    Ok(latencies)
}

/// Reads one answer of known length.
fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    let mut piece = [0; 4 << 10];
    loop {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "the server closed the connection");
        buffer.extend_from_slice(&piece[..read]);
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&buffer[..end])?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>())
        });
        if buffer.len() >= end + 4 + length.context("an answer of known length")?? {
            return Ok(());
        }
    }
}
