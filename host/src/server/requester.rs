//! Who has requested something of the server, and hears what comes of it.

use std::fmt;

use tokio::sync::mpsc::UnboundedSender;

use crate::control::message::{Answer, Refusal};

/// Who has requested something.
#[derive(Clone, Debug)]
pub(super) enum Requester {
    /// The sender of this signal, who reads the log.
    Signal(&'static str),
    /// A client of the control socket, who also gets an answer: any number of [`Answer::Progress`], and a last one.
    Client {
        /// The command, as the log shows it.
        command: &'static str,
        /// Where the answer goes. If it is dropped without a last answer, the client learns that the proxy is ending.
        answers: UnboundedSender<Answer>,
    },
}

impl Requester {
    /// Reports what happens meanwhile.
    pub(super) fn progress(&self, text: impl Into<String>) {
        self.answer(|| Answer::Progress(text.into()));
    }

    /// Reports that the request has been carried out.
    pub(super) fn done(&self, text: impl Into<String>) {
        self.answer(|| Answer::Done(text.into()));
    }

    /// Reports that the request is not carried out, for a reason outside of the configuration.
    pub(super) fn refuse(&self, reason: &str) {
        self.answer(|| Answer::Failed(Refusal::of(reason)));
    }

    /// Reports all problems because of which the request is not carried out.
    pub(super) fn fail(&self, refusal: &Refusal) {
        self.answer(|| Answer::Failed(refusal.clone()));
    }

    fn answer(&self, answer: impl FnOnce() -> Answer) {
        if let Self::Client { answers, .. } = self {
            // The client may have left.
            let _ = answers.send(answer());
        }
    }
}

/// The name of the signal or command.
impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) | Self::Client { command: name, .. } => f.write_str(name),
        }
    }
}
