//! Clients of the live rows, in a process of their own, so that what they cost is not the server's. All print figures
//! in lines. All but `echo` print `ready` first, then do what each line of their standard input says, and end with it.
//! Several addresses, with commas between them, have their share of the connections each.
//!
//! - `bench-live echo HOST:PORT PATH CONNECTIONS SECONDS` has one message of 64 bytes under way on each connection, and
//!   prints how many came back, and the seconds.
//! - `bench-live hold HOST:PORT PATH CONNECTIONS` keeps connections that say nothing; each line asks how many have
//!   closed.
//! - `bench-live fan-out HOST:PORT PATH CONNECTIONS CHANNEL PUBLISH-HOST:PORT REQUEST-FILE MESSAGES WINDOW` subscribes
//!   all (`-`: the server does) and publishes by the request, which has so many messages. Each line is a time in
//!   seconds: so long, as many batches as the window of messages leaves room for that may be under way to each; with 0,
//!   one batch. It prints the messages that came, and the seconds from the first request to the last of them.
//! - `bench-live ask HOST:PORT PATH CONNECTIONS INTERVAL-MS` asks the handler `count` by `count` on a fixed schedule,
//!   from the start. A line says that a push begins. From then until all connections have heard of the new build for
//!   two seconds, it looks at the times from when a question was due to its answer: it prints their 99th percentile and
//!   the largest, in milliseconds, and how many they are.

mod publisher;
mod sockets;

use anyhow::{Context, bail, ensure};
use publisher::Publisher;
use sockets::{Sockets, Woken};
use std::{
    io::{BufRead, StdinLock},
    net::TcpStream,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const ECHO: [u8; 64] = [b'x'; 64];
/// Whatever is waited for comes by then, or never.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Nothing to do for anybody.
const IDLE: Duration = Duration::from_secs(3_600);
/// A first batch that not everybody hears is over by then: some are not subscribed yet.
const WARM: Duration = Duration::from_millis(300);
/// First batches.
const WARM_MAX: usize = 50;
/// The handler `count` tells its name with every answer; all of them are the new build's for so long.
const AFTER: Duration = Duration::from_secs(2);
/// Until all answers come from a build that was pushed.
const SWAP_MAX: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["echo", address, path, count, seconds] => {
            let seconds = Duration::from_secs_f64(seconds.parse()?);
            echo(&mut opened(address, path, count, None)?, seconds)
        }
        ["hold", address, path, count] => hold(opened(address, path, count, None)?),
        [
            "fan-out",
            address,
            path,
            count,
            channel,
            to,
            file,
            messages,
            window,
        ] => {
            let channel = (channel != "-").then_some(channel);
            FanOut {
                sockets: opened(address, path, count, channel)?,
                publisher: Publisher::new(to, std::fs::read(file)?),
                messages: messages.parse()?,
                window: window.parse()?,
            }
            .run()
        }
        ["ask", address, path, count, interval] => {
            let sockets = opened(address, path, count, None)?;
            ask(sockets, Duration::from_millis(interval.parse()?))
        }
        _ => bail!("bench-live echo|hold|fan-out|ask HOST:PORT PATH CONNECTIONS …; see its source"),
    }
}

fn opened(
    address: &str,
    path: &str,
    count: &str,
    channel: Option<&str>,
) -> anyhow::Result<Sockets> {
    let (mut sockets, count) = (Sockets::new()?, count.parse::<usize>()?);
    let addresses: Vec<&str> = address.split(',').collect();
    for address in &addresses {
        sockets.open((address, path), count / addresses.len(), channel)?;
    }
    Ok(sockets)
}

#[expect(clippy::print_stdout, reason = "the figures are what was asked for")]
fn say(figures: &str) {
    println!("{figures}");
}

