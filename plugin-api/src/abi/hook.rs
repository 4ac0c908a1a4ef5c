//! One bit per hook, in the order in which they happen; a declaration's mask tells the host which hooks to call.

/// A client has connected.
pub const ON_CLIENT_CONNECTION: u64 = 1 << 0;
/// Who the client is, and whether it may use the proxy.
pub const AUTHENTICATE: u64 = 1 << 1;
/// Before an upstream is looked for.
pub const BEFORE_UPSTREAM_CONNECTION: u64 = 1 << 2;
/// The request as it will be sent.
pub const HANDLE_CLIENT_REQUEST: u64 = 1 << 3;
/// The first TLS message inside of a tunnel.
pub const HANDLE_TLS_HELLO: u64 = 1 << 4;
/// Whether the TLS of a tunnel ends at the proxy.
pub const DO_INTERCEPT: u64 = 1 << 5;
/// The request's whole content.
pub const HANDLE_CLIENT_BODY: u64 = 1 << 6;
/// A new upstream connection needs addresses.
pub const RESOLVE_DNS: u64 = 1 << 7;
/// There is an upstream connection.
pub const ON_UPSTREAM_CONNECTED: u64 = 1 << 8;
/// None could be made.
pub const ON_UPSTREAM_FAILED: u64 = 1 << 9;
/// Each piece of the request's content.
pub const HANDLE_CLIENT_CHUNK: u64 = 1 << 10;
/// The trailer section of the request.
pub const HANDLE_CLIENT_TRAILERS: u64 = 1 << 11;
/// The head of the final response.
pub const HANDLE_UPSTREAM_RESPONSE: u64 = 1 << 12;
/// The response's whole content.
pub const HANDLE_UPSTREAM_BODY: u64 = 1 << 13;
/// Each piece of the response's content.
pub const HANDLE_UPSTREAM_CHUNK: u64 = 1 << 14;
/// The trailer section of the response.
pub const HANDLE_UPSTREAM_TRAILERS: u64 = 1 << 15;
/// Bytes of a tunnel, either way.
pub const HANDLE_TUNNEL_CHUNK: u64 = 1 << 16;
/// A WebSocket message, either way.
pub const HANDLE_WEBSOCKET_MESSAGE: u64 = 1 << 17;
/// The exchange is over and about to be logged.
pub const ON_ACCESS_LOG: u64 = 1 << 18;
/// The upstream connection was given up or went back to the pool.
pub const ON_UPSTREAM_CONNECTION_CLOSE: u64 = 1 << 19;
/// The client's connection is over.
pub const ON_CLIENT_CONNECTION_CLOSE: u64 = 1 << 20;
/// The hooks' names, indexed by bit.
pub const NAMES: [&str; 21] = [
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
