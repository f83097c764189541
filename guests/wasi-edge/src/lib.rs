//! An edge handler that uses the standard library's clock, and so imports WASI. The host calls it asynchronously.
//! A path that ends in `/sleep` waits for longer than anybody else would, and one that ends in `/environment` says what
//! the handler's environment variables are.
use protoplex_sdk::edge::*;
use std::time::{Duration, SystemTime};

protoplex_sdk::edge!(decide);

fn decide(request: Request) -> Decision {
    if request.path().ends_with("/sleep") {
        std::thread::sleep(Duration::from_secs(3600));
    }
    if request.path().ends_with("/environment") {
        let lines = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
        return Decision::text(lines.collect::<String>());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs());
    Decision::text(format!("hello from wasi-edge at {seconds}\n"))
}
