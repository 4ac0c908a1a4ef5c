//! Write a filter for the proxy.
//!
//! A filter is a type that implements [`Filter`] in a crate of type `cdylib`. The proxy loads the library, passes the
//! configuration to the filter, and calls its hooks for every exchange (a request and its response). A complete
//! example:
//!
//! ```
//! use plugin_api::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct DenyHosts { hosts: Vec<String> }
//!
//! #[filter]
//! impl Filter for DenyHosts {
//!     fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         if exchange.hosts().any(|host| self.hosts.iter().any(|denied| denied == host)) {
//!             return reject(403, "Not from here");
//!         }
//!         proceed()
//!     }
//! }
//! export_plugins!(DenyHosts);
//! # use plugin_api::testing;
//! # let filter: DenyHosts = testing::configured("hosts = ['a.example']").unwrap();
//! # let denied = testing::get("http://a.example/").run(&filter);
//! # assert_eq!(denied.reply().map(|reply| reply.status), Some(403));
//! ```
//!
//! Its `Cargo.toml` depends on `proxy-plugin-api` and `serde` (feature `derive`), sets `[lib] crate-type = ["cdylib"]`,
//! and leaves `panic` at `unwind`, so that a panic in a hook fails only one exchange. `proxy --plugins
//! target/release/libdeny_hosts.so:DenyHosts` loads it. [`testing`] runs hooks in unit tests, without a proxy.
//!
//! # The hooks and their order
//!
//! Every hook is called for all plugins, in the order of the command line, before the next hook is called.
//!
//! ```text
//! a client connects    on_client_connection           Close
//!
//! a request's head     authenticate                   Reply, Close    after basic_auth of the proxy
//!                      before_upstream_connection     Reply, Close    deny, redirect
//!                      handle_client_request          Reply, Close    edit
//! its content, whole   handle_client_body             Reply, Close    before connecting
//!
//! the upstream         resolve_dns                    Reply, Close    for names, without a parent proxy
//! a failed connection  on_upstream_failed             Reply, Close, Retry
//! a connection         on_upstream_connected                          new or reused
//!
//! content, in pieces   handle_client_chunk            Pass, Replace, Drop, Close; concurrent with the response
//! its trailers         handle_client_trailers         after a whole body: at once
//!
//! a response's head    handle_upstream_response       Reply, Close
//! its content, whole   handle_upstream_body           Reply, Close    before anything is sent to the client
//! content, in pieces   handle_upstream_chunk          Pass, Replace, Drop, Close
//! its trailers         handle_upstream_trailers
//!
//! TLS in a tunnel      handle_tls_hello               Close          after the answer to CONNECT
//!                      do_intercept                   Intercept, Tunnel, Default; if the proxy has a CA
//! a tunnel's bytes     handle_tunnel_chunk            Pass, Replace, Drop, Close; CONNECT and upgrades
//! a WebSocket message  handle_websocket_message       Pass, Replace, Drop, Close; both directions, whole
//!
//! the exchange ends    on_access_log                  always
//!                      on_upstream_connection_close   if there was a connection
//!
//! the client leaves    on_client_connection_close
//! ```
//!
//! After a reply or close, later plugins and hooks up to `on_access_log` are skipped. CONNECT has no content and no
//! response, but a tunnel instead. A request whose head cannot be parsed is refused before `authenticate`, and a
//! request addressed to the proxy itself is answered after it.
//!
//! If the proxy intercepts a tunnel, the exchange of the CONNECT ends after `do_intercept`. The requests inside are
//! exchanges of the same client connection, over HTTP/1.1 or HTTP/2, with [`scheme`](Request::scheme) `https` and all
//! hooks but `authenticate`. So a plugin sees CONNECT first, before it is known whether the tunnel will be intercepted,
//! and should accept it in order to answer requests inside. If the upstream of a tunnel is unreachable, the CONNECT
//! fails, and there are no requests inside.
//!
//! The documentation of each hook in [`Filter`] says what it may change and must not do.
//!
//! # Hosts
//!
//! The requested host ([`Request::host`]) and the host that is connected to ([`Upstream::host`]) may differ: after a
//! redirect by a plugin, and inside an intercepted tunnel to an address, where the client may claim any host. A deny
//! rule should apply if any of [`Exchange::hosts`] matches, an allow rule only if all of them match. For secrets, and
//! for anything that is stored or counted by host, use [`Exchange::proven_host`]. Hosts are in canonical form; convert
//! hosts of a configuration with [`canonical_host`], or read `host:port` with [`Authority::parse`].
//!
//! [`Exchange::set_upstream`] changes only the connection; [`Exchange::set_host`] also changes the request: target,
//! `Host`, server name and verification. [`Exchange::set_method`] changes the method that is sent to the upstream.
//!
//! # The end of an exchange
//!
//! In `on_access_log` and `on_upstream_connection_close`, [`Exchange::summary`] has the final status, who answered (the
//! upstream, a plugin by name, or the proxy with its reason), the bytes each way, the duration, and the times of its
//! steps ([`Summary::timeline`]). [`Exchange::response`] is then the response that was sent to the client.
//! [`Exchange::client`], [`Exchange::local_address`], [`Exchange::upstream_address`] and [`Exchange::client_tls`]
//! describe the connections, in all hooks.
//!
//! # Bodies
//!
//! The chunk hooks get content as it streams, in pieces of any size; the body hooks get the whole content at once,
//! within a limit. [`BodyMode`] selects the mode, the limit, and whether content is decompressed;
//! [`Filter::CLIENT_BODY`] and [`Filter::UPSTREAM_BODY`] set it for all exchanges, [`Exchange::set_client_body`] and
//! [`Exchange::set_upstream_body`] for one exchange. The proxy does the framing: content that a chunk hook sees is sent
//! chunked (to an HTTP/1.0 client until the connection closes), because its length may change; buffered content is sent
//! with its length.
//!
//! ```
//! # use plugin_api::prelude::*;
//! #[derive(Deserialize)]
//! struct Mask { word: String }
//!
//! #[filter]
//! impl Filter for Mask {
//!     /// Whole documents of up to 64 KiB, decompressed; larger ones pass unchanged.
//!     const UPSTREAM_BODY: BodyMode = BodyMode::whole(64 * 1024).or_pass().decoded();
//!
//!     fn handle_upstream_body(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         if let Ok(text) = std::str::from_utf8(exchange.body()) {
//!             let masked = text.replace(&self.word, "***");
//!             exchange.set_body(masked)?;
//!         }
//!         proceed()
//!     }
//! }
//! # use plugin_api::testing;
//! # let filter: Mask = testing::configured("word = 'secret'").unwrap();
//! # let mut run = testing::get("http://a.example/").run(&filter);
//! # run.response(200, &[]);
//! # run.response_body("a secret");
//! # assert_eq!(run.body(), b"a ***");
//! ```
//!
//! # WebSockets
//!
//! Once an upstream has accepted a WebSocket, [`Filter::handle_websocket_message`] sees its messages in both
//! directions, and may send its own with [`Exchange::send_message`]. A CONNECT that is not intercepted is a tunnel,
//! even if it carries a WebSocket.
//!
//! ```
//! # use plugin_api::prelude::*;
//! use plugin_api::close_data;
//!
//! #[derive(Deserialize)]
//! struct Polite { word: String }
//!
//! #[filter]
//! impl Filter for Polite {
//!     /// Times it was said.
//!     type State = u32;
//!
//!     fn handle_websocket_message(
//!         &self,
//!         exchange: &mut Exchange<'_, Self>,
//!         message: &WebSocketMessage<'_>,
//!     ) -> ChunkOutcome {
//!         let Some(text) = message.text().filter(|text| text.contains(&self.word)) else {
//!             return Ok(Chunk::Pass);
//!         };
//!         *exchange.state += 1;
//!         if *exchange.state > 2 {
//!             let goodbye = close_data(4000, "Mind your language");
//!             exchange.send_message(Direction::Client, MessageKind::Close, &goodbye)?;
//!             exchange.send_message(Direction::Upstream, MessageKind::Close, &goodbye)?;
//!         }
//!         exchange.send_message(message.from, MessageKind::Text, "Language!")?;
//!         Ok(Chunk::replace(text.replace(&self.word, "***")))
//!     }
//! }
//! # use plugin_api::testing;
//! # let filter: Polite = testing::configured("word = 'darn'").unwrap();
//! # let mut run = testing::get("http://a.example/").run(&filter);
//! # let mut say = |word: &str| run.websocket_message(Direction::Client, MessageKind::Text, word);
//! # assert_eq!(say("hello").unwrap().as_deref(), Some(&b"hello"[..]));
//! # assert_eq!(say("darn it").unwrap().as_deref(), Some(&b"*** it"[..]));
//! # assert_eq!(run.sent_messages().len(), 1);
//! ```
//!
//! # Routes
//!
//! A plugin that answers requests addressed to the proxy itself implements [`WebRoutes`] instead of [`Filter`]. It
//! replies, streams, serves a WebSocket, or forwards a request to an upstream of its choice, as an ordinary exchange.
//!
//! ```
//! # use plugin_api::prelude::*;
//! use plugin_api::{ForwardTo, Route, WebExchange, WebRoutes};
//!
//! #[derive(Deserialize)]
//! struct Mirror { of: String }
//!
//! impl WebRoutes for Mirror {
//!     type Config = Self;
//!     fn new(config: Self) -> Result<Self, Error> { Ok(config) }
//!
//!     fn routes(&self) -> Vec<Route> {
//!         vec![Route::new("/about").methods("GET"), Route::new("/mirror")]
//!     }
//!
//!     async fn handle_request(&self, exchange: &mut WebExchange) -> Result<(), Error> {
//!         if exchange.route() == 0 {
//!             return exchange.reply(Reply::new(200).body(format!("A mirror of {}\n", self.of)));
//!         }
//!         exchange.set_request_field("X-Mirrored", "yes")?;
//!         exchange.forward(&ForwardTo::new(&self.of)).await?;
//!         Ok(())
//!     }
//! }
//! export_plugins!(; web: Mirror);
//! # use plugin_api::testing::web;
//! # let mirror: Mirror = web::configured("of = 'http://a.example/'").unwrap();
//! # let about = web::get("/about").run(&mirror);
//! # assert_eq!(about.reply().unwrap().body, &b"A mirror of http://a.example/\n"[..]);
//! # let run = web::get("/mirror").route(1).answer(|_| Ok(200)).run(&mirror);
//! # assert_eq!((run.status(), run.forwards()), (200, &["http://a.example/".to_owned()][..]));
//! # assert_eq!(run.request_field("X-Mirrored"), Some("yes"));
//! ```
//!
//! [`testing::web`] runs routes in unit tests.
//!
//! # State
//!
//! One filter value serves all exchanges, from several threads at once. State of one exchange goes into
//! [`Filter::State`]; state of one client connection into [`Filter::Connection`], which the exchanges of that
//! connection share, on one thread.
//!
//! ```
//! # use plugin_api::prelude::*;
//! use std::cell::Cell;
//!
//! #[derive(Deserialize)]
//! struct Measure { max_requests: u32 }
//!
//! #[filter]
//! impl Filter for Measure {
//!     /// Bytes of this exchange's response.
//!     type State = usize;
//!     /// Requests on this connection.
//!     type Connection = Cell<u32>;
//!
//!     fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         let requests = exchange.connection.get() + 1;
//!         exchange.connection.set(requests);
//!         if requests > self.max_requests { reject(429, "Connect anew") } else { proceed() }
//!     }
//!
//!     fn handle_upstream_chunk(&self, exchange: &mut Exchange<'_, Self>, chunk: &[u8], _: bool) -> ChunkOutcome {
//!         *exchange.state += chunk.len();
//!         Ok(Chunk::Pass)
//!     }
//!
//!     fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
//!         let content = exchange.state.to_string();
//!         exchange.add_log_field("content", content);
//!         LogLine::Write
//!     }
//! }
//! # use plugin_api::testing;
//! # let filter: Measure = testing::configured("max_requests = 1").unwrap();
//! # let connection = testing::Connection::open(&filter, ([127, 0, 0, 1], 5000).into());
//! # let mut first = testing::get("http://a.example/").run_on(&connection);
//! # first.response(200, &[]);
//! # first.chunk(b"abc", true).unwrap();
//! # first.access_log().unwrap();
//! # assert_eq!(first.log_fields(), [("content".to_owned(), "3".to_owned())]);
//! # assert!(testing::get("http://a.example/").run_on(&connection).reply().is_some());
//! ```
//!
//! # Hooks that wait
//!
//! Many connections share a thread, so work that takes longer than about a millisecond belongs into an `async fn`. It
//! can [`sleep`], send an HTTP request with [`Call`], and read a file in [`run_blocking`]; [`spawn`] starts a task that
//! outlives the exchange. All of these use the proxy's own timers, connections and threads.
//!
//! ```
//! # use plugin_api::prelude::*;
//! use plugin_api::{Call, run_blocking, spawn};
//!
//! #[derive(Deserialize)]
//! struct Closed { notice: std::path::PathBuf, report_to: String }
//!
//! #[filter]
//! impl Filter for Closed {
//!     async fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         let path = self.notice.clone();
//!         match run_blocking(move || std::fs::read(path)).await? {
//!             Ok(notice) => reply(Reply::new(503).body(notice)),
//!             Err(_) => proceed(),
//!         }
//!     }
//!
//!     fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
//!         let report = Call::post(&*self.report_to, exchange.request().host());
//!         let sent = spawn(async {
//!             if let Err(error) = report.send().await {
//!                 warn!("cannot send the report: {error}");
//!             }
//!         });
//!         if let Err(error) = sent {
//!             warn!("{error}");
//!         }
//!         LogLine::Write
//!     }
//! }
//! # use plugin_api::testing;
//! # let table = "notice = '/no/such/file'\nreport_to = 'http://reports.example/'";
//! # let filter: Closed = testing::configured(table).unwrap();
//! # let mut run = testing::get("http://a.example/").run(&filter);
//! # assert!(run.reply().is_none());
//! # assert_eq!(run.access_log(), Ok(LogLine::Write));
//! ```
//!
//! # The crates `log` and `tracing`
//!
//! [`info!`] and similar macros write to the proxy's log. Lines of the crates `log` and `tracing`, from the plugin
//! itself and from libraries that it uses, are written there as well if `Cargo.toml` enables these features; nothing
//! has to be installed:
//!
//! ```toml
//! proxy-plugin-api = { path = "../proxy/plugin-api", features = ["log", "tracing"] }
//! ```
//!
//! Such a line ends with `plugin=Name`: the plugin that is being called, or that has spawned the task or the blocking
//! work. A line from a thread that the plugin has started itself names the plugin of its library, or the library's
//! crate if it contains several. The level is the proxy's `--log-level`; lines below it are not even formatted. For
//! `tracing`, events are logged with their fields, but no spans; a value that is not a single word is quoted, so text
//! from peers belongs in a field rather than in the message. A logger or subscriber that the plugin has installed
//! itself is kept.
//!
//! Each source location in a plugin may log a burst of 1,000 lines of level info or above, then 100 a second; further
//! lines are counted.
//!
//! # Configuration
//!
//! serde parses the plugin's table as [`Filter::Config`]; an error in parsing or in [`Filter::new`] prevents startup.
//! [`Filter::CONFIG_SCHEMA`] may describe the table as a JSON Schema, so that editors complete and check it in
//! `proxy.toml`: `proxy config schema` prints the schema of the file with those of its plugins. `proxy config show` shows
//! the strings that the schema describes, and masks those that it marks with `"writeOnly": true` or `"x-secret": true`.
//! Startup does not depend on the schema; what it cannot express is left to [`Filter::new`].
//!
//! A schema can be written by hand, as here, or made from the type, with its doc comments: derive
//! `schemars::JsonSchema` in tests, include the file `config.schema.json`, and call `testing::check_schema` in a test,
//! which writes and later compares the file. It needs the feature `schema`, in `dev-dependencies` only. The bundled
//! plugins do this.
//!
//! ```
//! # use plugin_api::prelude::*;
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config { limit: u32 }
//!
//! struct Limit { limit: u32 }
//!
//! #[filter]
//! impl Filter for Limit {
//!     const CONFIG_SCHEMA: &'static str =
//!         r#"{"type": "object", "properties": {"limit": {"type": "integer", "minimum": 1}}, "required": ["limit"]}"#;
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, Error> {
//!         match config.limit {
//!             0 => Err(Error::new("limit: 0 would deny everything; write 1 or more")),
//!             limit => Ok(Self { limit }),
//!         }
//!     }
//!
//!     fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         if exchange.request().path().len() > self.limit as usize { reject(414, "Too long") } else { proceed() }
//!     }
//! }
//! # use plugin_api::testing;
//! # assert!(testing::configured::<Limit>("limit = 0").is_err());
//! # assert!(testing::configured::<Limit>("limits = 1").is_err());
//! # let filter: Limit = testing::configured("limit = 3").unwrap();
//! # assert!(testing::get("http://a.example/long").run(&filter).reply().is_some());
//! ```
//!
//! # Utilities
//!
//! [`utilities`] contains tools for plugins that communicate without the proxy: TCP connections to a name or an
//! address, HTTP messages as bytes, WebSocket frames, a WebSocket client. The connecting functions block their thread;
//! use them in [`run_blocking`], a subscriber or your own thread.
//!
//! ```
//! use plugin_api::utilities::{WebsocketFrame, build_http_request};
//!
//! let request = build_http_request("GET", "/", &[("Connection", "close")], None)?;
//! assert_eq!(request, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
//! assert_eq!(WebsocketFrame::text("hello").build(), b"\x81\x05hello");
//! # Ok::<(), plugin_api::utilities::BuildError>(())
//! ```
//!
//! # What is contained, and what is not
//!
//! A panic in a hook, a task or a blocking task fails only one exchange. The following cannot be contained and
//! terminate the whole process. Before that, the proxy writes a line with plugin, hook and cause to standard error and
//! to its log:
//!
//! - a panic while another one unwinds, such as in a `Drop`; the line has both messages and their places;
//! - stack overflow: recursion without a bound, or large values on the stack;
//! - `abort`, also by running out of memory, and `exit`;
//! - memory faults, which take unsafe code or a C library.
//!
//! On a thread that the plugin has started itself, these terminate the process, too, but without that line, because the
//! proxy does not know which plugin the thread belongs to.
//!
//! A hook that blocks or loops without end cannot be stopped. It occupies its worker and stalls all connections of that
//! worker. The log names it after `timeouts.plugin_budget` (0.1 s) and again when it returns; meanwhile new connections
//! go to the other workers. An async hook that waits too long is dropped after `timeouts.plugin_hook` (5 s, or
//! `timeout` in the plugin's block of `proxy.toml`), and the client gets 504.
//!
//! # Compatibility
//!
//! A library built with version 1.x works in any proxy of version 1.y, older or newer, whatever the version of
//! rustc, the profile and the allocator of either side. The tables in [`abi`] are not frozen yet: they may still
//! grow before 1.0 is published.

#[doc(hidden)]
pub extern crate abi_stable;
#[cfg(feature = "schema")]
pub extern crate schemars;
pub extern crate serde;
// Examples and tests of this crate name it as authors do.
extern crate self as plugin_api;

pub mod abi;
mod adapter;
mod body;
mod call;
mod configuration;
mod connection;
mod error;
mod exchange;
mod export;
mod field_name;
#[macro_use]
mod hooks;
mod filter;
mod guard;
mod host;
mod job;
mod log;
mod log_origin;
mod message;
mod note;
mod outcome;
mod protocol;
#[cfg(feature = "tokio")]
mod runtime;
#[cfg(feature = "schema")]
pub mod schema;
mod subscriber;
mod summary;
mod task;
pub mod testing;
pub mod utilities;
#[doc(hidden)]
pub mod waker;
mod web;
mod websocket;

pub use body::BodyMode;
pub use call::{Call, CallError, CallResponse};
pub use connection::ClientConnection;
pub use error::{EditError, Error};
pub use exchange::{Exchange, TlsHello, Upstream};
pub use filter::{Filter, NoConfig};
pub use hooks::Hooks;
pub use job::{RunBlocking, Sleep, run_blocking, sleep};
pub use log::Level;
pub use message::{Request, RequestMut, Response, ResponseMut, Trailers, TrailersMut};
pub use outcome::{
    Chunk, ChunkOutcome, Direction, Flow, Interception, LogLine, Outcome, Reply, challenge, close,
    proceed, reject, reply, retry,
};
pub use plugin_api_macros::filter;
#[doc(inline)]
pub use plugin_contract::{
    Authority, AuthorityInvalid, HostInvalid, MAX_HOST_NAME_LEN, canonical_address, canonical_host,
    is_field_value, is_host_owned, is_token,
};
pub use protocol::{Claim, ClientStream, Protocol};
pub use subscriber::{Event, EventKind, Subscriber};
pub use summary::{AnsweredBy, ClientTls, Summary, Timeline};
pub use task::spawn;
pub use web::{
    ForwardError, ForwardFault, ForwardTo, Forwarded, Route, SocketMessage, WebExchange, WebRoutes,
    WebSocket,
};
pub use websocket::{MessageKind, WebSocketMessage, close_data};

/// The items that nearly every plugin needs; for a glob import.
pub mod prelude {
    pub use crate::{
        BodyMode, Chunk, ChunkOutcome, Claim, ClientConnection, ClientStream, Direction, Error,
        Exchange, Filter, Flow, Interception, LogLine, MessageKind, NoConfig, Outcome, Reply,
        WebSocketMessage, challenge, close, export_plugins, proceed, reject, reply, retry,
    };
    pub use crate::{debug, error, info, warn};
    pub use plugin_api_macros::filter;
    #[doc(inline)]
    pub use plugin_contract::{
        HostInvalid, canonical_address, canonical_host, is_field_value, is_host_owned, is_token,
    };
    pub use serde::Deserialize;
}

/// Only for the macros of this crate.
#[doc(hidden)]
pub mod private {
    pub use crate::export::{checked_name, filter, protocol, root, subscriber, web};
    pub use crate::filter::Names;
    pub use crate::log::write;
    pub use crate::log_origin::{Library, PluginName};
    pub use crate::note::Note;
}
