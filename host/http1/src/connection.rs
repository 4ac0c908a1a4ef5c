//! What a head says about its connection: whether it persists (RFC 9112 §9.3), and whether it is authenticated (RFC
//! 4559, NTLM).

use crate::framing::names_identity;
use crate::head::{RequestHead, ResponseHead, Version};

/// Whether the connection of this response may carry another exchange (RFC 9112 §9.3).
pub fn is_persistent(head: &ResponseHead) -> bool {
    let connection = head.fields().connection_options();
    let is_kept = match head.version() {
        Version::Http11 | Version::Http2 => !connection.close,
        Version::Http10 => connection.keep_alive && !connection.close,
    };
    // A peer that violates the grammar may have sent more than was understood.
    is_kept && !head.is_relaxed() && !names_identity(head.fields())
}

/// Whether such a request may authenticate the connection (RFC 4559, NTLM): no other client may use it then.
pub fn is_connection_bound(head: &RequestHead) -> bool {
    head.fields()
        .named("authorization")
        .any(|value| is_of_connection(value).is_some())
}

/// The state of connection authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionChallenge {
    /// The origin offers it.
    Offered,
    /// A handshake is in progress: the connection belongs to the client.
    Begun,
}

/// The state of connection authentication according to a response (RFC 4559 §4.1, NTLM), if any.
pub fn connection_challenge(head: &ResponseHead) -> Option<ConnectionChallenge> {
    let mut found = None;
    for value in head.fields().named("www-authenticate") {
        for challenge in value.split(|&byte| byte == b',') {
            match is_of_connection(challenge.trim_ascii()) {
                Some(true) => return Some(ConnectionChallenge::Begun),
                Some(false) => found = Some(ConnectionChallenge::Offered),
                None => {}
            }
        }
    }
    found
}

/// Whether the scheme of credentials or of a challenge authenticates connections; `Some(true)` if there is a token.
fn is_of_connection(value: &[u8]) -> Option<bool> {
    ["NTLM", "Negotiate"].iter().find_map(|scheme| {
        let (begin, rest) = value.split_at_checked(scheme.len())?;
        let is_whole = rest.first().is_none_or(|byte| b" \t".contains(byte));
        let is_named = is_whole && begin.eq_ignore_ascii_case(scheme.as_bytes());
        is_named.then(|| !rest.trim_ascii().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::{request, response};

    #[test]
    fn credentials_of_a_connection_bind_it_to_its_client() {
        for (fields, expected) in [
            ("Authorization: NTLM x\r\n", true),
            ("authorization: ntlm\r\n", true),
            ("Authorization: Negotiate x\r\n", true),
            (
                "A: b\r\nAuthorization: Basic x\r\nAuthorization: negotiate x\r\n",
                true,
            ),
            ("Authorization: Basic NTLM\r\n", false),
            ("Authorization: NT\r\n", false),
            ("Authorization: NTLM2 x\r\n", false),
            ("Authorization: Bearer x\r\n", false),
            ("Authorization:\r\n", false),
            ("Proxy-Authorization: NTLM x\r\n", false),
            ("", false),
        ] {
            let head = request(&format!(
                "GET http://a/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
            ));
            assert_eq!(is_connection_bound(&head), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_challenge_shows_whether_a_handshake_has_begun() {
        use ConnectionChallenge::{Begun, Offered};
        for (fields, expected) in [
            ("WWW-Authenticate: NTLM\r\n", Some(Offered)),
            (
                "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n",
                Some(Offered),
            ),
            (
                "www-authenticate: Basic realm=\"a\", ntlm\r\n",
                Some(Offered),
            ),
            ("WWW-Authenticate: NTLM TlRMTVNTUAAC\r\n", Some(Begun)),
            ("WWW-Authenticate: negotiate  oYH=\r\n", Some(Begun)),
            ("WWW-Authenticate: Basic realm=\"NTLM x\"\r\n", None),
            ("WWW-Authenticate: NTLM2 x\r\n", None),
            ("WWW-Authenticate: Bearer\r\n", None),
            ("WWW-Authenticate:\r\n", None),
            ("", None),
        ] {
            let head = response(&format!("HTTP/1.1 401 Unauthorized\r\n{fields}\r\n"));
            assert_eq!(connection_challenge(&head), expected, "{fields:?}");
        }
    }
}
