//! The messages of the control socket: one JSON object per line.
//!
//! A client sends requests such as `{"version":1,"command":"status"}`. Each is answered by any number of lines with
//! `progress`, and a last one with `done`, `status` or `failed`. Unknown fields are ignored on both sides, so that later
//! versions may add some; a change that an older program would misunderstand has another `version`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::status::Status;

/// The version of the protocol.
const VERSION: u64 = 1;

/// The maximum length of a request in bytes, with its line end; a longer one is refused.
pub(crate) const MAX_REQUEST_LEN: usize = 4096;

/// What a client may ask of a running proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// The status; answered with [`Answer::Status`].
    Status,
    /// Reload the configuration, certificates and plugins; answered when all workers use them, or with all problems.
    Reload,
    /// Reopen the log file.
    Reopen,
    /// Pass on the listening sockets to a new process, which begins to accept on them; answered with
    /// [`Answer::Sockets`]. What follows on the same connection within [`TAKEOVER_LIMIT`] is [`Command::TakenOver`]; if
    /// the connection ends instead, nothing changes.
    TakeOver,
    /// The new process accepts connections: accept none any more, give up the control socket and the pid file, drain and
    /// end. Answered before the drain.
    TakenOver,
    /// Drain and end; the connection is closed when the process ends. During a drain: end now.
    Stop,
}

/// How long a new process may take from [`Command::TakeOver`] to [`Command::TakenOver`].
pub(crate) const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);

/// The names of the commands, for the answer to a request with another one.
const COMMANDS: &str = "status, reload, reopen, stop, take_over, taken_over";

/// Why a request cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request is not a JSON object in one line: {0}")]
    NotJson(String),
    #[error(
        "the request has no \"version\": {VERSION}; this proxy is {} and speaks version {VERSION}",
        env!("CARGO_PKG_VERSION")
    )]
    Version,
    #[error("the request has an unknown \"command\"; use one of: {COMMANDS}")]
    Command,
    #[error("the request has no line end")]
    Incomplete,
    #[error("the request is longer than {MAX_REQUEST_LEN} bytes")]
    TooLong,
}

impl Command {
    /// Reads a request, without its line end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, RequestError> {
        let request: Value = serde_json::from_slice(line)
            .map_err(|error| RequestError::NotJson(error.to_string()))?;
        if !request.is_object() {
            return Err(RequestError::NotJson("it is another value".to_owned()));
        }
        if request.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(RequestError::Version);
        }
        let command = request.get("command").cloned().unwrap_or_default();
        serde_json::from_value(command).map_err(|_| RequestError::Command)
    }

    /// The request as a line, with its line end.
    pub(crate) fn to_line(self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Request {
            version: u64,
            command: Command,
        }
        line(&Request {
            version: VERSION,
            command: self,
        })
    }
}

/// A line of the answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// What happens meanwhile, for the operator; more lines follow.
    Progress(String),
    /// The command has been carried out; how, for the operator.
    Done(String),
    /// The command has not been carried out.
    Failed(Refusal),
    /// The answer to [`Command::Status`].
    Status(Box<Status>),
    /// The answer to [`Command::TakeOver`], in one line or several. The descriptors of the sockets come with the line, in
    /// the same order.
    Sockets(OfferedSockets),
}

/// Sockets that a process passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OfferedSockets {
    pub(crate) sockets: Vec<OfferedSocket>,
    /// No further line with sockets follows.
    pub(crate) is_last: bool,
}

/// A listening socket that a process passes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OfferedSocket {
    /// A socket of the listener with this endpoint, as it is configured: `tcp:::1:8899`, `unix:/run/proxy.sock`.
    Listener(String),
    /// The control socket.
    Control,
}

/// Why a command has not been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Whether the configuration or a plugin is the cause.
    #[serde(default)]
    pub(crate) is_configuration: bool,
    /// All problems, one line each; at least one.
    pub(crate) problems: Vec<String>,
}

