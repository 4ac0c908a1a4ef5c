//! Which responses are chunked, and which of their fields describe the old content.

use plugin_api::Response;

/// Fields that describe the old content: its coding, digests, version and range.
pub(crate) const OF_THE_OLD_CONTENT: [&str; 9] = [
    "Content-Encoding",
    "Content-MD5",
    "Content-Digest",
    "Digest",
    "Repr-Digest",
    "ETag",
    "Last-Modified",
    "Accept-Ranges",
    "Content-Range",
];

/// Whether the response arrived chunked.
pub(crate) fn is_chunked(response: Response<'_>) -> bool {
    let coding = response.field("Transfer-Encoding");
    coding.is_some_and(ends_in_chunked)
}

/// Whether `chunked` is the last of these transfer codings, as required (RFC 9112 §6.1).
fn ends_in_chunked(codings: &[u8]) -> bool {
    let last = codings.rsplit(|&byte| byte == b',').next();
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The texts as content, one line each.
pub(crate) fn lines(chunks: &[String]) -> Vec<u8> {
    let mut content = Vec::new();
    for chunk in chunks {
        content.extend_from_slice(chunk.as_bytes());
        content.push(b'\n');
    }
    content
}

#[cfg(test)]
mod tests {
    use super::{ends_in_chunked, lines};

    #[test]
    fn chunked_is_the_last_coding_in_any_case() {
        for (codings, expected) in [
            ("chunked", true),
            (" Chunked ", true),
            ("gzip, chunked", true),
            ("gzip", false),
            ("xchunked", false),
            ("", false),
        ] {
            assert_eq!(ends_in_chunked(codings.as_bytes()), expected, "{codings}");
        }
    }

    #[test]
    fn every_text_ends_in_a_line_end() {
        assert_eq!(lines(&["a".to_owned(), "b".to_owned()]), b"a\nb\n");
        assert_eq!(lines(&[]), b"");
    }
}
