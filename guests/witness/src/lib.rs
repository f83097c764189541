//! Tells which build each hop of a request saw: a proxy sends its greeting along, an app node answers with both.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

const FIRST: &str = "x-first-hop";

fn decide(request: Request) -> Decision {
    let here = settings::get("greeting").unwrap_or_default();
    match request.header(FIRST) {
        Some(first) => Decision::text(format!("{first} {here}\n")),
        None => Decision::relay("role:app").header(FIRST, here),
    }
}
