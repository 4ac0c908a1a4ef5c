//! The recording of an exchange in progress.
//!
//! The request is recorded as the client sent it, before any plugin adds a secret; the response as the upstream sent
//! it, with the changes of the plugins listed before this one.

use crate::redaction::Redaction;
use jiff::Timestamp;
use plugin_api::{Request, Response};

/// An exchange; starts when it is created.
pub(crate) struct Recording {
    pub(crate) started: Timestamp,
    pub(crate) request: Option<RequestRecord>,
    pub(crate) response: Option<ResponseRecord>,
    pub(crate) content: Content,
}

/// A request head. There is no content, because plugins do not see that of requests here.
pub(crate) struct RequestRecord {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) version: u32,
    pub(crate) fields: Vec<(String, String)>,
    /// None if the end of the connection ends the content.
    pub(crate) content_len: Option<u64>,
}

/// A response head.
pub(crate) struct ResponseRecord {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) version: u32,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) media_type: String,
    /// Separate, because its field may be redacted.
    pub(crate) location: String,
}

/// The content of a response, or its beginning.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) kept: Vec<u8>,
    pub(crate) len: u64,
    pub(crate) progress: ContentState,
}

/// The state of the content.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentState {
    /// None has arrived; there may be none.
    #[default]
    None,
    Begun,
    Ended,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            started: Timestamp::now(),
            request: None,
            response: None,
            content: Content::default(),
        }
    }
}

impl Recording {
    /// Records the request head, unless it is recorded already.
    pub(crate) fn note_request(&mut self, request: Request<'_>, redaction: &Redaction) {
        if self.request.is_none() {
            self.request = Some(RequestRecord::new(request, redaction));
        }
    }

    /// Records the response head, unless it is recorded already.
    pub(crate) fn note_response(&mut self, response: Response<'_>, redaction: &Redaction) {
        if self.response.is_none() {
            self.response = Some(ResponseRecord::new(response, redaction));
        }
    }

    /// Records an answer that replaced the recorded response; its content is not visible.
    pub(crate) fn replace_response(&mut self, response: Response<'_>, redaction: &Redaction) {
        self.response = Some(ResponseRecord::new(response, redaction));
        self.content = Content::default();
    }
}

impl RequestRecord {
    fn new(request: Request<'_>, redaction: &Redaction) -> Self {
        let has_content = request.field("Transfer-Encoding").is_some();
        let content_len = match request.field_str("Content-Length") {
            Some(len) => len.parse().ok(),
            None if has_content => None,
            None => Some(0),
        };
        Self {
            method: request.method().to_owned(),
            url: url(request),
            version: request.version(),
            fields: shown(request.fields(), redaction),
            content_len,
        }
    }
}

impl ResponseRecord {
    fn new(response: Response<'_>, redaction: &Redaction) -> Self {
        let text = |name| response.field_str(name).unwrap_or_default().to_owned();
        Self {
            status: response.status(),
            reason: response.reason().to_owned(),
            version: response.version(),
            fields: shown(response.fields(), redaction),
            media_type: text("Content-Type"),
            location: text("Location"),
        }
    }
}

impl Content {
    /// Adds a piece; keeps at most `max_len` bytes in total.
    pub(crate) fn add(&mut self, piece: &[u8], is_last: bool, max_len: usize) {
        let room = max_len.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        self.len += piece.len() as u64;
        self.progress = match is_last {
            true => ContentState::Ended,
            false => ContentState::Begun,
        };
    }

    /// Whether the recorded content is truncated.
    pub(crate) fn is_truncated(&self) -> bool {
        self.len > self.kept.len() as u64
    }
}

fn shown<'x>(
    fields: impl Iterator<Item = (&'x str, &'x [u8])>,
    redaction: &Redaction,
) -> Vec<(String, String)> {
    fields
        .map(|(name, value)| (name.to_owned(), redaction.shown(name, value)))
        .collect()
}

/// The absolute URL; for a tunnel, host and port.
fn url(request: Request<'_>) -> String {
    let (scheme, port) = (request.scheme(), request.port());
    let host = match request.host() {
        address if address.contains(':') => format!("[{address}]"),
        name => name.to_owned(),
    };
    match (scheme, port) {
        ("", port) => format!("{host}:{port}"),
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}{}", request.path()),
        _ => format!("{scheme}://{host}:{port}{}", request.path()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, ContentState};

    #[test]
    fn keeps_the_beginning_and_counts_the_rest() {
        let mut content = Content::default();
        assert_eq!(content.progress, ContentState::None);
        content.add(b"abc", false, 5);
        assert!(!content.is_truncated());
        content.add(b"def", false, 5);
        content.add(b"", true, 5);
        assert_eq!((&*content.kept, content.len), (&b"abcde"[..], 6));
        assert!(content.is_truncated() && content.progress == ContentState::Ended);
    }
}
