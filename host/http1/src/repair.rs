//! Repairs malformed responses: always where RFC 9112 allows it, further only if the operator configures it.
//!
//! A head is repaired by rewriting it, and the result is then parsed like any other. Nothing bypasses the strict
//! parser, so no repair can split a response or let a control character through. Only refused text is repaired; a valid
//! head has no extra cost.
//!
//! Always, because RFC 9112 allows it: a folded field becomes one line (§5.2), white space before a colon is removed
//! (§5.1; in a head, the strict parser does that), and HTTP/1.2 to 1.9 are read as HTTP/1.1 (RFC 9110 §2.5). With
//! [`Leniency::Relaxed`]: LF without CR ends a line (§2.2), any white space separates the parts of a status line (§4),
//! `ICY 200 OK` is HTTP/1.0, a control character in a value or a reason phrase becomes a space (RFC 9110 §5.5), and a
//! line that is not a field is omitted (§2.2). Never: NUL, a CR that does not end a line, and anything that is or could
//! be mistaken for a length or a transfer coding: curl and Squid disagree about folded ones.

use plugin_contract::field::is_token;

use crate::fields::FieldId;

/// How much is repaired in a malformed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leniency {
    /// What RFC 9112 allows.
    Strict,
    /// What Squid, curl or browsers accept as well.
    Relaxed,
}

/// Repairs the response head in `text`; `None` if that is impossible. The result may still be invalid and must be
/// parsed.
pub(crate) fn response_head(text: &[u8], leniency: Leniency) -> Option<Vec<u8>> {
    let mut lines = Lines {
        rest: text,
        leniency,
    };
    let mut out = Vec::with_capacity(text.len() + 64);
    write_status_line(lines.next()?, leniency, &mut out);
    field_section(lines, leniency, &mut out)?;
    Some(out)
}

/// Whether a line ends with LF alone.
pub(crate) fn has_bare_line_feed(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', text).any(|at| at == 0 || text[at - 1] != b'\r')
}

/// Repairs the trailer section in `text`, including the empty line that ends it. LF without CR is never accepted here:
/// the body would end where other parsers do not end it.
pub(crate) fn trailer_section(text: &[u8]) -> Option<Vec<u8>> {
    let leniency = Leniency::Strict;
    let mut out = Vec::with_capacity(text.len());
    field_section(
        Lines {
            rest: text,
            leniency,
        },
        leniency,
        &mut out,
    )?;
    Some(out)
}

/// The lines of a text, without line ends.
struct Lines<'t> {
    rest: &'t [u8],
    leniency: Leniency,
}

impl<'t> Iterator for Lines<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        match (line.strip_suffix(b"\r"), self.leniency) {
            (Some(line), _) => Some(line),
            (None, Leniency::Relaxed) => Some(line),
            (None, Leniency::Strict) => None,
        }
    }
}

