//! One id names a request in the access logs of all nodes, and in the response of one that is refused.

use super::MIRROR;
use protoplex_tests::{Connection, Fleet};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_id_in_the_logs_of_all_nodes() {
    let fleet = Fleet::start_with(MIRROR, &["--access-log"]).unwrap();
    let proxy = fleet.node("proxy").http;
    let seen = Connection::get_once(&proxy, "/x?to=role:app")
        .await
        .unwrap();
    let id = seen.header("x-request-id").unwrap();
    for role in ["proxy", "app"] {
        let line = fleet.access_line(role, id).await;
        assert_eq!(
            (&line["status"], &line["client"]),
            (&200.into(), &"127.0.0.1".into())
        );
    }
    let mut connection = Connection::open(&proxy).await.unwrap();
    connection
        .write(b"GET /no-host HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let refused = connection.response(false).await.unwrap();
    assert_eq!(refused.status, 400);
    let line = fleet
        .access_line("proxy", refused.header("x-request-id").unwrap())
        .await;
    assert_eq!(line["path"], "/no-host");
    assert_eq!(
        (&line["status"], &line["refused"]),
        (&400.into(), &"Host is missing".into())
    );
    fleet.wait_for_refusal("proxy", "malformed").await;
}
