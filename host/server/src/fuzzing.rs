//! Properties that must hold for any bytes at all. A fuzz target (`just fuzz`) and a short random test call the same
//! function.

pub use crate::http2::fuzzing::http2_frames;

use crate::{
    HttpLimits,
    http1::head::{self, Fields, HeadScan},
};
use protoplex_http::HeaderField;

/// Checks the reader of request heads: the end is found however the bytes are cut, and what is read of a head reads in
/// one way.
pub fn request_head(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let limits = HttpLimits::default().head();
    let whole = head::find_end(data, &mut HeadScan::default(), &limits);
    if let Ok(Some(end)) = whole {
        let (mut scan, at) = (HeadScan::default(), usize::from(cut) % end);
        // An error that shows early is as good: the connection closes.
        if let Ok(early) = head::find_end(&data[..at], &mut scan, &limits) {
            assert_eq!(early, None, "a head ends before its end");
            let found = head::find_end(data, &mut scan, &limits);
            assert_eq!(
                found,
                Ok(Some(end)),
                "a head ends elsewhere when it comes in two pieces"
            );
        }
        let mut fields = Fields::new();
        if let Ok(parsed) = head::parse(&data[..end], &mut fields, &limits) {
            let named = |name: &str| {
                let same = |field: &&HeaderField<'_>| field.name.eq_ignore_ascii_case(name);
                parsed.headers.iter().filter(same).count()
            };
            assert!(named("host") <= 1, "there is one authority");
            let framing = named("content-length") + named("transfer-encoding");
            assert!(framing <= 1, "there is one framing");
            for field in parsed.headers {
                assert!(!field.name.is_empty() && is_line(field.name.as_bytes()));
                assert!(is_line(field.value), "a value is part of one line");
            }
            assert!(is_line(parsed.path.as_bytes()) && !parsed.path.contains(' '));
        }
    }
}

fn is_line(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const ROUNDS: usize = 30_000;
    const SEEDS: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n",
        b"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nConnection: close, x\r\n\r\nabc",
        b"PUT http://a/ HTTP/1.1\r\nhost: b\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        // DATA, WINDOW_UPDATE, RST_STREAM, PING, behind no preface where the cut is 0.
        b"\0\0\x01\0\x01\0\0\0\x01x\0\0\x04\x08\0\0\0\0\0\0\0\x01\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0",
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
            request_head(&data);
            data[0] %= 2;
            http2_frames(&data);
        }
    }
}
