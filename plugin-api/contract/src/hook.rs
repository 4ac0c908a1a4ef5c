//! All hooks, in one table: in the order in which they are called, which is the order of their bits.
//!
//! A new hook is a new row at the end of [`hooks!`](crate::hooks); existing numbers never change. The rows determine
//! the bits that cross the boundary, the sets and the dispatch of plugin-api, the permissions in the documentation of
//! `Filter`, and what the proxy and the test kit permit.

/// Calls the macro `$each` with all rows: documentation, name of the variant, constant, function, [`Kind`] (with the
/// async version if there is one), and each [`Permission`].
#[macro_export]
macro_rules! hooks {
    ($each:ident) => {
        $each! {
            /// A client has connected.
            OnClientConnection ON_CLIENT_CONNECTION on_client_connection: BeginsConnection [Close]
            /// Authenticates and authorizes the client.
            Authenticate AUTHENTICATE authenticate: Decides(authenticate_async)
                [SetUser EditRequest SetUpstream SetClientBody SetUpstreamBody Reply Close]
            /// Before connecting to the upstream.
            BeforeUpstreamConnection BEFORE_UPSTREAM_CONNECTION before_upstream_connection:
                Decides(before_upstream_connection_async)
                [EditRequest SetUpstream SetClientBody SetUpstreamBody Reply Close]
            /// The request is about to be sent.
            HandleClientRequest HANDLE_CLIENT_REQUEST handle_client_request: Decides(handle_client_request_async)
                [EditRequest SetUpstream SetClientBody SetUpstreamBody Reply Close]
            /// The ClientHello inside a tunnel.
            HandleTlsHello HANDLE_TLS_HELLO handle_tls_hello: Decides(handle_tls_hello_async) [Close]
            /// Whether to intercept a tunnel.
            DoIntercept DO_INTERCEPT do_intercept: Intercepts []
            /// The whole content of the request.
            HandleClientBody HANDLE_CLIENT_BODY handle_client_body: Decides(handle_client_body_async)
                [EditRequest ReplaceContent SetUpstream SetUpstreamBody Reply Close]
            /// A new upstream connection needs addresses.
            ResolveDns RESOLVE_DNS resolve_dns: Decides(resolve_dns_async) [SetAddresses Reply Close]
            /// The exchange has an upstream connection.
            OnUpstreamConnected ON_UPSTREAM_CONNECTED on_upstream_connected: Observes []
            /// Connecting failed.
            OnUpstreamFailed ON_UPSTREAM_FAILED on_upstream_failed: Decides(on_upstream_failed_async)
                [SetUpstream Retry Reply Close]
            /// A piece of the request content.
            HandleClientChunk HANDLE_CLIENT_CHUNK handle_client_chunk: PassesContent [ReplaceData Close]
            /// The trailer section of the request.
            HandleClientTrailers HANDLE_CLIENT_TRAILERS handle_client_trailers: PassesTrailers [EditTrailers]
            /// The head of the final response.
            HandleUpstreamResponse HANDLE_UPSTREAM_RESPONSE handle_upstream_response:
                Decides(handle_upstream_response_async) [EditResponse SetUpstreamBody Reply Close]
            /// The whole content of the response.
            HandleUpstreamBody HANDLE_UPSTREAM_BODY handle_upstream_body: Decides(handle_upstream_body_async)
                [EditResponse ReplaceContent Reply Close]
            /// A piece of the response content.
            HandleUpstreamChunk HANDLE_UPSTREAM_CHUNK handle_upstream_chunk: PassesContent [ReplaceData Close]
            /// The trailer section of the response.
            HandleUpstreamTrailers HANDLE_UPSTREAM_TRAILERS handle_upstream_trailers: PassesTrailers [EditTrailers]
            /// Bytes of a tunnel, in either direction.
            HandleTunnelChunk HANDLE_TUNNEL_CHUNK handle_tunnel_chunk: PassesBytes [ReplaceData Close]
            /// A WebSocket message, in either direction.
            HandleWebSocketMessage HANDLE_WEBSOCKET_MESSAGE handle_websocket_message: PassesMessage
                [ReplaceData SendMessages Close]
            /// The exchange has ended and is about to be logged.
            OnAccessLog ON_ACCESS_LOG on_access_log: Logs []
            /// The upstream connection was closed or returned to the pool.
            OnUpstreamConnectionClose ON_UPSTREAM_CONNECTION_CLOSE on_upstream_connection_close: Observes []
            /// The client connection has ended.
            OnClientConnectionClose ON_CLIENT_CONNECTION_CLOSE on_client_connection_close: EndsConnection []
        }
    };
}

