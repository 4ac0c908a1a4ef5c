//! The plugins: loaded, called, and what they decide.
//!
//! `use` between the files of this directory points down in this drawing; files on one line do not know each other.
//!
//! ```text
//! web                                  requests for the proxy itself: a task of a plugin answers
//! websocket                            the messages of a WebSocket
//! content tunnel                       a body, and the bytes of a tunnel, on their way through plugins
//! plan walk                            which plugins see a body, in what form; a hook of every plugin
//! listener                             a hook of one plugin, to its decision
//! exchange waiting                     the plugins of an exchange; a hook that has not decided yet
//! callbacks                            the edits that hooks ask for
//! exchange_state                       what callbacks and handles of an exchange share
//! shown client                         what plugins see of an exchange; the plugins of a client connection
//! hello protocol route state summary
//! chain                                the plugins in force, in call order
//! facts load                           files and configuration become instances
//! host_table                           what a library may ask of the process
//! job                                  timers, calls, threads, tasks
//! blocking instance                    a configured plugin, and every call into its code
//! call watchdog                        the way into a plugin, and calls that do not return
//! last_words statistics
//! marks                                which plugin runs on which thread
//! callee edits file_check guard views
//! ```

mod blocking;
pub(crate) mod call;
mod callbacks;
pub(crate) mod callee;
mod chain;
mod client;
mod content;
mod edits;
mod exchange;
mod exchange_state;
mod facts;
pub mod file_check;
mod guard;
mod hello;
pub(crate) mod host_table;
pub mod instance;
mod job;
pub(crate) mod last_words;
mod listener;
pub mod load;
pub(crate) mod marks;
#[cfg(feature = "benches")]
#[doc(hidden)]
#[path = "../benches/hooks/measured.rs"]
pub mod measured;
mod plan;
pub(crate) mod protocol;
mod route;
mod search;
mod shown;
pub mod spec;
mod state;
pub(crate) mod statistics;
pub(crate) mod summary;
mod tunnel;
pub(crate) mod views;
mod waiting;
mod walk;
pub(crate) mod watchdog;
pub(crate) mod web;
mod websocket;

pub(crate) use plugin_api::abi::hook::Hook;

pub(crate) use chain::{Chain, WorkerChain};
pub(crate) use client::ClientPlugins;
pub(crate) use content::{ContentHooks, WholeOutcome};
pub(crate) use exchange::ExchangePlugins;
pub(crate) use exchange_state::Subject;
pub(crate) use facts::{ClientEnd, ClientFacts, ExchangeFacts};
pub(crate) use hello::ShownHello;
pub(crate) use listener::Verdict;
pub(crate) use plan::{BodyFacts, BodyPlan};
pub(crate) use route::{RouteOverrides, TunnelEnd};
pub(crate) use summary::{AnsweredBy, Summary};
pub(crate) use tunnel::TunnelHooks;
pub(crate) use websocket::WebSocketHooks;
