//! Sends every request to the child of a live node that has its key: `?key=…`, or `main`.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(request: Request) -> Decision {
    let mut pairs = request.query().unwrap_or_default().split('&');
    let key = pairs.find_map(|pair| pair.strip_prefix("key="));
    Decision::live("test", key.unwrap_or("main"))
}
