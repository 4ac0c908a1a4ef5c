//! The response to a request for a file: a head, and the source of the content.
//!
//! Whoever made it has opened the file and decided everything; what is left is when it is said (`Date`), whether the
//! connection goes on, and to send it. Heads are written as they are made, into a buffer of the worker.

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

/// The methods that files have.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// The answer to a request for a file.
#[derive(Debug)]
pub(crate) struct FileAnswer {
    pub(crate) status: u16,
    /// The status line and some fields.
    head: Vec<u8>,
    body: Body,
}

/// The content of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// There is none, nor a length: 204, 304.
    None,
    Text(Vec<u8>),
    /// Parts of a file, of `len` bytes together.
    File {
        file: File,
        segments: Vec<Segment>,
        len: u64,
    },
    /// A file of `len` bytes, coded on its way and therefore chunked.
    Coded {
        file: File,
        len: u64,
        coding: Coding,
        permit: Arc<Encoders>,
    },
}

impl FileAnswer {
    /// An answer without content.
    pub(super) fn new(status: u16) -> Self {
        let mut head = buffers::small();
        http1::write_status_line(&mut head, status, http1::reason_phrase(status).as_bytes());
        Self {
            status,
            head,
            body: Body::None,
        }
    }

    /// A short text for a person: what the status means here.
    pub(super) fn plain(status: u16) -> Self {
        let reason = http1::reason_phrase(status);
        let text = format!("{status} {reason}: {}\n", explanation(status));
        Self::new(status).with_text("text/plain; charset=utf-8", text.into_bytes())
    }

    /// The answer to OPTIONS.
    pub(super) fn options() -> Self {
        Self::new(204).with("Allow", ALLOWED)
    }

    /// The answer to a method that files do not have.
    pub(super) fn method_not_allowed() -> Self {
        Self::plain(405).with("Allow", ALLOWED)
    }

    /// Adds a field.
    pub(super) fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with_parts(name, &[value.as_ref()])
    }

    /// Adds a field whose value is in several parts.
    pub(super) fn with_parts(mut self, name: &str, value: &[&[u8]]) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        for part in value {
            self.head.extend_from_slice(part);
        }
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a date.
    pub(super) fn with_date(mut self, name: &str, date: HttpDate) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        // Writing to memory does not fail.
        let _ = write!(self.head, "{date}");
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds text of our own as content.
    pub(super) fn with_text(self, content_type: &str, text: Vec<u8>) -> Self {
        let answer = self
            .with("Content-Type", content_type)
            .with("X-Content-Type-Options", "nosniff");
        answer.with_body(Body::Text(text))
    }

    /// Adds the content, and the field that frames it.
    pub(super) fn with_body(mut self, body: Body) -> Self {
        let len = match &body {
            Body::None => None,
            Body::Text(text) => Some(text.len() as u64),
            Body::File { len, .. } => Some(*len),
            Body::Coded { .. } => {
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

    /// The response that goes out, with its head complete.
    pub(crate) fn into_response(mut self, form: ReplyForm, date: &str) -> FileResponse {
        http1::write_field(&mut self.head, "Server", AGENT.as_bytes());
        http1::write_field(&mut self.head, "Date", date.as_bytes());
        if form.is_last {
            http1::write_field(&mut self.head, "Connection", b"close");
        }
        self.head.extend_from_slice(b"\r\n");
        let body = match form.is_head {
            true => Body::None,
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
