//! An app handler against `wasi:http` 0.2, with nothing of ours in it: such a component runs here unchanged.
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{
        Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme,
    },
    io::streams::StreamError,
};

wasip2::http::proxy::export!(Handler);

/// Bytes moved at once.
const CHUNK_BYTES: u64 = 64 << 10;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        match target.split('?').next().unwrap_or_default() {
            "/" | "/api/hello" => text(out, 200, b"hello from app02\n"),
            "/api/echo" => echo(&request, out),
            "/02/url" => text(out, 200, url(&request, &target).as_bytes()),
            _ => text(out, 404, b"not found\n"),
        }
    }
}

/// Where the visitor is, as links and redirects have to say it.
fn url(request: &IncomingRequest, target: &str) -> String {
    let scheme = match request.scheme() {
        Some(Scheme::Https) => "https",
        _ => "http",
    };
    let authority = request.authority().unwrap_or_default();
    format!("{scheme}://{authority}{target}\n")
}

fn text(out: ResponseOutparam, status: u16, text: &[u8]) {
    let length = text.len().to_string();
    let body = start(out, status, &[("content-length", length.as_bytes())]);
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(text);
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Sends the body back while it arrives.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("it is taken once");
    let outgoing = start(out, 200, &[]);
    {
        let from = incoming.stream().expect("it is taken once");
        let to = outgoing.write().expect("it is taken once");
        loop {
            match to.blocking_splice(&from, CHUNK_BYTES) {
                Ok(_) => {}
                Err(StreamError::Closed) => break,
                // Cut short, so that nobody takes half a body for a whole one.
                Err(error) => panic!("the body cannot be sent on: {error}"),
            }
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

fn start(out: ResponseOutparam, status: u16, headers: &[(&str, &[u8])]) -> OutgoingBody {
    let fields = Fields::new();
    let content_type = ("content-type", b"text/plain; charset=utf-8".as_slice());
    for (name, value) in headers.iter().chain([&content_type]) {
        fields.append(name, value).expect("it is well-formed");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("it is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}
