//! What an origin saw, and what it answers.

use std::sync::Arc;

use h2::Reason;
use tokio::sync::Semaphore;

use super::{Fields, Version, values};

/// One request as an origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The connection it came on, from 0.
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
    /// Whether the body came to its end.
    pub(crate) is_complete: bool,
    /// The name that was asked for in the handshake.
    pub(crate) server_name: Option<String>,
    /// The end certificate of the client.
    pub(crate) client_certificate: Option<Vec<u8>>,
}

impl Seen {
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

/// Holds answers back until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// Closed for now.
    pub(crate) fn closed() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(super) async fn passed(&self) {
        // Closed is what ends the waiting.
        drop(self.0.acquire().await);
    }
}

/// What an origin sends back.
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
    /// Of a length that is stated.
    Whole(Vec<u8>),
    /// Of a length that is not.
    Parts(Vec<Vec<u8>>),
    /// The request's body and trailers, with HTTP/2 as they come.
    Echo,
    /// Frames are sent back with the same content.
    WebSocket,
    /// A reset stream instead of a response; HTTP/2 only.
    Reset(Reason),
    /// The same once the request has been read to its end.
    ResetBehind(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Proper,
    /// A reset stream, a cut connection.
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

    /// 200 with content of a length that is not stated.
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

    /// Agrees to a WebSocket and sends every message back.
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

    /// As [`reset`](Self::reset), once the request has been read to its end.
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

    /// Adds a field behind the content.
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

    /// Waits for `gate` before anything is sent.
    pub(crate) fn behind(mut self, gate: &Gate) -> Answer {
        self.gate = Some(gate.clone());
        self
    }

    /// Breaks off behind the content.
    pub(crate) fn broken(mut self) -> Answer {
        self.ending = Ending::Broken;
        self
    }
}
