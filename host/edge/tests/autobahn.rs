//! The cases of the Autobahn test suite, against an echo of everything that is read.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use protoplex_edge::websocket::{
    DEFLATE_EXTENSION, Event, Handshake, Limits, Opcode, Reader, close_frame, code, deflate, frame,
};
use std::{collections::BTreeMap, path::Path, process::Command};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The largest message of the suite has 16 MiB, the one in most parts 131,072 of them.
const LIMITS: Limits = Limits {
    message_bytes_max: 16 << 20,
    frames_max: 300_000,
};
/// Sizes and speeds (9), and deflate for thousands of messages (12, 13), take minutes: a case of each kind is in the test,
/// and all of them with AUTOBAHN=all.
const QUICK: [&str; 14] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.5.1", "12.1.3", "12.1.10",
    "13.1.3", "13.7.3",
];

const PASSED: [&str; 5] = [
    "OK OK",
    "NON-STRICT OK",
    "INFORMATIONAL OK",
    "INFORMATIONAL INFORMATIONAL",
    "UNIMPLEMENTED OK",
];

async fn handshake(stream: &mut TcpStream, input: &mut BytesMut) -> Option<bool> {
    let end = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    };
    let head = input.split_to(end);
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(&head).ok()?;
    let fields = request.headers.iter().map(|field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(field.value).unwrap())
    });
    let handshake = Handshake::read(&fields.collect::<HeaderMap>()).ok()?;
    let extension = match handshake.may_deflate {
        true => format!("Sec-WebSocket-Extensions: {DEFLATE_EXTENSION}\r\n"),
        false => String::new(),
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{extension}\r\n",
        handshake.accept
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(handshake.may_deflate)
}

/// Ends with the connection, or when the client did what it may not.
async fn echo(mut stream: TcpStream) -> Option<()> {
    let mut input = BytesMut::new();
    let may_deflate = handshake(&mut stream, &mut input).await?;
    let mut reader = Reader::new(LIMITS, may_deflate);
    let message = |opcode, content: &[u8]| match may_deflate.then(|| deflate(content)).flatten() {
        Some(small) => frame(opcode, true, &small),
        None => frame(opcode, false, content),
    };
    loop {
        let answer = match reader.read(&mut input) {
            Ok(None) => match stream.read_buf(&mut input).await.ok()? {
                0 => return None,
                _ => continue,
            },
            Ok(Some(Event::Text(text))) => message(Opcode::Text, &text),
            Ok(Some(Event::Binary(bytes))) => message(Opcode::Binary, &bytes),
            Ok(Some(Event::Ping(content))) => frame(Opcode::Pong, false, &content),
            Ok(Some(Event::Pong(_))) => continue,
            Ok(Some(Event::Close(with, _))) => {
                let answer = close_frame(with.unwrap_or(code::NORMAL), "");
                stream.write_all(&answer).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Err(violation) => {
                let answer = close_frame(violation.code, violation.reason);
                stream.write_all(&answer).await.ok()?;
                return stream.shutdown().await.ok();
            }
        };
        stream.write_all(&answer).await.ok()?;
    }
}

/// What `index.json` says of each case.
fn verdicts(report: &Path) -> BTreeMap<String, String> {
    let index = std::fs::read_to_string(report.join("index.json")).expect("a report was written");
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let agent = index.as_object().unwrap().values().next().unwrap();
    let of = |case: &serde_json::Value| {
        format!(
            "{} {}",
            case["behavior"].as_str().unwrap(),
            case["behaviorClose"].as_str().unwrap()
        )
    };
    let cases = agent.as_object().unwrap().iter();
    cases.map(|(name, case)| (name.clone(), of(case))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_autobahn_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let report = tempfile::tempdir().unwrap();
    let kosoku = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/kosoku");
    let mut command = Command::new(kosoku);
    command
        .arg(format!("ws://{address}"))
        .arg("-o")
        .arg(report.path());
    if std::env::var("AUTOBAHN").is_err() {
        for case in QUICK {
            command.args(["-i", case]);
        }
    }
    let ran = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    let ran = ran.expect("kosoku is missing; run `just setup`");
    accepting.abort();
    let verdicts = verdicts(report.path());
    // Declined offers are no fault, and neither is a case that trips over Python 3 by itself.
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let is_broken = |case: &str| {
        let line = said
            .lines()
            .find(|line| line.trim().starts_with(&format!("{case}:")));
        line.is_some_and(|line| line.contains("Strings must be encoded before hashing"))
    };
    let wrong: Vec<_> = verdicts
        .iter()
        .filter(|(case, verdict)| !PASSED.contains(&verdict.as_str()) && !is_broken(case))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{ran:?}");
    assert!(
        verdicts.len() >= 240,
        "only {} cases ran: {ran:?}",
        verdicts.len()
    );
}