fn write_status_line(line: &[u8], leniency: Leniency, out: &mut Vec<u8>) {
    match leniency {
        Leniency::Strict => match line {
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                b'1',
                b'.',
                b'2'..=b'9',
                rest @ ..,
            ] => {
                out.extend_from_slice(b"HTTP/1.1");
                out.extend_from_slice(rest);
            }
            line => out.extend_from_slice(line),
        },
        Leniency::Relaxed => {
            let (version, rest) = word(line);
            let (status, reason) = word(rest);
            out.extend_from_slice(match version {
                b"ICY" => b"HTTP/1.0",
                [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => b"HTTP/1.1",
                version => version,
            });
            out.push(b' ');
            out.extend_from_slice(status);
            out.push(b' ');
            let at = out.len();
            out.extend_from_slice(reason);
            blank_controls(&mut out[at..]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The bytes up to the first white space, and those after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| is_blank(byte));
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let next = rest.iter().position(|&byte| !is_blank(byte));
    (word, &rest[next.unwrap_or(rest.len())..])
}

/// The line before a folded one.
enum Before {
    Nothing,
    /// It was written at `at`.
    Field {
        at: usize,
        /// It determines the end of the message. Such a value is never changed.
        frames: bool,
    },
    /// It was omitted; its last letters and digits, in lower case: enough to recognise a name that continues on the
    /// next line.
    LeftOut(Vec<u8>),
}

fn field_section(mut lines: Lines<'_>, leniency: Leniency, out: &mut Vec<u8>) -> Option<()> {
    let mut before = Before::Nothing;
    loop {
        let line = lines.next()?;
        let is_folded = line.first().is_some_and(|&byte| is_blank(byte));
        before = match (before, is_folded) {
            (Before::Field { frames: true, .. }, true) => return None,
            (before @ Before::Field { .. }, true) => {
                unfold(line, out);
                before
            }
            (before, is_folded) => {
                if let (Before::Field { at, frames: false }, Leniency::Relaxed) =
                    (&before, leniency)
                {
                    blank_controls_of_value(&mut out[*at..]);
                }
                match field(line) {
                    _ if line.is_empty() => break,
                    Some((name, rest)) if !is_folded => {
                        let at = out.len();
                        out.extend_from_slice(name);
                        out.extend_from_slice(rest);
                        out.extend_from_slice(b"\r\n");
                        let frames = frames(name);
                        Before::Field { at, frames }
                    }
                    _ if leniency == Leniency::Strict => return None,
                    _ => Before::LeftOut(leave_out(line, before, is_folded)?),
                }
            }
        };
    }
    out.extend_from_slice(b"\r\n");
    lines.rest.is_empty().then_some(())
}

/// The name of a field, and the rest from the colon on.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = line.split_at(memchr::memchr(b':', line)?);
    let name = trimmed_end(name);
    is_token(name).then_some((name, rest))
}

/// Appends a folded line to the last written one (RFC 9112 §5.2).
fn unfold(line: &[u8], out: &mut Vec<u8>) {
    let more = trimmed(line);
    out.truncate(out.len() - b"\r\n".len());
    if !more.is_empty() {
        out.truncate(trimmed_end(out).len());
        out.push(b' ');
        out.extend_from_slice(more);
    }
    out.extend_from_slice(b"\r\n");
}

/// Checks that a line may be omitted; returns the last letters of the omitted lines that belong together.
fn leave_out(line: &[u8], before: Before, is_folded: bool) -> Option<Vec<u8>> {
    let mut letters = match before {
        Before::LeftOut(letters) if is_folded => letters,
        _ => Vec::new(),
    };
    let plain = line.iter().filter(|byte| byte.is_ascii_alphanumeric());
    letters.extend(plain.map(u8::to_ascii_lowercase));
    let is_dangerous = line.iter().any(|byte| matches!(byte, b'\r' | 0));
    if is_dangerous || hints_at_framing(&letters) {
        return None;
    }
    letters.drain(..letters.len().saturating_sub(LONGEST_FRAMING));
    Some(letters)
}

/// The letters of the fields that determine the end of a message.
const FRAMING: [&[u8]; 2] = [b"contentlength", b"transferencoding"];
const LONGEST_FRAMING: usize = FRAMING[1].len();

/// Whether a parser could find a length or a transfer coding in this.
fn hints_at_framing(letters: &[u8]) -> bool {
    FRAMING
        .iter()
        .any(|name| memchr::memmem::find(letters, name).is_some())
}

/// Whether the field of this name determines the end of the message.
fn frames(name: &[u8]) -> bool {
    matches!(
        FieldId::of(name),
        FieldId::ContentLength | FieldId::TransferEncoding
    )
}

/// Like [`blank_controls`], for a line with its end.
fn blank_controls_of_value(line: &mut [u8]) {
    let end = line.len() - b"\r\n".len();
    if let Some(colon) = memchr::memchr(b':', line) {
        blank_controls(&mut line[colon + 1..end]);
    }
}

/// Replaces control characters by spaces, except those that some parser could take for the end of a line or string.
fn blank_controls(text: &mut [u8]) {
    for byte in text {
        if matches!(*byte, 0x01..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f | 0x7f) {
            *byte = b' ';
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without leading and trailing white space (OWS, RFC 9110 §5.6.3).
fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte));
    trimmed_end(&text[start.unwrap_or(text.len())..])
}

fn trimmed_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| !is_blank(byte));
    &text[..end.map_or(0, |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use super::{Leniency, response_head};
    use crate::head::ResponseHead;
    use crate::parse::{HeadKind, HeadLimits, HeadScanner};
    use crate::{BodyFraming, is_persistent, response_framing};

    /// The parsed response, as lines.
    fn read(text: &[u8], kind: HeadKind) -> Option<(ResponseHead, String)> {
        let limits = HeadLimits::default();
        let bounds = HeadScanner::default().scan(text, kind, &limits).ok()??;
        let (text, start) = (text[..bounds.end].to_vec(), bounds.start);
        let head = match kind {
            HeadKind::RelaxedResponse => {
                ResponseHead::parse_relaxed(text, start, Vec::new(), &limits)
            }
            _ => ResponseHead::parse(text, start, Vec::new(), &limits),
        };
        let head = head.ok()?;
        response_framing(&head, "GET").ok()?;
        let mut shown = format!("{} {}", head.status(), head.reason().escape_ascii());
        for (name, value) in head.fields().iter() {
            shown += &format!("|{name}: {}", value.escape_ascii());
        }
        Some((head, shown))
    }

    fn strict(text: &[u8]) -> Option<String> {
        read(text, HeadKind::Response).map(|(head, shown)| {
            assert!(!head.is_relaxed());
            shown
        })
    }

    fn relaxed(text: &[u8]) -> Option<String> {
        read(text, HeadKind::RelaxedResponse).map(|(_, shown)| shown)
    }

    #[test]
    fn repairs_that_the_rfc_allows_are_always_made() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td  \r\n\r\n",
                "200 OK|A: b c d",
            ),
            (
                "HTTP/1.1 200 OK\r\nA:  \r\n \r\n b\r\n \r\nC:d\r\n\r\n",
                "200 OK|A: b|C: d",
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\n",
                "200 OK|A: b Content-Length: 5",
            ),
            ("HTTP/1.1 200 OK\r\nA \t : b\r\n c\r\n\r\n", "200 OK|A: b c"),
            ("HTTP/1.2 200 OK\r\nA: b\r\n\r\n", "200 OK|A: b"),
            ("HTTP/1.9 200\r\n\r\n", "200 "),
        ] {
            assert_eq!(
                strict(text.as_bytes()).as_deref(),
                Some(expected),
                "{text:?}"
            );
            assert_eq!(
                relaxed(text.as_bytes()).as_deref(),
                Some(expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn more_is_repaired_if_configured() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\nA: b\n\n", "200 OK|A: b"),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "200 OK|A: b|C: d"),
            ("HTTP/1.1 200 OK\nA: b\n c\n\r\n", "200 OK|A: b c"),
            ("HTTP/1.1 200 OK\r\n\n", "200 OK"),
            ("HTTP/1.1  200 \t OK\r\n\r\n", "200 OK"),
            ("HTTP/1.1\t200\tOK\r\n\r\n", "200 OK"),
            ("HTTP/1.1 200 O\x01\x1bK\r\n\r\n", "200 O  K"),
            ("ICY 200 OK\r\nicy-name:x\r\n\r\n", "200 OK|icy-name: x"),
            (
                "HTTP/1.1 200 OK\r\nA: \x02b\x0bc\x7f\r\n\r\n",
                "200 OK|A: b c",
            ),
            ("HTTP/1.1 200 OK\r\n A: b\r\nC: d\r\n\r\n", "200 OK|C: d"),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\njust text\r\n more: x\r\nC: d\r\n\r\n",
                "200 OK|A: b|C: d",
            ),
            (
                "HTTP/1.1 200 OK\r\n: b\r\nA b: c\r\nA\x01: c\r\nC: d\r\n\r\n",
                "200 OK|C: d",
            ),
        ] {
            assert_eq!(strict(text.as_bytes()), None, "{text:?}");
            assert_eq!(
                relaxed(text.as_bytes()).as_deref(),
                Some(expected),
                "{text:?}"
            );
            let (head, _) = read(text.as_bytes(), HeadKind::RelaxedResponse).unwrap();
            assert!(!is_persistent(&head), "{text:?}");
        }
        let icy = read(b"ICY 200 OK\r\n\r\n", HeadKind::RelaxedResponse)
            .unwrap()
            .0;
        assert_eq!(response_framing(&icy, "GET"), Ok(BodyFraming::UntilClose));
    }

    #[test]
    fn ambiguity_is_never_repaired() {
        for text in [
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
            "HTTP/1.1 200 OK\nA: b\r\r\n\n",
            "HTTP/1.1 200 OK\r\nA\r: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length\r: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntext\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \x0b2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\x7f\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length\x0b: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\u{feff}Transfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-\r\n Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nsome words (Tr\r\n a-n\r\n s\r\n f\r\n er-enc\r\n o\r\n\td\r\n ing: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n",
            "HTTP/1.1 200 OK\nContent-Length: +2\n\n",
            "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.10 200 OK\r\n\r\n",
            "HTTP/1.20 200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            " HTTP/1.1 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "\nHTTP/1.1 200 OK\r\n\r\n",
            "ICY\r\n\r\n",
        ] {
            assert_eq!(strict(text.as_bytes()), None, "{text:?}");
            assert_eq!(relaxed(text.as_bytes()), None, "{text:?}");
        }
    }

    /// With quadratic cost, this would not end.
    #[test]
    fn repair_takes_linear_time() {
        let name = "n".repeat(1_000_000);
        let folded = " x\r\n".repeat(500_000);
        let text = format!("HTTP/1.1 200 OK\r\n{name}: a\r\n{folded}\r\n");
        let repaired = response_head(text.as_bytes(), Leniency::Strict).unwrap();
        assert!(repaired.ends_with(b" x x\r\n\r\n"));
        let text = format!("HTTP/1.1 200 OK\r\nno colon\r\n{folded}A: b\r\n\r\n");
        let repaired = response_head(text.as_bytes(), Leniency::Relaxed).unwrap();
        assert_eq!(repaired, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
    }

    #[test]
    fn repairing_twice_changes_nothing() {
        const HEADS: [&str; 4] = [
            "HTTP/1.1 200 OK\nA: b\n c\nContent-Length: 5\n\n",
            "HTTP/1.2  404 x\r\n junk\r\nA : b\r\n\tc\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ICY 200 OK\r\nno colon\r\n more\r\nA: \x01b\r\n\r\n",
            "HTTP/1.1 200 O\x07K\r\nContent-Length: 5\r\nConnection: x\r\n  y\r\n\r\n",
        ];
        const BYTES: &[u8] = b"\r\n\0\t :,+09ax\x01\x7f\x80";
        // A small generator (xorshift), so that failures are reproducible.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut repaired = 0;
        for round in 0..100_000 {
            let mut text = HEADS[round % HEADS.len()].as_bytes().to_vec();
            for _ in 0..below(4) {
                let (at, byte) = (below(text.len()), BYTES[below(BYTES.len())]);
                match below(3) {
                    0 => text[at] = byte,
                    1 => drop(text.remove(at)),
                    _ => text.insert(at, byte),
                }
            }
            let Some((head, shown)) = read(&text, HeadKind::RelaxedResponse) else {
                continue;
            };
            repaired += usize::from(head.is_relaxed());
            let framing = response_framing(&head, "GET");
            let mut again = format!("HTTP/1.1 {} ", head.status()).into_bytes();
            again.extend_from_slice(head.reason());
            for (name, value) in head.fields().iter() {
                again.extend_from_slice(format!("\r\n{name}: ").as_bytes());
                again.extend_from_slice(value);
            }
            again.extend_from_slice(b"\r\n\r\n");
            let (head, seen) = read(&again, HeadKind::Response).expect("a good head");
            assert_eq!(seen, shown, "{}", text.escape_ascii());
            assert_eq!(response_framing(&head, "GET"), framing);
        }
        assert!(repaired > 10_000, "{repaired}");
    }
}
