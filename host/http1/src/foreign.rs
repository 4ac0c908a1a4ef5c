//! Detects the protocol of a client that does not speak HTTP/1, by its first bytes.
//!
//! Misconfigured clients are the most frequent cause of malformed requests: a proxy that is configured as a SOCKS
//! proxy, TLS to a port without TLS or the reverse, a load balancer that sends the PROXY protocol. The log names the
//! protocol and a remedy. This decides nothing; the bytes have already been refused.

/// A protocol that is not HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its name, such as `SOCKS5`.
    pub name: &'static str,
    /// How to make the client work.
    pub remedy: &'static str,
}

const AS_HTTP_PROXY: &str =
    "configure it as an HTTP proxy, or add a listener of the kind \"socks5\"";
const NO_HEADER: &str =
    "disable it at the sender, or add it to proxy_protocol_from of this listener";
const THROUGH_CONNECT: &str = "tunnel it through this proxy with CONNECT";
const BY_HTTP: &str = "set the proxy URL to http://, or start the proxy with --cert-file and --key-file to accept TLS";

impl Foreign {
    /// Detects the protocol by the first bytes of a connection; `None` if they are HTTP/1 or unknown.
    pub fn of(received: &[u8]) -> Option<Self> {
        let (name, remedy) = by_bytes(received).or_else(|| by_line(received))?;
        Some(Self { name, remedy })
    }
}

fn by_bytes(received: &[u8]) -> Option<(&'static str, &'static str)> {
    Some(match received {
        [0x16, 0x03, ..] => ("TLS", BY_HTTP),
        // A ClientHello in the format of SSL 2.
        [0x80..=0xff, _, 0x01, 0x00 | 0x03, ..] => ("TLS", BY_HTTP),
        [0x05] | [0x05, 1..=255, ..] => ("SOCKS5", AS_HTTP_PROXY),
        [0x04] | [0x04, 0x01 | 0x02, ..] => ("SOCKS4", AS_HTTP_PROXY),
        [0x03, 0x00, _, _, _, 0xe0, ..] => ("RDP", THROUGH_CONNECT),
        [0x0d, 0x0a, 0x0d, 0x0a, 0x00, ..] => ("PROXY protocol, version 2", NO_HEADER),
        [0xff, 0xfb..=0xfe, ..] => ("Telnet", THROUGH_CONNECT),
        [0x00, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..] => ("SMB", THROUGH_CONNECT),
        [0x00, 0x00, _, _, 0x00, 0x03, 0x00, 0x00, ..]
        | [0x00, 0x00, 0x00, 0x08, 0x04, 0xd2, 0x16, 0x2e..=0x30, ..] => {
            ("PostgreSQL", THROUGH_CONNECT)
        }
        [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0xd4 | 0xdd,
            0x07,
            0x00,
            0x00,
            ..,
        ] => ("MongoDB", THROUGH_CONNECT),
        [0x10, _, 0x00, 0x04, b'M', b'Q', b'T', b'T', ..]
        | [0x10, _, 0x00, 0x06, b'M', b'Q', b'I', b's', ..] => ("MQTT", THROUGH_CONNECT),
        [0x30, _, 0x02, 0x01, _, 0x60, ..] => ("LDAP", THROUGH_CONNECT),
        [0x13, b'B', b'i', b't', ..] => ("BitTorrent", THROUGH_CONNECT),
        [b'A', b'M', b'Q', b'P', ..] => ("AMQP", THROUGH_CONNECT),
        [b'R', b'F', b'B', b' ', ..] => ("VNC", THROUGH_CONNECT),
        [b'S', b'S', b'H', b'-', ..] => ("SSH", THROUGH_CONNECT),
        [b'<', b'?', b'x', b'm', ..] | [b'<', b's', b't', b'r', ..] => ("XMPP", THROUGH_CONNECT),
        [b'*', b'0'..=b'9', b'\r', b'\n', b'$', ..] => ("Redis", THROUGH_CONNECT),
        _ => return None,
    })
}

