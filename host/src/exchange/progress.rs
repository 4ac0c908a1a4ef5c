//! How far one attempt at an upstream has come.
//!
//! The request and the response are under way at the same time, and either has to know of the other.

use std::cell::Cell;

/// One attempt.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The request goes to a parent proxy as it is, so a 407 is about our credentials and not the client's.
    pub(super) is_for_parent: bool,
    /// The request may be sent again if this connection turns out not to have processed it.
    pub(super) may_repeat: bool,
    request: Cell<Sending>,
    response: Cell<Receiving>,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sending {
    /// Its content is sent as it comes.
    #[default]
    UnderWay,
    /// The client waits for the upstream's word before it sends content (RFC 9110 §10.1.1).
    AwaitsInvitation,
    /// The client has just been given it.
    Invited,
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
    /// Something of the final response has been sent on: no other answer is possible.
    Started(Passing),
}

/// A final response that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passing {
    /// Its end is not that of the connection.
    pub(super) is_framed: bool,
    /// It is a stream of events, which may be silent for long.
    pub(super) is_event_stream: bool,
}

impl Passing {
    /// A response that ends with its head, or was here whole.
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

    /// The client waits for the upstream's word.
    pub(super) fn await_invitation(&self) {
        self.request.set(Sending::AwaitsInvitation);
    }

    pub(super) fn awaits_invitation(&self) -> bool {
        self.request.get() == Sending::AwaitsInvitation
    }

    /// The client has begun to send its content, or has gone. Whether it was still to be told.
    pub(super) fn end_invitation(&self) -> bool {
        self.request.replace(Sending::UnderWay) == Sending::AwaitsInvitation
    }

    /// The client has been told to send its content.
    pub(super) fn note_invited(&self) {
        self.request.set(Sending::Invited);
    }

    /// Whether the client has been told since this was asked last.
    pub(super) fn take_invited(&self) -> bool {
        let is_invited = self.request.get() == Sending::Invited;
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

    /// The head of the final response has arrived; nothing of it has been sent on, or that was taken back in time.
    pub(super) fn note_answered(&self) {
        self.response.set(Receiving::Answered);
    }

    /// The final response is sent on from now on.
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

    /// Whether something of the final response has been sent on.
    pub(super) fn is_started(&self) -> bool {
        self.passing().is_some()
    }

    /// Whether the client can tell without the connection's end where the response ends that it is sent.
    pub(super) fn is_framed(&self) -> bool {
        self.passing().is_none_or(|passing| passing.is_framed)
    }

    /// Whether a stream of events is sent on.
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
