//! Says in the log what a guest is told of a body: whole, or cut. `?NAME` tells one request from another. A path that
//! ends in `-told` has the head of its response out before the body is read, so that no end of its client ends the call.

use protoplex_sdk::app::{
    wasip3::{http::types, wit_future},
    *,
};

/// The response that a path asks for, if it is one of these.
pub async fn response(path: &str, request: Request) -> Response {
    let name = request.query().unwrap_or_default().to_owned();
    let Some(path) = path.strip_suffix("-told") else {
        read(path == "/upload", request, &name).await;
        return Response::text("read\n");
    };
    let by_sdk = path == "/upload";
    Response::stream("text/plain", move |mut sender| async move {
        // Mostly the client is gone by the end.
        let _ = sender.send("reading\n").await;
        read(by_sdk, request, &name).await;
    })
}

async fn read(by_sdk: bool, request: Request, name: &str) {
    if by_sdk {
        read_by_sdk(request, name).await;
    } else {
        read_raw(request, name).await;
    }
}

/// As a handler reads it that is written with the SDK.
async fn read_by_sdk(request: Request, name: &str) {
    let mut body = request.into_body();
    let mut bytes = 0;
    let end = loop {
        match body.chunk().await {
            Ok(Some(chunk)) => bytes += chunk.len(),
            Ok(None) => break "whole",
            Err(_) => break "cut",
        }
    };
    // The end stays what it was, however often it is asked for.
    let again = body.chunk().await.is_ok_and(|chunk| chunk.is_none());
    assert_eq!(again, end == "whole", "asked once more");
    say(name, bytes, end, body.trailer("x-trailer"));
}

/// As a handler reads it that uses the standard's bindings alone.
async fn read_raw(request: Request, name: &str) {
    let (_, result) = wit_future::new(|| Ok(()));
    let (stream, trailers) = types::Request::consume_body(request.into_raw(), result);
    let bytes = stream.collect().await.len();
    match trailers.await {
        Ok(trailers) => {
            let values = trailers.map(|trailers| trailers.get("x-trailer"));
            let first = values.and_then(|values| values.into_iter().next());
            let trailer = first.map(|value| String::from_utf8_lossy(&value).into_owned());
            say(name, bytes, "whole", trailer);
        }
        Err(_) => say(name, bytes, "cut", None),
    }
}

fn say(name: &str, bytes: usize, end: &str, trailer: Option<String>) {
    let trailer = trailer.map_or_else(String::new, |trailer| format!(", {trailer}"));
    println!("upload {name}: {end} after {bytes}{trailer}.");
}
