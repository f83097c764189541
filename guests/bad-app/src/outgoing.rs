//! Requests of the guest's own, to where `?to=` points: a status or an error comes back.

use super::streamed;
use protoplex_sdk::app::{
    wasip3::{
        http::{
            client,
            types::{self, Fields, Request, RequestOptions, Scheme},
        },
        spawn_local,
        wit_bindgen::StreamReader,
        wit_future, wit_stream,
    },
    *,
};
use std::{cell::Cell, rc::Rc, time::Duration};

/// Nanoseconds that `/outgoing-hasty` waits for each thing.
const HASTE_NS: u64 = 300_000_000;
/// Requests of `/outgoing-many`.
const MANY: usize = 24;

/// One path for each way to ask.
pub async fn response(path: &str, to: &str) -> Response {
    match path {
        "/outgoing" => said(ask(to, RequestOptions::new(), None).await),
        "/outgoing-hasty" => said(read(to, hasty()).await),
        "/outgoing-paused" => said(ask(to, hasty(), Some(paused())).await),
        "/outgoing-many" => many(to.to_owned()).await,
        "/outgoing-cut" => {
            spawn_local(async {
                // What was written is on its way by then.
                sleep(Duration::from_millis(200)).await;
                core::arch::wasm32::unreachable()
            });
            said(ask(to, RequestOptions::new(), Some(unfinished())).await)
        }
        "/outgoing-after" => {
            let to = to.to_owned();
            streamed(|mut sender| async move {
                let _ = sender.send("later\n").await;
                drop(sender);
                // The response is over by now.
                sleep(Duration::from_millis(100)).await;
                let _ = ask(&to, RequestOptions::new(), None).await;
            })
        }
        _ => Response::not_found(),
    }
}

fn said(result: Result<String, String>) -> Response {
    match result {
        Ok(text) => Response::text(format!("{text}\n")),
        Err(text) => Response::text(format!("{text}\n")).status(502),
    }
}

fn hasty() -> RequestOptions {
    let options = RequestOptions::new();
    for set in [
        options.set_connect_timeout(Some(HASTE_NS)),
        options.set_first_byte_timeout(Some(HASTE_NS)),
        options.set_between_bytes_timeout(Some(HASTE_NS)),
    ] {
        set.expect("the host knows these");
    }
    options
}

/// Many at once; says how many were answered.
async fn many(to: String) -> Response {
    let (answered, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for _ in 0..MANY {
        let (to, answered, over) = (to.clone(), Rc::clone(&answered), Rc::clone(&over));
        spawn_local(async move {
            let got = ask(&to, hasty(), None).await.is_ok();
            answered.set(answered.get() + usize::from(got));
            over.set(over.get() + 1);
        });
    }
    while over.get() < MANY {
        sleep(Duration::from_millis(10)).await;
    }
    Response::text(format!("{} of {MANY}\n", answered.get()))
}

/// A body that begins and does not end.
fn unfinished() -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(b"half".to_vec()).await;
        sleep(super::FOR_EVER).await;
    });
    reader
}

/// A body that pauses for longer than a response may take.
fn paused() -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(b"half".to_vec()).await;
        sleep(Duration::from_nanos(3 * HASTE_NS)).await;
        writer.write_all(b"whole".to_vec()).await;
    });
    reader
}

/// Sends a request, and says the status that came. No path is sent where none stands.
async fn ask(
    to: &str,
    options: RequestOptions,
    body: Option<StreamReader<u8>>,
) -> Result<String, String> {
    let response = send(to, options, body).await?;
    Ok(format!("status {}", response.get_status_code()))
}

/// The same, and reads the body.
async fn read(to: &str, options: RequestOptions) -> Result<String, String> {
    let response = send(to, options, None).await?;
    let (_, result) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = types::Response::consume_body(response, result);
    let mut bytes = 0;
    loop {
        let (_, piece) = body.read(Vec::with_capacity(64 << 10)).await;
        if piece.is_empty() {
            break;
        }
        bytes += piece.len();
    }
    match trailers.await {
        Ok(_) => Ok(format!("{bytes} bytes")),
        Err(error) => Err(format!("{bytes} bytes, then error {error:?}")),
    }
}

async fn send(
    to: &str,
    options: RequestOptions,
    body: Option<StreamReader<u8>>,
) -> Result<types::Response, String> {
    let (authority, path) = match to.split_once('/') {
        Some((authority, path)) => (authority, Some(format!("/{path}"))),
        None => (to, None),
    };
    let method = match body {
        Some(_) => types::Method::Post,
        None => types::Method::Get,
    };
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (raw, _) = Request::new(Fields::new(), body, trailers, Some(options));
    let set = raw.set_method(&method).is_ok()
        && raw.set_scheme(Some(&Scheme::Http)).is_ok()
        && raw.set_authority(Some(authority)).is_ok()
        && raw.set_path_with_query(path.as_deref()).is_ok();
    if !set {
        return Err("not well-formed".to_owned());
    }
    let sent = client::send(raw).await;
    sent.map_err(|error| format!("error {error:?}"))
}