/// The next line that says what to do.
fn line(input: &mut StdinLock<'static>) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = input.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

fn echo(sockets: &mut Sockets, duration: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    for index in 0..sockets.len() {
        sockets.send(index, &ECHO)?;
    }
    let (mut echoed, mut under_way) = (0_u64, sockets.len());
    let mut back = Vec::with_capacity(sockets.len());
    while under_way > 0 {
        let mut are_right = true;
        let woken = sockets.wait(WAIT_MAX, |index, text| {
            are_right &= text == ECHO;
            back.push(index);
        })?;
        ensure!(woken != Woken::Nothing, "{under_way} never came back");
        ensure!(are_right, "something else came back");
        ensure!(sockets.closed() == 0, "a connection was closed");
        echoed += back.len() as u64;
        let goes_on = started.elapsed() < duration;
        for index in back.drain(..) {
            match goes_on {
                true => sockets.send(index, &ECHO)?,
                false => under_way -= 1,
            }
        }
    }
    say(&format!("{echoed} {}", started.elapsed().as_secs_f64()));
    Ok(())
}

fn hold(mut sockets: Sockets) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    sockets.watch(std::io::stdin())?;
    say("ready");
    loop {
        let woken = sockets.wait(IDLE, |_, _| {})?;
        if woken == Woken::Other {
            match line(&mut input)? {
                Some(_) => say(&sockets.closed().to_string()),
                None => return Ok(()),
            }
        }
    }
}

struct FanOut {
    sockets: Sockets,
    publisher: Publisher,
    /// Messages of one request.
    messages: u64,
    window: u64,
}

impl FanOut {
    fn run(mut self) -> anyhow::Result<()> {
        ensure!(self.messages <= self.window, "a batch fits the window");
        self.warm()?;
        let mut input = std::io::stdin().lock();
        say("ready");
        // Signs of life wait for a moment, meanwhile.
        while let Some(line) = line(&mut input)? {
            let (received, seconds) = self.publish(Duration::from_secs_f64(line.parse()?))?;
            say(&format!("{received} {seconds}"));
        }
        Ok(())
    }

    /// Until everybody hears what is published.
    fn warm(&mut self) -> anyhow::Result<()> {
        let all = self.messages * self.sockets.len() as u64;
        for _ in 0..WARM_MAX {
            self.publisher.publish(&self.sockets)?;
            let mut received = 0;
            loop {
                match self.sockets.wait(WARM, |_, _| received += 1)? {
                    Woken::Nothing => break,
                    Woken::Other => self.publisher.answer()?,
                    Woken::Sockets => {}
                }
            }
            ensure!(!self.publisher.is_waiting(), "it is never published");
            if received == all {
                return Ok(());
            }
        }
        bail!("not everybody is subscribed")
    }

    fn publish(&mut self, duration: Duration) -> anyhow::Result<(u64, f64)> {
        let all = self.sockets.len() as u64;
        let (mut published, mut received) = (0, 0);
        let started = Instant::now();
        let mut last = started;
        loop {
            let goes_on = published == 0 || started.elapsed() < duration;
            if !goes_on && received == published * all && !self.publisher.is_waiting() {
                return Ok((received, (last - started).as_secs_f64()));
            }
            let has_room = (published + self.messages) * all <= received + self.window * all;
            if goes_on && has_room && !self.publisher.is_waiting() {
                self.publisher.publish(&self.sockets)?;
                published += self.messages;
            }
            let before = received;
            let woken = self.sockets.wait(WAIT_MAX, |_, _| received += 1)?;
            if received > before {
                last = Instant::now();
            }
            match woken {
                Woken::Nothing => bail!("{received} of {} came, then none", published * all),
                Woken::Other => self.publisher.answer()?,
                Woken::Sockets => {}
            }
            ensure!(self.sockets.closed() == 0, "a connection was closed");
            ensure!(received <= published * all, "more came than was published");
        }
    }
}

/// When each question is due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
    connections: u32,
}

impl Schedule {
    fn due(&self, connection: u32, question: u32) -> Instant {
        self.start + self.interval * question + self.interval * connection / self.connections
    }
}

fn ask(mut sockets: Sockets, interval: Duration) -> anyhow::Result<()> {
    let senders = (0..sockets.len()).map(|index| sockets.sender(index));
    let senders: Vec<_> = senders.collect::<Result<_, _>>()?;
    let schedule = Schedule {
        start: Instant::now(),
        interval,
        connections: u32::try_from(senders.len())?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || questions(&senders, schedule, &stop))
    };
    let answers = answers(&mut sockets, schedule);
    stop.store(true, Relaxed);
    let asked = asking.join();
    asked.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    answers
}

