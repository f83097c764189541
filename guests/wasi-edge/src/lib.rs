//! An edge handler that uses the standard library's clock, and so imports WASI. The host calls it asynchronously.
use protoplex_sdk::edge::*;
use std::time::SystemTime;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs());
    Decision::text(format!("hello from wasi-edge at {seconds}\n"))
}
