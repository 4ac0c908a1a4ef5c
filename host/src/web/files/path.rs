//! Maps the path of a request to a name in the served directory.
//!
//! Pure, and the first of two defences; the second is the kernel, see `below.rs`. The result contains no `..`, no
//! encoded separator, and nothing that has a special meaning on this platform. Percent-encoding is decoded once. Names
//! are bytes, so files whose names are not UTF-8 can be requested. Names with `:`, `\`, a final dot or space, `con` or
//! `aux.txt` are special on Windows only.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode};

/// A resolved path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Segments separated by `/`; empty for the served directory itself.
    pub(super) name: Vec<u8>,
    /// The path ends in `/`, `/.` or `/..`.
    pub(super) is_directory: bool,
}

/// Why a path is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// A percent-encoding is incomplete, or encodes a control character: 400.
    Malformed,
    /// It leads outside the served directory: 403.
    Outside,
    /// A name that begins with a dot, except `/.well-known` (RFC 8615): 404, whether it exists or not.
    Hidden,
    /// An encoded slash, which names cannot contain: 404.
    Separator,
    /// A name longer than any file system allows: 404.
    TooLong,
    /// Windows would take the name for another file or a device, and this is Windows: 404.
    Foreign,
}

impl PathError {
    /// The reason, for the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "the path contains invalid percent-encoding or a control character",
            Self::Outside => "the path leads outside the directory",
            Self::Hidden => "a name in the path begins with a dot",
            Self::Separator => "a name in the path contains a percent-encoded slash",
            Self::TooLong => "a name in the path is longer than 255 bytes",
            Self::Foreign => "a name in the path is reserved on Windows",
        }
    }
}

/// The maximum length of a file name, in bytes, on common file systems; longer ones get 404.
const MAX_NAME_LEN: usize = 255;

/// Resolves the path of a request target, as received, without the query.
pub(super) fn resolve(path: &[u8]) -> Result<Resolved, PathError> {
    let Some(relative) = path.strip_prefix(b"/") else {
        return Err(PathError::Malformed);
    };
    let mut name = Vec::with_capacity(relative.len());
    let mut is_directory = true;
    for segment in relative.split(|&byte| byte == b'/') {
        let parent_end = name.len();
        if parent_end > 0 {
            name.push(b'/');
        }
        let start = name.len();
        decode(segment, &mut name)?;
        is_directory = matches!(&name[start..], b"" | b"." | b"..");
        match &name[start..] {
            b"" | b"." => name.truncate(parent_end),
            b".." if parent_end == 0 => return Err(PathError::Outside),
            b".." => name.truncate(parent_of(&name[..parent_end])),
            b".well-known" if start == 0 => {}
            plain => check(plain)?,
        }
    }
    Ok(Resolved { name, is_directory })
}

/// Whether a file of this name may be served.
pub(super) fn is_served(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(|&byte| is_control(byte)) && check(name).is_ok()
}

fn check(name: &[u8]) -> Result<(), PathError> {
    match name {
        [b'.', ..] => Err(PathError::Hidden),
        name if name.len() > MAX_NAME_LEN => Err(PathError::TooLong),
        name if name.contains(&b'/') => Err(PathError::Separator),
        name if cfg!(windows) && is_special_on_windows(name) => Err(PathError::Foreign),
        _ => Ok(()),
    }
}

/// Whether the name has a special meaning on Windows.
fn is_special_on_windows(name: &[u8]) -> bool {
    // Separators, drives and streams; short names such as `GIT~1`, which are aliases of long ones.
    name.iter().any(|byte| matches!(byte, b'\\' | b':' | b'~'))
        // Windows ignores these and opens another file.
        || name.ends_with(b".")
        || name.ends_with(b" ")
        || is_device(name)
}

/// `name`, with every character encoded that is special in a URL, in HTML or in a field.
pub(super) fn encoded(name: &[u8]) -> PercentEncode<'_> {
    percent_encode(name, ESCAPED)
}

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The end of the parent directory's name in `name`.
fn parent_of(name: &[u8]) -> usize {
    memchr::memrchr(b'/', name).unwrap_or(0)
}

/// Decodes the percent-encoding of a segment.
fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        let decoded = match byte {
            b'%' => {
                let digits = (hexadecimal(bytes.next()), hexadecimal(bytes.next()));
                let (Some(high), Some(low)) = digits else {
                    return Err(PathError::Malformed);
                };
                high << 4 | low
            }
            plain => plain,
        };
        if is_control(decoded) {
            return Err(PathError::Malformed);
        }
        out.push(decoded);
    }
    Ok(())
}

