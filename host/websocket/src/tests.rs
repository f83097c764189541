use super::{deflate::inflate, frame::unmask, handshake::DEFLATE_EXTENSION, *};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 100_000,
    discarded_bytes_max: 0,
    frames_max: 100,
};

/// A client's frame; `first` is its first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let opcode = Opcode::Text;
    let plain = frame(opcode, false, payload);
    let mask = [0x12, 0xa4, 0x56, 0x78];
    let head = plain.len() - payload.len();
    let mut payload = payload.to_vec();
    unmask(&mut payload, mask, 0);
    let mut out = plain[..head].to_vec();
    (out[0], out[1]) = (first, out[1] | 0x80);
    [&out[..], &mask, &payload].concat()
}

/// Events of the input, read in pieces of that size, without those of parts.
fn read(input: &[u8], pieces: usize) -> Result<Vec<FrameEvent>, Violation> {
    let mut reader = MessageReader::new(LIMITS, true);
    let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
    for piece in input.chunks(pieces) {
        buffer.extend_from_slice(piece);
        while let Some(event) = reader.read(&mut buffer)? {
            events.extend(Some(event).filter(|event| *event != FrameEvent::Part));
        }
    }
    assert_eq!(reader.held(), 0, "a message is not whole");
    Ok(events)
}

#[track_caller]
fn check(input: &[u8], expected: &Result<Vec<FrameEvent>, Violation>) {
    for pieces in [1, 2, 3, 7, 4_096, usize::MAX] {
        assert_eq!(&read(input, pieces), expected, "in pieces of {pieces}");
    }
}

#[track_caller]
fn refused(input: &[u8], code: u16) {
    for pieces in [1, 3, usize::MAX] {
        let refused = read(input, pieces).expect_err("it is wrong");
        assert_eq!(refused.code, code, "{refused}");
    }
}

