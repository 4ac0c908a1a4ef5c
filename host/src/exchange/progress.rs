//! How far one attempt at an upstream has come.
//!
//! The request and the response are relayed at the same time, and each depends on how far the other is.

use std::cell::Cell;

/// One attempt.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The request is sent to a parent proxy, so a 407 is about our credentials and not the client's.
    pub(super) is_for_parent: bool,
    /// The request may be sent again if this connection turns out not to have processed it.
    pub(super) may_repeat: bool,
    request: Cell<Sending>,
    response: Cell<Receiving>,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sending {
    /// Its content is sent as it arrives.
    #[default]
    UnderWay,
    /// The client waits for 100 (Continue) before it sends content (RFC 9110 §10.1.1).
    AwaitsContinue,
    /// 100 (Continue) has just been sent to the client.
    Continued,
    /// It has been sent whole.
    Sent,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receiving {
    /// Nothing has arrived.
    #[default]
    Silent,
    /// Something has arrived: the request must not be sent again.
    Begun,
    /// The final response's head has arrived.
    Answered,
    /// A part of the final response has been forwarded: no other answer is possible.
    Started(Passing),
}

/// A final response that is being forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passing {
    /// The client finds its end by its framing.
    pub(super) is_framed: bool,
    /// It is an event stream, which may be silent for long.
    pub(super) is_event_stream: bool,
}

impl Passing {
    /// A response without a body, or whose body is sent at once.
    pub(super) const SHORT: Self = Self {
        is_framed: true,
        is_event_stream: false,
    };
}

impl Progress {
    /// An attempt that begins.
    pub(super) fn new(may_repeat: bool) -> Self {
        Self {
            may_repeat,
            ..Self::default()
        }
    }
}

// ---- the request -----------------------------------------------------------------------------------------------

impl Progress {
    /// Whether the request has been sent whole.
    pub(super) fn is_sent(&self) -> bool {
        self.request.get() == Sending::Sent
    }

    pub(super) fn note_sent(&self) -> Sent {
        self.request.set(Sending::Sent);
        Sent(())
    }

    /// The content is sent while the response is received.
    pub(super) fn note_upload(&self) -> Sent {
        Sent(())
    }

    /// The client waits for 100 (Continue).
    pub(super) fn await_continue(&self) {
        self.request.set(Sending::AwaitsContinue);
    }

    pub(super) fn awaits_continue(&self) -> bool {
        self.request.get() == Sending::AwaitsContinue
    }

    /// The client has begun to send its content, or has disconnected; whether it did not wait for 100 (Continue).
    pub(super) fn end_continue(&self) -> bool {
        self.request.replace(Sending::UnderWay) == Sending::AwaitsContinue
    }

    /// 100 (Continue) has been sent to the client.
    pub(super) fn note_continue(&self) {
        self.request.set(Sending::Continued);
    }

    /// Whether 100 (Continue) has been sent to the client since the last call.
    pub(super) fn take_continue(&self) -> bool {
        let is_invited = self.request.get() == Sending::Continued;
        if is_invited {
            self.request.set(Sending::UnderWay);
        }
        is_invited
    }
}

// ---- the response ----------------------------------------------------------------------------------------------

impl Progress {
    /// Something has arrived.
    pub(super) fn note_begun(&self) {
        if self.response.get() == Receiving::Silent {
            self.response.set(Receiving::Begun);
        }
    }

    /// The head of the final response has arrived, and no part of it has been forwarded.
    pub(super) fn note_answered(&self) {
        self.response.set(Receiving::Answered);
    }

    /// The final response is forwarded from now on.
    pub(super) fn note_started(&self, passing: Passing) {
        self.response.set(Receiving::Started(passing));
    }

    /// Whether nothing has arrived, so that the request may be sent again.
    pub(super) fn is_silent(&self) -> bool {
        self.response.get() == Receiving::Silent
    }

    /// Whether the head of the final response has arrived.
    pub(super) fn is_answered(&self) -> bool {
        matches!(
            self.response.get(),
            Receiving::Answered | Receiving::Started(_)
        )
    }

    /// Whether a part of the final response has been forwarded.
    pub(super) fn is_started(&self) -> bool {
        self.passing().is_some()
    }

    /// Whether the client finds the end of the forwarded response by its framing.
    pub(super) fn is_framed(&self) -> bool {
        self.passing().is_none_or(|passing| passing.is_framed)
    }

    /// Whether an event stream is forwarded.
    pub(super) fn is_event_stream(&self) -> bool {
        self.passing()
            .is_some_and(|passing| passing.is_event_stream)
    }

    fn passing(&self) -> Option<Passing> {
        match self.response.get() {
            Receiving::Started(passing) => Some(passing),
            _ => None,
        }
    }
}

/// The request was sent, or is being sent while its response is received.
pub(super) struct Sent(());
