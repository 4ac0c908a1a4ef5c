//! The ranges of a representation that a client requests (RFC 9110 §14).
//!
//! Pure. As the RFC allows, Range is ignored if it is malformed or if it would cost more than the whole content: more
//! than [`MAX_RANGES`] ranges, or overlapping ranges that are longer in total than the content. Parts that touch or
//! overlap are merged. `condition.rs` evaluates `If-Range`.

use std::ops::Range;

/// The maximum number of ranges in a request; with more, Range is ignored. Resumed downloads use one, PDF viewers a
/// few.
const MAX_RANGES: usize = 16;

/// The part of a representation to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selected {
    /// All of it, 200.
    Whole,
    /// These parts, at least one and none empty, in the requested order: 206.
    Parts(Vec<Range<u64>>),
    /// No requested part exists: 416.
    Nothing,
}

/// One requested range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

/// Parses the Range lines of a request for a representation of `len` bytes.
pub(super) fn select<'a>(mut values: impl Iterator<Item = &'a [u8]>, len: u64) -> Selected {
    // Range is not a list field, so several lines have no defined meaning.
    let (Some(value), None) = (values.next(), values.next()) else {
        return Selected::Whole;
    };
    let Some(specs) = specs(value) else {
        return Selected::Whole;
    };
    if len == 0 && specs.iter().any(|spec| matches!(spec, Spec::Last(1..))) {
        // Satisfiable (§14.1.2), but Content-Range cannot express an empty range.
        return Selected::Whole;
    }
    let parts: Vec<_> = specs.iter().filter_map(|spec| spec.within(len)).collect();
    let total = parts
        .iter()
        .fold(0_u64, |sum, part| sum.saturating_add(part.end - part.start));
    if parts.is_empty() {
        Selected::Nothing
    } else if total > len {
        Selected::Whole
    } else {
        Selected::Parts(coalesced(parts))
    }
}

/// `None`: malformed, of another unit, or too many.
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let members = set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let mut specs = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(Spec::parse(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = memchr::memchr(b'-', text)?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        if first.is_empty() {
            return Some(Self::Last(position(last)?));
        }
        let first = position(first)?;
        if last.is_empty() {
            return Some(Self::From(first));
        }
        let last = position(last)?;
        (first <= last).then_some(Self::Between(first, last))
    }

    /// The part of `len` bytes that it selects; `None` if there is none.
    fn within(self, len: u64) -> Option<Range<u64>> {
        let part = match self {
            Self::From(first) => first..len,
            Self::Between(first, last) => first..last.saturating_add(1).min(len),
            Self::Last(count) => len.saturating_sub(count)..len,
        };
        (part.start < part.end).then_some(part)
    }
}

/// A decimal number. One that is too large becomes the maximum: it is past the end of any file.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Merges parts that overlap or touch, at the position of the first one.
fn coalesced(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let mut place = joined.len();
        // A merged part may reach another one.
        while let Some(at) = joined.iter().position(|other| touch(other, &part)) {
            let other = joined.remove(at);
            part = other.start.min(part.start)..other.end.max(part.end);
            place = place.min(at);
        }
        joined.insert(place.min(joined.len()), part);
    }
    joined
}

fn touch(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start <= other.end && other.start <= one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select_one(value: &str, len: u64) -> Selected {
        select([value.as_bytes()].into_iter(), len)
    }

    #[test]
    fn a_range_selects_bytes_or_is_ignored() {
        use Selected::{Nothing, Parts, Whole};
        let one = |part: Range<u64>| Parts(Vec::from([part]));
        let table = [
            ("bytes=0-0", 10, one(0..1)),
            ("bytes=0-", 10, one(0..10)),
            ("Bytes=2-4", 10, one(2..5)),
            ("bytes=9-9", 10, one(9..10)),
            ("bytes=5-99999999999999999999999", 10, one(5..10)),
            ("bytes=0-18446744073709551615", 10, one(0..10)),
            ("bytes=-3", 10, one(7..10)),
            ("bytes=-30", 10, one(0..10)),
            ("bytes= 1-2 ,, ", 10, one(1..3)),
            ("bytes=8-9,0-1", 10, Parts(vec![8..10, 0..2])),
            ("bytes=0-1,20-30", 10, one(0..2)),
            ("bytes=0-1,2-3", 10, one(0..4)),
            ("bytes=0-3,2-5", 10, one(0..6)),
            ("bytes=0-1,8-9,4-5,2-3", 10, Parts(vec![0..6, 8..10])),
            ("bytes=8-9,0-1,2-7", 10, one(0..10)),
            ("bytes=10-", 10, Nothing),
            ("bytes=10-20,30-", 10, Nothing),
            ("bytes=99999999999999999999-", 10, Nothing),
            ("bytes=-0", 10, Nothing),
            ("bytes=0-", 0, Nothing),
            ("bytes=-5", 0, Whole),
            ("bytes=-0", 0, Nothing),
            ("bytes=0-9,0-9", 10, Whole),
            ("bytes=0-,-1", 10, Whole),
            ("", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=,", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1 -2", 10, Whole),
            ("bytes=1-2-3", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("bytes=4-2", 10, Whole),
            ("bytes=0-1,x", 10, Whole),
            ("bytes =0-1", 10, Whole),
            ("lines=0-1", 10, Whole),
        ];
        for (value, len, expected) in table {
            assert_eq!(select_one(value, len), expected, "{value} of {len}");
        }
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let ranges = |count: u64| {
            let specs: Vec<_> = (0..count)
                .map(|at| format!("{}-{}", at * 2, at * 2))
                .collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(
            matches!(select_one(&ranges(16), 100), Selected::Parts(parts) if parts.len() == 16)
        );
        assert_eq!(select_one(&ranges(17), 100), Selected::Whole);
    }

    #[test]
    fn several_lines_are_ignored() {
        let lines: [&[u8]; 2] = [b"bytes=0-1", b"bytes=2-3"];
        assert_eq!(select(lines.into_iter(), 10), Selected::Whole);
        assert_eq!(select([].into_iter(), 10), Selected::Whole);
    }
}
