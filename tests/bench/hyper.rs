//! The peer `hyper`: hyper's HTTP/1.1 server alone, on the runtime layout of a proxy's children (one single-threaded
//! runtime and one `SO_REUSEPORT` socket each), with the answer that the edge handler gives.

mod per_core;

use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;

fn main() -> anyhow::Result<()> {
    per_core::run(|stream| async move {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).pipeline_flush(true);
        let service = service_fn(async |_| Ok::<_, Infallible>(answer()));
        // A client that goes away ends it.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    })
}

fn answer() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"\n")));
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    let id = HeaderValue::from_static("0123456789abcdef");
    headers.insert("x-request-id", id);
    response
}
