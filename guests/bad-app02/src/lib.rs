//! Bodies of `wasi:http` 0.2 that are not finished, or end with trailers: one for each path, which may stand below
//! `/api`, where the sample's router relays it.
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{
        Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
    },
    io::streams::StreamError,
};

wasip2::http::proxy::export!(Handler);

/// The head of a response is out by then.
const AFTER_HEAD_NS: u64 = 200_000_000;
/// Bytes read at once.
const CHUNK_BYTES: u64 = 64 << 10;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = target.strip_prefix("/api").unwrap_or(&target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/upload" {
            read(&request, query);
        }
        let body = start(out);
        match path {
            // The head is out before the body is read, so that no end of the client ends the call.
            "/upload-told" => {
                write(&body, b"reading\n");
                read(&request, query);
                finish(body, b"", None);
            }
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

/// Says in the log what a guest is told of the body: whole, or cut.
fn read(request: &IncomingRequest, name: &str) {
    let incoming = request.consume().expect("it is taken once");
    let stream = incoming.stream().expect("it is taken once");
    let mut bytes = 0;
    let end = loop {
        match stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => bytes += chunk.len(),
            Err(StreamError::Closed) => break "whole",
            Err(StreamError::LastOperationFailed(_)) => break "cut",
        }
    };
    drop(stream);
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let (ended, trailer) = match trailers.get() {
        Some(Ok(Ok(trailers))) => ("whole", trailers.map(|fields| fields.get("x-trailer"))),
        _ => ("cut", None),
    };
    let first = trailer.and_then(|values| values.into_iter().next());
    let trailer = first.map_or_else(String::new, |value| {
        format!(", {}", String::from_utf8_lossy(&value))
    });
    // Behind a stream that failed, wasmtime says that there are no trailers.
    let end = if end == "cut" { end } else { ended };
    println!("upload {name}: {end} after {bytes}{trailer}.");
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
