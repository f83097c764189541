//! Traps on every request, and so on its probe: a build with it never takes traffic.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    panic!("broken, as the probe should find");
}
