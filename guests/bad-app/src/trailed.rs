//! Responses that end with trailers, or with an error in their place.

use protoplex_sdk::app::wasip3::{
    http::types::{ErrorCode, Fields, Response, Trailers},
    spawn_local,
    wit_bindgen::StreamReader,
    wit_future, wit_stream,
};

/// The response that a path asks for, if it is one of these.
pub fn response(path: &str) -> Option<Response> {
    let (body, ends) = match path {
        "/trailers" => (Some("body"), Ok(Some(trailers()))),
        "/trailers-only" => (None, Ok(Some(trailers()))),
        "/trailers-fail" => (Some("body"), Err(failure())),
        "/trailers-fail-at-once" => (None, Err(failure())),
        _ => return None,
    };
    let (writer, reader) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        // Nobody may be left to hear it.
        let _ = writer.write(ends).await;
    });
    Some(Response::new(Fields::new(), body.map(sent), reader).0)
}

fn sent(text: &'static str) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(text.as_bytes().to_vec()).await;
    });
    reader
}

fn trailers() -> Trailers {
    let fields = Fields::new();
    fields
        .append("x-trailer", b"passed")
        .expect("it is well-formed");
    fields
}

fn failure() -> ErrorCode {
    ErrorCode::InternalError(Some("as asked for".to_owned()))
}
