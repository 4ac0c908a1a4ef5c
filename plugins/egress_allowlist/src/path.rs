//! The path patterns of rules, and paths that are unambiguous.
//!
//! A path is compared as sent. That is safe only if the origin cannot interpret it as another path, so a path that
//! changes when dot segments, empty segments or percent-encoding are resolved matches no pattern.

/// How often an origin may decode a path; paths that need more are ambiguous.
const DECODINGS: usize = 3;

/// The path pattern of a rule: a whole path, or a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathPattern {
    /// Exactly this path.
    Exact(String),
    /// Every path that begins with this.
    Prefix(String),
}

impl PathPattern {
    /// Parses `/v1/models` or `/v1/*`; none for patterns that no path can match.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (literal, is_prefix) = match text.strip_suffix('*') {
            Some(literal) => (literal, true),
            None => (text, false),
        };
        let is_usable = literal.starts_with('/')
            && !literal.contains(['*', '?', '#', ' '])
            && has_one_reading(literal);
        match (is_usable, is_prefix) {
            (false, _) => None,
            (true, true) => Some(Self::Prefix(literal.to_owned())),
            (true, false) => Some(Self::Exact(literal.to_owned())),
        }
    }

    /// Whether it matches `path`, which has no query and [one reading](has_one_reading).
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(literal) => path == literal,
            Self::Prefix(literal) => path.starts_with(literal.as_str()),
        }
    }
}

/// Whether every origin finds the same segments in `path`, however often it decodes it.
pub(crate) fn has_one_reading(path: &str) -> bool {
    let separators = count_slashes(path.as_bytes());
    let mut text = path.as_bytes().to_vec();
    for round in 0..DECODINGS {
        if !is_plain(&text) || count_slashes(&text) != separators {
            return false;
        }
        let (decoded, is_malformed) = decode(&text);
        // A lone % after decoding was encoded as %25.
        if is_malformed && round == 0 {
            return false;
        }
        if decoded == text {
            return true;
        }
        text = decoded;
    }
    false
}

/// Whether there are no control characters or backslashes, no bytes that a lenient decoder turns into letters, and no
/// segment that leads elsewhere.
fn is_plain(path: &[u8]) -> bool {
    let is_strange = |byte: &u8| byte.is_ascii_control() || *byte == b'\\';
    if path.iter().any(is_strange) || std::str::from_utf8(path).is_err() {
        return false;
    }
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // Some origins remove parameters first: they interpret `..;x` as `..`.
        let name = segment.split(|&byte| byte == b';').next().unwrap_or(b"");
        if matches!(name.trim_ascii(), b"." | b"..") || (name.is_empty() && !is_last) {
            return false;
        }
    }
    true
}

fn count_slashes(path: &[u8]) -> usize {
    path.iter().filter(|&&byte| byte == b'/').count()
}

/// Percent-decodes once; invalid encodings remain. Also returns whether there were any.
fn decode(text: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::with_capacity(text.len());
    let mut is_malformed = false;
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match (first, escaped(tail)) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'%', None) => is_malformed = true,
            _ => {}
        }
        decoded.push(*first);
        rest = tail;
    }
    (decoded, is_malformed)
}

/// The byte of the two hexadecimal digits at the start.
fn escaped(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{PathPattern, has_one_reading};

    #[test]
    fn ordinary_paths_have_one_reading() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/a.b..c/...",
            "/v1/caf%C3%A9",
            "/v1/a%20b",
            "/v1/100%25",
            "/v1/%2525",
            "/v1/what%3F",
            "/v1/a;b=c/d",
            "/v1/%7Euser",
        ] {
            assert!(has_one_reading(path), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_have_several_readings() {
        for path in [
            "/v1/../admin",
            "/v1/./x",
            "/v1/..",
            "/v1//x",
            "//v1",
            "/v1/%2e%2e/admin",
            "/v1/.%2E/admin",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e/admin",
            "/v1/x%2fy",
            "/v1/..%2fadmin",
            "/v1/%252f",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1/..;/admin",
            "/v1/..;x=y/admin",
            "/v1/;/x",
            "/v1/%2e%2e%20/x",
            "/v1/%00",
            "/v1/%0d%0a",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%",
            "/v1/%zz",
            "/v1/%2",
        ] {
            assert!(!has_one_reading(path), "{path}");
        }
    }

    #[test]
    fn a_final_star_matches_the_rest() {
        let below = PathPattern::parse("/v1/*").unwrap();
        assert!(below.matches("/v1/") && below.matches("/v1/a/b"));
        assert!(!below.matches("/v1") && !below.matches("/v10/") && !below.matches("/V1/a"));
        let exact = PathPattern::parse("/v1").unwrap();
        assert!(exact.matches("/v1") && !exact.matches("/v1/"));
    }

    #[test]
    fn refuses_patterns_that_no_path_matches() {
        for text in ["", "v1", "*", "/a/*/b", "/a?b", "/a/../b", "/a//", "/a b"] {
            assert_eq!(PathPattern::parse(text), None, "{text}");
        }
    }
}
