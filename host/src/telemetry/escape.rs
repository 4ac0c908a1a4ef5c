//! Escapes and quotes text from peers and plugins in log lines.
//!
//! Paths, reasons and messages come from peers and plugins. Characters that could end a line or control a terminal are
//! escaped; text that could be mistaken for another part of the line is quoted, with `\"` and `\\` inside.

use std::fmt::{self, Write};

/// A writer that escapes control characters, and characters that change the order of displayed text, as `\n` or
/// `\u{1b}`.
pub(super) struct Escaped<'a>(pub(super) &'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            let (clean, dirty) = rest.split_at(at);
            self.0.write_str(clean)?;
            let mut chars = dirty.chars();
            for control in chars.by_ref().take(1) {
                write!(self.0, "{}", control.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// A writer for text in quotes; the caller writes the quotes.
pub(super) struct Quoted<'a>(pub(super) &'a mut dyn Write);

impl Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(['"', '\\']) {
            let clean = part.strip_suffix(['"', '\\']).unwrap_or(part);
            Escaped(&mut *self.0).write_str(clean)?;
            if clean.len() < part.len() {
                write!(self.0, "\\{}", &part[clean.len()..])?;
            }
        }
        Ok(())
    }
}

/// Whether `text` can be the value of a field without quotes.
pub(super) fn is_word(text: &str) -> bool {
    let may_stand = |c: char| !c.is_whitespace() && !is_unprintable(c) && c != '"';
    !text.is_empty() && text.chars().all(may_stand)
}

/// Control characters, and format characters that hide text or change its direction.
pub(super) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Appends a part of a line; parts are separated by ` - `. Quoted if it could be mistaken for several parts.
pub(super) fn push_part(bytes: &[u8], line: &mut Vec<u8>) {
    let is_ambiguous = bytes.is_empty()
        || bytes.starts_with(b" ")
        || bytes.ends_with(b" ")
        || bytes.starts_with(b"- ")
        || bytes.ends_with(b" -")
        || memchr::memmem::find(bytes, b" - ").is_some()
        || bytes
            .iter()
            .any(|byte| !matches!(byte, b' '..=b'~') || *byte == b'"');
    match is_ambiguous {
        true => push_quoted(bytes, line),
        false => line.extend_from_slice(bytes),
    }
}

/// Appends text from a peer in quotes.
pub(super) fn push_quoted(bytes: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => line.extend(std::ascii::escape_default(byte)),
        }
    }
    line.push(b'"');
}

/// Appends text inside a part, such as a path, with spaces escaped.
pub(super) fn push_unspaced(bytes: &[u8], line: &mut Vec<u8>) {
    for (number, piece) in bytes.split(|byte| *byte == b' ').enumerate() {
        if number > 0 {
            line.extend_from_slice(b"\\x20");
        }
        push_escaped(piece, line);
    }
}

/// Appends text from a peer; everything but printable ASCII is escaped, as in `\x1b`.
pub(super) fn push_escaped(bytes: &[u8], line: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
        line.extend_from_slice(&rest[..at]);
        line.extend(std::ascii::escape_default(rest[at]));
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_letters_and_escapes_controls() {
        let mut line = String::new();
        Escaped(&mut line)
            .write_str("grüße\r\nINFO \u{1b}[2J\u{85}")
            .unwrap();
        assert_eq!(line, "grüße\\r\\nINFO \\u{1b}[2J\\u{85}");
    }

    #[test]
    fn bidirectional_controls_are_escaped() {
        let mut line = String::new();
        Escaped(&mut line).write_str("a\u{202e}b\u{feff}").unwrap();
        assert_eq!(line, "a\\u{202e}b\\u{feff}");
    }

    #[test]
    fn quoted_text_cannot_end_early() {
        let mut line = String::new();
        Quoted(&mut line).write_str("a \"b\" \\ c\n d\"").unwrap();
        assert_eq!(line, "a \\\"b\\\" \\\\ c\\n d\\\"");
    }

    #[test]
    fn a_part_that_could_pass_for_several_is_quoted() {
        for (text, written) in [
            ("over 192.0.2.1", "over 192.0.2.1"),
            ("a-b", "a-b"),
            ("", "\"\""),
            ("x - answered 403 by Y", "\"x - answered 403 by Y\""),
            ("x -", "\"x -\""),
            ("- x", "\"- x\""),
            (" x", "\" x\""),
            ("a\"b", "\"a\\\"b\""),
            ("a\nb", "\"a\\nb\""),
            ("\u{fc}", "\"\\xc3\\xbc\""),
        ] {
            let mut line = Vec::new();
            push_part(text.as_bytes(), &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), written);
        }
    }

    #[test]
    fn bytes_become_printable_ascii() {
        let mut line = Vec::new();
        push_escaped(b"/a b?\"c\\d\n\x00\xff", &mut line);
        assert_eq!(line, b"/a b?\"c\\d\\n\\x00\\xff");
    }
}
