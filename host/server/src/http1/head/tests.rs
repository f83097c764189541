//! Heads as attackers and careless clients write them, each with the status it gets.

use super::*;
use crate::HttpLimits;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The parts of a head that is accepted.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    method: String,
    path: String,
    authority: String,
    framing: RequestFraming,
    keep_alive: bool,
    headers: Vec<(String, Vec<u8>)>,
}

fn limits() -> HttpLimits {
    HttpLimits {
        head_bytes_max: 600,
        line_bytes_max: 200,
        headers_max: 10,
        ..HttpLimits::default()
    }
}

/// Reads a head as the connection does: looks for the end after every piece, then reads.
fn read(pieces: &[&[u8]]) -> Option<Result<Accepted, HttpRefusal>> {
    let (limits, mut buffer, mut scan) = (limits(), Vec::new(), HeadScan::default());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match find_end(&buffer, &mut scan, &limits.head()) {
            Ok(None) => {}
            Ok(Some(end)) => {
                settle_version(&mut buffer[..end]);
                return Some(accept(&buffer[..end], &limits));
            }
            Err(refusal) => return Some(Err(refusal)),
        }
    }
    None
}

fn accept(bytes: &[u8], limits: &HttpLimits) -> Result<Accepted, HttpRefusal> {
    let mut fields = Fields::new();
    let parsed = parse(bytes, &mut fields, &limits.head())?;
    let headers = parsed.headers.iter();
    Ok(Accepted {
        method: parsed.method.into(),
        path: parsed.path.into(),
        authority: parsed.authority.into(),
        framing: parsed.framing,
        keep_alive: parsed.keep_alive,
        headers: headers
            .map(|field| (field.name.into(), field.value.into()))
            .collect(),
    })
}

fn status(head: &[u8]) -> u16 {
    match read(&[head]) {
        Some(Ok(_)) => 200,
        Some(Err(HttpRefusal(status, _))) => status.as_u16(),
        None => 0,
    }
}

