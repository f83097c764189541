//! Rows of live nodes: many connections, fan-out, and a switch of builds under them. Clients connect to the live nodes
//! themselves, and the kernel spreads them over the two children of each; a channel is one child's, and the others hear
//! of it.

use super::{ROUNDS, cpu, duel};
use crate::{
    client::Client,
    load::Load,
    median,
    peers::{self, pushpin},
    process::{Server, private_bytes},
    report::{Row, Target, say},
};
use anyhow::{Context, ensure};
use protoplex_tests::{Fleet, repository};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const BUILD: &str = "tests/bench/builds/live.toml";
const CHANNEL: &str = "fan:out";
/// The content of a message: a JSON string of so many bytes.
const MESSAGE_BYTES: usize = 200;
/// Open at once.
const MANY: usize = 20_000;
/// Over so many nodes, and from as many processes, because a child takes a connection for every two descriptors that it
/// may have, and twenty thousand of these are a common limit.
const NODES: usize = 2;
/// Connections that come and go before memory is looked at.
const WARM: usize = 256;
/// Subscribers in the row that looks at one message.
const BROADCAST: usize = 10_000;
/// Subscribers in the row that looks at as many messages as can be.
const SUBSCRIBERS: usize = 1_000;
/// Messages of one request.
const BATCH: usize = 4;
/// Messages under way to each subscriber. With more of them, Pushpin loses some, and is no faster.
const WINDOW: usize = 8;
const FAN_OUT_SECONDS: &str = "5";
/// Connections that ask while builds change.
const ASKING: usize = 200;
const ASK_INTERVAL_MS: u64 = 50;
/// Time of asking, before a push.
const BEFORE_PUSH: Duration = Duration::from_secs(1);
/// Whatever is waited for has happened by then.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Connections of a handler that say nothing, in processes that hold them.
struct Held(Vec<Client>);

impl Held {
    /// Shared out among the nodes.
    fn open(fleet: &Fleet, path: &str, count: usize) -> anyhow::Result<Self> {
        let each = (count / NODES).to_string();
        let nodes = fleet.nodes("live");
        let all = nodes
            .iter()
            .map(|node| Client::start(&["hold", &node.http, path, &each]));
        let mut all = all.collect::<anyhow::Result<Vec<_>>>()?;
        all.iter_mut().try_for_each(Client::ready)?;
        Ok(Self(all))
    }

    /// Number of connections that are closed.
    fn closed(&mut self) -> anyhow::Result<f64> {
        let closed = self.0.iter_mut().map(|client| {
            let said = client.ask("closed?")?;
            said.first().copied().context("a number")
        });
        closed.sum()
    }
}

fn fleet(server: &Server) -> anyhow::Result<&Fleet> {
    server.fleet().context("it was started as ours")
}

/// The sum of a metric of all live nodes.
fn metric(fleet: &Fleet, name: &str) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let nodes = fleet.nodes("live");
    let values = nodes
        .iter()
        .map(|node| runtime.block_on(fleet.metric_of(node, name, "")));
    values.sum()
}

/// Waits until it is right.
fn wait_for(fleet: &Fleet, name: &str, right: impl Fn(f64) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let value = metric(fleet, name)?;
        if right(value) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} stays at {value}");
        std::thread::sleep(POLL);
    }
}

/// Cost of a connection that says nothing.
pub fn idle(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let server = Server::live(BUILD, NODES)?;
    let fleet = fleet(&server)?;
    let nodes = fleet.nodes("live");
    let children = nodes.iter().map(|node| fleet.children(node));
    let children = children.collect::<anyhow::Result<Vec<_>>>()?.concat();
    let private =
        || -> anyhow::Result<f64> { children.iter().map(|&pid| private_bytes(pid)).sum() };
    let connections = |count: usize| {
        let all = move |value: f64| value as usize == count;
        wait_for(fleet, "protoplex_live_connections", all)
    };
    drop(Held::open(fleet, "/echo", WARM)?);
    connections(0)?;
    let before = private()?;
    let mut held = Held::open(fleet, "/echo", MANY)?;
    connections(MANY)?;
    let after = private()?;
    let closed = held.closed()?;
    ensure!(closed == 0.0, "{closed} connections were closed");
    drop(held);
    connections(0)?;
    let each = |bytes: f64| (bytes - before) / MANY as f64 / 1024.0;
    let left = each(private()?);
    say(&format!("{left:.2} KiB for each stay when all have gone"));
    Ok(vec![Row {
        name: "idle WebSocket, private memory, of 20,000".into(),
        unit: "KiB",
        ours: each(after),
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(10.0),
    }])
}

