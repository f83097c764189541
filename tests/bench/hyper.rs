//! The peer `hyper`: hyper's HTTP/1.1 server alone, on the runtime layout of a proxy's children (one single-threaded
//! runtime and one `SO_REUSEPORT` socket each), with the answer that the edge handler gives.

use anyhow::Context;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr};
use tokio::net::TcpSocket;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().context("an address")?.parse()?;
    let threads: usize = args.next().context("a number of threads")?.parse()?;
    let threads = (0..threads).map(|_| std::thread::spawn(move || serve(address)));
    for thread in threads.collect::<Vec<_>>() {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).pipeline_flush(true);
                let service = service_fn(async |_| Ok::<_, Infallible>(answer()));
                // A client that goes away ends it.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
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
