//! The sample app: small responses, a body handed back unread, and a body that comes in pieces.
use protoplex_sdk::app::*;
use std::time::Duration;

protoplex_sdk::app!(serve);

/// Lines of `/api/stream`, and the time between two of them.
const LINES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// The most that `/api/count` takes in.
const COUNT_BYTES_MAX: u64 = 1 << 30;

async fn serve(request: Request) -> Response {
    match request.path() {
        "/" | "/api/hello" => Response::text("hello from app\n"),
        "/api/url" => Response::text(url(&request)),
        "/api/greeting" => Response::text(settings::get("greeting").unwrap_or_default()),
        "/api/echo" => echo(request),
        "/api/stream" => {
            Response::stream("text/plain; charset=utf-8", lines).header("cache-control", "no-store")
        }
        "/api/count" => count(request).await,
        _ => Response::not_found(),
    }
}

/// URL of the client's path, as links and redirects have to say it.
fn url(request: &Request) -> String {
    let (scheme, authority) = (request.scheme(), request.authority());
    format!("{scheme}://{authority}{}\n", request.path_and_query())
}

/// Sends the body back as it comes, without letting it enter this component.
fn echo(request: Request) -> Response {
    let content_type = request
        .header("content-type")
        .unwrap_or_else(|| "application/octet-stream".to_owned());
    Response::through(&content_type, request.into_body())
}

async fn lines(mut sender: Sender) {
    for line in 1..=LINES {
        if sender.send(format!("line {line} of {LINES}\n")).await == Err(Gone) {
            return;
        }
        if line < LINES {
            sleep(PAUSE).await;
        }
    }
}

/// Reads the body here, and says how much came, if all of it did.
async fn count(request: Request) -> Response {
    let mut body = request.into_body();
    let (mut bytes, mut pieces) = (0_u64, 0_u64);
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        let chunk = match body.chunk_into(buffer).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // What is not whole is not counted. Mostly nobody is left to hear it.
            Err(error) => return Response::text(format!("{error}\n")).status(400),
        };
        bytes += chunk.len() as u64;
        pieces += 1;
        if bytes > COUNT_BYTES_MAX {
            return Response::text("too much\n").status(413);
        }
        buffer = chunk;
    }
    Response::json(format!(r#"{{"bytes":{bytes},"pieces":{pieces}}}"#))
}