/// A head with these lines behind a sound request line and `Host`.
fn with(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

#[test]
fn an_authority_has_no_empty_label_in_any_form() {
    for (host, expected) in [
        ("a", 200),
        ("a.b.", 200),
        ("a.:80", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("a..", 400),
        ("a..:80", 400),
        ("A..b", 400),
        (".a", 400),
        (".", 400),
        (".:80", 400),
        ("..", 400),
    ] {
        let port = if host.contains(":80") { "" } else { ":80" };
        for head in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("CONNECT {host}{port} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head}");
        }
    }
}

#[test]
fn a_uri_without_a_path_asks_for_the_root() {
    for (target, path) in [
        ("http://a", "/"),
        ("http://a?b=1", "/?b=1"),
        ("http://a?/b?c", "/?/b?c"),
        ("http://a/?b", "/?b"),
    ] {
        let read = read(&[&at(target)]).expect("a whole head").expect(target);
        assert_eq!((&*read.path, &*read.authority), (path, "a"), "{target}");
    }
    assert_eq!(status(&at("http://a?b#c")), 400);
    assert_eq!(status(&at("http://a?b<c")), 400);
    assert_eq!(status(&at("http://?b")), 400);
}

#[test]
fn a_list_of_protocols_asks_for_the_one_that_is_spoken() {
    for (lines, expected) in [
        ("Upgrade: websocket", Some("websocket")),
        ("Upgrade: foo, WebSocket", Some("WebSocket")),
        ("Upgrade: websocket, foo", Some("websocket")),
        ("Upgrade: foo\r\nUpgrade: websocket", Some("websocket")),
        ("Upgrade: websocket\r\nUpgrade: foo", Some("websocket")),
        ("Upgrade: , foo ,bar", Some("foo")),
        ("Upgrade: ,", None),
    ] {
        let head = with(&format!("Connection: upgrade\r\n{lines}"));
        let mut fields = Fields::new();
        let parsed = parse(&head, &mut fields, &limits().head());
        let upgrade = parsed.map(|parsed| parsed.upgrade);
        assert_eq!(upgrade, Ok(expected), "{lines}");
    }
}

#[test]
fn a_request_with_a_body_asks_for_no_other_protocol() {
    for (lines, expected) in [
        ("Upgrade: foo\r\nContent-Length: 0", Some("foo")),
        ("Upgrade: foo\r\nContent-Length: 3", None),
        ("Upgrade: h2c\r\nTransfer-Encoding: chunked", None),
        ("Upgrade: websocket\r\nContent-Length: 0", Some("websocket")),
    ] {
        let head = with(&format!("Connection: upgrade\r\n{lines}"));
        let mut fields = Fields::new();
        let parsed = parse(&head, &mut fields, &limits().head());
        let upgrade = parsed.map(|parsed| parsed.upgrade);
        assert_eq!(upgrade, Ok(expected), "{lines}");
    }
    for (lines, expected) in [
        ("Upgrade: websocket\r\nContent-Length: 3", 400),
        ("Upgrade: websocket\r\nTransfer-Encoding: chunked", 400),
        ("Upgrade: foo, WebSocket\r\nContent-Length: 3", 400),
        ("Upgrade: websocket\r\nContent-Length: 0", 200),
    ] {
        let head = with(&format!("Connection: upgrade\r\n{lines}"));
        assert_eq!(status(&head), expected, "{lines}");
    }
    // Nobody asks for it.
    assert_eq!(
        status(&with("Upgrade: websocket\r\nContent-Length: 3")),
        200
    );
}

/// A head with this target.
fn at(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn framing_that_could_be_read_in_two_ways_is_refused() {
    for (lines, expected) in [
        ("Content-Length: 5", 200),
        ("Content-Length:5", 200),
        ("Content-Length:  5\t", 200),
        ("Content-Length: 0005", 200),
        ("Content-Length: 18446744073709551615", 200),
        ("Content-Length: 18446744073709551616", 400),
        ("Content-Length: 99999999999999999999999", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: 5,5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length: 5.0", 400),
        ("Content-Length: \"5\"", 400),
        ("Content-Length:", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\ncontent-LENGTH: 6", 400),
        ("Content-Length: 0\r\nContent-Length: 0", 400),
        ("Transfer-Encoding: chunked", 200),
        ("transfer-ENCODING: CHUNKED", 200),
        ("Transfer-Encoding: chunked \t", 200),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, gzip", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: chunked;q=1", 501),
        ("Transfer-Encoding: \"chunked\"", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: ,chunked", 501),
        ("Transfer-Encoding:", 501),
        ("Transfer-Encoding: \u{b}chunked", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding\t: chunked", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            400,
        ),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
    ] {
        assert_eq!(status(&with(lines)), expected, "{lines:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(old), 400);
}

#[test]
fn framing_is_read_as_announced() {
    for (lines, framing) in [
        ("Accept: */*", RequestFraming::None),
        ("Content-Length: 0", RequestFraming::None),
        ("Content-Length: 0007", RequestFraming::Length(7)),
        ("Transfer-Encoding: chunked", RequestFraming::Chunked),
    ] {
        let accepted = read(&[&with(lines)]).unwrap().unwrap();
        assert_eq!(accepted.framing, framing, "{lines:?}");
    }
}

#[test]
fn lines_end_with_crlf_and_hold_no_control_characters() {
    for (head, expected) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tfolded\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\t: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX(y): 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x1fb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 200),
    ] {
        assert_eq!(
            status(head),
            expected,
            "{:?}",
            head.escape_ascii().to_string()
        );
    }
}

#[test]
fn there_is_one_host_and_it_is_one() {
    for (host, expected) in [
        ("Host: example.com", 200),
        ("Host: example.com:8080", 200),
        ("Host: EXAMPLE.com.", 200),
        ("Host: under_score.example", 200),
        ("Host: 127.0.0.1:80", 200),
        ("Host: [::1]", 200),
        ("Host: [2001:db8::1]:443", 200),
        ("Host: a:", 200),
        ("X: none", 400),
        ("Host:", 400),
        ("Host: a\r\nHost: a", 400),
        ("Host: a\r\nhOST: b", 400),
        ("Host: a b", 400),
        ("Host: a, b", 400),
        ("Host: a/b", 400),
        ("Host: user@a", 400),
        ("Host: a?b", 400),
        ("Host: a#b", 400),
        ("Host: a\\b", 400),
        ("Host: a%2fb", 400),
        ("Host: \u{e9}", 400),
        ("Host: :80", 400),
        ("Host: a:b", 400),
        ("Host: a:80:80", 400),
        ("Host: a:65536", 400),
        ("Host: a:+80", 400),
        ("Host: [::1", 400),
        ("Host: ::1", 400),
        ("Host: []", 400),
        ("Host: [a]", 400),
        ("Host: [::1]a", 400),
        ("Host: http://a", 400),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{host}\r\n\r\n");
        assert_eq!(status(head.as_bytes()), expected, "{host:?}");
    }
    // Before HTTP/1.1 there was none.
    assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), 400);
}

#[test]
fn a_request_line_is_a_method_a_target_and_a_version_we_speak() {
    for (line, expected) in [
        ("GET / HTTP/1.1", 200),
        ("GET / HTTP/1.0", 200),
        ("M-SEARCH! / HTTP/1.1", 200),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET / a HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
        ("GET HTTP/1.1", 400),
        ("/ HTTP/1.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.2", 200),
        ("GET / HTTP/1.9", 200),
        ("GET / HTTP/1.10", 400),
        ("GET /HTTP/1.2", 400),
        ("GET / x HTTP/1.2", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/11", 400),
        ("GET / ICY/1.1", 400),
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(status(head.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn a_target_has_one_path_and_one_authority() {
    for (target, expected) in [
        ("/", "a /"),
        ("/a%2Fb?x=y&z", "a /a%2Fb?x=y&z"),
        ("//b/c", "a //b/c"),
        ("/a?b?c/d", "a /a?b?c/d"),
        ("/a|b^{c}?`d\\e|^{}", "a /a|b^{c}?`d\\e|^{}"),
        ("http://b/c?d", "b /c?d"),
        ("HTTP://b", "b /"),
        ("https://b:8443/", "b:8443 /"),
        ("http://[::1]:80/x", "[::1]:80 /x"),
        ("http://", "400"),
        ("http:///x", "400"),
        ("http://u@b/", "400"),
        ("http://u:p@b/", "400"),
        ("http://b c/", "400"),
        ("http://b?x", "b /?x"),
        ("http://b\\c/", "400"),
        ("ftp://b/", "400"),
        ("b:443", "400"),
        ("b", "400"),
        ("*", "400"),
        ("?x", "400"),
        ("/a#b", "400"),
        ("/a?b#c", "400"),
        ("http://b/#c", "400"),
        ("/a\\b", "400"),
        ("/a\"b", "400"),
        ("/a<b", "400"),
        ("/a?b>c", "400"),
        ("/a`b", "400"),
        ("/\u{e9}", "400"),
        ("/a\u{7f}", "400"),
        ("/a\u{1}", "400"),
    ] {
        let found = match read(&[&at(target)]) {
            Some(Ok(head)) => format!("{} {}", head.authority, head.path),
            Some(Err(HttpRefusal(status, _))) => status.as_u16().to_string(),
            None => "unfinished".into(),
        };
        assert_eq!(found, expected, "{target:?}");
    }
    assert_eq!(status(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
    assert_eq!(
        status(b"OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        200
    );
    for (connect, expected) in [
        (&b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"[..], 200),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            400,
        ),
    ] {
        assert_eq!(
            status(connect),
            expected,
            "{}",
            String::from_utf8_lossy(connect)
        );
    }
}

#[test]
fn an_absolute_target_outranks_host_for_everybody_behind_us() {
    let head = read(&[b"GET http://b/ HTTP/1.1\r\nhOst: a\r\nX: a\r\n\r\n"]);
    let head = head.unwrap().unwrap();
    assert_eq!(head.authority, "b");
    let expected = [("hOst", "b"), ("X", "a")].map(|(n, v)| (n.into(), v.into()));
    assert_eq!(head.headers, expected);
}

#[test]
fn close_wins_over_keep_alive() {
    for (version, lines, expected) in [
        ("1.1", "X: y", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: x , CLOSE", false),
        ("1.1", "Connection: closed", true),
        ("1.1", "Connection: close\r\nConnection: keep-alive", false),
        ("1.0", "X: y", false),
        ("1.0", "Connection: Keep-Alive", true),
        ("1.0", "Connection: close, keep-alive", false),
        ("1.0", "Connection: keep-alive, close", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n");
        let head = read(&[head.as_bytes()]).unwrap().unwrap();
        assert_eq!(head.keep_alive, expected, "{version} {lines:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_whether_it_ends_or_not() {
    let line = |bytes: usize| format!("GET /{} HTTP/1.1", "a".repeat(bytes - 14));
    let head = |line: &str, lines: &str| format!("{line}\r\nHost: a\r\n{lines}\r\n");
    let fields = |count: usize| "X: y\r\n".repeat(count - 1);
    let filled = |bytes: usize| {
        let empty = head("GET / HTTP/1.1", "X: \r\n").len();
        head(
            "GET / HTTP/1.1",
            &format!("X: {}\r\n", "y".repeat(bytes - empty)),
        )
    };
    for (head, expected) in [
        (head(&line(199), ""), 200),
        (head(&line(202), ""), 414),
        (head(&line(700), ""), 414),
        (line(700), 414),
        (head("GET / HTTP/1.1", &fields(10)), 200),
        (head("GET / HTTP/1.1", &fields(11)), 431),
        (filled(600), 200),
        (filled(601), 431),
        (filled(5000), 431),
        (filled(5000)[..4000].into(), 431),
    ] {
        assert_eq!(status(head.as_bytes()), expected, "{head:?}");
    }
    // More lines than fit on the stack, whatever the limit says.
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X:\r\n".repeat(HEADERS_CAP + 1));
    let wide = HttpLimits {
        headers_max: 1000,
        ..HttpLimits::default()
    };
    assert_eq!(accept(many.as_bytes(), &wide).unwrap_err().0.as_u16(), 431);
}

#[test]
fn an_unfinished_head_is_waited_for() {
    let head = with("Content-Length: 5");
    for end in 0..head.len() {
        assert_eq!(read(&[&head[..end]]), None, "{end}");
    }
}

/// Random heads, sound ones with random damage among them.
fn random_head(random: &mut StdRng) -> Vec<u8> {
    const PARTS: [&str; 18] = [
        "GET ",
        "/",
        "http://b/",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "Host: a",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        ": ",
        " ",
        "\t",
        "\n",
        "\r",
        "\0",
        "\u{e9}",
    ];
    if random.random_bool(0.3) {
        let parts = (0..random.random_range(1..30)).map(|_| PARTS[random.random_range(0..18)]);
        return parts.collect::<String>().into_bytes();
    }
    let mut head = with("Content-Length: 5\r\nConnection: close, x\r\nX: y");
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..head.len());
        match random.random_range(0..3) {
            0 => head[at] = random.random(),
            1 => drop(head.remove(at)),
            _ => head.insert(at, b"\r\n \t:\0/a"[random.random_range(0..8)]),
        }
    }
    head
}

#[test]
fn a_head_in_pieces_is_read_as_the_head_at_once() {
    let mut random = StdRng::seed_from_u64(1);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let head = random_head(&mut random);
        let whole = read(&[&head]);
        accepted += usize::from(matches!(whole, Some(Ok(_))));
        let bytes: Vec<&[u8]> = head.chunks(1).collect();
        let cut = random.random_range(0..=head.len());
        for pieces in [&bytes[..], &[&head[..cut], &head[cut..]]] {
            let found = read(pieces);
            // A piece may show another fault first than the whole does; what is refused stays refused.
            let same = found == whole || matches!((&found, &whole), (Some(Err(_)), Some(Err(_))));
            assert!(same, "{:?}", head.escape_ascii().to_string());
        }
    }
    assert!(accepted > 1000, "only {accepted} heads were sound");
}

/// Line ends are judged when the end of a head is looked for, and everything else by httparse: it has to refuse what is no
/// part of a line, wherever that stands.
#[test]
fn no_control_character_is_taken_wherever_it_stands() {
    const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-A: b c\r\n\r\n";
    let odd = |byte: u8| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127);
    let is_odd = |head: &[u8]| {
        head.iter().any(|&byte| odd(byte))
            || head
                .windows(2)
                .any(|two| two[0] == b'\r' && two[1] != b'\n')
    };
    let mut taken = 0;
    for at in 0..HEAD.len() {
        for byte in 0..=u8::MAX {
            let mut put = HEAD.to_vec();
            put.insert(at, byte);
            let mut changed = HEAD.to_vec();
            changed[at] = byte;
            for head in [put, changed] {
                if let Some(Ok(_)) = read(&[&head]) {
                    taken += 1;
                    assert!(!is_odd(&head), "{:?}", String::from_utf8_lossy(&head));
                }
            }
        }
    }
    assert!(
        taken > 1_000,
        "only {taken} are taken: the test tests nothing"
    );
}
