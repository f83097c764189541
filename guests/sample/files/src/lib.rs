//! The files of the build, for nodes of role fileserver: each path names a file, and a folder its `index.html`.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(request: Request) -> Decision {
    let path = request.path();
    let file = match path.ends_with('/') {
        true => format!("{path}index.html"),
        false => path.to_owned(),
    };
    // Browsers keep it but ask whether it changed, so a push shows at once.
    Decision::asset(file).header("cache-control", "no-cache")
}
