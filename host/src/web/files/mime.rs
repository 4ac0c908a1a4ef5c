//! The media type of a file, from its name only (RFC 9110 §8.3), and whether compression is useful.
//!
//! The table is that of `mime_guess`. Content is never inspected, and browsers are told not to guess either.

/// A media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    essence: &'static str,
}

/// Whether compression reduces content of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gain {
    /// Yes: text, or as redundant as text.
    Sure,
    /// Unknown: precompressed files are used, nothing is compressed on the fly.
    Unknown,
    /// No: it is already compressed.
    Nothing,
}

impl MediaType {
    /// The media type of a file name.
    pub(super) fn of(name: &[u8]) -> Self {
        let essence = extension(name).and_then(|it| mime_guess::from_ext(it).first_raw());
        Self {
            essence: essence.unwrap_or("application/octet-stream"),
        }
    }

    /// The parts of the Content-Type value.
    pub(super) fn value(self) -> [&'static str; 2] {
        match self.is_text() {
            true => [self.essence, "; charset=utf-8"],
            false => [self.essence, ""],
        }
    }

    pub(super) fn gain(self) -> Gain {
        if self.is_text() || REDUNDANT.contains(&self.essence) || self.essence.ends_with("+xml") {
            return Gain::Sure;
        }
        let kind = self.essence.split('/').next().unwrap_or_default();
        if matches!(kind, "image" | "video" | "audio") || COMPRESSED.contains(&self.essence) {
            return Gain::Nothing;
        }
        Gain::Unknown
    }

    fn is_text(self) -> bool {
        self.essence.starts_with("text/")
            || self.essence.ends_with("+json")
            || TEXT.contains(&self.essence)
    }
}

/// The part of the last segment after its last dot.
fn extension(name: &[u8]) -> Option<&str> {
    let dot = memchr::memrchr(b'.', name)?;
    let extension = &name[dot + 1..];
    if extension.contains(&b'/') {
        return None;
    }
    str::from_utf8(extension).ok()
}

/// Text formats whose type does not begin with `text/`.
const TEXT: &[&str] = &[
    "application/javascript",
    "application/json",
    "application/x-javascript",
    "application/x-ns-proxy-autoconfig",
];

/// Formats as redundant as text, without a charset.
const REDUNDANT: &[&str] = &[
    "application/font-sfnt",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-sh",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
];

const COMPRESSED: &[&str] = &[
    "application/gzip",
    "application/java-archive",
    "application/pdf",
    "application/vnd.rar",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-compressed",
    "application/x-gzip",
    "application/x-rar-compressed",
    "application/x-xz",
    "application/zip",
    "application/zstd",
    "font/woff",
    "font/woff2",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_decides_type_and_gain() {
        let table = [
            ("index.html", "text/html; charset=utf-8", Gain::Sure),
            ("a/B.HTM", "text/html; charset=utf-8", Gain::Sure),
            ("a.css", "text/css; charset=utf-8", Gain::Sure),
            ("a.min.js", "text/javascript; charset=utf-8", Gain::Sure),
            ("a.mjs", "application/javascript; charset=utf-8", Gain::Sure),
            ("a.json", "application/json; charset=utf-8", Gain::Sure),
            ("a.txt", "text/plain; charset=utf-8", Gain::Sure),
            ("a.md", "text/markdown; charset=utf-8", Gain::Sure),
            ("a.svg", "image/svg+xml", Gain::Sure),
            ("a.wasm", "application/wasm", Gain::Sure),
            ("favicon.ico", "image/x-icon", Gain::Sure),
            ("a.ttf", "font/ttf", Gain::Sure),
            ("a.pdf", "application/pdf", Gain::Nothing),
            ("a.png", "image/png", Gain::Nothing),
            ("a.tar.gz", "application/gzip", Gain::Nothing),
            ("a.woff2", "font/woff2", Gain::Nothing),
            ("a.mp4", "video/mp4", Gain::Nothing),
            ("a.zip", "application/zip", Gain::Nothing),
            ("a", "application/octet-stream", Gain::Unknown),
            ("a.d/b", "application/octet-stream", Gain::Unknown),
            ("a.", "application/octet-stream", Gain::Unknown),
            ("a.nothing-known", "application/octet-stream", Gain::Unknown),
            (
                "proxy.pac",
                "application/x-ns-proxy-autoconfig; charset=utf-8",
                Gain::Sure,
            ),
        ];
        for (name, value, gain) in table {
            let media_type = MediaType::of(name.as_bytes());
            assert_eq!(media_type.value().concat(), value, "{name}");
            assert_eq!(media_type.gain(), gain, "{name}");
        }
        assert_eq!(
            MediaType::of(b"a.\xff").value().concat(),
            "application/octet-stream"
        );
    }
}
