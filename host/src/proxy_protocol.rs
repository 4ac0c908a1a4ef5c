//! The header by which a load balancer in front of the proxy names its client: the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! Bytes in, values out: [`Decoder`] takes what has been received, in any pieces, and consumes no byte behind the
//! header. Both versions are detected. A header without the address of a TCP client (LOCAL, as health checks send it,
//! UNKNOWN, Unix sockets, UDP) stands for the sender itself. Extensions (TLVs) are ignored. Everything else is an error:
//! there is no guess about who the client is. Whose headers are believed is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The beginning of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_LEN: usize = 16;
/// The beginning of version 1.
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, line end included.
const MAX_LINE_LEN: usize = 107;
/// The longest header of version 2, extensions included: more than any sender needs.
const MAX_LEN: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// The address of the sender's client.
    Client(SocketAddr),
    /// The connection is the sender's own, or its client has no address.
    Sender,
}

/// Why there is no valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// The bytes begin with neither version.
    #[error("it sent none")]
    Missing,
    /// Version 1 is longer than 107 bytes.
    #[error("its line is longer than {MAX_LINE_LEN} bytes")]
    LineTooLong,
    /// The line of version 1 is malformed.
    #[error("its line is malformed")]
    LineInvalid,
    /// Another version, with the signature of version 2.
    #[error("its version is {0}, not 1 or 2")]
    VersionInvalid(u8),
    /// Neither LOCAL nor PROXY.
    #[error("its command is {0}, not LOCAL or PROXY")]
    CommandInvalid(u8),
    /// Its family or transport is unknown.
    #[error("its address family is unknown ({0:#04x})")]
    FamilyInvalid(u8),
    /// Version 2 is longer than [`MAX_LEN`].
    #[error("it is longer than {MAX_LEN} bytes")]
    TooLong,
    /// Version 2 is too short for its addresses.
    #[error("it is too short for its addresses")]
    TooShort,
}

/// What a decoder made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// How many of them belong to the header. All, unless it ends in them.
    pub(crate) consumed: usize,
    /// The header, once it is here whole.
    pub(crate) header: Option<ProxyHeader>,
}

/// Decodes one header piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    received: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// The connection does not begin with a header, or with an invalid one. It must be closed.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, ProxyHeaderError> {
        let before = self.received.len();
        let room = MAX_LEN.saturating_sub(before);
        self.received
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let (header, len) = match decode(&self.received)? {
            Some((header, len)) => (Some(header), len),
            None => (None, self.received.len()),
        };
        Ok(Decoded {
            consumed: len.saturating_sub(before),
            header,
        })
    }
}

