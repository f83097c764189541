//! `adopt`: a Seed that holds, because its nodes know more than its disk, takes what they run as its own.

use super::push::finish;
use crate::{
    cli,
    exit::CommandExit,
    output,
    progress::{EventFormat, ShownRelease},
    target::FoundSeed,
};
use anyhow::Result;
use protoplex_push::{PushError, follow, upload_missing};
use protoplex_wire::{
    BuildId,
    status::{ApiCode, NodeStatus},
};
use std::collections::BTreeMap;

/// Runs `adopt`: gives the Seed what it lacks of the build, and orders that it becomes the fleet's.
///
/// # Errors
/// Whatever kept the Seed from adopting it.
pub async fn run(args: &cli::AdoptArgs) -> Result<CommandExit> {
    let client = FoundSeed::by(&args.following.target)?.client()?;
    let Some(hold) = client.status().await?.hold else {
        output::say(
            "the Seed holds nothing back, and runs what it ordered; there is nothing to adopt",
        );
        return Ok(CommandExit::Refused);
    };
    let mut nodes = client.nodes().await?;
    nodes.retain(|node| node.connected && node.active.is_some());
    let build = chosen(&nodes, args.build.as_deref())?;
    nodes.retain(|node| node.active == Some(build));
    // The one that knows most first.
    nodes.sort_by_key(|node| node.node != hold.node);
    upload_missing(&client, &nodes, build).await?;
    let format = EventFormat::of(&args.following);
    let events = client.adopt(build).await.map_err(PushError::from)?;
    let timeout = args.following.timeout();
    let end = follow(events, timeout, &ShownRelease::new(format)).await?;
    Ok(finish(&end, format, timeout))
}

/// Chooses the build that starts with `named`, or the only one, of those that nodes run.
fn chosen(nodes: &[NodeStatus], named: Option<&str>) -> Result<BuildId, PushError> {
    let mut running = BTreeMap::<BuildId, Vec<&str>>::new();
    for node in nodes {
        if let Some(build) = node.active {
            running.entry(build).or_default().push(&node.node);
        }
    }
    let fits = |build: &&BuildId| named.is_none_or(|named| build.to_string().starts_with(named));
    let fitting: Vec<_> = running.keys().filter(fits).collect();
    if let [build] = fitting[..] {
        return Ok(*build);
    }
    let list = |(build, nodes): (&BuildId, &Vec<&str>)| {
        format!("\n  {} on {}", build.short(), nodes.join(", "))
    };
    let list: String = running.iter().map(list).collect();
    let message = match (running.is_empty(), named) {
        (true, _) => "no node is here that runs a build; push one instead".to_owned(),
        (false, None) => format!("the nodes run several builds; say which one to adopt:{list}"),
        (false, Some(named)) => {
            format!("`{named}` is not the start of just one of the builds that nodes run:{list}")
        }
    };
    let code = ApiCode::Build.into();
    Err(PushError::Refused { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::node_running;
    use protoplex_wire::Digest;

    fn node(name: &str, build: &str) -> NodeStatus {
        node_running(name, Some(Digest::of(build.as_bytes())))
    }

    #[test]
    fn of_several_builds_the_operator_says_which() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let nodes = [node("a", "new"), node("b", "old"), node("c", "new")];
        assert_eq!(chosen(&nodes[..1], None).expect("one"), new);
        let error = chosen(&nodes, None).expect_err("two").to_string();
        for text in [&new.short(), &old.short(), "a, c"] {
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(chosen(&nodes, Some(&old.short())).expect("named"), old);
        assert!(chosen(&nodes, Some("nothing")).is_err());
        assert!(chosen(&[], None).is_err());
    }
}
