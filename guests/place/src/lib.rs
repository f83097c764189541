//! On a proxy: sends a request to the child of a live node that has its path as a key. There: says which child that
//! is, by a number that it drew at its start.
use protoplex_sdk::edge::*;
use std::sync::OnceLock;

protoplex_sdk::edge!(decide);

/// Says that the request has been placed.
const PLACED: &str = "x-placed";
/// Asks the child itself, where a test has found it by its address.
const ASKED: &str = "x-asked";
/// One instance serves all requests of a child, so this is the child.
static CHILD: OnceLock<u64> = OnceLock::new();

fn decide(request: Request) -> Decision {
    if request.path() == "/without-a-key" {
        return Decision::relay("live:test");
    }
    if request.header(PLACED).is_none() && request.header(ASKED).is_none() {
        return Decision::live("test", request.path()).header(PLACED, "yes");
    }
    let child = CHILD.get_or_init(random::u64);
    Decision::text(format!("{child:016x}\n"))
}
