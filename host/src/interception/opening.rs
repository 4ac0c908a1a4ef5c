//! Detects the protocol of a client inside a tunnel by its first bytes.
//!
//! Anything that some server would treat as HTTP, in any spelling, must not be relayed without inspection. So in doubt
//! it is HTTP, and the parser then refuses it. The result depends only on the bytes, not on how they are split, and
//! more bytes never change it.

/// The protocol that the first bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed.
    Undecided,
    /// A TLS record (RFC 8446 §5.1) of any type and version: some servers skip alerts, and all must ignore the version.
    Tls,
    /// A ClientHello of SSL 2 (RFC 5246 §E.2), which some servers still accept to negotiate TLS.
    Ssl2,
    /// An HTTP/1 request line of any method and version, or something that a server could take for one.
    Http,
    /// The preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
    /// Neither HTTP nor TLS.
    Other,
}

/// The maximum length of the first line, in bytes; a longer one is HTTP.
const MAX_LINE: usize = 16 * 1024;

/// Methods that decide without the rest of the line (RFC 9110 §9.3, RFC 5789, RFC 4918, RFC 10008).
const METHODS: [&[u8]; 18] = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"QUERY",
];

impl Opening {
    /// Classifies the bytes received so far.
    pub(crate) fn of(received: &[u8]) -> Self {
        match received {
            [0x14..=0x18, ..] => Self::Tls,
            [first, second, ..] if is_telnet(*first, *second) => Self::of_line(received),
            [0x80..=0xff, _, 1, ..] => Self::Ssl2,
            [0x80..=0xff] | [0x80..=0xff, _] => Self::Undecided,
            _ => Self::of_line(received),
        }
    }

    /// Like [`of`](Self::of), for a client that has closed its direction.
    pub(crate) fn of_all(received: &[u8]) -> Self {
        match Self::of(received) {
            Self::Undecided => Self::of(&[received, b"\n"].concat()).or_other(),
            opening => opening,
        }
    }

    fn or_other(self) -> Self {
        match self {
            Self::Undecided => Self::Other,
            opening => opening,
        }
    }

    fn of_line(received: &[u8]) -> Self {
        // Further bytes are ignored, so that the split does not matter.
        let begin = &received[..received.len().min(MAX_LINE + 1)];
        Self::of_text(behind_space(begin), begin.len() > MAX_LINE)
    }

    fn of_text(text: &[u8], is_too_long: bool) -> Self {
        let line_len = text.iter().position(|byte| *byte == b'\n');
        let line = &text[..line_len.unwrap_or(text.len())];
        if begins_stream(text) {
            return Self::Other;
        }
        let (method, target) = words(line);
        let is_known = METHODS.contains(&method) && method.len() < text.len();
        if is_known || begins_with_letter(method) && is_target(target) {
            return Self::Http;
        }
        // No server accepts a control character in the method or before the target; one after them hides nothing before
        // it.
        let is_text = |byte: &u8| !byte.is_ascii_control() || is_space(*byte);
        if let Some(end) = line.iter().position(|byte| !is_text(byte)) {
            return match names_http(&line[..end]) {
                true => Self::Http,
                false => Self::Other,
            };
        }
        match line_len {
            None if is_too_long => Self::Http,
            None => Self::Undecided,
            Some(_) if line.trim_ascii_end() == b"PRI * HTTP/2.0" => Self::Http2,
            Some(_) if names_http(line) => Self::Http,
            Some(_) => Self::Other,
        }
    }
}

/// Whether a Telnet option is negotiated (RFC 854); ECHO has the number 1. As SSL 2, it would be a message of 32 KiB,
/// more than any server accepts.
fn is_telnet(first: u8, second: u8) -> bool {
    first == 0xff && matches!(second, 0xfb..=0xfe)
}

/// Whether a text protocol begins whose first line may never end: XMPP (RFC 6120 §4.2), or syslog with counted messages
/// (RFC 6587 §3.4.1). Whatever follows, their second word is neither a path nor a URL.
fn begins_stream(text: &[u8]) -> bool {
    begins_xml(text) || begins_syslog(text)
}

