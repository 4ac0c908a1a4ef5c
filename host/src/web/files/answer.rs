//! The response to a request for a file: a head, and the source of the content.
//!
//! The file is open and everything is decided when this value is made; `Date`, the connection fields and sending
//! remain. The head is written directly into a buffer of the worker.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use httpdate::HttpDate;

use super::Encoders;
use super::send::{FileResponse, Segment};
use crate::buffers;
use crate::content_coding::Coding;
use crate::http1;
use crate::reply::{AGENT, ReplyForm};

/// The methods that files support.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// The answer to a request for a file.
#[derive(Debug)]
pub(crate) struct FileAnswer {
    pub(crate) status: u16,
    /// The status line and some fields.
    head: Vec<u8>,
    body: FileContent,
}

/// The content of a response.
#[derive(Debug)]
pub(super) enum FileContent {
    /// No content and no length: 204, 304.
    None,
    Text(Vec<u8>),
    /// Parts of a file, `len` bytes in total.
    File {
        file: File,
        segments: Vec<Segment>,
        len: u64,
    },
    /// A file of `len` bytes, compressed on the fly and therefore chunked.
    OnTheFly {
        file: File,
        len: u64,
        coding: Coding,
        permit: Arc<Encoders>,
    },
}

impl FileAnswer {
    /// A response without content.
    pub(super) fn new(status: u16) -> Self {
        let mut head = buffers::small();
        http1::write_status_line(&mut head, status, http1::reason_phrase(status).as_bytes());
        Self {
            status,
            head,
            body: FileContent::None,
        }
    }

    /// A short text that says what the status means.
    pub(super) fn plain(status: u16) -> Self {
        let reason = http1::reason_phrase(status);
        let text = format!("{status} {reason}: {}\n", explanation(status));
        Self::new(status).with_text("text/plain; charset=utf-8", text.into_bytes())
    }

    /// The response to OPTIONS.
    pub(super) fn options() -> Self {
        Self::new(204).with("Allow", ALLOWED)
    }

    /// The response to a method that files do not support.
    pub(super) fn method_not_allowed() -> Self {
        Self::plain(405).with("Allow", ALLOWED)
    }

    /// Adds a field.
    pub(super) fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with_parts(name, &[value.as_ref()])
    }

    /// Adds a field; its value is the concatenation of `value`.
    pub(super) fn with_parts(mut self, name: &str, value: &[&[u8]]) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        for part in value {
            self.head.extend_from_slice(part);
        }
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field with a date.
    pub(super) fn with_date(mut self, name: &str, date: HttpDate) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        // Writing to memory does not fail.
        let _ = write!(self.head, "{date}");
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds text as content.
    pub(super) fn with_text(self, content_type: &str, text: Vec<u8>) -> Self {
        let answer = self
            .with("Content-Type", content_type)
            .with("X-Content-Type-Options", "nosniff");
        answer.with_body(FileContent::Text(text))
    }

    /// Adds the content, and the field that frames it.
    pub(super) fn with_body(mut self, body: FileContent) -> Self {
        let len = match &body {
            FileContent::None => None,
            FileContent::Text(text) => Some(text.len() as u64),
            FileContent::File { len, .. } => Some(*len),
            FileContent::OnTheFly { .. } => {
                http1::write_field(&mut self.head, "Transfer-Encoding", b"chunked");
                None
            }
        };
        if let Some(len) = len {
            http1::write_decimal(&mut self.head, "Content-Length", len);
        }
        self.body = body;
        self
    }

    /// Completes the head and returns the response to send.
    pub(crate) fn into_response(mut self, form: ReplyForm, date: &str) -> FileResponse {
        http1::write_field(&mut self.head, "Server", AGENT.as_bytes());
        http1::write_field(&mut self.head, "Date", date.as_bytes());
        if form.is_last {
            http1::write_field(&mut self.head, "Connection", b"close");
        }
        self.head.extend_from_slice(b"\r\n");
        let body = match form.is_head {
            true => FileContent::None,
            false => self.body,
        };
        FileResponse::new(self.head, body)
    }
}

fn explanation(status: u16) -> &'static str {
    match status {
        301 => "this is a directory.",
        400 => "the path is malformed.",
        403 => "access denied.",
        404 => "no such file.",
        405 => "files are read-only.",
        412 => "the file does not meet the conditions of the request.",
        416 => "the range is beyond the end of the file.",
        503 => "the server is overloaded; try again.",
        _ => "the file cannot be read.",
    }
}
