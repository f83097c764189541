//! Properties that must hold for any bytes at all. A fuzz target (`just fuzz`) and a short random test call the same
//! function.

use crate::response::{self, ResponseContext};
use protoplex_http::HeaderLines;

/// Checks the reader of response heads: each line that is passed on is one line, and a head ends in one place.
pub fn response_head(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let Ok(Some((lines, end))) = parse_response(data) else {
        return;
    };
    assert!(end <= data.len());
    let at = usize::from(cut) % end;
    assert!(
        !matches!(parse_response(&data[..at]), Ok(Some(_))),
        "a head ends before its end"
    );
    for (name, value) in lines.iter() {
        assert!(!name.is_empty() && is_line(name) && is_line(value));
        let framing: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];
        assert!(!framing.iter().any(|known| known.eq_ignore_ascii_case(name)));
    }
}

/// Reads a head; returns the end-to-end lines and the length of the head in bytes.
fn parse_response(bytes: &[u8]) -> Result<Option<(HeaderLines, usize)>, &'static str> {
    let parsed = response::parse(bytes, ResponseContext::default())?;
    Ok(parsed.map(|(response, end)| (response.lines, end)))
}

fn is_line(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const ROUNDS: usize = 30_000;
    const SEEDS: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\nconnection: keep-alive, z\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.0 304 Not Modified\r\ntransfer-encoding: chunked\r\ndate: x\r\n\r\n",
    ];

    #[test]
    fn no_bytes_are_read_in_two_ways() {
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..ROUNDS {
            let mut data = vec![random.random()];
            data.extend_from_slice(SEEDS[round % SEEDS.len()]);
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..data.len());
                match random.random_range(0..4) {
                    0 => data[at] = random.random(),
                    1 => drop(data.remove(at)),
                    2 => data.insert(at, *b"\r\n :\t0,;".get(at % 8).unwrap_or(&0)),
                    _ => data.truncate(at + 1),
                }
                if data.is_empty() {
                    data.push(0);
                }
            }
            response_head(&data);
        }
    }
}