/// Line-based protocols, by their first line.
fn by_line(received: &[u8]) -> Option<(&'static str, &'static str)> {
    const LONGEST: usize = 512;
    let start = received
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = received[start..].split(|byte| *byte == b'\n').next()?;
    let line = line[..line.len().min(LONGEST)].trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ');
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    let second = words.next().map(<[u8]>::to_ascii_uppercase);
    let has_more = second.is_some();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    Some(match (&first[..], second.as_deref().unwrap_or_default()) {
        (b"PRI", b"*") if last.starts_with(b"HTTP/2") => (
            "plain HTTP/2",
            "use HTTP/1.1; HTTP/2 requires TLS to the proxy (--cert-file and --key-file)",
        ),
        (b"PROXY", b"TCP4" | b"TCP6" | b"UNKNOWN") => ("PROXY protocol", NO_HEADER),
        _ if last.starts_with(b"RTSP/") => ("RTSP", THROUGH_CONNECT),
        _ if last.starts_with(b"SIP/") => ("SIP", THROUGH_CONNECT),
        _ if last.starts_with(b"ICAP/") => ("ICAP", "this is not an ICAP server"),
        _ if last.starts_with(b"HTTP/") => return None,
        (b"EHLO" | b"HELO" | b"LHLO", _) => ("SMTP", THROUGH_CONNECT),
        (b"MAIL", from) if from.starts_with(b"FROM:") => ("SMTP", THROUGH_CONNECT),
        (b"USER", _) if has_more => ("FTP or POP3", THROUGH_CONNECT),
        (b"AUTH", b"TLS" | b"SSL") | (b"FEAT" | b"SYST", _) if !has_more || first == b"AUTH" => {
            ("FTP", THROUGH_CONNECT)
        }
        (b"CAPA" | b"APOP", _) => ("POP3", THROUGH_CONNECT),
        (_, b"CAPABILITY" | b"LOGIN" | b"STARTTLS" | b"AUTHENTICATE") => ("IMAP", THROUGH_CONNECT),
        (b"CAPABILITIES", _) | (b"MODE", b"READER") => ("NNTP", THROUGH_CONNECT),
        (b"NICK", _) | (b"CAP", b"LS") => ("IRC", THROUGH_CONNECT),
        (b"PING" | b"INFO", _) if !has_more => ("Redis", THROUGH_CONNECT),
        (b"STOMP", _) if !has_more => ("STOMP", THROUGH_CONNECT),
        (b"GET" | b"HEAD" | b"POST", target)
            if target.starts_with(b"/") && line.len() < LONGEST =>
        {
            (
                "a request line without a version (HTTP/0.9)",
                "use HTTP/1.1",
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Foreign;

    fn name(received: &[u8]) -> Option<&'static str> {
        Foreign::of(received).map(|foreign| foreign.name)
    }

    #[test]
    fn a_protocol_is_recognised_by_its_first_bytes() {
        for (received, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], "TLS"),
            (b"\x80\x2e\x01\x03\x01", "TLS"),
            (b"\x05\x01\x00", "SOCKS5"),
            (b"\x05", "SOCKS5"),
            (b"\x04\x01\x00\x50\x7f\0\0\x01u\0", "SOCKS4"),
            (b"\x03\x00\x00\x13\x0e\xe0\0\0", "RDP"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "PROXY protocol, version 2"),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET ",
                "PROXY protocol",
            ),
            (b"PROXY UNKNOWN\r\n", "PROXY protocol"),
            (b"\xff\xfd\x01", "Telnet"),
            (b"\0\0\0\x45\xffSMBr", "SMB"),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", "PostgreSQL"),
            (b"\x3b\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0", "MongoDB"),
            (b"\x10\x10\x00\x04MQTT\x04", "MQTT"),
            (b"\x30\x0c\x02\x01\x01\x60\x07", "LDAP"),
            (b"\x13BitTorrent protocol", "BitTorrent"),
            (b"AMQP\0\0\x09\x01", "AMQP"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
            (b"<?xml version='1.0'?>", "XMPP"),
            (b"*1\r\n$4\r\nPING\r\n", "Redis"),
            (b"PING\r\n", "Redis"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain HTTP/2"),
            (b"OPTIONS rtsp://a.example/ RTSP/1.0\r\n", "RTSP"),
            (b"EHLO client.example\r\n", "SMTP"),
            (b"helo client.example\r\n", "SMTP"),
            (b"MAIL FROM:<a@b.example>\r\n", "SMTP"),
            (b"USER anonymous\r\n", "FTP or POP3"),
            (b"AUTH TLS\r\n", "FTP"),
            (b"CAPA\r\n", "POP3"),
            (b"a1 LOGIN user word\r\n", "IMAP"),
            (b"NICK somebody\r\n", "IRC"),
            (
                b"GET /path\r\n",
                "a request line without a version (HTTP/0.9)",
            ),
        ] {
            assert_eq!(name(received), Some(expected), "{received:?}");
        }
    }

    #[test]
    fn http_is_not_foreign() {
        for received in [
            &b""[..],
            b"\r\n",
            b"GET http://a.example/ HTTP/1.1\r\n",
            b"PING http://a.example/ HTTP/1.1\r\n",
            b"USER http://a.example/ HTTP/1.0\r\n",
            b"GET /CAPABILITY HTTP/9.9\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\n",
            b"\x00\x01\x02",
        ] {
            assert_eq!(name(received), None, "{received:?}");
        }
    }
}