/// An XML declaration or the tag of a stream, up to the first attribute's quote.
fn begins_xml(text: &[u8]) -> bool {
    let tags = [&b"<?xml "[..], b"<stream:stream "];
    let Some(attributes) = tags.iter().find_map(|tag| text.strip_prefix(*tag)) else {
        return false;
    };
    let attribute = attributes.trim_ascii_start();
    let is_in_name = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b':';
    let name_len = attribute.iter().take_while(|byte| is_in_name(byte)).count();
    name_len > 0 && matches!(attribute[name_len..], [b'=', b'\'' | b'"', ..])
}

/// The length of a message and its priority, such as `83 <34>`.
fn begins_syslog(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let len = digits(text);
    let Some(priority) = text[len..].strip_prefix(b" <") else {
        return false;
    };
    let priority_len = digits(priority);
    len > 0 && priority_len > 0 && priority.get(priority_len) == Some(&b'>')
}

/// Skips leading white space: servers skip empty lines before a request (RFC 9112 §2.2), some also other space.
fn behind_space(received: &[u8]) -> &[u8] {
    let begin = received
        .iter()
        .position(|byte| *byte != b'\n' && !is_space(*byte));
    &received[begin.unwrap_or(received.len())..]
}

/// What lenient servers accept between words (RFC 9112 §3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

/// The first two words of a line, as far as received. NUL ends a word as well.
fn words(line: &[u8]) -> (&[u8], &[u8]) {
    let mut words = line.splitn(2, |byte| is_space(*byte) || *byte == 0);
    let first = words.next().unwrap_or_default();
    let rest = words.next().unwrap_or_default();
    let begin = rest.iter().position(|byte| !is_space(*byte));
    let rest = &rest[begin.unwrap_or(rest.len())..];
    let end = rest.iter().position(|byte| is_space(*byte) || *byte == 0);
    (first, &rest[..end.unwrap_or(rest.len())])
}

/// Whether it may be a method. None begins with a digit, but the first line of git does.
fn begins_with_letter(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_alphabetic)
        && word.iter().all(|byte| byte.is_ascii_graphic())
}

/// Whether `word` begins a path or a URL.
fn is_target(word: &[u8]) -> bool {
    let is_scheme = |scheme: &[u8]| {
        let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        !scheme.is_empty() && scheme.iter().all(is_scheme_byte)
    };
    let scheme_len = word.windows(3).position(|bytes| bytes == b"://");
    word.starts_with(b"/") || scheme_len.is_some_and(|len| is_scheme(&word[..len]))
}

