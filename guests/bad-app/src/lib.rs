//! Breaks one rule for each path, so that tests can see each limit hold. `/` is well-behaved, `/count` tells one
//! instance from another. `?n=` sets the size (bytes) or the time (milliseconds) where there is one. A path may stand
//! below `/api`, where the sample's router relays it.
mod outgoing;
mod trailed;
mod uploaded;

use protoplex_sdk::app::{
    wasip3::{
        exports::http::handler::Guest,
        http::types::{self, ErrorCode, Fields},
    },
    *,
};
use std::{
    future::poll_fn,
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::{Duration, Instant},
};

/// Requests that this instance has seen.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// Requests of `/together` that are in this instance, and the most there were.
static TOGETHER: AtomicU64 = AtomicU64::new(0);
static TOGETHER_MOST: AtomicU64 = AtomicU64::new(0);
const PIECE_BYTES: usize = 64 << 10;
const SMALL_BYTES: usize = 50;
/// `/steady` computes for so long, and then waits: a fifth of the time.
const STEADY_COMPUTES: Duration = Duration::from_millis(10);
const STEADY_WAITS: Duration = Duration::from_millis(40);
/// The head of a response is out by then.
const AFTER_HEAD: Duration = Duration::from_millis(200);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Handler;
wasip3::http::service::export!(Handler with_types_in wasip3);

impl Guest for Handler {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let request = Request::new(request);
        let path = below_api(request.path()).to_owned();
        if path == "/error" {
            return Err(ErrorCode::InternalError(Some("as asked for".to_owned())));
        }
        if let Some(response) = trailed::response(&path) {
            return Ok(response);
        }
        Ok(serve(request).await.into_raw())
    }
}

fn below_api(path: &str) -> &str {
    let path = path.strip_prefix("/api").unwrap_or(path);
    path.strip_prefix("/few").unwrap_or(path)
}

async fn serve(request: Request) -> Response {
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    let n = number(&request);
    match below_api(request.path()) {
        "/" | "/ok" => Response::text("ok\n"),
        "/lines" => (0..n.unwrap_or(300)).fold(Response::text("ok\n"), |response, line| {
            response.header(&format!("x-{line}"), "y")
        }),
        "/count" => Response::text(format!("{seen}\n")),
        "/trap" => panic!("a trap, as asked for"),
        "/exit" => std::process::exit(3),
        "/loop" => spin(),
        "/memory" => fill_memory(),
        "/stack" => Response::text(format!("{}\n", recurse(black_box(1)))),
        "/sleep" => {
            sleep(n.map_or(FOR_EVER, |n| Duration::from_millis(n as u64))).await;
            Response::text("slept\n")
        }
        "/together" => together(request).await,
        "/read-then-sleep" => {
            together(request).await;
            sleep(FOR_EVER).await;
            Response::text("slept\n")
        }
        // It asks for the body, and gives up waiting for it.
        "/sleep-unread" => {
            let mut body = request.into_body();
            {
                let mut chunk = pin!(body.chunk());
                poll_fn(|cx| Poll::Ready(chunk.as_mut().poll(cx).is_ready())).await;
            }
            sleep(FOR_EVER).await;
            Response::text("slept\n")
        }
        "/resources" => hold_resources(),
        "/big-header" => Response::text("?").header("x-big", "x".repeat(n.unwrap_or(1 << 20))),
        "/print" => {
            println!("{}", "x".repeat(n.unwrap_or(4 << 20)));
            Response::text("printed\n")
        }
        "/burn" => burn(n.unwrap_or(0)),
        "/environment" => environment(),
        "/te" => Response::text(request.header("te").unwrap_or_else(|| "none".to_owned())),
        path if path.starts_with("/upload") => {
            let path = path.to_owned();
            uploaded::response(&path, request).await
        }
        path if path.starts_with("/outgoing") => outgoing::response(path, &to(&request)).await,
        path => body(path, n),
    }
}

