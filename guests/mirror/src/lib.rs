//! Shows the request that it sees: a line of `name value` for each part, then the header lines. A query makes it decide
//! otherwise: `to=UPSTREAM` relays, `redirect=LOCATION` redirects, `asset=PATH` answers with a file, each with
//! `set=NAME:VALUE` and `rm=NAME` as often as they stand there.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

/// Set on what was relayed once, which is shown then.
const RELAYED: &str = "x-mirrored";

fn decide(request: Request) -> Decision {
    let query = request.query().unwrap_or_default().to_owned();
    let edits: Vec<_> = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .collect();
    let decided = match edits.first() {
        _ if request.header(RELAYED).is_some() => None,
        Some(("to", upstream)) => Some(Decision::relay(*upstream).header(RELAYED, "1")),
        Some(("redirect", location)) => Some(Decision::redirect(*location)),
        Some(("asset", path)) => Some(Decision::asset(*path)),
        _ => None,
    };
    let Some(decided) = decided else {
        return Decision::text(seen(&request));
    };
    edits.iter().fold(decided, |decided, edit| match edit {
        ("set", header) => {
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            decided.header(name, value)
        }
        ("rm", name) => decided.without_header(name),
        _ => decided,
    })
}

fn seen(request: &Request) -> String {
    let mut text = format!(
        "path {}\nscheme {}\nauthority {}\nclient {}\nid {}\n",
        request.path_and_query(),
        request.scheme(),
        request.authority(),
        request.client_address(),
        request.request_id(),
    );
    for (name, value) in request.headers() {
        text += &format!("{}: {value}\n", name.to_lowercase());
    }
    text
}
