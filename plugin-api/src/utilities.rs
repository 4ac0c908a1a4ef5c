//! Small tools for plugins that use the network themselves: sockets, HTTP messages as bytes, WebSockets.
//!
//! Most tasks can be done by the proxy: [`Call`](crate::Call) sends HTTP requests with its connections and timers,
//! [`Exchange::send_message`](crate::Exchange::send_message) sends messages in a WebSocket. These tools are for the
//! rest: a service on a plain socket, bytes for a [`Protocol`](crate::Protocol), a WebSocket client. They do not need
//! the proxy, so they also work in tests and in other programs.
//!
//! **Connecting blocks.** [`new_socket_connection`], [`socket_connection`] and [`WebsocketClient`] block their thread;
//! in a hook, that thread serves hundreds of other connections. Use them in [`run_blocking`](crate::run_blocking), in a
//! [`Subscriber`](crate::Subscriber), or on your own thread. The rest does not block and may be used anywhere.
//!
//! ```
//! # use plugin_api::prelude::*;
//! # use std::io::{Read, Write};
//! use plugin_api::run_blocking;
//! use plugin_api::utilities::socket_connection;
//!
//! #[derive(Deserialize)]
//! struct AskDaemon { port: u16 }
//!
//! #[filter]
//! impl Filter for AskDaemon {
//!     async fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
//!         let (port, host) = (self.port, exchange.upstream().host().to_owned());
//!         let ask = move || socket_connection(("127.0.0.1", port), |conn| {
//!             writeln!(conn, "{host}")?;
//!             let mut answer = [0; 1];
//!             conn.read_exact(&mut answer)?;
//!             Ok(answer == *b"y")
//!         });
//!         if run_blocking(ask).await?? { proceed() } else { reject(403, "The daemon says no") }
//!     }
//! }
//! # let daemon = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let table = format!("port = {}", daemon.local_addr()?.port());
//! # let answers = std::thread::spawn(move || {
//! #     // What closes without having read resets, and takes its answer back.
//! #     let mut client = std::io::BufReader::new(daemon.accept()?.0);
//! #     std::io::BufRead::read_line(&mut client, &mut String::new())?;
//! #     client.get_mut().write_all(b"n")
//! # });
//! # let filter: AskDaemon = plugin_api::testing::configured(&table).unwrap();
//! # let denied = plugin_api::testing::get("http://a.example/").run(&filter);
//! # assert_eq!(denied.reply().map(|reply| reply.status), Some(403));
//! # answers.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | for | there is |
//! |---|---|
//! | a connected socket | [`new_socket_connection`], [`new_socket_connection_within`], [`socket_connection`] |
//! | an HTTP message as bytes | [`build_http_request`], [`build_http_response`], [`HttpRequest`], [`HttpResponse`] |
//! | a WebSocket frame as bytes | [`WebsocketFrame`]; what it is made of is in [`websocket`] |
//! | a WebSocket to a server | [`WebsocketClient`] |

mod http;
mod socket;
pub mod websocket;

pub use http::{BuildError, HttpRequest, HttpResponse, build_http_request, build_http_response};
pub use socket::{new_socket_connection, new_socket_connection_within, socket_connection};
pub use websocket::{FrameError, WebsocketClient, WebsocketFrame};
