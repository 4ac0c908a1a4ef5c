//! Strings of JSON in a line of the log.
//!
//! They are valid JSON whatever the text is, and no character in them ends a line, controls a terminal or changes the
//! order of displayed text. Bytes that are not UTF-8 become U+FFFD.

use std::io;

use serde::Serializer as _;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::escape::is_unprintable;

/// Appends the text in quotes.
pub(super) fn push_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = Serializer::with_formatter(out, Printable).serialize_str(text);
}

/// Appends text from a peer in quotes.
pub(super) fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_string(&String::from_utf8_lossy(bytes), out);
}

/// Escapes what JSON would allow and a terminal would not show as it is.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return out.write_all(fragment.as_bytes());
        }
        while let Some((at, found)) = rest.char_indices().find(|(_, each)| is_unprintable(*each)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in found.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + found.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_printable_json_and_means_the_same() {
        for text in [
            "",
            "plain",
            "a \"b\" \\ c/",
            "\0\u{1}\t\r\n\u{1b}[2J\u{7f}\u{85}",
            "gr\u{fc}\u{df}e \u{1f600}",
            "a\u{202e}b\u{2028}c\u{feff}",
        ] {
            let mut out = Vec::new();
            push_string(text, &mut out);
            let written = String::from_utf8(out).unwrap();
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            assert!(!written.contains(is_unprintable), "{written:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let mut out = Vec::new();
        push_bytes(b"/a\xff\xfeb", &mut out);
        assert_eq!(out, "\"/a\u{fffd}\u{fffd}b\"".as_bytes());
    }
}