impl Refusal {
    /// A refusal for a reason that is not in the configuration.
    pub(crate) fn of(problem: impl ToString) -> Self {
        Self {
            is_configuration: false,
            problems: vec![problem.to_string()],
        }
    }
}

impl Answer {
    /// Whether it is the last line of the answer.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::Progress(_) => false,
            Self::Sockets(offer) => offer.is_last,
            Self::Done(_) | Self::Failed(_) | Self::Status(_) => true,
        }
    }

    /// The answer as a line, with its line end.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            version: u64,
            #[serde(flatten)]
            answer: &'a Answer,
        }
        line(&Line {
            version: VERSION,
            answer: self,
        })
    }

    /// Reads a line of an answer. `None`: this version of the program does not understand it.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(line).ok()?;
        if answer.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return None;
        }
        let known = ["progress", "done", "failed", "status", "sockets"];
        let (key, value) = known
            .iter()
            .find_map(|key| answer.get(key).map(|value| (*key, value)))?;
        let single = serde_json::Map::from_iter([(key.to_owned(), value.clone())]);
        serde_json::from_value(Value::Object(single)).ok()
    }
}

/// Values of these types can always be written; the line would be empty otherwise, which the other side refuses.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for command in [
            Command::Status,
            Command::Reload,
            Command::Reopen,
            Command::Stop,
            Command::TakeOver,
            Command::TakenOver,
        ] {
            assert_eq!(Command::parse(&command.to_line()), Ok(command));
        }
        let line = Command::Status.to_line();
        assert_eq!(line, b"{\"version\":1,\"command\":\"status\"}\n");
        let later = br#"{"version":1,"command":"stop","later":[1]}"#;
        assert_eq!(Command::parse(later), Ok(Command::Stop));
    }

    #[test]
    fn requests_that_cannot_be_carried_out_are_refused_with_the_reason() {
        for (line, reason) in [
            ("", "not a JSON object"),
            ("{\"version\":1", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("\u{0}\u{1}", "not a JSON object"),
            ("{}", "speaks version 1"),
            ("{\"version\":2,\"command\":\"stop\"}", "speaks version 1"),
            ("{\"version\":1}", "use one of: status, reload"),
            ("{\"version\":1,\"command\":\"explode\"}", "use one of"),
            ("{\"version\":1,\"command\":7}", "use one of"),
        ] {
            let error = Command::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
        // Deep nesting is an error of the parser, not the end of the stack.
        assert!(Command::parse("[".repeat(MAX_REQUEST_LEN).as_bytes()).is_err());
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        for answer in [
            Answer::Progress("draining".to_owned()),
            Answer::Done("generation 2 is active".to_owned()),
            Answer::Failed(Refusal::of("no")),
            Answer::Sockets(OfferedSockets {
                sockets: vec![
                    OfferedSocket::Listener("tcp:::1:8899".to_owned()),
                    OfferedSocket::Control,
                ],
                is_last: true,
            }),
        ] {
            assert_eq!(Answer::parse(&answer.to_line()), Some(answer));
        }
        let later = br#"{"version":1,"later":1,"done":"yes"}"#;
        assert_eq!(Answer::parse(later), Some(Answer::Done("yes".to_owned())));
        assert_eq!(Answer::parse(br#"{"version":2,"done":"yes"}"#), None);
        assert_eq!(Answer::parse(b"{}"), None);
    }

    #[test]
    fn every_command_is_named_to_those_who_use_another() {
        for command in [
            Command::Status,
            Command::Reload,
            Command::Reopen,
            Command::Stop,
            Command::TakeOver,
            Command::TakenOver,
        ] {
            let line = String::from_utf8(command.to_line()).unwrap();
            let is_named = |name: &str| line.contains(&format!("\"{name}\""));
            assert!(COMMANDS.split(", ").any(is_named), "{line}");
        }
    }
}
