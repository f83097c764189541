//! Sends every request to the upstream `origin`.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::relay("origin")
        .header("x-relay", "set")
        .without_header("x-secret")
}
