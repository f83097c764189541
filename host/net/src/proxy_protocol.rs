//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): what a trusted load balancer says of the client
//! before the first byte of TLS or HTTP.
//!
//! The `ppp` and `proxy-header` crates parse a buffer that may already hold bytes of the client; here exactly the
//! header is taken from the socket, so that TLS, HTTP and a raw relay behind it find an untouched stream.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

/// First bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Shortest line of version 1: `PROXY UNKNOWN\r\n`.
const V1_BYTES_MIN: usize = 15;
/// Longest line of version 1, by the specification.
const V1_BYTES_MAX: usize = 107;
/// Most bytes of addresses and TLVs in version 2. Balancers send some hundred; a certificate in them may take 2 KiB.
const V2_BYTES_MAX: usize = 4 << 10;

/// Why a connection is closed in its PROXY header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// The stream ended.
    #[error("the connection ended in its PROXY header: {0}")]
    Io(#[from] io::Error),
    /// There is no header, or not one as the specification says.
    #[error("no PROXY header: {0}")]
    Malformed(&'static str),
}

/// Takes the header from the stream, and nothing behind it. `None` where it says that the socket's own address holds
/// (`LOCAL`, `UNKNOWN`, a Unix socket). The caller sets a deadline.
///
/// # Errors
/// The first bytes are no PROXY header.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut start = [0; V1_BYTES_MIN];
    stream.read_exact(&mut start).await?;
    if start.starts_with(SIGNATURE) {
        return read_v2(stream, &start).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed("other first bytes"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() >= V1_BYTES_MAX {
            return Err(ProxyHeaderError::Malformed("a line that does not end"));
        }
        let mut ahead = [0; V1_BYTES_MAX];
        let most = V1_BYTES_MAX - line.len();
        let seen = stream.peek(&mut ahead[..most]).await?;
        let end = ahead[..seen].iter().position(|&byte| byte == b'\n');
        // What was looked at is taken, so that the next look waits for more. At the end of the stream it fails.
        let take = end.map_or(seen, |at| at + 1).max(1);
        stream.read_exact(&mut ahead[..take]).await?;
        line.extend_from_slice(&ahead[..take]);
    }
    parse_v1(&line).map_err(ProxyHeaderError::Malformed)
}

async fn read_v2(
    stream: &mut (impl AsyncRead + Unpin),
    start: &[u8; V1_BYTES_MIN],
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let low = stream.read_u8().await?;
    let bytes = usize::from(u16::from_be_bytes([start[14], low]));
    if bytes > V2_BYTES_MAX {
        return Err(ProxyHeaderError::Malformed(
            "more than 4 KiB of addresses and TLVs",
        ));
    }
    let mut body = vec![0; bytes];
    stream.read_exact(&mut body).await?;
    parse_v2(start[12], start[13], &body).map_err(ProxyHeaderError::Malformed)
}

/// Reads a line of version 1, with its end.
fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("a line without CR LF")?;
    let line = std::str::from_utf8(line).map_err(|_| "a line that is not ASCII")?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        // The rest of the line is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            destination,
            from,
            to,
        ] => {
            let address = |text: &str| match family {
                "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            };
            let port = |text: &str| {
                let plain = text == "0" || !text.starts_with(['0', '+']);
                text.parse::<u16>().ok().filter(|_| plain)
            };
            let (Some(from), Some(_), Some(_)) = (port(from), port(to), address(destination))
            else {
                return Err("ports or the destination are malformed");
            };
            let source = address(source).ok_or("the source is malformed")?;
            Ok(Some(SocketAddr::new(source, from)))
        }
        _ => Err("words that are not of the protocol"),
    }
}

/// Reads a header of version 2: its command and family bytes, and what follows the length.
fn parse_v2(command: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("another version or command"),
    };
    let addresses = match family {
        0x00 => 0,
        // TCP over IPv4, IPv6, and a Unix stream. UDP's cannot come by TCP.
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err("another family or transport"),
    };
    let tlvs = body.get(addresses..).ok_or("addresses that are cut")?;
    check_tlvs(tlvs)?;
    if is_local {
        return Ok(None);
    }
    Ok(match family {
        0x11 => source(body, Ipv4Addr::from),
        0x21 => source(body, Ipv6Addr::from),
        _ => None,
    })
}

/// Reads the source: two addresses come first, then their ports.
fn source<const BYTES: usize, A: Into<IpAddr>>(
    body: &[u8],
    address: impl Fn([u8; BYTES]) -> A,
) -> Option<SocketAddr> {
    let from = address(*body.first_chunk()?).into();
    let port = *body.get(2 * BYTES..)?.first_chunk()?;
    Some(SocketAddr::new(from, u16::from_be_bytes(port)))
}

/// Checks that the TLVs, which are skipped, are whole.
fn check_tlvs(mut rest: &[u8]) -> Result<(), &'static str> {
    while let [_, high, low, value @ ..] = rest {
        let bytes = usize::from(u16::from_be_bytes([*high, *low]));
        rest = value.get(bytes..).ok_or("a TLV that is cut")?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err("a TLV that is cut")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_1_say_who_the_client_is() {
        for (line, said) in [
            (
                "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
                Some("192.0.2.1:56324"),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                Some("[2001:db8::1]:0"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ] {
            let said = said.map(|said| said.parse().expect("an address"));
            assert_eq!(parse_v1(line.as_bytes()), Ok(said), "{line:?}");
        }
    }

    #[test]
    fn lines_that_are_not_exactly_so_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 5\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 10.0.0.1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 ::1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 here 56324 443\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 056 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +56 443\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 56 443\r\n",
            "PROXY unknown\r\n",
            "proxy UNKNOWN\r\n",
        ] {
            assert!(parse_v1(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];

    #[test]
    fn headers_of_version_2_say_who_the_client_is() {
        assert_eq!(
            parse_v2(0x21, 0x11, &V4),
            Ok(Some(([192, 0, 2, 1], 0xdc04).into()))
        );
        let mut six = [0; 36];
        six[15] = 1;
        six[33] = 7;
        assert_eq!(
            parse_v2(0x21, 0x21, &six),
            Ok(Some((Ipv6Addr::LOCALHOST, 7).into()))
        );
        let with_tlvs = [&V4[..], &[4, 0, 2, 9, 9], &[0xee, 0, 0]].concat();
        assert_eq!(
            parse_v2(0x21, 0x11, &with_tlvs),
            Ok(Some(([192, 0, 2, 1], 0xdc04).into()))
        );
        // LOCAL, UNSPEC and Unix sockets: the socket's own address holds.
        assert_eq!(parse_v2(0x20, 0x11, &V4), Ok(None));
        assert_eq!(parse_v2(0x20, 0x00, &[]), Ok(None));
        assert_eq!(parse_v2(0x21, 0x00, &[]), Ok(None));
        assert_eq!(parse_v2(0x21, 0x31, &[0; 216]), Ok(None));
    }

    #[test]
    fn headers_of_version_2_that_are_not_exactly_so_are_refused() {
        let cut_tlv = [&V4[..], &[4, 0, 2, 9]].concat();
        for (command, family, body) in [
            (0x11, 0x11, &V4[..]),
            (0x22, 0x11, &V4[..]),
            (0x21, 0x12, &V4[..]),
            (0x21, 0x41, &V4[..]),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x21, &V4[..]),
            (0x21, 0x11, &cut_tlv[..]),
            (0x20, 0x11, &cut_tlv[..]),
        ] {
            assert!(
                parse_v2(command, family, body).is_err(),
                "{command:x} {family:x}"
            );
        }
    }
}