#[test]
fn messages_come_whole_however_they_are_cut() {
    let long = "ä".repeat(40_000);
    let input = [
        masked(0x81, b""),
        masked(0x81, "grün".as_bytes()),
        masked(0x82, &[0xff; 126]),
        masked(0x81, long.as_bytes()),
        masked(0x01, &"grün".as_bytes()[..3]),
        masked(0x89, b"between"),
        masked(0x00, b""),
        masked(0x80, &"grün".as_bytes()[3..]),
        masked(0x8a, b""),
        masked(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    check(
        &input,
        &Ok(vec![
            FrameEvent::Text("".into()),
            FrameEvent::Text("grün".into()),
            FrameEvent::Binary(vec![0xff; 126].into()),
            FrameEvent::Text(long.into()),
            FrameEvent::Ping("between".into()),
            FrameEvent::Text("grün".into()),
            FrameEvent::Pong("".into()),
            FrameEvent::Close(Some(1000), "bye".into()),
        ]),
    );
}

#[test]
fn what_breaks_the_protocol_is_refused_with_its_code() {
    for first in [0x91, 0xa1, 0x83, 0x8b, 0x80, 0x09, 0x08, 0xc9, 0xc0] {
        refused(&masked(first, b""), code::PROTOCOL);
    }
    refused(&[0x81, 0x00], code::PROTOCOL); // no mask
    refused(&masked(0x89, &[0; 126]), code::PROTOCOL);
    refused(
        &[masked(0x01, b"a"), masked(0x81, b"b")].concat(),
        code::PROTOCOL,
    );
    refused(
        &[masked(0x41, b"a"), masked(0xc0, b"b")].concat(),
        code::PROTOCOL,
    );
    // Lengths that are longer than they need be, or than any can.
    refused(&[0x81, 0xfe, 0, 125, 0, 0, 0, 0], code::PROTOCOL);
    refused(
        &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        code::PROTOCOL,
    );
    refused(
        &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        code::PROTOCOL,
    );
    refused(&masked(0x88, b"\x03"), code::PROTOCOL);
    for close in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        refused(&masked(0x88, &close.to_be_bytes()), code::PROTOCOL);
    }
    refused(&masked(0x88, b"\x03\xe8\xff"), code::NOT_UTF8);
    refused(&masked(0x81, b"\xff"), code::NOT_UTF8);
    refused(&masked(0x81, b"\xc3"), code::NOT_UTF8); // cut at the end
    refused(&masked(0xc1, b"\xff\xff\xff"), code::NOT_UTF8); // not deflated
}

#[test]
fn text_that_cannot_become_right_is_refused_before_its_end() {
    let mut input = BytesMut::from(&masked(0x01, b"\xce\xba\xed\xa0\x80")[..]);
    let refused = MessageReader::new(LIMITS, false)
        .read(&mut input)
        .unwrap_err();
    assert_eq!(refused.code, code::NOT_UTF8);
}

#[test]
fn a_message_above_the_limits_is_refused_at_its_head() {
    // Only the head has come, of four gigabytes.
    let head = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    refused(&head, code::TOO_LARGE);
    let parts = [masked(0x02, &[0; 60_000]), masked(0x80, &[0; 60_000])];
    refused(&parts.concat(), code::TOO_LARGE);
    let empty: Vec<u8> = (0..101)
        .flat_map(|n| masked(u8::from(n == 0), b""))
        .collect();
    refused(&empty, code::TOO_LARGE);
    let bomb = deflate(&vec![0; 100_001]).unwrap();
    assert!(bomb.len() < 1_000);
    refused(&masked(0xc2, &bomb), code::TOO_LARGE);
}

#[test]
fn every_frame_is_an_event_however_little_it_says() {
    let empty = masked(0x00, b"").repeat(90);
    let input = [
        masked(0x02, b""),
        empty,
        masked(0x8a, b""),
        masked(0x80, b""),
    ];
    let mut reader = MessageReader::new(LIMITS, false);
    let mut buffer = BytesMut::from(&input.concat()[..]);
    let mut events = Vec::new();
    while let Some(event) = reader.read(&mut buffer).expect("it is right") {
        events.push(event);
    }
    let mut expected = vec![FrameEvent::Part; 91];
    expected.extend([FrameEvent::Pong("".into()), FrameEvent::Binary("".into())]);
    assert_eq!(events, expected);
}

/// The events of a reader that throws away up to 300,000 bytes.
fn read_patiently(input: &[u8], pieces: usize) -> Result<Vec<FrameEvent>, Violation> {
    let limits = MessageLimits {
        discarded_bytes_max: 300_000,
        ..LIMITS
    };
    let mut reader = MessageReader::new(limits, true);
    let (mut buffer, mut events) = (BytesMut::new(), Vec::new());
    for piece in input.chunks(pieces) {
        buffer.extend_from_slice(piece);
        while let Some(event) = reader.read(&mut buffer)? {
            events.extend(Some(event).filter(|event| *event != FrameEvent::Part));
        }
        assert!(reader.held() <= LIMITS.message_bytes_max);
    }
    assert_eq!(reader.held(), 0, "a message is not whole");
    Ok(events)
}

#[test]
fn a_message_above_the_limit_is_dropped_and_the_next_read() {
    let large = [b"{\"id\":7,".as_slice(), &[b'x'; 200_000]].concat();
    let whole = masked(0x81, &large);
    let parts = [
        masked(0x01, &large[..60_000]),
        masked(0x89, b"ping"),
        masked(0x00, &large[60_000..120_000]),
        masked(0x80, &large[120_000..]),
    ]
    .concat();
    let small = deflate(&large).expect("it gets shorter");
    let deflated = masked(0xc1, &small);
    let noise: Vec<u8> = (0..160_000)
        .map(|_| rand::random_range(b'0'..b'z'))
        .collect();
    let noise = [&large[..9], &noise].concat();
    let noise_small = deflate(&noise).expect("it gets shorter");
    assert!(noise_small.len() > LIMITS.message_bytes_max);
    let deflated_noise = masked(0xc1, &noise_small);
    let beginning_of = |text: &[u8]| Bytes::copy_from_slice(&text[..128]);
    let too_large = |text: &[u8], bytes: usize| FrameEvent::TooLarge {
        beginning: beginning_of(text),
        bytes: bytes as u64,
    };
    let next = masked(0x81, b"next");
    for (message, text, bytes) in [
        (&whole, &large, large.len()),
        (&parts, &large, large.len()),
        (&deflated, &large, small.len()),
        (&deflated_noise, &noise, noise_small.len()),
    ] {
        for pieces in [7, 4_096, usize::MAX] {
            let events = read_patiently(&[&message[..], &next].concat(), pieces);
            let events = events.expect("the connection goes on");
            let events: Vec<_> = events
                .into_iter()
                .filter(|event| !matches!(event, FrameEvent::Ping(_)))
                .collect();
            assert_eq!(
                events,
                [too_large(text, bytes), FrameEvent::Text("next".into())],
                "in pieces of {pieces}"
            );
        }
    }
    // Far above it, it is refused at the head that shows it.
    let head = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    let refused = read_patiently(&head, usize::MAX).expect_err("it is wrong");
    assert_eq!(refused.code, code::TOO_LARGE);
}

#[test]
fn what_is_deflated_is_inflated_to_the_same() {
    let text = "the same again and again, ".repeat(3_000);
    let noise: Vec<u8> = (0..1_000).map(|_| rand::random()).collect();
    for message in [text.as_bytes(), &text.as_bytes()[..64], &vec![7; 90_000]] {
        let small = deflate(message).expect("it gets shorter");
        assert_eq!(inflate(&small, 100_000).unwrap(), message);
        // Other messages between make no difference: nothing is taken over.
        assert_eq!(deflate(message).unwrap(), small);
        let event = FrameEvent::Binary(message.to_vec().into());
        check(&masked(0xc2, &small), &Ok(vec![event]));
    }
    assert_eq!(deflate(&noise), None);
    assert_eq!(deflate(b"short"), None);
    // A last block, as some clients make it (RFC 7692, section 7.2.3.5).
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    check(
        &masked(0xc1, &last),
        &Ok(vec![FrameEvent::Text("Hello".into())]),
    );
}

#[test]
fn frames_of_the_server_are_as_short_as_can_be() {
    assert_eq!(frame(Opcode::Text, false, b"Hello")[..], *b"\x81\x05Hello");
    assert_eq!(frame(Opcode::Text, true, b"x")[..], *b"\xc1\x01x");
    assert_eq!(
        frame(Opcode::Binary, false, &[0; 256])[..4],
        [0x82, 126, 1, 0]
    );
    assert_eq!(
        frame(Opcode::Binary, false, &[0; 65_536])[..10],
        [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]
    );
    let close = close_frame(code::RESTART, &"ü".repeat(100));
    assert_eq!(close.len(), 2 + 2 + 122);
    assert!(std::str::from_utf8(&close[4..]).is_ok());
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, http::HeaderValue::from_static(value))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

#[test]
fn the_standards_handshake_is_accepted_and_others_refused() {
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    let good = Handshake::read(&headers(&[
        KEY,
        VERSION,
        ("sec-websocket-protocol", "chat, superchat"),
    ]));
    let good = good.unwrap();
    assert_eq!(good.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(good.protocols, ["chat", "superchat"]);
    assert!(!good.may_deflate);
    for (lines, error) in [
        (&[KEY][..], HandshakeError::Version),
        (
            &[KEY, ("sec-websocket-version", "8")],
            HandshakeError::Version,
        ),
        (&[VERSION], HandshakeError::Key),
        (&[VERSION, KEY, KEY], HandshakeError::Key),
        (
            &[VERSION, ("sec-websocket-key", "c2hvcnQ=")],
            HandshakeError::Key,
        ),
        (
            &[VERSION, ("sec-websocket-key", "no base64")],
            HandshakeError::Key,
        ),
    ] {
        assert_eq!(Handshake::read(&headers(lines)), Err(error), "{lines:?}");
    }
    assert!(Handshake::read_extended(&headers(&[VERSION])).is_ok());
}

#[test]
fn deflate_is_agreed_on_where_an_offer_can_be_taken_as_it_is() {
    for (offers, agreed) in [
        ("permessage-deflate", true),
        ("permessage-deflate; client_max_window_bits", true),
        (
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            true,
        ),
        ("permessage-deflate; server_max_window_bits=15", true),
        ("permessage-deflate; server_max_window_bits=10", false),
        (
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            true,
        ),
        ("permessage-deflate; client_max_window_bits=16", false),
        ("permessage-deflate; client_max_window_bits=08", false),
        ("permessage-deflate; server_no_context_takeover=1", false),
        ("permessage-deflate; unknown", false),
        (
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            false,
        ),
        ("x-webkit-deflate-frame", false),
    ] {
        let lines = headers(&[
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", offers),
        ]);
        let handshake = Handshake::read_extended(&lines).unwrap();
        assert_eq!(handshake.may_deflate, agreed, "{offers}");
    }
    // The answer is one that we would take as an offer, too.
    let lines = headers(&[
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", DEFLATE_EXTENSION),
    ]);
    assert!(Handshake::read_extended(&lines).unwrap().may_deflate);
}
