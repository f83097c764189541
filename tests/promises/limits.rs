//! Each limit, hit.

use protoplex_tests::{Connection, Fleet};

const LIMITS: &str = "tests/builds/limits.toml";

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_breaks_a_limit_costs_its_request_a_5xx_with_an_id_and_nothing_else() {
    let fleet = Fleet::start(LIMITS).unwrap();
    let address = fleet.node("proxy").http;
    for (path, status) in [
        ("/trap", 500),
        ("/loop", 504),
        ("/memory", 500),
        ("/big-response", 500),
        ("/ungranted", 500),
    ] {
        let response = Connection::get_once(&address, path).await.unwrap();
        assert_eq!(
            response.status,
            status,
            "{path}: {}\n{}",
            response.text(),
            fleet.logs()
        );
        assert!(
            response
                .text()
                .contains(response.header("x-request-id").unwrap()),
            "{path}"
        );
        assert_eq!(
            Connection::get_once(&address, "/ok").await.unwrap().status,
            200,
            "after {path}"
        );
    }
}