fn names_http(line: &[u8]) -> bool {
    line.windows(5)
        .any(|bytes| bytes.eq_ignore_ascii_case(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First bytes, and their protocol. For HTTP, `parse` decides whether they are valid.
    const SPELLINGS: &[(&[u8], Opening)] = &[
        // Undecided.
        (b"", Opening::Undecided),
        (b"G", Opening::Undecided),
        (b"GET", Opening::Undecided),
        (b"GETX", Opening::Undecided),
        (b"FOO ", Opening::Undecided),
        (b"\r\n", Opening::Undecided),
        (b" \t\r\n ", Opening::Undecided),
        (b"\x80", Opening::Undecided),
        (b"\x80\x2e", Opening::Undecided),
        // Valid HTTP.
        (b"GET / HTTP/1.1\r\n", Opening::Http),
        (b"POST /a HTTP/1.0\n", Opening::Http),
        (b"OPTIONS * HTTP/1.1\r\n", Opening::Http),
        (b"PROPFIND /a HTTP/1.1\r\n", Opening::Http),
        (b"GET http://a.example/ HTTP/1.1\r\n", Opening::Http),
        (b"CONNECT a.example:443 HTTP/1.1\r\n", Opening::Http),
        // A method and a space are enough, so that nobody waits for the rest.
        (b"GET ", Opening::Http),
        (b"GET\t", Opening::Http),
        (b"GET\r", Opening::Http),
        (b"GET\n", Opening::Http),
        (b"DELETE x", Opening::Http),
        // Without a version, or with another one than HTTP's.
        (b"GET /x\r\n", Opening::Http),
        (b"GET x\r\n", Opening::Http),
        (b"get /x\r\n", Opening::Http),
        (b"GET / HTTP/0.9\r\n", Opening::Http),
        (b"GET / HTTP/1.2\r\n", Opening::Http),
        (b"GET / HTTP/1.9\r\n", Opening::Http),
        (b"GET / HTTP/1.10\r\n", Opening::Http),
        (b"GET / HTTP/2.0\r\n", Opening::Http),
        (b"GET / HTTP/3.0\r\n", Opening::Http),
        (b"GET / HTTP/1\r\n", Opening::Http),
        (b"GET / http/1.1\r\n", Opening::Http),
        (b"GET / FOO/1.1\r\n", Opening::Http),
        (b"GET / HTTP/1.1 \r\n", Opening::Http),
        (b"FOO /x BAR/1.1\r\n", Opening::Http),
        // Methods in lower case, or unknown ones.
        (b"get / HTTP/1.1\r\n", Opening::Http),
        (b"Get x HTTP/1.1\r\n", Opening::Http),
        (b"FOO / HTTP/1.1\r\n", Opening::Http),
        (b"FOO /", Opening::Http),
        (b"FOO http://a/", Opening::Http),
        (b"FOO x HTTP/1.1\r\n", Opening::Http),
        (b"0FOO / HTTP/1.1\r\n", Opening::Http),
        (b"M-SEARCH * HTTP/1.1\r\n", Opening::Http),
        (b"\xffGET / HTTP/1.1\r\n", Opening::Http),
        (b"\xff\xfdGET / HTTP/1.1\r\n", Opening::Http),
        (b"HTTP/1.1 200 OK\r\n", Opening::Http),
        // Other white space, before and between.
        (b"\r\n\nGET / HTTP/1.1\r\n", Opening::Http),
        (b" GET / HTTP/1.1\r\n", Opening::Http),
        (b"\t\x0b\x0cGET / HTTP/1.1\r\n", Opening::Http),
        (b"GET  / HTTP/1.1\r\n", Opening::Http),
        (b"FOO\t/x\tHTTP/1.1\r\n", Opening::Http),
        (b"FOO\t /x", Opening::Http),
        (b"GET / HTTP/1.1\rHost: a\r", Opening::Http),
        // Control characters do not hide it.
        (b"GET\0/", Opening::Http),
        (b"GET /\x01 HTTP/1.1\r\n", Opening::Http),
        (b"FOO /\x01 HTTP/1.1\r\n", Opening::Http),
        (b"FOO /\0", Opening::Http),
        (b"FOO x HTTP/1.1\0", Opening::Http),
        // HTTP/2 without TLS.
        (b"PRI * HTTP/2.0\r\n", Opening::Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Opening::Http2),
        (b"PRI * HTTP/2.1\r\n", Opening::Http),
        (b"pri * HTTP/2.0\r\n", Opening::Http),
        // TLS: any record, any version.
        (b"\x16", Opening::Tls),
        (b"\x16\x03\x01", Opening::Tls),
        (b"\x16\x03\x01\0\0", Opening::Tls),
        (b"\x16\x04", Opening::Tls),
        (b"\x16\x0f\x0f", Opening::Tls),
        (b"\x15\x03\x01\0\x02\x01\x5a\x16\x03\x01", Opening::Tls),
        (b"\x14\x03\x01\0\x01\x01", Opening::Tls),
        (b"\x17\x03\x01\0\0", Opening::Tls),
        (b"\x18\x03\x01", Opening::Tls),
        (b"\x80\x2e\x01\x03\x01", Opening::Ssl2),
        (b"\xff\xff\x01", Opening::Ssl2),
        (b"\xff\xfa\x01", Opening::Ssl2),
        // Neither.
        (b"SSH-2.0-x\r\n", Opening::Other),
        (b"NICK somebody\r\n", Opening::Other),
        (b"\r\nNICK somebody\r\n", Opening::Other),
        (b"USER a 0 * :b/c\r\n", Opening::Other),
        (b"EHLO a.example\r\n", Opening::Other),
        (b"a001 LOGIN a /b\r\n", Opening::Other),
        (b"GETX\r\n", Opening::Other),
        (b"get key\r\n", Opening::Other),
        (b"/selector\r\n", Opening::Other),
        (b"<?xml version='1.0'?>\n", Opening::Other),
        (
            b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>\n",
            Opening::Other,
        ),
        // Without the end of the line, which may never come.
        (b"<?xml version='1.0'?>", Opening::Other),
        (b"<?xml  version=\"1.0\"?>", Opening::Other),
        (b"<stream:stream to='a.example'>", Opening::Other),
        (b"<stream:stream xmlns:stream='http://a/", Opening::Other),
        (b"83 <34>1 2026-01-01T00:00:00Z a", Opening::Other),
        (b"<?xml /x='", Opening::Undecided),
        (b"<?xml /x HTTP/1.1\r\n", Opening::Http),
        (b"<stream:stream http://a/ HTTP/1.1\r\n", Opening::Http),
        (b"<stream:stream HTTP/1.1\r\n", Opening::Http),
        (b"83 </x HTTP/1.1\r\n", Opening::Http),
        (b"83 <>", Opening::Undecided),
        (b"REGISTER sip:a.example SIP/2.0\r\n", Opening::Other),
        (
            b"0033git-upload-pack /project.git\0host=a.example\0",
            Opening::Other,
        ),
        (b"RFB 003.008\n", Opening::Other),
        (b"\0\0\0", Opening::Other),
        (b"\x01GET /", Opening::Other),
        (b"\x05\x01\0", Opening::Other),
        (b"\x10\x10\0\x04MQTT", Opening::Other),
        (b"\x13BitTorrent protocol", Opening::Other),
        (b"AMQP\0\0\x09\x01", Opening::Other),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Opening::Other),
        (b"\xff\xfc\x01", Opening::Other),
        (b"\xff\xfd\x01\xff\xfb\x1f", Opening::Other),
        (b"\xff\xfb\x18GET / HTTP/1.1\r\n", Opening::Other),
    ];

    #[test]
    fn the_first_bytes_decide_the_protocol() {
        for (received, opening) in SPELLINGS {
            let shown = received.escape_ascii();
            assert_eq!(Opening::of(received), *opening, "{shown}");
        }
    }

    #[test]
    fn a_decision_is_final() {
        for (received, opening) in SPELLINGS {
            for len in 0..=received.len() {
                let told = Opening::of(&received[..len]);
                let may_be = told == Opening::Undecided || told == *opening;
                assert!(may_be, "{}: {told:?}", received[..len].escape_ascii());
            }
            if *opening != Opening::Undecided {
                let longer = [received, &b" HTTP/1.1\r\n\x16\x03\x01"[..]].concat();
                assert_eq!(Opening::of(&longer), *opening, "{}", longer.escape_ascii());
            }
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_http() {
        for text in [&b"GETX"[..], b"x y", b"\xff\xff\xff", b""] {
            let space = [text, &[b' '; MAX_LINE][..]].concat();
            assert_eq!(Opening::of(&[&space[..], b" "].concat()), Opening::Http);
            let word = [text, &[b'a'; MAX_LINE][..]].concat();
            assert_eq!(Opening::of(&[&word[..], b"a"].concat()), Opening::Http);
        }
        assert_eq!(Opening::of(&[b'\n'; MAX_LINE + 1]), Opening::Http);
    }

    #[test]
    fn incomplete_openings_are_decided_at_their_end() {
        for (received, opening) in [
            (&b""[..], Opening::Other),
            (b"G", Opening::Other),
            (b"GET", Opening::Http),
            (b"x HTTP/1.0", Opening::Http),
            (b"PRI * HTTP/2.0", Opening::Http2),
            (b"SSH-2.0-x", Opening::Other),
            (b"\x80\x2e", Opening::Other),
            (b"\r\n", Opening::Other),
        ] {
            let shown = received.escape_ascii();
            assert_eq!(Opening::of_all(received), opening, "{shown}");
        }
    }
}
