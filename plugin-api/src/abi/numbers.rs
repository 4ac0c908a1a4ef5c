//! Numbers that cross the boundary: results of hooks and callbacks, and values in views and declarations.
//!
//! An unknown number is a valid value, whose meaning each module defines.

/// The result of a hook. An unknown code means [`ERROR`](code::ERROR).
pub mod code {
    /// Continue with the next plugin.
    pub const PROCEED: u32 = 0;
    /// A reply was built with `reply` and its companions; it answers the request.
    pub const RESPOND: u32 = 1;
    /// Close the client connection without a response.
    pub const CLOSE: u32 = 2;
    /// Not decided yet: call `poll` until it returns another code, or `cancel`.
    pub const PENDING: u32 = 3;
    /// The hook failed; the message was passed to `fail`.
    pub const ERROR: u32 = 4;
    /// The hook panicked; message and place were passed to `fail`.
    pub const PANIC: u32 = 5;
    /// `on_access_log` only: write no line for this exchange.
    pub const SUPPRESS: u32 = 6;
    /// Chunk and message hooks only: send the emitted data, possibly empty, instead of the received data. If nothing
    /// was emitted in this call, not even empty data, a message is dropped.
    pub const REPLACED: u32 = 7;
    /// `on_upstream_failed` only: try to connect again, to the upstream as it is set now.
    pub const RETRY: u32 = 8;
    /// `do_intercept` only: intercept the tunnel.
    pub const INTERCEPT: u32 = 9;
    /// `do_intercept` only: relay the tunnel without decryption.
    pub const TUNNEL: u32 = 10;
}

/// The result of a callback that edits the exchange.
pub mod edit {
    /// Done.
    pub const OK: u32 = 0;
    /// The name is not a token (RFC 9110 §5.6.2), or not a host.
    pub const BAD_NAME: u32 = 1;
    /// The value contains control characters or is out of range.
    pub const BAD_VALUE: u32 = 2;
    /// Only the host writes framing and hop-by-hop fields.
    pub const HOST_OWNED: u32 = 3;
    /// This hook may not make this edit: it is too early or too late.
    pub const STALE: u32 = 4;
}

/// The head that a callback edits.
pub mod head {
    /// The request.
    pub const REQUEST: u32 = 0;
    /// The response.
    pub const RESPONSE: u32 = 1;
    /// The trailer section; only in the trailer hooks.
    pub const TRAILERS: u32 = 2;
}

/// Facts about the destination of an exchange.
pub mod fact {
    /// The upstream is proven to be the requested host.
    pub const HOST_PROVEN: u32 = 0;
    /// The server name of the ClientHello inside a tunnel is proven to be that of the upstream.
    pub const SERVER_NAME_PROVEN: u32 = 1;
    /// A plugin has redirected the exchange to another host than the requested one.
    pub const REDIRECTED: u32 = 2;
}

/// A side of the exchange: where data comes from, or where a message goes.
pub mod direction {
    /// The client.
    pub const CLIENT: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
}

/// The kind of a WebSocket message: its opcode (RFC 6455 §11.8).
pub mod message {
    /// Text, in UTF-8.
    pub const TEXT: u32 = 1;
    /// Binary data.
    pub const BINARY: u32 = 2;
    /// The last message of a side: empty, or a code of two bytes and a reason in UTF-8.
    pub const CLOSE: u32 = 8;
    /// Requests a Pong.
    pub const PING: u32 = 9;
    /// Answers a Ping.
    pub const PONG: u32 = 10;
}

/// Flags of a call with data.
pub mod flag {
    /// Chunk hooks: the last call for this body; its data may be empty.
    pub const END: u32 = 1 << 0;
    /// Tunnel and message hooks: the data comes from the upstream rather than the client.
    pub const FROM_UPSTREAM: u32 = 1 << 1;
    /// Message hooks: the lowest of four bits that contain a kind of [`message`](super::message).
    pub const MESSAGE_SHIFT: u32 = 8;
}

/// How a plugin gets a body: the values of [`BodyMode::delivery`](super::BodyMode).
pub mod delivery {
    /// Not at all.
    pub const SKIP: u32 = 0;
    /// In pieces, as they pass.
    pub const STREAM: u32 = 1;
    /// Whole, before any of it is forwarded.
    pub const WHOLE: u32 = 2;
    /// In pieces, as they pass, without changing them.
    pub const WATCH: u32 = 3;
}

/// What to do with a body above its limit: the values of [`BodyMode::over`](super::BodyMode).
pub mod over {
    /// 413 for a request, 502 for a response.
    pub const REFUSE: u32 = 0;
    /// Forward it; the plugin gets pieces if it has chunk hooks, but never the whole body.
    pub const PASS: u32 = 1;
}

/// The kind of a plugin: the values of [`PluginDeclaration::kind`](super::PluginDeclaration).
pub mod kind {
    /// Sees and changes exchanges; has `filter`.
    pub const FILTER: u32 = 0;
    /// Receives events; has `subscriber`.
    pub const SUBSCRIBER: u32 = 1;
    /// Serves clients of another protocol; has `protocol`.
    pub const PROTOCOL: u32 = 2;
    /// Answers requests addressed to the proxy itself; has `web`.
    pub const WEB: u32 = 3;
    // Reserved, with a table of its own: 4 for tabs of the dashboard.
}

/// The kind of an event: the values of [`Event::kind`](super::Event).
pub mod event {
    /// A client has connected.
    pub const CONNECTION_OPENED: u32 = 0;
    /// A request head has arrived.
    pub const REQUEST_STARTED: u32 = 1;
    /// The head of the final response has arrived from the upstream.
    pub const RESPONSE_STARTED: u32 = 2;
    /// An exchange has ended, with or without an error.
    pub const EXCHANGE_ENDED: u32 = 3;
    /// A client connection has ended.
    pub const CONNECTION_CLOSED: u32 = 4;
}

/// Who answered the client: the values of [`SummaryView::answered_by`](super::SummaryView).
pub mod answered {
    /// Nobody.
    pub const NOBODY: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
    /// The plugin named in `answerer`.
    pub const PLUGIN: u32 = 2;
    /// The proxy, for the reason in `answerer`.
    pub const PROXY: u32 = 3;
}

/// The result of a protocol for the first bytes of a connection.
pub mod claim {
    /// The connection belongs to another protocol.
    pub const NO: u32 = 0;
    /// The connection belongs to this protocol.
    pub const YES: u32 = 1;
    /// More bytes are needed.
    pub const MORE: u32 = 2;
}

/// Levels of a log line; smaller is more urgent.
pub mod level {
    /// Someone must act.
    pub const ERROR: u32 = 1;
    /// A peer violated a rule, or operation is degraded.
    pub const WARN: u32 = 2;
    /// What an operator wants to see in normal operation.
    pub const INFO: u32 = 3;
    /// A decision and its reason.
    pub const DEBUG: u32 = 4;
    /// Everything else.
    pub const TRACE: u32 = 5;
}
