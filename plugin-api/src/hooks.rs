//! A set of hooks: which ones a filter has, and which of those are async.
//!
//! `#[filter]` fills such sets from the functions it sees, so that the proxy never calls a hook nobody wrote.

use crate::abi::hook;

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u64);

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Every hook of this version.
    pub const ALL: Self = Self((1 << hook::NAMES.len()) - 1);
    /// [`Filter::on_client_connection`](crate::Filter::on_client_connection).
    pub const ON_CLIENT_CONNECTION: Self = Self(hook::ON_CLIENT_CONNECTION);
    /// [`Filter::authenticate`](crate::Filter::authenticate).
    pub const AUTHENTICATE: Self = Self(hook::AUTHENTICATE);
    /// [`Filter::before_upstream_connection`](crate::Filter::before_upstream_connection).
    pub const BEFORE_UPSTREAM_CONNECTION: Self = Self(hook::BEFORE_UPSTREAM_CONNECTION);
    /// [`Filter::handle_client_request`](crate::Filter::handle_client_request).
    pub const HANDLE_CLIENT_REQUEST: Self = Self(hook::HANDLE_CLIENT_REQUEST);
    /// [`Filter::handle_tls_hello`](crate::Filter::handle_tls_hello).
    pub const HANDLE_TLS_HELLO: Self = Self(hook::HANDLE_TLS_HELLO);
    /// [`Filter::do_intercept`](crate::Filter::do_intercept).
    pub const DO_INTERCEPT: Self = Self(hook::DO_INTERCEPT);
    /// [`Filter::handle_client_body`](crate::Filter::handle_client_body).
    pub const HANDLE_CLIENT_BODY: Self = Self(hook::HANDLE_CLIENT_BODY);
    /// [`Filter::resolve_dns`](crate::Filter::resolve_dns).
    pub const RESOLVE_DNS: Self = Self(hook::RESOLVE_DNS);
    /// [`Filter::on_upstream_connected`](crate::Filter::on_upstream_connected).
    pub const ON_UPSTREAM_CONNECTED: Self = Self(hook::ON_UPSTREAM_CONNECTED);
    /// [`Filter::on_upstream_failed`](crate::Filter::on_upstream_failed).
    pub const ON_UPSTREAM_FAILED: Self = Self(hook::ON_UPSTREAM_FAILED);
    /// [`Filter::handle_client_chunk`](crate::Filter::handle_client_chunk).
    pub const HANDLE_CLIENT_CHUNK: Self = Self(hook::HANDLE_CLIENT_CHUNK);
    /// [`Filter::handle_client_trailers`](crate::Filter::handle_client_trailers).
    pub const HANDLE_CLIENT_TRAILERS: Self = Self(hook::HANDLE_CLIENT_TRAILERS);
    /// [`Filter::handle_upstream_response`](crate::Filter::handle_upstream_response).
    pub const HANDLE_UPSTREAM_RESPONSE: Self = Self(hook::HANDLE_UPSTREAM_RESPONSE);
    /// [`Filter::handle_upstream_body`](crate::Filter::handle_upstream_body).
    pub const HANDLE_UPSTREAM_BODY: Self = Self(hook::HANDLE_UPSTREAM_BODY);
    /// [`Filter::handle_upstream_chunk`](crate::Filter::handle_upstream_chunk).
    pub const HANDLE_UPSTREAM_CHUNK: Self = Self(hook::HANDLE_UPSTREAM_CHUNK);
    /// [`Filter::handle_upstream_trailers`](crate::Filter::handle_upstream_trailers).
    pub const HANDLE_UPSTREAM_TRAILERS: Self = Self(hook::HANDLE_UPSTREAM_TRAILERS);
    /// [`Filter::handle_tunnel_chunk`](crate::Filter::handle_tunnel_chunk).
    pub const HANDLE_TUNNEL_CHUNK: Self = Self(hook::HANDLE_TUNNEL_CHUNK);
    /// [`Filter::handle_websocket_message`](crate::Filter::handle_websocket_message).
    pub const HANDLE_WEBSOCKET_MESSAGE: Self = Self(hook::HANDLE_WEBSOCKET_MESSAGE);
    /// [`Filter::on_access_log`](crate::Filter::on_access_log).
    pub const ON_ACCESS_LOG: Self = Self(hook::ON_ACCESS_LOG);
    /// [`Filter::on_upstream_connection_close`](crate::Filter::on_upstream_connection_close).
    pub const ON_UPSTREAM_CONNECTION_CLOSE: Self = Self(hook::ON_UPSTREAM_CONNECTION_CLOSE);
    /// [`Filter::on_client_connection_close`](crate::Filter::on_client_connection_close).
    pub const ON_CLIENT_CONNECTION_CLOSE: Self = Self(hook::ON_CLIENT_CONNECTION_CLOSE);

    /// The hooks of a mask from across the boundary, unknown bits included.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The mask as it crosses the boundary.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// These hooks and `more`.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether all of `wanted` are in the set.
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether there is no hook in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the known hooks in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = hook::NAMES.iter().enumerate();
        named
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::Hooks;

    #[test]
    fn names_the_hooks_of_a_mask_and_ignores_unknown_bits() {
        let hooks = Hooks::from_bits(1 << 63).with(Hooks::ON_ACCESS_LOG);
        assert_eq!(hooks.names().collect::<Vec<_>>(), ["on_access_log"]);
        assert_eq!(Hooks::ALL.names().count(), 21);
    }
}
