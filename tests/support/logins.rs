//! Logins that are good for one connection, in three messages, as NTLM and Negotiate have them.
//!
//! A client sends `HELLO`, is challenged with a number, and proves with that number who it is. The proof counts only on
//! the connection that the challenge went over; from then on every request there is its user's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Client, Message, Origin};

/// What an origin knows of the connections to it.
pub(crate) struct Logins {
    scheme: &'static str,
    connections: Mutex<HashMap<usize, State>>,
}

#[derive(Clone)]
enum State {
    Challenged,
    Known(String),
}

/// What an origin says to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 401 with this value of WWW-Authenticate.
    Challenge(String),
    /// It is this user's.
    User(String),
}

impl Logins {
    pub(crate) fn new(scheme: &'static str) -> Logins {
        Logins {
            scheme,
            connections: Mutex::default(),
        }
    }

    /// What a request with this Authorization comes to.
    pub(crate) fn judge(&self, connection: usize, authorization: Option<&str>) -> Verdict {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let message =
            authorization.and_then(|value| value.strip_prefix(self.scheme)?.strip_prefix(' '));
        let state = connections.get(&connection).cloned();
        let user =
            message.and_then(|message| message.strip_prefix(&format!("PROOF-{connection}-")));
        match (message, state, user) {
            (Some("HELLO"), ..) => {
                connections.insert(connection, State::Challenged);
                Verdict::Challenge(format!("{} CHALLENGE-{connection}", self.scheme))
            }
            (Some(_), Some(State::Challenged), Some(user)) => {
                connections.insert(connection, State::Known(user.to_owned()));
                Verdict::User(user.to_owned())
            }
            (None, Some(State::Known(user)), _) => Verdict::User(user),
            _ => {
                connections.remove(&connection);
                Verdict::Challenge(self.scheme.to_owned())
            }
        }
    }

    /// The response to a request on a connection of an [`Origin`].
    pub(crate) fn answer(&self, connection: usize, request: &Message) -> String {
        match self.judge(connection, request.field("authorization").as_deref()) {
            Verdict::User(user) => super::response("200 OK", &user),
            Verdict::Challenge(value) => super::response(
                &format!("401 Unauthorized\r\nWWW-Authenticate: {value}"),
                "log in",
            ),
        }
    }

    /// An origin whose connections are logged in to.
    pub(crate) fn origin(scheme: &'static str) -> Origin {
        let logins = Logins::new(scheme);
        Origin::serve(move |peer| {
            while let Some(request) = peer.request() {
                let answer = logins.answer(peer.index(), &request);
                peer.send(answer);
            }
        })
    }
}

/// The credentials that follow a challenge.
pub(crate) fn proof(challenge: &str, user: &str) -> String {
    let (scheme, number) = challenge
        .split_once(" CHALLENGE-")
        .unwrap_or_else(|| panic!("no challenge: {challenge:?}"));
    format!("{scheme} PROOF-{number}-{user}")
}

/// A client's request with these credentials.
pub(crate) fn with(origin: &Origin, credentials: &str) -> String {
    super::request(
        "GET",
        origin,
        "/",
        &format!("Authorization: {credentials}\r\n"),
    )
}

/// Logs `client` in at `origin`; what the last response says.
pub(crate) fn log_in(
    client: &mut Client,
    origin: &Origin,
    scheme: &str,
    user: &str,
) -> (u16, String) {
    assert_eq!(client.ask(super::get(origin, "/")).status(), 401);
    let challenged = client.ask(with(origin, &format!("{scheme} HELLO")));
    let challenge = challenged.field("www-authenticate").unwrap_or_default();
    let answer = client.ask(with(origin, &proof(&challenge, user)));
    (answer.status(), answer.text())
}
