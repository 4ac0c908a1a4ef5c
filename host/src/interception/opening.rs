//! What a client speaks inside of a tunnel, told by its first bytes.

/// What the first bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed to tell.
    Undecided,
    /// A TLS handshake record (RFC 8446 §5.1).
    Tls,
    /// An HTTP/1 request line, whatever its method.
    Http,
    /// The preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
    /// Something else.
    Other,
}

/// The longest request line that is waited for, in bytes.
const MAX_LINE: usize = 16 * 1024;

impl Opening {
    /// Tells by what has been received so far.
    pub(crate) fn of(received: &[u8]) -> Self {
        match received {
            [] | [0x16] => Self::Undecided,
            [0x16, 3, ..] => Self::Tls,
            // Nothing but empty lines: too many for a server of HTTP, too.
            _ if received.len() > MAX_LINE && behind_empty_lines(received).is_empty() => Self::Http,
            _ => Self::of_text(behind_empty_lines(received)),
        }
    }

    /// A line of text decides at its end, and anything else at its first byte that is no text.
    fn of_text(received: &[u8]) -> Self {
        let end = received.iter().position(|byte| *byte == b'\n');
        let line = &received[..end.unwrap_or(received.len())];
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | 0x80..);
        if line.len() > MAX_LINE || !line.iter().all(is_text) {
            return Self::Other;
        }
        if end.is_none() {
            return Self::Undecided;
        }
        let line = line.trim_ascii_end();
        if line == b"PRI * HTTP/2.0" {
            Self::Http2
        } else if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
            Self::Http
        } else {
            Self::Other
        }
    }
}

/// Servers skip empty lines before a request (RFC 9112 §2.2).
fn behind_empty_lines(received: &[u8]) -> &[u8] {
    let begin = received
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'));
    &received[begin.unwrap_or(received.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for (received, opening) in [
            (&b""[..], Opening::Undecided),
            (b"\x16", Opening::Undecided),
            (b"\x16\x03\x01", Opening::Tls),
            (b"\x16\x04", Opening::Other),
            (b"\x80\x2e\x01", Opening::Other),
            (b"G", Opening::Undecided),
            (b"GET / HTTP/1.1\r", Opening::Undecided),
            (b"GET / HTTP/1.1\r\n", Opening::Http),
            (b"POST /a HTTP/1.0\n", Opening::Http),
            (b"GET /old\r\n", Opening::Other),
            (b"\r\n", Opening::Undecided),
            (b"\r\n\nGET / HTTP/1.1\r\n", Opening::Http),
            (b"\r\nNICK somebody\r\n", Opening::Other),
            (b"GETX", Opening::Undecided),
            (b"GETX\r\n", Opening::Other),
            (b"PROPFIND /a HTTP/1.1\r\n", Opening::Http),
            (b"PRI * HTTP/2.0\r\n", Opening::Http2),
            (b"SSH-2.0-x\r\n", Opening::Other),
            (b"NICK somebody\r\n", Opening::Other),
            (b"\0\0\0", Opening::Other),
        ] {
            assert_eq!(
                Opening::of(received),
                opening,
                "{}",
                received.escape_ascii()
            );
        }
        assert_eq!(
            Opening::of(&[b"GET ", &[b'a'; MAX_LINE][..]].concat()),
            Opening::Other
        );
        assert_eq!(Opening::of(&[b'\n'; MAX_LINE + 1]), Opening::Http);
    }

    #[test]
    fn a_request_line_is_told_at_its_end_and_never_taken_back() {
        let line = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n";
        for len in 0..line.len() {
            let expected = match len < 20 {
                true => Opening::Undecided,
                false => Opening::Http,
            };
            assert_eq!(Opening::of(&line[..len]), expected, "{len}");
        }
    }
}
