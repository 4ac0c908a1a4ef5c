//! A programmable HTTP forward proxy.
//!
//! A request passes the modules below in their order: `server` binds and starts the workers; a `worker` accepts; a
//! `connection` serves exchange after exchange; an `exchange` reads a request through `stream` and [`http1`], lets the
//! [`web`] server answer requests for the proxy itself, calls the [`plugins`], dials or reuses an `upstream`, and
//! `relay`s the response back, or hands over to a `tunnel` or a `websocket`. Failures are values of `error` and become
//! responses in `reply`. Modules use only those below them: an inner module passes results to an outer one as return
//! values.

use proxy_content_coding as content_coding;
use proxy_http1 as http1;

pub mod cli;
pub mod config;
pub mod server;

mod connection;
mod exchange;
pub mod generation;
mod handover;
mod worker;

mod call_out;
mod collect;
mod http2;
pub mod interception;
pub mod plugins;
mod relay;
pub mod server_tls;
mod splice;
mod stream;
mod tls_listener;
mod transport;
mod tunnel;
mod turn;
mod upstream;
pub mod web;
mod websocket;

mod balance;
mod buffers;
pub mod control;
mod deadline;
#[cfg(unix)]
mod descriptors;
mod error;
mod events;
mod held;
mod in_flight;
#[cfg(unix)]
pub mod inherited;
mod listener;
#[cfg(unix)]
mod passed_sockets;
mod proxy_protocol;
mod reply;
mod side;
mod socks5;
mod worker_context;

pub mod ca;
pub mod key_pair;
pub mod open_files;
pub mod pem_text;
pub mod pid_file;
mod plain_file;
pub mod privileges;
pub mod telemetry;