/// A header at the beginning of `received`, and its length; `None` while bytes are missing.
fn decode(received: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    if begins_like(received, SIGNATURE) {
        decode_binary(received)
    } else if begins_like(received, WORD) {
        decode_line(received)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Whether one is the beginning of the other.
fn begins_like(received: &[u8], beginning: &[u8]) -> bool {
    let len = received.len().min(beginning.len());
    received[..len] == beginning[..len]
}

// ---- version 1 --------------------------------------------------------------------------------------------------

fn decode_line(received: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let searched = &received[..received.len().min(MAX_LINE_LEN)];
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        return match received.len() >= MAX_LINE_LEN {
            true => Err(ProxyHeaderError::LineTooLong),
            false => Ok(None),
        };
    };
    let line = str::from_utf8(&received[..end]).ok();
    let header = line.and_then(parse_line);
    let header = header.ok_or(ProxyHeaderError::LineInvalid)?;
    Ok(Some((header, end + 2)))
}

fn parse_line(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    // What follows UNKNOWN is ignored, as the specification requires.
    if family == "UNKNOWN" {
        return Some(ProxyHeader::Sender);
    }
    let [client, local, client_port, local_port] = std::array::from_fn(|_| words.next());
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    address(local?)?;
    parse_port(local_port?)?;
    let header = client_header(address(client?)?, parse_port(client_port?)?);
    words.next().is_none().then_some(header)
}

/// Decimal digits without a sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

// ---- version 2 --------------------------------------------------------------------------------------------------

fn decode_binary(received: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let Some((fixed, rest)) = received.split_at_checked(FIXED_LEN) else {
        return Ok(None);
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0x0f);
    if version != 2 {
        return Err(ProxyHeaderError::VersionInvalid(version));
    }
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED_LEN + len > MAX_LEN {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(content) = rest.get(..len) else {
        return Ok(None);
    };
    let header = match command {
        0 => ProxyHeader::Sender,
        1 => addresses(fixed[13], content)?,
        command => return Err(ProxyHeaderError::CommandInvalid(command)),
    };
    Ok(Some((header, FIXED_LEN + len)))
}

fn addresses(family: u8, content: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let (client, rest) = match family {
        // TCP over IPv4.
        0x11 => {
            let (client, rest) = octets::<4>(content)?;
            let (_local, rest) = octets::<4>(rest)?;
            (IpAddr::from(client), rest)
        }
        // TCP over IPv6.
        0x21 => {
            let (client, rest) = octets::<16>(content)?;
            let (_local, rest) = octets::<16>(rest)?;
            (IpAddr::from(client), rest)
        }
        // Unspecified, UDP, Unix sockets.
        0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32 => return Ok(ProxyHeader::Sender),
        family => return Err(ProxyHeaderError::FamilyInvalid(family)),
    };
    let (client_port, rest) = octets::<2>(rest)?;
    let (_local_port, _extensions) = octets::<2>(rest)?;
    Ok(client_header(client, u16::from_be_bytes(client_port)))
}

fn octets<const LEN: usize>(bytes: &[u8]) -> Result<([u8; LEN], &[u8]), ProxyHeaderError> {
    let (first, rest) = bytes
        .split_first_chunk()
        .ok_or(ProxyHeaderError::TooShort)?;
    Ok((*first, rest))
}

/// An IPv4-mapped address becomes an IPv4 address, because rules are about those.
fn client_header(ip: IpAddr, port: u16) -> ProxyHeader {
    ProxyHeader::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(client: &str) -> ProxyHeader {
        ProxyHeader::Client(client.parse().unwrap())
    }

    fn binary(version_and_command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        let fixed = [version_and_command, family, len[0], len[1]];
        [&SIGNATURE[..], &fixed, content].concat()
    }

    /// In one piece, byte by byte, and in every two pieces; what follows is not consumed.
    fn assert_decodes(header: &[u8], expected: ProxyHeader) {
        let followed = [header, b"GET / HTTP/1.1\r\n"].concat();
        for split in 0..=header.len() {
            let mut decoder = Decoder::default();
            let mut rest = &followed[..];
            let first = decoder.decode(&followed[..split]).unwrap();
            assert_eq!(first.consumed, split);
            rest = &rest[split..];
            let decoded = match first.header {
                Some(_) => first,
                None => {
                    let second = decoder.decode(rest).unwrap();
                    assert_eq!(second.consumed, header.len() - split);
                    second
                }
            };
            assert_eq!(decoded.header, Some(expected), "split at {split}");
        }
        let mut decoder = Decoder::default();
        for (at, byte) in header.iter().enumerate() {
            let decoded = decoder.decode(std::slice::from_ref(byte)).unwrap();
            assert_eq!(decoded.consumed, 1);
            let is_last = at + 1 == header.len();
            assert_eq!(decoded.header, is_last.then_some(expected), "byte {at}");
        }
    }

    fn refused(bytes: &[u8]) -> ProxyHeaderError {
        Decoder::default().decode(bytes).unwrap_err()
    }

    #[test]
    fn version_1_is_decoded_in_any_pieces() {
        assert_decodes(
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
            client("192.0.2.7:56324"),
        );
        assert_decodes(
            b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n",
            client("[2001:db8::7]:1"),
        );
        assert_decodes(
            b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 1 2\r\n",
            client("192.0.2.7:1"),
        );
        assert_decodes(b"PROXY UNKNOWN\r\n", ProxyHeader::Sender);
        assert_decodes(
            b"PROXY UNKNOWN ff:: ff:: 65535 65535\r\n",
            ProxyHeader::Sender,
        );
        // The longest that the specification allows.
        let v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {v6} {v6} 65535 65535\r\n");
        assert_eq!(longest.len(), MAX_LINE_LEN);
        assert_decodes(longest.as_bytes(), ProxyHeader::Sender);
    }

    #[test]
    fn version_2_is_decoded_in_any_pieces() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let expected = client("192.0.2.7:56324");
        assert_decodes(&binary(0x21, 0x11, &v4), expected);
        let extended = [&v4[..], &[0x04, 0, 3, 0, 0, 0]].concat();
        assert_decodes(&binary(0x21, 0x11, &extended), expected);
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[16], v6[31], v6[33], v6[35]) = (0x20, 7, 0x20, 1, 1, 2);
        assert_decodes(&binary(0x21, 0x21, &v6), client("[2000::7]:1"));
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        mapped[26..32].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        assert_decodes(&binary(0x21, 0x21, &mapped), client("192.0.2.7:0"));
    }

    #[test]
    fn the_senders_own_connections_are_recognised() {
        // LOCAL ignores family and content.
        assert_decodes(&binary(0x20, 0x00, b""), ProxyHeader::Sender);
        assert_decodes(&binary(0x20, 0x11, &[0; 12]), ProxyHeader::Sender);
        assert_decodes(&binary(0x20, 0xff, b"?"), ProxyHeader::Sender);
        for family in [0x00, 0x01, 0x02, 0x12, 0x22, 0x31, 0x32] {
            assert_decodes(&binary(0x21, family, b""), ProxyHeader::Sender);
        }
        assert_decodes(&binary(0x21, 0x31, &[0; 216]), ProxyHeader::Sender);
    }

    #[test]
    fn what_begins_otherwise_is_no_header() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXX",
            b"proxy TCP4",
            b"PROXY\tTCP4",
            b"\x16\x03\x01",
            b"\x05\x01\0",
            b"\r\n\r\nG",
        ] {
            assert_eq!(refused(bytes), ProxyHeaderError::Missing);
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "PROXY ",
            "PROXY TCP4",
            "PROXY TCP5 192.0.2.7 192.0.2.1 1 2",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 ",
            "PROXY TCP4  192.0.2.7 192.0.2.1 1 2",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536",
            "PROXY TCP4 192.0.2.7 192.0.2.1 01 2",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 2",
            "PROXY TCP4 192.0.2.007 192.0.2.1 1 2",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 192.0.2.7 192.0.2.1 1 2",
            "PROXY TCP6 [::1] ::1 1 2",
            "PROXY unknown",
            "PROXY TCP4 a.example 192.0.2.1 1 2",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\rX",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\nX",
        ] {
            let error = refused(format!("{line}\r\n").as_bytes());
            assert_eq!(error, ProxyHeaderError::LineInvalid, "{line}");
        }
        assert_eq!(refused(b"PROXY \xff\r\n"), ProxyHeaderError::LineInvalid);
    }

    #[test]
    fn a_line_that_does_not_end_is_refused() {
        let endless = [b"PROXY UNKNOWN ", &[b'x'; MAX_LINE_LEN][..]].concat();
        assert_eq!(refused(&endless), ProxyHeaderError::LineTooLong);
        let mut decoder = Decoder::default();
        let whole = &endless[..MAX_LINE_LEN - 1];
        let decoded = decoder.decode(whole).unwrap();
        assert_eq!((decoded.consumed, decoded.header), (whole.len(), None));
        assert_eq!(decoder.decode(b"\r"), Err(ProxyHeaderError::LineTooLong));
    }

    #[test]
    fn invalid_binary_headers_are_refused() {
        let content = [0; 12];
        let error = refused(&binary(0x11, 0x11, &content));
        assert_eq!(error, ProxyHeaderError::VersionInvalid(1));
        let error = refused(&binary(0x22, 0x11, &content));
        assert_eq!(error, ProxyHeaderError::CommandInvalid(2));
        for family in [0x03, 0x13, 0x40, 0xff] {
            let error = refused(&binary(0x21, family, &content));
            assert_eq!(error, ProxyHeaderError::FamilyInvalid(family));
        }
        for len in 0..12 {
            let error = refused(&binary(0x21, 0x11, &content[..len]));
            assert_eq!(error, ProxyHeaderError::TooShort, "{len}");
        }
        assert_eq!(
            refused(&binary(0x21, 0x21, &[0; 35])),
            ProxyHeaderError::TooShort
        );
    }

    #[test]
    fn a_header_that_is_too_long_is_refused_before_it_is_received() {
        let longest = vec![0; MAX_LEN - FIXED_LEN];
        assert_decodes_once(&binary(0x20, 0, &longest));
        let too_long = binary(0x20, 0, &vec![0; MAX_LEN - FIXED_LEN + 1]);
        assert_eq!(refused(&too_long[..FIXED_LEN]), ProxyHeaderError::TooLong);
    }

    #[test]
    fn no_input_panics_or_consumes_more_than_there_is() {
        let headers = [
            &b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb",
        ];
        for header in headers {
            for at in 0..header.len() {
                for value in 0..=u8::MAX {
                    let mut bytes = header.to_vec();
                    bytes[at] = value;
                    if let Ok(decoded) = Decoder::default().decode(&bytes) {
                        assert!(decoded.consumed <= bytes.len());
                    }
                }
            }
        }
    }

    fn assert_decodes_once(header: &[u8]) {
        let followed = [header, b"more"].concat();
        let decoded = Decoder::default().decode(&followed).unwrap();
        let expected = Decoded {
            consumed: header.len(),
            header: Some(ProxyHeader::Sender),
        };
        assert_eq!(decoded, expected);
    }
}
