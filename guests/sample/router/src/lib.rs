//! The sample site's router: which request is answered here, which one gets a file, which one goes to the app.
use protoplex_sdk::{edge::*, json};

protoplex_sdk::edge!(decide);

/// Version shown by `/hello`. Change it, push, and watch the page notice.
const VERSION: &str = "one";

fn decide(request: Request) -> Decision {
    match request.path() {
        "/" => file("/index.html"),
        "/hello" => hello(),
        "/whoami" => whoami(&request),
        "/old" => Decision::redirect("/").status(301),
        "/board" => Decision::live("board", "main"),
        path if path.starts_with("/_live/") => Decision::relay("role:live"),
        path if path.starts_with("/api/") => Decision::relay("role:app"),
        path if path.starts_with("/files/") => by_fileserver(path),
        path if names_a_file(path) => file(path),
        _ => Decision::asset("/404.html").status(404),
    }
}

/// Relays to a node of role fileserver, by the path without `/files`.
fn by_fileserver(path: &str) -> Decision {
    Decision::relay("role:fileserver").path(path.trim_start_matches("/files"))
}

/// Serves a file of `guests/sample/site`. Browsers keep it but ask whether it changed, so a push shows at once.
fn file(path: &str) -> Decision {
    Decision::asset(path).header("cache-control", "no-cache")
}

fn names_a_file(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|name| name.contains('.'))
}

/// Answers what the page asks again and again during a swap.
fn hello() -> Decision {
    let greeting = settings::get("greeting").unwrap_or_else(|| "hello".to_owned());
    Decision::json(format!(
        r#"{{"greeting":{},"version":"{VERSION}"}}"#,
        json::string(&greeting)
    ))
    .header("cache-control", "no-store")
}

/// Shows what a handler can know about a client.
fn whoami(request: &Request) -> Decision {
    let agent = request.header("user-agent").unwrap_or_default();
    log::info!("somebody asked who they are");
    Decision::json(format!(
        r#"{{"address":{},"agent":{},"request":{}}}"#,
        json::string(&request.client_address()),
        json::string(&agent),
        json::string(&request.request_id())
    ))
    .header("cache-control", "no-store")
}