fn message() -> String {
    "x".repeat(MESSAGE_BYTES - 2)
}

/// Writes a POST of JSON.
fn request(file: &Path, path: &str, more: &str, body: &Value) -> anyhow::Result<()> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok(fs::write(file, head + &body)?)
}

/// Subscribers of ours, who speak the channel protocol, and a publisher.
fn subscribers(
    server: &Server,
    folder: &Path,
    (count, batch, window): (usize, usize, usize),
) -> anyhow::Result<Client> {
    let keys = fs::read(fleet(server)?.data().join("keys/live.json"))?;
    let keys: Value = serde_json::from_slice(&keys)?;
    let token = keys["api_token"].as_str().context("`api_token` is text")?;
    let file = folder.join(format!("ours-{batch}.http"));
    let body = vec![json!({"channel": CHANNEL, "data": message()}); batch];
    let bearer = format!("Authorization: Bearer {token}\r\n");
    request(&file, "/_live/publish", &bearer, &json!(body))?;
    let address = server.address();
    let place = (address.as_str(), "/echo", CHANNEL);
    fan_out_client(place, count, &address, &file, (batch, window))
}

/// Subscribers of Pushpin, and a publisher.
fn subscribers_of_pushpin(server: &Server, api: &str, folder: &Path) -> anyhow::Result<Client> {
    let file = folder.join("pushpin.http");
    let item =
        json!({"channel": pushpin::CHANNEL, "formats": {"ws-message": {"content": message()}}});
    let body = json!({"items": vec![item; BATCH]});
    request(&file, "/publish/", "", &body)?;
    let address = server.address();
    let place = (address.as_str(), pushpin::SUBSCRIBERS, "-");
    fan_out_client(place, SUBSCRIBERS, api, &file, (BATCH, WINDOW))
}

fn fan_out_client(
    (address, path, channel): (&str, &str, &str),
    count: usize,
    api: &str,
    request: &Path,
    (batch, window): (usize, usize),
) -> anyhow::Result<Client> {
    let [count, batch, window] = [count, batch, window].map(|number| number.to_string());
    let request = request.to_str().context("the folder's name is text")?;
    let mut client = Client::start(&[
        "fan-out", address, path, &count, channel, api, request, &batch, &window,
    ])?;
    client.ready()?;
    Ok(client)
}

/// From the request to the last of all subscribers.
pub fn broadcast(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let server = Server::live(BUILD, 1)?;
    let mut client = subscribers(&server, folder, (BROADCAST, 1, 1))?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let [received, seconds] = client.ask("0")?[..] else {
            anyhow::bail!("bench-live says two figures");
        };
        ensure!(received as usize == BROADCAST, "{received} messages came");
        times.push(seconds * 1e3);
    }
    Ok(vec![Row {
        name: "one message to 10,000 subscribers, to the last".into(),
        unit: "ms",
        ours: median(times),
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(100.0),
    }])
}

