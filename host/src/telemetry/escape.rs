//! Keeps a log line one line.
//!
//! Paths, reasons and messages come from peers and plugins. Whatever in them could end a line or drive a
//! terminal is written as an escape. What a field means is left to those who write it.

use std::fmt::{self, Write};

/// Text on its way into a line; control characters become escapes such as `\n` or `\u{1b}`.
pub(super) struct Escaped<'a>(pub(super) &'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
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

/// Appends what a peer sent; all but printable ASCII becomes an escape such as `\x1b`.
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
    fn text_keeps_its_letters_and_loses_its_controls() {
        let mut line = String::new();
        Escaped(&mut line)
            .write_str("grüße\r\nINFO \u{1b}[2J\u{85}")
            .unwrap();
        assert_eq!(line, "grüße\\r\\nINFO \\u{1b}[2J\\u{85}");
    }

    #[test]
    fn bytes_become_printable_ascii() {
        let mut line = Vec::new();
        push_escaped(b"/a b?\"c\\d\n\x00\xff", &mut line);
        assert_eq!(line, b"/a b?\"c\\d\\n\\x00\\xff");
    }
}
