//! Numbers that cross: answers of hooks and callbacks, and what a number in a view or a declaration stands for.
//!
//! A number that one side does not know is a value, for which each module says what it means.

/// What a hook answers. A code that is not listed here means [`ERROR`](code::ERROR).
pub mod code {
    /// Nothing to object: the exchange goes on.
    pub const PROCEED: u32 = 0;
    /// A reply was built with `reply` and its companions; it ends the request.
    pub const RESPOND: u32 = 1;
    /// Close the client connection without an answer.
    pub const CLOSE: u32 = 2;
    /// Not decided yet: call `poll` until it answers something else, or `cancel`.
    pub const PENDING: u32 = 3;
    /// The hook failed; the message went through `fail`.
    pub const ERROR: u32 = 4;
    /// The hook panicked; message and place went through `fail`.
    pub const PANIC: u32 = 5;
    /// `on_access_log` only: write no line for this exchange.
    pub const SUPPRESS: u32 = 6;
    /// Chunk and message hooks only: send what was emitted, possibly nothing, in place of what came. If nothing was
    /// ever emitted in this call, not even something empty, a message does not go on at all.
    pub const REPLACED: u32 = 7;
    /// `on_upstream_failed` only: try again, with the upstream as it is set now.
    pub const RETRY: u32 = 8;
    /// `do_intercept` only: end the client's TLS here.
    pub const INTERCEPT: u32 = 9;
    /// `do_intercept` only: relay the tunnel unseen.
    pub const TUNNEL: u32 = 10;
}

/// What a callback that edits the exchange answers.
pub mod edit {
    /// Done.
    pub const OK: u32 = 0;
    /// The name is not a token (RFC 9110 §5.6.2), or not a host name.
    pub const BAD_NAME: u32 = 1;
    /// The value holds control characters or is out of range.
    pub const BAD_VALUE: u32 = 2;
    /// Framing and hop-by-hop fields are written by the host alone.
    pub const HOST_OWNED: u32 = 3;
    /// This hook may not make this change: it is too early or too late for it.
    pub const STALE: u32 = 4;
}

/// Which head a field callback means.
pub mod head {
    /// The request.
    pub const REQUEST: u32 = 0;
    /// The response.
    pub const RESPONSE: u32 = 1;
    /// The trailer section that is passing; only in the trailer hooks.
    pub const TRAILERS: u32 = 2;
}

/// What may be known of where an exchange goes.
pub mod fact {
    /// The upstream is proven to be the host that the request is for.
    pub const HOST_PROVEN: u32 = 0;
    /// The server name of the TLS hello inside a tunnel is proven to be the upstream's.
    pub const SERVER_NAME_PROVEN: u32 = 1;
    /// A plugin has sent the exchange to another host than the request is for.
    pub const REDIRECTED: u32 = 2;
}

/// A side of the exchange: where content comes from, or where a message goes.
pub mod direction {
    /// The client.
    pub const CLIENT: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
}

/// What a WebSocket message is: its opcode (RFC 6455 §11.8).
pub mod message {
    /// Text, in UTF-8.
    pub const TEXT: u32 = 1;
    /// Bytes.
    pub const BINARY: u32 = 2;
    /// The last of its side: nothing, or a code in two bytes and a reason in UTF-8.
    pub const CLOSE: u32 = 8;
    /// Asks for a sign of life.
    pub const PING: u32 = 9;
    /// Answers a ping.
    pub const PONG: u32 = 10;
}

/// Flags of a call with data.
pub mod flag {
    /// Chunk hooks: the last call for this body; its data may be empty.
    pub const END: u32 = 1 << 0;
    /// Tunnel and message hooks: the data comes from the upstream rather than the client.
    pub const FROM_UPSTREAM: u32 = 1 << 1;
    /// Message hooks: the lowest of four bits that hold a kind of [`message`](super::message).
    pub const MESSAGE_SHIFT: u32 = 8;
}

/// How a plugin gets a body: the values of [`BodyMode::delivery`](super::BodyMode).
pub mod delivery {
    /// Not at all.
    pub const SKIP: u32 = 0;
    /// Piece by piece, as it passes.
    pub const STREAM: u32 = 1;
    /// Whole, before anything of it is sent on.
    pub const WHOLE: u32 = 2;
    /// Piece by piece, as it passes, to look at and not to change.
    pub const WATCH: u32 = 3;
}

/// What happens to a body that is larger than its limit: the values of [`BodyMode::over`](super::BodyMode).
pub mod over {
    /// 413 to a request, 502 for a response.
    pub const REFUSE: u32 = 0;
    /// It passes; the plugin gets its pieces, if it listens to them, but never the whole.
    pub const PASS: u32 = 1;
}

/// What a plugin is: the values of [`PluginDeclaration::kind`](super::PluginDeclaration).
pub mod kind {
    /// Sees and changes exchanges; has `filter`.
    pub const FILTER: u32 = 0;
    /// Is told what has happened; has `subscriber`.
    pub const SUBSCRIBER: u32 = 1;
    /// Speaks a protocol of its own with clients; has `protocol`.
    pub const PROTOCOL: u32 = 2;
    /// Answers requests for the proxy itself; has `web`.
    pub const WEB: u32 = 3;
    // To come, with a table of its own: 4 for tabs of the dashboard.
}

/// What has happened: the values of [`Event::kind`](super::Event).
pub mod event {
    /// A client has connected.
    pub const CONNECTION_OPENED: u32 = 0;
    /// A request head has arrived.
    pub const REQUEST_STARTED: u32 = 1;
    /// The head of the final response has arrived from the upstream.
    pub const RESPONSE_STARTED: u32 = 2;
    /// An exchange is over, however it ended.
    pub const EXCHANGE_ENDED: u32 = 3;
    /// A client's connection is over.
    pub const CONNECTION_CLOSED: u32 = 4;
}

/// Who gave the client its answer: the values of [`SummaryView::answered_by`](super::SummaryView).
pub mod answered {
    /// Nobody.
    pub const NOBODY: u32 = 0;
    /// The upstream.
    pub const UPSTREAM: u32 = 1;
    /// The plugin that `answerer` names.
    pub const PLUGIN: u32 = 2;
    /// The proxy, for the reason that `answerer` gives.
    pub const PROXY: u32 = 3;
}

/// What a protocol says to the first bytes of a connection.
pub mod claim {
    /// They are another's.
    pub const NO: u32 = 0;
    /// The connection is its own.
    pub const YES: u32 = 1;
    /// They are too few to tell.
    pub const MORE: u32 = 2;
}

/// Levels of a log line; smaller is more urgent.
pub mod level {
    /// Someone must act.
    pub const ERROR: u32 = 1;
    /// A peer broke a rule, or something is degraded.
    pub const WARN: u32 = 2;
    /// What an operator wants to see in normal times.
    pub const INFO: u32 = 3;
    /// A decision and its reason.
    pub const DEBUG: u32 = 4;
    /// Everything else.
    pub const TRACE: u32 = 5;
}
