//! Sends every request to the upstream `origin`, or to the one that its header `x-upstream` names.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(request: Request) -> Decision {
    let upstream = request.header("x-upstream");
    Decision::relay(upstream.as_deref().unwrap_or("origin"))
        .header("x-relay", "set")
        .without_header("x-secret")
}
