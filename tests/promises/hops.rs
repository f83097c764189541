//! A request is the same on every hop within the fleet and in both protocols: its client, path, id and limits are
//! settled where it comes in.

mod client_address;
mod client_ends;
mod head_limits;
mod header_edits;
mod paths;
mod request_ids;

use protoplex_tests::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A build whose handlers answer with what they see of a request, or relay it where its query says.
const MIRROR: &str = "tests/builds/mirror.toml";
const SAMPLE: &str = "builds/sample.toml";

/// Values of all lines of that name in the text of a mirror.
fn shown(answer: &Response, name: &str) -> Vec<String> {
    let text = answer.text();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let own = lines.filter(|(other, _)| other.trim_end_matches(':') == name);
    own.map(|(_, value)| value.to_owned()).collect()
}

/// Writes exactly these bytes, and reads up to the end of the connection.
async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}
