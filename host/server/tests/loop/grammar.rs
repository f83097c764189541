//! Requests from a grammar that knows where servers disagree, with random damage.

use rand::{Rng, rngs::StdRng};

const METHODS: [&str; 9] = [
    "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "get", "M!", "G@T",
];
const TARGETS: [&str; 22] = [
    "/",
    "/a?b=c",
    "/a/../b",
    "//x",
    "/a%00",
    "/a|b",
    "/a\"b",
    "/a\\b",
    "/a`b",
    "/a<b",
    "/a?<",
    "/a#b",
    "/\u{e9}",
    "*",
    "http://b/c",
    "http://b",
    "HTTPS://b:1/?q",
    "http://u@b/",
    "http://b?q",
    "b:80",
    "",
    "/a b",
];
const VERSIONS: [&str; 10] = [
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/1.1 ",
    "http/1.1",
];
const HOSTS: [&str; 12] = [
    "Host: a\r\n",
    "Host: a\r\n",
    "Host: a\r\n",
    "hOST:a:80 \r\n",
    "Host: [::1]:8\r\n",
    "",
    "Host:\r\n",
    "Host: a\r\nHost: a\r\n",
    "Host: a b\r\n",
    "Host: a@b\r\n",
    "Host : a\r\n",
    "Host: a,b\r\n",
];
const LINES: [&str; 18] = [
    "X: y\r\n",
    "x:\r\n",
    "X: \u{e9}\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Cookie: a=b; c=d\r\n",
    "X: y\n",
    "X: y\r\n z\r\n",
    "X : y\r\n",
    ": y\r\n",
    "X\r\n",
    "X: \0\r\n",
    "X: a\rb\r\n",
    "X: a\tb \t\r\n",
    "X_y: 1\r\n",
    "X: \x7f\r\n",
];
const FRAMINGS: [(&str, &str); 33] = [
    ("", ""),
    ("Content-Length: 0\r\n", ""),
    ("Content-Length: 5\r\n", "hello"),
    ("content-length:  5 \r\n", "GET /"),
    ("Content-Length: 05\r\n", "hello"),
    ("Content-Length: +5\r\n", "hello"),
    ("Content-Length: 5,5\r\n", "hello"),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
    ("Content-Length: 0x5\r\n", "hello"),
    ("Content-Length: 99999999999999999999\r\n", "hello"),
    ("Content-Length:\r\n", ""),
    (
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "3;x=y\r\nabc\r\n0;z\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "00a ;x\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
    ),
    ("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n"),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "2;a\rb\r\nhi\r\n0\r\n\r\n",
    ),
    ("Transfer-Encoding: chunked\r\n", "2;\0\r\nhi\r\n0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "2\r\nhi\r\n0\r\n T: u\r\n\r\n",
    ),
    ("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: identity\r\n", "hello"),
    ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
];
const DAMAGE: &[u8] = b"\r\n\t :;,0a/\0\x7f\xff@#";

fn one<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

/// Mostly the sound first choice, so that one oddity is not hidden behind another.
fn rarely<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    if random.random_bool(0.85) {
        of[0]
    } else {
        one(random, of)
    }
}

/// One request, sound or not.
pub fn request(random: &mut StdRng) -> Vec<u8> {
    let framings = [
        FRAMINGS[0],
        FRAMINGS[3],
        FRAMINGS[14],
        one(random, &FRAMINGS),
    ];
    let (framing, body) = one(random, &framings);
    let lines: String = (0..random.random_range(0..3))
        .map(|_| rarely(random, &LINES))
        .collect();
    let mut parts = [rarely(random, &HOSTS), &lines, framing];
    let turn = random.random_range(0..3);
    parts.rotate_left(turn);
    let mut bytes = Vec::new();
    for part in [
        rarely(random, &["", "", "\r\n", "\r\n\r\n"]),
        rarely(random, &METHODS),
        " ",
        rarely(random, &TARGETS),
        " ",
        rarely(random, &VERSIONS),
        "\r\n",
        parts[0],
        parts[1],
        parts[2],
        "\r\n",
        body,
    ] {
        bytes.extend_from_slice(part.as_bytes());
    }
    if random.random_bool(0.25) {
        for _ in 0..random.random_range(1..3) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] = one(random, DAMAGE),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, one(random, DAMAGE)),
            }
        }
    }
    bytes
}
