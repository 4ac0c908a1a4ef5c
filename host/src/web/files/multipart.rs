//! Several parts of a file as the content of one response: `multipart/byteranges` (RFC 9110 §14.6).
//!
//! Pure, except that each response has a random boundary, so that no file can contain it on purpose. The total length
//! is known before anything is sent.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::mime::MediaType;
use super::send::Segment;

/// The content of a response in several parts.
#[derive(Debug)]
pub(super) struct Multipart {
    pub(super) boundary: String,
    pub(super) segments: Vec<Segment>,
}

impl Multipart {
    /// `parts` of a representation of `len` bytes.
    pub(super) fn new(parts: Vec<Range<u64>>, media_type: MediaType, len: u64) -> Self {
        let boundary = random_boundary();
        let mut segments = Vec::with_capacity(2 * parts.len() + 1);
        let [essence, charset] = media_type.value();
        let mut line_end = "";
        for part in parts {
            let range = content_range(&part, len);
            segments.push(Segment::Text(
                format!(
                    "{line_end}--{boundary}\r\nContent-Type: {essence}{charset}\r\n\
                     Content-Range: {range}\r\n\r\n"
                )
                .into_bytes(),
            ));
            segments.push(Segment::Part(part));
            line_end = "\r\n";
        }
        segments.push(Segment::Text(
            format!("\r\n--{boundary}--\r\n").into_bytes(),
        ));
        Self { boundary, segments }
    }
}

/// The value of Content-Range for a non-empty part.
pub(super) fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1))
}

fn random_boundary() -> String {
    // Each value has new keys from the system's random numbers.
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_content_range() {
        let multipart = Multipart::new(vec![0..2, 7..9], MediaType::of(b"a.txt"), 10);
        let boundary = &multipart.boundary;
        let text: Vec<String> = multipart
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Text(text) => String::from_utf8(text.clone()).unwrap(),
                Segment::Part(part) => format!("[{}..{}]", part.start, part.end),
            })
            .collect();
        assert_eq!(
            text.concat(),
            format!(
                "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 0-1/10\r\n\r\n[0..2]\
                 \r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 7-8/10\r\n\r\n[7..9]\
                 \r\n--{boundary}--\r\n"
            )
        );
        assert_ne!(*boundary, random_boundary());
    }
}
