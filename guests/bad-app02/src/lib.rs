//! Bodies of `wasi:http` 0.2 that are not finished, or end with trailers: one for each path, which may stand below
//! `/api`, where the sample's router relays it.
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

wasip2::http::proxy::export!(Handler);

/// The head of a response is out by then.
const AFTER_HEAD_NS: u64 = 200_000_000;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let body = start(out);
        match path.strip_prefix("/api").unwrap_or(&path) {
            "/unreachable-body" => {
                write(&body, b"half");
                die()
            }
            "/unreachable-at-once" => die(),
            "/unreachable-later" => {
                monotonic_clock::subscribe_duration(AFTER_HEAD_NS).block();
                die()
            }
            // Dropped without an end, which says that it is not whole.
            "/unfinished" => write(&body, b"half"),
            "/unfinished-at-once" => {}
            "/four" => finish(body, b"four", None),
            "/trailers" => finish(body, b"body", Some(trailers())),
            "/trailers-only" => finish(body, b"", Some(trailers())),
            "/environment" => finish(body, environment().as_bytes(), None),
            _ => finish(body, b"ok\n", None),
        }
    }
}

fn environment() -> String {
    let lines = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

fn die() -> ! {
    core::arch::wasm32::unreachable()
}

fn start(out: ResponseOutparam) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("it is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().expect("it is taken once");
    // Whoever is gone needs nothing more.
    let _ = stream.blocking_write_and_flush(bytes);
}

fn finish(body: OutgoingBody, bytes: &[u8], trailers: Option<Fields>) {
    if !bytes.is_empty() {
        write(&body, bytes);
    }
    let _ = OutgoingBody::finish(body, trailers);
}

fn trailers() -> Fields {
    let fields = Fields::new();
    fields
        .append("x-trailer", b"passed")
        .expect("it is well-formed");
    fields
}
