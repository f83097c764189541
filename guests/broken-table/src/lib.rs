//! Well-behaved but for its table, which build.rs makes too large from the start.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::text("ok\n")
}
