//! Breaks one rule for each path, so that tests can see each limit hold. `/` is well-behaved, `/count` tells one
//! instance from another. `?n=` sets the size where there is one.
use protoplex_sdk::edge::*;
use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

protoplex_sdk::edge!(decide);

/// Requests that this instance has seen.
static SEEN: AtomicU64 = AtomicU64::new(0);

fn decide(request: Request) -> Decision {
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    match request.path() {
        "/" | "/ok" => Decision::text("ok\n"),
        "/count" => Decision::text(format!("{seen}\n")),
        "/trap" => panic!("a trap, as asked for"),
        "/loop" => spin(),
        "/memory" => fill_memory(),
        "/stack" => Decision::text(format!("{}\n", recurse(black_box(1)))),
        "/big-response" => {
            Decision::respond(200, "application/octet-stream", fill(&request, 1 << 20))
        }
        "/big-log" => {
            log::log(log::Level::Info, &"x".repeat(size(&request, 4 << 20)));
            Decision::text("logged\n")
        }
        "/many-logs" => {
            (0..size(&request, 1_000)).for_each(|line| log::info!("line {line}"));
            Decision::text("logged\n")
        }
        "/big-random" => Decision::text(format!("{}\n", random::bytes(1 << 20).len())),
        "/setting" => {
            let name = request.query().unwrap_or("secret");
            Decision::text(settings::get(name).unwrap_or_else(|| "(none)".to_owned()))
        }
        path => decision(path),
    }
}

/// Decisions that are not granted, or that are not well-formed.
fn decision(path: &str) -> Decision {
    match path {
        "/ungranted" | "/ungranted-relay" => Decision::relay("not-granted"),
        "/ungranted-asset" => Decision::asset("/not/granted.txt"),
        "/ungranted-app" => Decision::app("not-granted"),
        "/bad-asset" => Decision::asset("/is-not-there.html"),
        "/bad-asset-path" => Decision::asset("/../etc/passwd"),
        "/bad-status" => Decision::text("?").status(99),
        "/status-101" => Decision::text("").status(101),
        "/bad-header-name" => Decision::text("?").header("a b", "c"),
        "/bad-header-value" => Decision::text("?").header("x-split", "a\r\nx-injected: b"),
        "/bad-length" => Decision::text("four").header("content-length", "400"),
        "/bad-framing" => Decision::text("four").header("transfer-encoding", "chunked"),
        "/bad-redirect" => Decision::redirect("/").status(200),
        "/bad-location" => Decision::redirect("/a\r\nx-injected: b"),
        "/bad-relay-path" => Decision::relay("role:app").path("/a b\r\nx: y"),
        "/bad-relay-header" => Decision::relay("role:app").header("content-length", "400"),
        "/big-header" => Decision::text("?").header("x-big", "x".repeat(1 << 20)),
        "/long-head" => Decision::text("?").header("x-big", "x".repeat(130 << 10)),
        "/many-lines" => {
            (0..300).fold(Decision::text("?"), |d, n| d.header(&format!("x-{n}"), "y"))
        }
        "/many-headers" => {
            (0..10_000).fold(Decision::text("?"), |d, n| d.header(&format!("x-{n}"), "y"))
        }
        _ => Decision::not_found(),
    }
}

fn size(request: &Request, default: usize) -> usize {
    let n = request.query().and_then(|query| query.strip_prefix("n="));
    n.and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn fill(request: &Request, default: usize) -> Vec<u8> {
    vec![b'x'; size(request, default)]
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn fill_memory() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion, reason = "it is to run out of stack")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}
