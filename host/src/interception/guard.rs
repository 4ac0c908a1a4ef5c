//! Guards a relayed tunnel whose client has not sent anything yet.
//!
//! The upstream sent first, as with SSH or SMTP, and the client may be waiting for that. The first bytes of the client
//! are held back until they can be classified. If they are TLS or HTTP, which do not follow a greeting, the tunnel is
//! closed before the upstream receives any of them. Otherwise, an upstream that sends a greeting could help a client to
//! get HTTP relayed without inspection.

use std::cell::RefCell;
use std::io;

use super::opening::Opening;
use crate::plugins::TunnelHooks;
use crate::side::Side;
use crate::tunnel::TunnelWatcher;

/// The protocols that close a guarded tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedProtocols {
    /// TLS: plugins may want to see its ClientHello, and its server name may be one that is intercepted.
    Tls,
    /// Plain HTTP as well.
    TlsAndHttp,
}

impl RefusedProtocols {
    /// The protocol of the client, if it is one of these.
    fn opening(self, held: &[u8], is_all: bool) -> Opening {
        let opening = match is_all {
            false => Opening::of(held),
            true => Opening::of_all(held),
        };
        let is_binary = held.first().is_some_and(|byte| *byte >= 0x80) && held.len() < 3;
        match (self, opening) {
            (Self::TlsAndHttp, opening) => opening,
            (Self::Tls, Opening::Tls | Opening::Ssl2) => opening,
            (Self::Tls, Opening::Undecided) if is_binary || held.is_empty() => opening,
            (Self::Tls, _) => Opening::Other,
        }
    }
}

/// Classifies the first bytes of a client, and lets plugins see the tunnel.
pub(crate) struct Guard {
    refused: RefusedProtocols,
    hooks: Option<TunnelHooks>,
    state: RefCell<GuardState>,
}

enum GuardState {
    /// The client's bytes so far do not decide it.
    Held(Vec<u8>),
    /// It is neither TLS nor HTTP.
    Passed,
    Refused,
}

impl Guard {
    pub(crate) fn new(refused: RefusedProtocols, hooks: Option<TunnelHooks>) -> Self {
        Self {
            refused,
            hooks,
            state: RefCell::new(GuardState::Held(Vec::new())),
        }
    }

    /// Whether the client sent TLS or HTTP.
    pub(crate) fn has_refused(&self) -> bool {
        matches!(*self.state.borrow(), GuardState::Refused)
    }

    /// The bytes to relay, given the client's first ones; `Err` closes the tunnel.
    fn decide(&self, held: Vec<u8>, opening: Opening) -> io::Result<Option<Vec<u8>>> {
        let (state, result) = match opening {
            Opening::Undecided => (GuardState::Held(held), Ok(Some(Vec::new()))),
            Opening::Other => {
                let replacement = self.show(Side::Client, &held)?;
                (GuardState::Passed, Ok(Some(replacement.unwrap_or(held))))
            }
            _ => (
                GuardState::Refused,
                Err(io::ErrorKind::ConnectionAborted.into()),
            ),
        };
        *self.state.borrow_mut() = state;
        result
    }

    fn take_held(&self) -> Option<Vec<u8>> {
        match &mut *self.state.borrow_mut() {
            GuardState::Held(held) => Some(std::mem::take(held)),
            GuardState::Passed | GuardState::Refused => None,
        }
    }

    fn show(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match &self.hooks {
            Some(hooks) => hooks.see(from, bytes),
            None => Ok(None),
        }
    }
}

impl TunnelWatcher for Guard {
    fn see(&self, from: Side, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match (from, self.take_held()) {
            (Side::Client, Some(mut held)) => {
                held.extend_from_slice(bytes);
                let opening = self.refused.opening(&held, false);
                self.decide(held, opening)
            }
            (Side::Upstream, Some(held)) => {
                *self.state.borrow_mut() = GuardState::Held(held);
                self.show(from, bytes)
            }
            (_, None) => self.show(from, bytes),
        }
    }

    fn see_end(&self, from: Side) -> io::Result<Option<Vec<u8>>> {
        match (from, self.take_held()) {
            (Side::Client, Some(held)) if !held.is_empty() => {
                let opening = self.refused.opening(&held, true);
                self.decide(held, opening)
            }
            (_, Some(held)) => {
                *self.state.borrow_mut() = GuardState::Held(held);
                Ok(None)
            }
            (_, None) => Ok(None),
        }
    }

    fn is_needed(&self, from: Side) -> bool {
        let has_passed = matches!(*self.state.borrow(), GuardState::Passed);
        self.hooks.is_some() || from == Side::Client && !has_passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes relayed of these pieces and the end after them; `None`: the tunnel is closed.
    fn passed(refused: RefusedProtocols, pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let guard = Guard::new(refused, None);
        let mut passed = Vec::new();
        for piece in pieces {
            match guard.see(Side::Client, piece) {
                Ok(replacement) => passed.extend(replacement.unwrap_or(piece.to_vec())),
                Err(_) => {
                    assert!(guard.has_refused() && passed.is_empty());
                    return None;
                }
            }
        }
        match guard.see_end(Side::Client) {
            Ok(rest) => passed.extend(rest.unwrap_or_default()),
            Err(_) => return None,
        }
        assert!(!guard.has_refused());
        Some(passed)
    }

    #[test]
    fn other_protocols_pass_unchanged() {
        for pieces in [
            &[&b"SSH-2.0-x\r\n"[..], b"\x16\x03", b"GET / HTTP/1.1\r\n"][..],
            &[b"S", b"S", b"H", b"\r", b"\n", b"more"],
            &[b"EHLO", b" a\r\n"],
            &[b"\xff\xfc\x01", b"\xff\xfe\x03"],
            &[b"\xff", b"\xfd", b"\x01"],
            &[b"\0\0"],
            &[b"no line"],
            &[],
        ] {
            assert_eq!(
                passed(RefusedProtocols::TlsAndHttp, pieces),
                Some(pieces.concat())
            );
            assert_eq!(passed(RefusedProtocols::Tls, pieces), Some(pieces.concat()));
        }
    }

    #[test]
    fn http_and_tls_do_not_pass_in_any_split() {
        for pieces in [
            &[&b"GET / HTTP/1.1\r\n"[..]][..],
            &[b"\r", b"\n", b"F", b"OO", b" ", b"/"],
            &[b"x y", b" HT", b"TP/1.1\n"],
            &[b"PRI * HTTP/2.0\r\n"],
            &[b"\x16"],
            &[b"\x80", b"\x2e", b"\x01"],
            &[b"GET"],
        ] {
            assert_eq!(passed(RefusedProtocols::TlsAndHttp, pieces), None);
            let is_tls = pieces[0][0] == 0x16 || pieces[0][0] >= 0x80;
            assert_eq!(passed(RefusedProtocols::Tls, pieces).is_none(), is_tls);
        }
    }

    #[test]
    fn the_upstream_is_not_delayed() {
        let guard = Guard::new(RefusedProtocols::TlsAndHttp, None);
        assert!(
            guard
                .see(Side::Upstream, b"GET ")
                .is_ok_and(|seen| seen.is_none())
        );
        assert!(!guard.is_needed(Side::Upstream) && guard.is_needed(Side::Client));
        assert!(guard.see(Side::Client, b"\0").is_ok());
        assert!(!guard.is_needed(Side::Client));
    }
}