fn hexadecimal(digit: Option<&u8>) -> Option<u8> {
    let value = char::from(*digit?).to_digit(16)?;
    u8::try_from(value).ok()
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

/// Whether Windows opens a device under this name, in any directory and with any extension.
fn is_device(name: &[u8]) -> bool {
    let stem = name.split(|&byte| byte == b'.').next().unwrap_or_default();
    let stem = stem.trim_ascii_end();
    let is = |device: &&[u8]| stem.eq_ignore_ascii_case(device);
    DEVICES.iter().any(is) || is_numbered_device(stem)
}

const DEVICES: &[&[u8]] = &[
    b"con", b"prn", b"aux", b"nul", b"clock$", b"conin$", b"conout$",
];

/// `COM1` and the like; Windows accepts superscript digits.
fn is_numbered_device(stem: &[u8]) -> bool {
    let Some((kind, number)) = stem.split_at_checked(3) else {
        return false;
    };
    let is_port = kind.eq_ignore_ascii_case(b"com") || kind.eq_ignore_ascii_case(b"lpt");
    let is_number = matches!(number, [b'0'..=b'9'] | [0xc2, 0xb9 | 0xb2 | 0xb3]);
    is_port && is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Result<Resolved, PathError> {
        Ok(Resolved {
            name: name.as_bytes().to_vec(),
            is_directory: false,
        })
    }

    fn directory(name: &str) -> Result<Resolved, PathError> {
        Ok(Resolved {
            name: name.as_bytes().to_vec(),
            is_directory: true,
        })
    }

    #[test]
    fn a_path_means_one_name() {
        let table = [
            ("/", directory("")),
            ("//", directory("")),
            ("/a.txt", file("a.txt")),
            ("//a//b///c.txt", file("a/b/c.txt")),
            ("/a/", directory("a")),
            ("/a/.", directory("a")),
            ("/a/b/..", directory("a")),
            ("/a/b/%2e%2E/c", file("a/c")),
            ("/a/..", directory("")),
            ("/a/../b", file("b")),
            ("/a%20b%2b.txt", file("a b+.txt")),
            ("/%C3%A4", file("ä")),
            ("/%2561", file("%61")),
            ("/.well-known/acme", file(".well-known/acme")),
            ("/com", file("com")),
            ("/com10.txt", file("com10.txt")),
            ("/console", file("console")),
            #[cfg(not(windows))]
            ("/a.txt.", file("a.txt.")),
            #[cfg(not(windows))]
            ("/a.txt%20", file("a.txt ")),
            #[cfg(not(windows))]
            ("/c:/sha256:0123", file("c:/sha256:0123")),
            #[cfg(not(windows))]
            ("/a\\b%5Cc", file("a\\b\\c")),
            #[cfg(not(windows))]
            ("/Com1.txt", file("Com1.txt")),
            #[cfg(not(windows))]
            ("/aux.js", file("aux.js")),
        ];
        for (path, expected) in table {
            assert_eq!(resolve(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(resolve(b"/%ff\xfe").unwrap().name, b"\xff\xfe");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused_with_the_reason() {
        use PathError::{Hidden, Malformed, Outside, Separator, TooLong};
        let long = format!("/{}", "a".repeat(256));
        let table = [
            ("", Malformed),
            ("*", Malformed),
            ("a", Malformed),
            ("/%", Malformed),
            ("/%2", Malformed),
            ("/%zz", Malformed),
            ("/a%00.txt", Malformed),
            ("/a%0d%0ab", Malformed),
            ("/%7f", Malformed),
            ("/..", Outside),
            ("/a/../..", Outside),
            ("/%2e./a", Outside),
            ("/%2f", Separator),
            ("/a%2Fb", Separator),
            ("/..%2fa", Hidden),
            ("/..\\a", Hidden),
            ("/a/.well-known/x", Hidden),
            ("/.git/../a", Hidden),
            (&long, TooLong),
        ];
        for (path, expected) in table {
            assert_eq!(resolve(path.as_bytes()), Err(expected), "{path}");
        }
    }

    #[test]
    fn names_that_are_special_on_windows_are_recognised() {
        for name in [
            "a.txt.",
            "a.txt ",
            "c:",
            "a:b",
            "a\\b",
            "GIT~1",
            "Com1.txt",
            "LPT\u{b9}",
            "nul .txt",
            "AUX",
            "conin$",
        ] {
            assert!(is_special_on_windows(name.as_bytes()), "{name}");
        }
        for name in ["a.txt", "com", "com10.txt", "console", "a b", ".a"] {
            assert!(!is_special_on_windows(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_resolved_name_is_below_the_directory() {
        const PIECES: [&str; 16] = [
            "/", "/", ".", ".", "%2e", "%2E", "%2f", "\\", "%5c", "a", "b.c", ":", "%00", "%25",
            "\u{a0}", " ",
        ];
        // A small generator (xorshift), so that a failure is reproducible.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut resolved = 0;
        for _ in 0..100_000 {
            let mut path = String::from("/");
            for _ in 0..5 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                path.push_str(PIECES[(random % 16) as usize]);
            }
            let Ok(Resolved { name, .. }) = resolve(path.as_bytes()) else {
                continue;
            };
            resolved += 1;
            let mut segments = name.split(|&byte| byte == b'/');
            assert!(name.is_empty() || segments.all(is_served), "{path}");
        }
        assert!(resolved > 1000);
    }

    #[test]
    fn every_served_name_can_be_requested_encoded() {
        for byte in 0..=255 {
            let name = [b'a', byte, b'b'];
            let path = format!("/{}", encoded(&name));
            if is_served(&name) {
                assert_eq!(resolve(path.as_bytes()).unwrap().name, name);
            }
        }
    }
}
