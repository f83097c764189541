//! Properties that must hold for any bytes at all. A fuzz target (`just fuzz`) and a short random test call the same
//! function.

use crate::chunked::{ChunkDecoder, ChunkWriter, DecodedChunk};
use bytes::BytesMut;

/// Checks the decoder of chunks: the same content and the same verdict, however the bytes are cut.
pub fn chunks(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = decoded(&[data]);
    let at = usize::from(cut) % (data.len() + 1);
    let (first, second) = data.split_at(at);
    assert_eq!(
        decoded(&[first, second]),
        whole,
        "it depends on how the bytes came"
    );
}

/// Decodes pieces: the content, and `Some(true)` where the body is whole, `Some(false)` unfinished, `None` refused.
fn decoded(pieces: &[&[u8]]) -> (Vec<u8>, Option<bool>) {
    let (mut decoder, mut buffer, mut content) = (
        ChunkDecoder::new(ChunkWriter::Client),
        BytesMut::new(),
        Vec::new(),
    );
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(DecodedChunk::Data(data)) => content.extend_from_slice(&data),
                Ok(DecodedChunk::NeedsMore) => break,
                Ok(DecodedChunk::End) => return (content, Some(true)),
                Err(_) => return (content, None),
            }
        }
    }
    (content, Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const ROUNDS: usize = 30_000;
    const SEEDS: [&[u8]; 2] = [
        b"5;a=b\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        b"a\r\n0123456789\r\n00\r\n\r\nGET",
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
            chunks(&data);
        }
    }
}