/// A thread of its own, because a sleep ends within microseconds while a wait counts milliseconds.
fn questions(senders: &[TcpStream], schedule: Schedule, stop: &AtomicBool) -> anyhow::Result<()> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    for question in 0.. {
        for (connection, stream) in (0..).zip(senders) {
            let due = schedule.due(connection, question);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Relaxed) {
                return Ok(());
            }
            sockets::send(stream, b"count")?;
        }
    }
    Ok(())
}

/// State of each connection, and measurements of all.
struct Answers {
    schedule: Schedule,
    counts: Vec<u32>,
    builds: Vec<String>,
    latencies: Vec<Duration>,
    fault: Option<String>,
}

impl Answers {
    /// `17 one`: the seventeenth message, counted by the build `one`. An answer that does not go on from the one before
    /// is a fault.
    fn take(&mut self, connection: usize, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if self.counts[connection] == 0 && text.starts_with("opened ") {
            return;
        }
        let next = self.counts[connection] + 1;
        match text.split_once(' ') {
            Some((count, build)) if count == next.to_string() => {
                let due = self.schedule.due(connection as u32, next - 1);
                self.latencies.push(due.elapsed());
                self.counts[connection] = next;
                if self.builds[connection] != build {
                    build.clone_into(&mut self.builds[connection]);
                }
            }
            _ => {
                self.fault
                    .get_or_insert(format!("`{text}` instead of {next}"));
            }
        }
    }
}

fn answers(sockets: &mut Sockets, schedule: Schedule) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    sockets.watch(std::io::stdin())?;
    say("ready");
    let mut answers = Answers {
        schedule,
        counts: vec![0; sockets.len()],
        builds: vec![String::new(); sockets.len()],
        latencies: Vec::new(),
        fault: None,
    };
    let mut push: Option<Push> = None;
    loop {
        let woken = sockets.wait(WAIT_MAX, |index, text| answers.take(index, text))?;
        ensure!(woken != Woken::Nothing, "nothing is answered");
        ensure!(sockets.closed() == 0, "a connection was closed");
        if let Some(fault) = &answers.fault {
            bail!("{fault}");
        }
        if woken == Woken::Other {
            if line(&mut input)?.is_none() {
                return Ok(());
            }
            let have_all_answered = answers.builds.iter().all(|build| !build.is_empty());
            ensure!(have_all_answered, "it is too early for a push");
            answers.latencies.clear();
            push = Some(Push::new(&answers.builds));
        }
        if let Some(begun) = &mut push
            && begun.is_over(&answers.builds)?
        {
            say(&percentiles(&mut answers.latencies)?);
            push = None;
        }
    }
}

/// A push that is measured.
struct Push {
    before: Vec<String>,
    began: Instant,
    /// Since when all answers come from the new build.
    all_new: Option<Instant>,
}

impl Push {
    fn new(builds: &[String]) -> Self {
        Self {
            before: builds.to_vec(),
            began: Instant::now(),
            all_new: None,
        }
    }

    fn is_over(&mut self, builds: &[String]) -> anyhow::Result<bool> {
        if let Some(since) = self.all_new {
            return Ok(since.elapsed() >= AFTER);
        }
        let mut pairs = self.before.iter().zip(builds);
        if pairs.all(|(before, now)| before != now) {
            self.all_new = Some(Instant::now());
        }
        ensure!(self.began.elapsed() < SWAP_MAX, "the old build goes on");
        Ok(false)
    }
}

fn percentiles(latencies: &mut [Duration]) -> anyhow::Result<String> {
    latencies.sort_unstable();
    let ms = |latency: Option<&Duration>| {
        let latency = latency.context("there were answers");
        latency.map(|latency| latency.as_secs_f64() * 1e3)
    };
    let p99 = ms(latencies.get(latencies.len() * 99 / 100))?;
    let most = ms(latencies.last())?;
    Ok(format!("{p99} {most} {}", latencies.len()))
}
