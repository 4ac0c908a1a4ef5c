//! Logins that are valid for one connection, in three messages, like NTLM and Negotiate.
//!
//! A client sends `HELLO`, is challenged with a number, and proves its identity with that number. The proof is valid
//! only on the connection of the challenge; from then on, every request on it belongs to its user.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Client, Message, Origin};

/// The state of the connections to an origin.
pub(crate) struct Logins {
    scheme: &'static str,
    connections: Mutex<HashMap<usize, State>>,
}

#[derive(Clone)]
enum State {
    Challenged,
    Known(String),
}

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginResult {
    /// 401 with this value of WWW-Authenticate.
    Challenge(String),
    /// The request belongs to this user.
    User(String),
}

impl Logins {
    pub(crate) fn new(scheme: &'static str) -> Logins {
        Logins {
            scheme,
            connections: Mutex::default(),
        }
    }

    /// The result of a request with this Authorization.
    pub(crate) fn judge(&self, connection: usize, authorization: Option<&str>) -> LoginResult {
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
                LoginResult::Challenge(format!("{} CHALLENGE-{connection}", self.scheme))
            }
            (Some(_), Some(State::Challenged), Some(user)) => {
                connections.insert(connection, State::Known(user.to_owned()));
                LoginResult::User(user.to_owned())
            }
            (None, Some(State::Known(user)), _) => LoginResult::User(user),
            _ => {
                connections.remove(&connection);
                LoginResult::Challenge(self.scheme.to_owned())
            }
        }
    }

    /// The response to a request on a connection of an [`Origin`].
    pub(crate) fn answer(&self, connection: usize, request: &Message) -> String {
        match self.judge(connection, request.field("authorization").as_deref()) {
            LoginResult::User(user) => super::response("200 OK", &user),
            LoginResult::Challenge(value) => super::response(
                &format!("401 Unauthorized\r\nWWW-Authenticate: {value}"),
                "log in",
            ),
        }
    }

    /// An origin that requires a login for each connection.
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

/// The credentials for a challenge.
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

/// Logs `client` in at `origin`; returns the last response.
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