/// How a hook is called, and what it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For a client connection rather than an exchange: proceed or close.
    BeginsConnection,
    /// For a client connection: returns nothing.
    EndsConnection,
    /// Returns an outcome; may be async.
    Decides,
    /// Whether to intercept a tunnel.
    Intercepts,
    /// Gets a piece of content; returns what to forward.
    PassesContent,
    /// Gets bytes of a tunnel; returns what to forward.
    PassesBytes,
    /// Gets a WebSocket message; returns what to forward.
    PassesMessage,
    /// Gets a trailer section; returns nothing.
    PassesTrailers,
    /// Returns nothing.
    Observes,
    /// Whether to write the access log line.
    Logs,
}

/// What a hook may do. Every hook of an exchange may read it and add to its access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Permission {
    /// Set the user.
    SetUser,
    /// Edit method, path, host and fields of the request.
    EditRequest,
    /// Edit status and fields of the response.
    EditResponse,
    /// Edit the trailer section.
    EditTrailers,
    /// Replace the whole content.
    ReplaceContent,
    /// Replace or drop the data.
    ReplaceData,
    /// Send WebSocket messages.
    SendMessages,
    /// Set the upstream, its scheme, and a parent proxy.
    SetUpstream,
    /// Set the addresses of the upstream, and the source address.
    SetAddresses,
    /// Set the plugin's mode for the request body.
    SetClientBody,
    /// Set the plugin's mode for the response body.
    SetUpstreamBody,
    /// Retry connecting.
    Retry,
    /// Reply to the client.
    Reply,
    /// Close the client connection.
    Close,
}

macro_rules! table {
    ($(
        $(#[$doc:meta])*
        $hook:ident $constant:ident $function:ident: $kind:ident $(($twin:ident))? [$($permission:ident)*]
    )+) => {
        /// A hook. Its number is its position among all hooks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Hook {
            $($(#[$doc])* $hook,)+
        }

        impl Hook {
            /// All hooks, in the order in which they are called.
            pub const ALL: [Self; NAMES.len()] = [$(Self::$hook),+];

            /// How it is called.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$hook => Kind::$kind,)+
                }
            }
        }

        /// The names of the hooks, indexed by number.
        pub const NAMES: [&str; [$(stringify!($function)),+].len()] = [$(stringify!($function)),+];

        /// For each hook, a bit for each permission.
        const PERMISSIONS: [u16; NAMES.len()] = [$(0 $(| 1 << Permission::$permission as u8)*),+];
    };
}

hooks!(table);

impl Hook {
    /// The number of hooks.
    pub const COUNT: usize = NAMES.len();

    /// The hook with this number; `None` if this version does not know it.
    #[inline]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Its bit in the declaration of a plugin.
    #[inline]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The name of its function.
    #[inline]
    pub const fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Whether it has this permission.
    #[inline]
    pub const fn may(self, permission: Permission) -> bool {
        PERMISSIONS[self as usize] >> permission as u8 & 1 == 1
    }

    /// Whether it has an async version.
    pub const fn has_twin(self) -> bool {
        matches!(self.kind(), Kind::Decides)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hook, Kind, Permission};

    #[test]
    fn existing_numbers_never_change() {
        let names: Vec<&str> = Hook::ALL.iter().map(|hook| hook.name()).collect();
        // Existing libraries have these numbers: a new hook goes to the end.
        let in_use = [
            "on_client_connection",
            "authenticate",
            "before_upstream_connection",
            "handle_client_request",
            "handle_tls_hello",
            "do_intercept",
            "handle_client_body",
            "resolve_dns",
            "on_upstream_connected",
            "on_upstream_failed",
            "handle_client_chunk",
            "handle_client_trailers",
            "handle_upstream_response",
            "handle_upstream_body",
            "handle_upstream_chunk",
            "handle_upstream_trailers",
            "handle_tunnel_chunk",
            "handle_websocket_message",
            "on_access_log",
            "on_upstream_connection_close",
            "on_client_connection_close",
        ];
        assert_eq!(names[..in_use.len()], in_use);
        for (number, hook) in Hook::ALL.into_iter().enumerate() {
            assert_eq!(Hook::from_number(number as u32), Some(hook));
            assert_eq!(hook.bit(), 1 << number);
        }
        assert_eq!(Hook::from_number(Hook::COUNT as u32), None);
    }

    #[test]
    fn permissions_match_the_kind_of_hook() {
        for hook in Hook::ALL {
            let passes = [Kind::PassesContent, Kind::PassesBytes, Kind::PassesMessage];
            let passes_data = passes.contains(&hook.kind());
            let may_close =
                passes_data || matches!(hook.kind(), Kind::Decides | Kind::BeginsConnection);
            assert_eq!(hook.may(Permission::Close), may_close, "{hook:?}");
            assert_eq!(hook.may(Permission::ReplaceData), passes_data, "{hook:?}");
            let passes_trailers = hook.kind() == Kind::PassesTrailers;
            assert_eq!(
                hook.may(Permission::EditTrailers),
                passes_trailers,
                "{hook:?}"
            );
            let answers = hook.may(Permission::Reply) || hook.may(Permission::Retry);
            assert!(!answers || hook.has_twin(), "{hook:?}");
        }
    }
}
