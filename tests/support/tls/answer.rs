//! The requests that an origin received, and its answers.

use std::sync::Arc;

use h2::Reason;
use tokio::sync::Semaphore;

use super::{Fields, Version, values};

/// A request, as an origin received it.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
    pub(crate) version: Version,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// `:authority`, or Host.
    pub(crate) authority: String,
    /// `:scheme`; none with HTTP/1.1.
    pub(crate) scheme: Option<String>,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub(crate) protocol: Option<String>,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether the body is complete.
    pub(crate) is_complete: bool,
    /// The server name in the handshake.
    pub(crate) server_name: Option<String>,
    /// The end certificate of the client.
    pub(crate) client_certificate: Option<Vec<u8>>,
}

impl ReceivedRequest {
    /// The first value of the field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// All values of the field called `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        values(&self.fields, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Delays answers until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub(crate) fn closed() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(super) async fn passed(&self) {
        // Closing the semaphore ends the wait.
        drop(self.0.acquire().await);
    }
}

/// An answer of an origin.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) content: Content,
    pub(super) trailers: Fields,
    pub(super) interim: Vec<(u16, Fields)>,
    pub(super) gate: Option<Gate>,
    pub(super) ending: Ending,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    None,
    /// With a stated length.
    Whole(Vec<u8>),
    /// Without a stated length.
    Parts(Vec<Vec<u8>>),
    /// The request's body and trailers, with HTTP/2 as they arrive.
    Echo,
    /// A WebSocket that echoes frames.
    WebSocket,
    /// A reset stream instead of a response; HTTP/2 only.
    Reset(Reason),
    /// The same, after the request has been read to its end.
    ResetBehind(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Proper,
    /// A reset stream or a cut connection.
    Broken,
}

impl Answer {
    /// 200 with this text.
    pub(crate) fn ok(text: impl Into<Vec<u8>>) -> Answer {
        Answer {
            content: Content::Whole(text.into()),
            ..Answer::status(200)
        }
    }

    /// A status without content.
    pub(crate) fn status(status: u16) -> Answer {
        Answer {
            status,
            fields: Vec::new(),
            content: Content::None,
            trailers: Vec::new(),
            interim: Vec::new(),
            gate: None,
            ending: Ending::Proper,
        }
    }

    /// 200 with content without a stated length.
    pub(crate) fn parts(parts: Vec<Vec<u8>>) -> Answer {
        Answer {
            content: Content::Parts(parts),
            ..Answer::status(200)
        }
    }

    /// 200 with the body and the trailers of the request.
    pub(crate) fn echo() -> Answer {
        Answer {
            content: Content::Echo,
            ..Answer::status(200)
        }
    }

    /// Accepts a WebSocket and echoes every message.
    pub(crate) fn web_socket() -> Answer {
        Answer {
            content: Content::WebSocket,
            ..Answer::status(200)
        }
    }

    /// Resets the stream without a response; HTTP/2 only.
    pub(crate) fn reset(reason: Reason) -> Answer {
        Answer {
            content: Content::Reset(reason),
            ..Answer::status(200)
        }
    }

    /// Like [`reset`](Self::reset), after the request has been read to its end.
    pub(crate) fn reset_behind(reason: Reason) -> Answer {
        Answer {
            content: Content::ResetBehind(reason),
            ..Answer::status(200)
        }
    }

    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Answer {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a trailer.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Answer {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// Sends an interim response first.
    pub(crate) fn after_interim(mut self, status: u16, name: &str, value: &str) -> Answer {
        let fields = vec![(name.into(), value.into())];
        self.interim.push((status, fields));
        self
    }

    /// Waits for `gate` before sending anything.
    pub(crate) fn behind(mut self, gate: &Gate) -> Answer {
        self.gate = Some(gate.clone());
        self
    }

    /// Breaks off after the content.
    pub(crate) fn broken(mut self) -> Answer {
        self.ending = Ending::Broken;
        self
    }
}
