//! The plugins: how they are loaded and called, and what they decide.
//!
//! What the exchange uses stands at the end of this file; ARCHITECTURE.md draws the order of the files below.

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
mod load_error;
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
