//! Like `hello`, but another component: its answer says so, so that a swap between the two can be seen.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::text(settings::get("greeting").unwrap_or_default() + " from b\n")
}
