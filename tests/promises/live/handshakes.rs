//! Handshakes of WebSocket as nobody should write them: what two hops could read in two ways is no handshake.

use super::fleet;
use protoplex_tests::Connection;

/// Bytes that would be read as the beginning of a frame.
const FRAME: &str = "\x01\x02";

/// The status line of the answer to a handshake with these lines and this behind it.
async fn answer(address: &str, method: &str, lines: &str, body: &str) -> String {
    let mut connection = Connection::open(address).await.unwrap();
    let head = format!(
        "{method} /count HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n{body}"
    );
    connection.write(head.as_bytes()).await.unwrap();
    let head = connection.take_until(b"\r\n").await.unwrap();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_a_get_without_a_body_from_one_origin() {
    let fleet = fleet();
    for role in ["proxy", "live"] {
        let address = fleet.node(role).http;
        let own = format!("origin: http://{address}\r\n");
        let two = format!("{own}origin: http://evil.test\r\n");
        for (method, lines, body, expected) in [
            ("GET", "", "", "101"),
            ("GET", "content-length: 0\r\n", "", "101"),
            ("GET", &*own, "", "101"),
            ("GET", "content-length: 2\r\n", FRAME, "400"),
            ("GET", "content-length: 2\r\n", "", "400"),
            (
                "GET",
                "content-length: 2\r\nexpect: 100-continue\r\n",
                "",
                "400",
            ),
            ("GET", "transfer-encoding: chunked\r\n", "0\r\n\r\n", "400"),
            (
                "GET",
                "transfer-encoding: chunked\r\n",
                "2\r\n\x01\x02\r\n0\r\n\r\n",
                "400",
            ),
            ("POST", "content-length: 2\r\n", FRAME, "400"),
            ("POST", "content-length: 0\r\n", "", "405"),
            ("HEAD", "", "", "405"),
            ("GET", &*two, "", "403"),
        ] {
            let found = answer(&address, method, lines, body).await;
            assert_eq!(found, expected, "{role}: {method} {lines}");
        }
    }
}
