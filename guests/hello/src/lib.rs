//! The smallest edge handler: it answers with a setting of the build.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::text(settings::get("greeting").unwrap_or_default() + "\n")
}
