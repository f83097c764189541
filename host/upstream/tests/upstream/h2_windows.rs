//! Windows towards servers of HTTP/2: what a distant one may send ahead.

use crate::{
    far::far_from,
    support::{Spoken, get, group, read, send, serve, soon, text, upstream},
};
use protoplex_wire::manifest::UpstreamProtocol;
use std::time::Duration;

const ONE_WAY: Duration = Duration::from_millis(100);
const DOWNLOAD_BYTES: usize = 64 << 20;
/// The window that a stream begins with.
const FIRST_WINDOW_BYTES: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_far_away_is_not_held_up_by_its_window() {
    let server = serve(Spoken::H2c(100), |_| async {
        text(vec![b'x'; DOWNLOAD_BYTES])
    })
    .await;
    let far = far_from(server.address.parse().unwrap(), ONE_WAY).await;
    let mut upstream = upstream(UpstreamProtocol::H2c, &[&server]);
    upstream.addresses = vec![far.address.to_string()];
    let group = group(&upstream);
    let reply = send(&group, get("/")).await.unwrap();
    let body = soon(read(reply)).await.unwrap();
    assert_eq!(body.len(), DOWNLOAD_BYTES);
    let most = far.from_server.most();
    assert!(
        most > 2 * FIRST_WINDOW_BYTES,
        "{most} bytes on the way at most"
    );
}