/// Row of as many messages as all subscribers keep up with.
pub fn fan_out(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let ours = Server::live(BUILD, 1)?;
    let (peer, api) = pushpin::start(folder)?;
    let mut sides = [
        (
            &ours,
            subscribers(&ours, folder, (SUBSCRIBERS, BATCH, WINDOW))?,
        ),
        (&peer, subscribers_of_pushpin(&peer, &api, folder)?),
    ];
    let (mut rates, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS {
        for side in [round % 2, 1 - round % 2] {
            let (server, client) = &mut sides[side];
            let before = server.cpu_time()?;
            let [deliveries, seconds] = client.ask(FAN_OUT_SECONDS)?[..] else {
                anyhow::bail!("bench-live says two figures");
            };
            rates[side].push(deliveries / seconds);
            let used = server.cpu_time()? - before;
            costs[side].push(used.seconds() / deliveries * 1e6);
        }
    }
    let ([rate, peer_rate], [cost, peer_cost]) = (rates.map(median), costs.map(median));
    say(&format!("pushpin delivers {peer_rate:.0} a second"));
    let name = "fan-out of 200 bytes to 1,000";
    Ok(vec![
        Row {
            name: format!("{name}, deliveries/s"),
            unit: "deliveries/s",
            ours: rate,
            peer: None,
            peer_name: "-",
            kernel: None,
            target: Target::AtLeast(300_000.0),
        },
        Row {
            name: format!("{name}, CPU"),
            unit: "CPU us/delivery",
            ours: cost,
            peer: Some(peer_cost),
            peer_name: "pushpin",
            kernel: None,
            target: Target::AtMost(1.0),
        },
    ])
}

/// The build with another name and another limit, so that the handler is another one.
fn variant(folder: &Path, round: usize) -> anyhow::Result<PathBuf> {
    let (name, limit) = ("greeting = \"one\"", "memory_bytes_max = 16777216");
    let out = repository().join("builds/out");
    let mut text = fs::read_to_string(repository().join(BUILD))?;
    for (from, to) in [
        ("../../../builds/out", out.display().to_string()),
        (name, format!("greeting = \"build-{round}\"")),
        (
            limit,
            format!("memory_bytes_max = {}", 16_777_216 - 65_536 * (round + 1)),
        ),
    ] {
        ensure!(text.contains(from), "{BUILD} has no `{from}`");
        text = text.replace(from, &to);
    }
    let file = folder.join(format!("live-{round}.toml"));
    fs::write(&file, text)?;
    Ok(file)
}

/// Builds that change the handler of all connections, while some of them ask it how often they have.
pub fn swap(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let server = Server::live(BUILD, NODES)?;
    let fleet = fleet(&server)?;
    let mut held = Held::open(fleet, "/count", MANY - ASKING)?;
    let nodes = fleet.nodes("live");
    let addresses: Vec<&str> = nodes.iter().map(|node| node.http.as_str()).collect();
    let [asking, interval] = [ASKING.to_string(), ASK_INTERVAL_MS.to_string()];
    let mut asking = Client::start(&["ask", &addresses.join(","), "/count", &asking, &interval])?;
    asking.ready()?;
    let (mut p99s, mut moved) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        std::thread::sleep(BEFORE_PUSH);
        let file = variant(folder, round)?;
        asking.tell("a push begins")?;
        let said = fleet.push(file.to_str().context("the folder's name is text")?, &[])?;
        ensure!(said.code == 0, "{said:?}");
        let [p99, most, answers] = asking.answer()?[..] else {
            anyhow::bail!("bench-live says three figures");
        };
        say(&format!("{answers} answers, the slowest {most:.1} ms"));
        p99s.push(p99);
        // All of them, those that say nothing too.
        moved += MANY;
        wait_for(fleet, "protoplex_live_moved_total", |now| {
            now as usize >= moved
        })?;
    }
    for name in [
        "protoplex_live_not_moved_total",
        "protoplex_live_reopened_total",
    ] {
        let lost = metric(fleet, name)?;
        ensure!(lost == 0.0, "{name} is {lost}");
    }
    let row = |name: &str, unit, ours, target| Row {
        name: format!("swap of a handler, 20,000 open, {name}"),
        unit,
        ours,
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(target),
    };
    Ok(vec![
        row("closed", "connections", held.closed()?, 0.0),
        row("p99", "ms", median(p99s), 50.0),
    ])
}

/// A message to a handler and back.
pub fn echo(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &Server::live(BUILD, 1)?,
        &peers::tungstenite()?,
        &Load::echo("/echo"),
    )?;
    let mut row = cpu(
        "WebSocket echo of 64 bytes, shared",
        both,
        "tungstenite",
        1.6,
    );
    row.unit = "CPU us/message";
    Ok(vec![row])
}