/// Stays until its body has ended: whoever sends that says how many are here at once, and for how long.
async fn together(request: Request) -> Response {
    let together = TOGETHER.fetch_add(1, Ordering::Relaxed) + 1;
    TOGETHER_MOST.fetch_max(together, Ordering::Relaxed);
    let mut body = request.into_body();
    while let Ok(Some(_)) = body.chunk().await {}
    TOGETHER.fetch_sub(1, Ordering::Relaxed);
    Response::text(format!("{}\n", TOGETHER_MOST.load(Ordering::Relaxed)))
}

/// Heads that are fine, with bodies that are not.
fn body(path: &str, n: Option<usize>) -> Response {
    match path {
        "/big-response" => {
            let bytes = n.unwrap_or(1 << 30);
            streamed(move |mut sender| async move {
                let mut left = bytes;
                while left > 0 {
                    let piece = left.min(PIECE_BYTES);
                    if sender.send(vec![b'x'; piece]).await.is_err() {
                        return;
                    }
                    left -= piece;
                }
            })
        }
        "/half-body" => streamed(|mut sender| async move {
            let _ = sender.send("half").await;
            panic!("a trap in the middle, as asked for");
        })
        .header("content-length", "8"),
        "/half-stream" => streamed(|mut sender| async move {
            let _ = sender.send("half").await;
            panic!("a trap in the middle, as asked for");
        }),
        // Without a word, and so without a wait for whoever takes it.
        "/unreachable-body" => streamed(|mut sender| async move {
            let _ = sender.send("half").await;
            core::arch::wasm32::unreachable()
        }),
        "/unreachable-at-once" => streamed(|sender| async move {
            let _open = sender;
            core::arch::wasm32::unreachable()
        }),
        "/unreachable-later" => streamed(|sender| async move {
            let _open = sender;
            sleep(AFTER_HEAD).await;
            core::arch::wasm32::unreachable()
        }),
        "/four" => sends("four"),
        "/short-body" => sends("four").header("content-length", "8"),
        "/long-body" => sends("four and more").header("content-length", "4"),
        "/silent-body" => streamed(|mut sender| async move {
            let _ = sender.send("then nothing\n").await;
            sleep(FOR_EVER).await;
        }),
        // Computes now and then, for as long as it is listened to.
        "/steady" => streamed(move |mut sender| async move {
            for _ in 0..n.unwrap_or(100) {
                compute_for(STEADY_COMPUTES);
                if sender.send("computed\n").await.is_err() {
                    return;
                }
                sleep(STEADY_WAITS).await;
            }
        }),
        // Nothing but small pieces, as fast as they are taken.
        "/pieces" => streamed(move |mut sender| async move {
            for _ in 0..n.unwrap_or(1_000) {
                if sender.send([b'x'; SMALL_BYTES]).await.is_err() {
                    return;
                }
            }
        }),
        "/loop-after" => streamed(|mut sender| async move {
            let _ = sender.send("then CPU\n").await;
            spin();
        }),
        _ => Response::not_found(),
    }
}

fn streamed<T: Future<Output = ()> + 'static>(
    send: impl FnOnce(Sender) -> T + 'static,
) -> Response {
    Response::stream("application/octet-stream", send)
}

fn sends(text: &'static str) -> Response {
    streamed(move |mut sender| async move {
        let _ = sender.send(text).await;
    })
}

/// Where `?to=AUTHORITY/PATH` points.
fn to(request: &Request) -> String {
    let to = request.query().and_then(|query| query.strip_prefix("to="));
    to.unwrap_or_default().to_owned()
}

/// Lists the environment variables, a line for each.
fn environment() -> Response {
    let lines = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
    Response::text(lines.collect::<String>())
}

/// Computes for so many turns.
fn burn(turns: usize) -> Response {
    let sum = (0..turns).fold(0_usize, |sum, turn| black_box(sum.wrapping_mul(31) ^ turn));
    Response::text(format!("{sum}\n"))
}

fn number(request: &Request) -> Option<usize> {
    request.query()?.strip_prefix("n=")?.parse().ok()
}

fn compute_for(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        black_box(burn_once(black_box(1)));
    }
}

fn burn_once(turn: usize) -> usize {
    (0..1_000).fold(turn, |sum, turn| black_box(sum.wrapping_mul(31) ^ turn))
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Each is small to the guest, and something that the host has to keep.
fn hold_resources() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(Fields::new()));
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
