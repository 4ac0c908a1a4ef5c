//! Validators, and conditional requests (RFC 9110 §8.8, §13).
//!
//! Pure; evaluates conditions in the order of §13.2.2. Dates are seconds since 1970, `None` if HTTP cannot express the
//! file's time. Invalid dates are ignored; a list of tags is read up to the first invalid one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::http1::Fields;

/// The validators of the representation that would be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validators<'a> {
    /// The value of ETag, with quotes.
    pub(super) tag: &'a [u8],
    pub(super) modified: Option<u64>,
}

/// The result of the conditions of a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// They are met, or there are none.
    Met,
    /// The client's copy is current: 304.
    NotModified,
    /// A condition is not met: 412.
    Failed,
}

/// Whether there is a condition or a Range at all; most requests have neither.
pub(super) fn has_any(fields: Fields<'_>) -> bool {
    fields.lines().any(|line| {
        line.name.eq_ignore_ascii_case(b"range")
            || (line.name.get(..3)).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"))
    })
}

/// Evaluates all conditions except `If-Range`.
pub(super) fn evaluate(fields: Fields<'_>, validators: Validators<'_>) -> Precondition {
    let strong = |tag: &[u8]| is_same_strong(tag, validators.tag);
    let weak = |tag: &[u8]| opaque(tag) == opaque(validators.tag);
    if let Some(has_matched) = any_tag(fields, "if-match", strong) {
        if !has_matched {
            return Precondition::Failed;
        }
    } else if let (Some(since), Some(modified)) =
        (date(fields, "if-unmodified-since"), validators.modified)
        && modified > since
    {
        return Precondition::Failed;
    }
    if let Some(has_matched) = any_tag(fields, "if-none-match", weak) {
        if has_matched {
            return Precondition::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (date(fields, "if-modified-since"), validators.modified)
        && modified <= since
    {
        return Precondition::NotModified;
    }
    Precondition::Met
}

/// Whether a Range may be served: there is no `If-Range`, or it matches this representation (§13.1.5).
pub(super) fn holds_for_range(fields: Fields<'_>, validators: Validators<'_>) -> bool {
    let mut values = fields.named("if-range");
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(tag), None) if tag.starts_with(b"\"") || tag.starts_with(b"W/") => {
            is_same_strong(tag, validators.tag)
        }
        (Some(value), None) => {
            let since = parsed(value);
            since == validators.modified && since.is_some_and(is_settled)
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether a date identifies this version: the file may change again within the same second (§8.8.2.2).
fn is_settled(modified: u64) -> bool {
    seconds(SystemTime::now()).is_some_and(|now| modified < now)
}

/// The time in seconds, if HTTP can express it.
pub(super) fn seconds(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (since <= LATEST).then_some(since)
}

/// The date of [`seconds`], limited to now: an origin must not send a Last-Modified in the future (§8.8.2.1).
pub(super) fn last_modified(modified: u64) -> HttpDate {
    let now = seconds(SystemTime::now()).unwrap_or(LATEST);
    (UNIX_EPOCH + Duration::from_secs(modified.min(now))).into()
}

/// The last second of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// Whether any tag of the field `is_same`; `*` always is. `None`: the field is missing.
fn any_tag(fields: Fields<'_>, name: &str, is_same: impl Fn(&[u8]) -> bool) -> Option<bool> {
    let mut has_field = false;
    for value in fields.named(name) {
        has_field = true;
        if value == b"*" || tags(value).any(&is_same) {
            return Some(true);
        }
    }
    has_field.then_some(false)
}

/// The entity tags of a list, up to the first invalid one. A tag may contain commas.
fn tags(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let start = rest
            .iter()
            .position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        rest = &rest[start..];
        let quote = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(quote) != Some(&b'"') {
            return None;
        }
        let len = memchr::memchr(b'"', &rest[quote + 1..])?;
        let (tag, behind) = rest.split_at(quote + len + 2);
        rest = behind;
        Some(tag)
    })
}

fn is_same_strong(tag: &[u8], ours: &[u8]) -> bool {
    !tag.starts_with(b"W/") && tag == ours
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The date in a field that occurs once.
fn date(fields: Fields<'_>, name: &str) -> Option<u64> {
    let mut values = fields.named(name);
    match (values.next(), values.next()) {
        (Some(value), None) => parsed(value),
        _ => None,
    }
}

fn parsed(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?;
    seconds(httpdate::parse_http_date(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::request;
    use super::*;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const STRONG: Validators<'_> = Validators {
        tag: b"\"a\"",
        modified: Some(784_111_777),
    };
    const WEAK: Validators<'_> = Validators {
        tag: b"W/\"a\"",
        modified: None,
    };

    fn outcome(fields: &str, validators: Validators<'_>) -> Precondition {
        let head = request(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        evaluate(head.fields(), validators)
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_rfc() {
        use Precondition::{Failed, Met, NotModified};
        let table = [
            ("", Met),
            ("If-None-Match: \"a\"\r\n", NotModified),
            ("If-None-Match: W/\"a\"\r\n", NotModified),
            ("If-None-Match: \"b\", \"a\"\r\n", NotModified),
            ("If-None-Match: \"b,\",,W/\"a\"\r\n", NotModified),
            (
                "If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n",
                NotModified,
            ),
            ("If-None-Match: *\r\n", NotModified),
            ("If-None-Match: \"b\"\r\n", Met),
            ("If-None-Match: a\r\n", Met),
            ("If-None-Match: \"a\r\n", Met),
            ("If-None-Match:\r\n", Met),
            (&format!("If-Modified-Since: {EARLIER}\r\n"), Met),
            (&format!("If-Modified-Since: {SAME}\r\n"), NotModified),
            (&format!("If-Modified-Since: {LATER}\r\n"), NotModified),
            (
                "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
                NotModified,
            ),
            (
                "If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n",
                NotModified,
            ),
            ("If-Modified-Since: yesterday\r\n", Met),
            (
                &format!("If-Modified-Since: {SAME}\r\nIf-Modified-Since: {SAME}\r\n"),
                Met,
            ),
            (
                &format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {SAME}\r\n"),
                Met,
            ),
            ("If-Match: \"a\"\r\n", Met),
            ("If-Match: *\r\n", Met),
            ("If-Match: W/\"a\"\r\n", Failed),
            ("If-Match: \"b\"\r\n", Failed),
            ("If-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", Failed),
            ("If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n", NotModified),
            (&format!("If-Unmodified-Since: {EARLIER}\r\n"), Failed),
            (&format!("If-Unmodified-Since: {SAME}\r\n"), Met),
            (
                &format!("If-Match: \"a\"\r\nIf-Unmodified-Since: {EARLIER}\r\n"),
                Met,
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(outcome(fields, STRONG), expected, "{fields}");
        }
    }

    #[test]
    fn a_date_does_not_distinguish_versions_of_the_same_second() {
        let now = SystemTime::now();
        for (age, is_served) in [(0, false), (2, true)] {
            let modified = now - Duration::from_secs(age);
            let head = request(format!(
                "GET /a HTTP/1.1\r\nHost: a\r\nIf-Range: {}\r\n\r\n",
                HttpDate::from(modified)
            ));
            let validators = Validators {
                modified: seconds(modified),
                ..STRONG
            };
            // The clock may have moved on since.
            let is_same_second = seconds(SystemTime::now()) == seconds(now);
            let served = holds_for_range(head.fields(), validators);
            assert!(served == is_served || !is_same_second, "{age} s");
        }
    }

    #[test]
    fn a_weak_tag_matches_for_caches_only() {
        assert_eq!(
            outcome("If-None-Match: \"a\"\r\n", WEAK),
            Precondition::NotModified
        );
        assert_eq!(outcome("If-Match: W/\"a\"\r\n", WEAK), Precondition::Failed);
        let since = format!("If-Modified-Since: {LATER}\r\n");
        assert_eq!(outcome(&since, WEAK), Precondition::Met);
    }

    #[test]
    fn a_range_is_served_only_of_the_same_representation() {
        let table = [
            ("", true),
            ("If-Range: \"a\"\r\n", true),
            ("If-Range: W/\"a\"\r\n", false),
            ("If-Range: \"b\"\r\n", false),
            ("If-Range: a\r\n", false),
            ("If-Range: \"a\"\r\nIf-Range: \"a\"\r\n", false),
            (&format!("If-Range: {SAME}\r\n"), true),
            (&format!("If-Range: {LATER}\r\n"), false),
            (&format!("If-Range: {EARLIER}\r\n"), false),
        ];
        for (fields, expected) in table {
            let head = request(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(holds_for_range(head.fields(), STRONG), expected, "{fields}");
        }
        let head = request("GET /a HTTP/1.1\r\nHost: a\r\nIf-Range: nonsense\r\n\r\n");
        assert!(!holds_for_range(head.fields(), WEAK));
    }

    #[test]
    fn times_that_http_cannot_express_have_no_date() {
        let far = UNIX_EPOCH + Duration::from_secs(LATEST + 1);
        assert_eq!(seconds(far), None);
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(
            last_modified(0).to_string(),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert_ne!(
            last_modified(LATEST).to_string(),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }
}
