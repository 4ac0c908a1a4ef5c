//! The head of a response: status line and fields (RFC 9112 §4), repaired first where that is allowed.

use super::{Refused, Version};
use plugin_contract::field::is_text;

use crate::fields::{FieldLine, Fields, FieldsMut, Span, push_text};
use crate::parse::{self, HeadError, HeadLimits, StatusLine};
use crate::repair::{self, Leniency};

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    text: Vec<u8>,
    lines: Vec<FieldLine>,
    version: Version,
    status: u16,
    reason: Span,
    is_relaxed: bool,
}

impl ResponseHead {
    /// Parses the head from `start` to the end of `text`, as found by a [`HeadScanner`](crate::HeadScanner). The
    /// contents of `lines` are dropped, its allocation is reused. Repairs what RFC 9112 allows: folded fields become
    /// one line, HTTP/1.2 to 1.9 are read as 1.1.
    ///
    /// # Errors
    /// The origin violated the protocol: 502. Returns the buffers.
    pub fn parse(
        text: Vec<u8>,
        start: usize,
        lines: Vec<FieldLine>,
        limits: &HeadLimits,
    ) -> Result<Self, Box<Refused>> {
        Self::read(text, start, lines, limits, &[Leniency::Strict])
    }

    /// Like [`parse`](Self::parse), for a head found by a scanner of
    /// [`RelaxedResponse`](crate::HeadKind::RelaxedResponse): repairs more, but nothing that makes the end of the
    /// response ambiguous.
    ///
    /// # Errors
    /// As those of [`parse`](Self::parse).
    pub fn parse_relaxed(
        text: Vec<u8>,
        start: usize,
        lines: Vec<FieldLine>,
        limits: &HeadLimits,
    ) -> Result<Self, Box<Refused>> {
        let leniencies = [Leniency::Strict, Leniency::Relaxed];
        // The field parser accepts LF alone; the scanner excludes it in other heads.
        let is_relaxed = repair::has_bare_line_feed(text.get(start..).unwrap_or_default());
        let mut head = Self::read(text, start, lines, limits, &leniencies)?;
        head.is_relaxed |= is_relaxed;
        Ok(head)
    }

    fn read(
        text: Vec<u8>,
        start: usize,
        mut lines: Vec<FieldLine>,
        limits: &HeadLimits,
        leniencies: &[Leniency],
    ) -> Result<Self, Box<Refused>> {
        match parse::response(&text, start, &mut lines, limits) {
            Ok(line) => Ok(Self::made(text, lines, line)),
            Err(error) => Self::repaired(Refused { error, text, lines }, start, limits, leniencies),
        }
    }

    /// Repairs a refused head and parses it.
    #[cold]
    fn repaired(
        refused: Refused,
        start: usize,
        limits: &HeadLimits,
        leniencies: &[Leniency],
    ) -> Result<Self, Box<Refused>> {
        let Refused {
            error,
            mut text,
            mut lines,
        } = refused;
        for &leniency in leniencies {
            let received = text.get(start..).unwrap_or_default();
            let Some(repaired) = repair::response_head(received, leniency) else {
                continue;
            };
            if let Ok(line) = parse::response(&repaired, 0, &mut lines, limits) {
                // The buffer belongs to the caller and is returned.
                text.clear();
                text.extend_from_slice(&repaired);
                return Ok(Self {
                    is_relaxed: leniency == Leniency::Relaxed,
                    ..Self::made(text, lines, line)
                });
            }
        }
        Err(Box::new(Refused { error, text, lines }))
    }

    fn made(text: Vec<u8>, lines: Vec<FieldLine>, line: StatusLine) -> Self {
        Self {
            text,
            lines,
            version: line.version,
            status: line.status,
            reason: line.reason,
            is_relaxed: false,
        }
    }

    /// Whether it was repaired beyond what RFC 9112 allows. The connection is not reused.
    pub fn is_relaxed(&self) -> bool {
        self.is_relaxed
    }

    /// Marks the response as relaxed because of an earlier interim one.
    pub fn set_relaxed(&mut self, is_relaxed: bool) {
        self.is_relaxed |= is_relaxed;
    }

    /// Returns the buffers, for the next head.
    pub fn into_buffers(self) -> (Vec<u8>, Vec<FieldLine>) {
        (self.text, self.lines)
    }

    /// The status code, 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; may be empty.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.text)
    }

    /// The version of the origin.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sets the version of the origin, if it is not that of the text.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The field section.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.text, &self.lines)
    }

    /// The field section, for editing. Framing and hop-by-hop fields are written anew when the head is forwarded,
    /// regardless of their values here.
    pub fn fields_mut(&mut self) -> FieldsMut<'_> {
        FieldsMut::new(&mut self.text, &mut self.lines)
    }

    /// Changes status and reason phrase.
    ///
    /// # Errors
    /// A status outside 100 to 999, or a reason phrase with a control character.
    pub fn set_status(&mut self, status: u16, reason: &[u8]) -> Result<(), HeadError> {
        let fits = u32::try_from(self.text.len() + reason.len()).is_ok();
        if !(100..=999).contains(&status) || !is_text(reason) || !fits {
            return Err(HeadError::StatusLineInvalid);
        }
        self.status = status;
        self.reason = push_text(&mut self.text, reason);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::{parse_response, response};
    use HeadError::*;

    #[test]
    fn a_response_has_its_written_parts() {
        let head = response("HTTP/1.0 404 Not  Found\r\nServer : x\r\n\r\n");
        assert_eq!(head.status(), 404);
        assert_eq!(head.reason(), b"Not  Found");
        assert_eq!(head.version(), Version::Http10);
        let lines: Vec<_> = head.fields().iter().collect();
        assert_eq!(lines, [("Server", &b"x"[..])]);
        for (line, reason) in [
            (&b"HTTP/1.1 200\r\n\r\n"[..], &b""[..]),
            (b"HTTP/1.1 200 \r\n\r\n", b""),
            (b"HTTP/1.1 999 \xe9t\xe9\r\n\r\n", b"\xe9t\xe9"),
        ] {
            assert_eq!(parse_response(line).unwrap().reason(), reason);
        }
    }

    #[test]
    fn refuses_malformed_responses() {
        for (text, expected) in [
            ("HTTP/2.0 200 OK\r\n\r\n", NotHttp),
            ("HTTP/1.10 200 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1  200 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 099 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 20 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 2000 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 +20 OK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 200\tOK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 200 O\0K\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 200 O\rK\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1\r\n\r\n", StatusLineInvalid),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", FieldNameInvalid),
            ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", FieldNameInvalid),
            ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", FieldValueInvalid),
        ] {
            assert_eq!(
                parse_response(text.as_bytes()).err(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn the_number_of_connection_options_is_limited() {
        let text = |count| {
            let options = vec!["a"; count].join(",");
            format!("HTTP/1.1 200 OK\r\nConnection: {options}\r\n\r\n")
        };
        assert!(parse_response(text(64).as_bytes()).is_ok());
        let refused = parse_response(text(65).as_bytes()).err();
        assert_eq!(refused, Some(TooManyConnectionOptions));
    }
}
