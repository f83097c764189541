//! `logs`: the recent log of every node, from its meta port.

use crate::{cli, exit::CommandExit, output, target::FoundSeed};
use anyhow::{Context as _, Result, bail, ensure};
use protoplex_seed_client::SeedClient;
use protoplex_wire::status::NodeStatus;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinSet};

/// Most bytes of a line; a longer one is cut: the nodes cut theirs far below.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Most lines that wait for the terminal.
const QUEUE_LINES_MAX: usize = 1_024;
/// Time after which a node that is restarting is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// Runs `logs`: prints lines as they come; with `-f` until Ctrl-C.
///
/// # Errors
/// When the Seed does not answer, or there is no such node.
pub async fn run(args: &cli::LogsArgs) -> Result<CommandExit> {
    let client = FoundSeed::by(&args.target)?.client()?;
    let nodes = chosen(client.nodes().await?, args.node.as_deref())?;
    let (sender, mut lines) = mpsc::channel(QUEUE_LINES_MAX);
    let mut readers = JoinSet::new();
    for node in nodes {
        let (client, sender, follow) = (client.clone(), sender.clone(), args.follow);
        readers.spawn_local(async move {
            while let Err(error) = read(&client, &node, follow, &sender).await {
                output::say(format_args!("{}: {error:#}", node.node));
                if !follow || sender.is_closed() {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }
    drop(sender);
    while let Some((node, line)) = lines.recv().await {
        if args.json {
            output::line(line)?;
        } else {
            output::line(format_args!("{node:<10} {}", readable(&line)))?;
        }
    }
    Ok(CommandExit::Done)
}

fn chosen(nodes: Vec<NodeStatus>, name: Option<&str>) -> Result<Vec<NodeStatus>> {
    ensure!(!nodes.is_empty(), "the Seed knows of no node yet");
    let Some(name) = name else {
        return Ok(nodes.into_iter().filter(|node| node.connected).collect());
    };
    let names: Vec<String> = nodes.iter().map(|node| node.node.clone()).collect();
    let one: Vec<NodeStatus> = nodes.into_iter().filter(|node| node.node == name).collect();
    if one.is_empty() {
        bail!("there is no node `{name}`; there are {}", names.join(", "));
    }
    Ok(one)
}

async fn read(
    client: &SeedClient,
    node: &NodeStatus,
    follow: bool,
    sender: &mpsc::Sender<(String, String)>,
) -> Result<()> {
    let query = if follow { "?follow=true" } else { "" };
    let url = format!("{}/logs{query}", node.addresses.meta);
    let mut response = client.node(&node.node)?.get(&url).await?;
    ensure!(
        response.status().is_success(),
        "{url} says {}",
        response.status()
    );
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await {
        rest.extend_from_slice(&chunk.context("the log broke off")?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if sender.send((node.node.clone(), line)).await.is_err() {
                return Ok(());
            }
        }
        rest.truncate(LINE_BYTES_MAX);
    }
    ensure!(!follow, "the log ended");
    Ok(())
}

/// Formats a JSON line of the log as one line of text: time, level, message, fields.
fn readable(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    let mut text = String::new();
    let timestamp = take(&mut fields, "timestamp");
    // The day is known to whoever reads along.
    text.push_str(timestamp.get(11..23).unwrap_or(&timestamp));
    for key in ["level", "message"] {
        let value = take(&mut fields, key);
        text.push_str(&format!(" {value:<5}"));
    }
    fields.remove("target");
    for (key, value) in fields {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!(" {key}={value}"));
    }
    one_line(&text)
}

/// Replaces line ends and control sequences, since a guest chooses what it logs: they must not become another line, or
/// the terminal's.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    line
}

fn take(fields: &mut Map<String, Value>, key: &str) -> String {
    match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_reads_as_a_sentence() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.678901Z","level":"WARN","message":"a trap","target":"x","handler":"a","ms":3}"#;
        assert_eq!(readable(line), "03:04:05.678 WARN  a trap handler=a ms=3");
        assert_eq!(readable("plain"), "plain");
        let line = r#"{"timestamp":"2026-01-02T03:04:05.678901Z","level":"INFO","message":"two\nlines \u001b[31mgrün"}"#;
        assert_eq!(
            readable(line),
            "03:04:05.678 INFO  two\\nlines \\u{1b}[31mgrün"
        );
    }
}
