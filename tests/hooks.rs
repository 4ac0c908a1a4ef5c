//! Every hook, edit and service of `plugin-api`, with the real binary and real libraries.
//!
//! The plugins come from the fixture `zoo`, which documents each of them. `plugins.rs` tests how plugins are loaded and
//! the hooks of one plain exchange.

/// Invalid values, and edits in the wrong hook.
mod bad_input;
/// The first bytes of a tunnel, and the hooks that decide what to do with it.
mod hello;
/// Which hook is called when, with which arguments and which state.
mod order;
/// Hooks that wait, and background tasks.
mod services;
/// Bytes relayed in a tunnel.
mod tunnels;
/// Routes to upstreams: names, schemes, parents, failures.
mod ways;
/// Access control: connections and users.
mod welcome;

use crate::support::{Proxy, ProxyCommand};
use std::net::{Ipv4Addr, TcpListener};

fn zoo(name: &str) -> ProxyCommand {
    Proxy::command().plugin("zoo", name)
}

/// Stops the proxy and returns its whole log.
fn log(proxy: Proxy) -> String {
    proxy.signal(rustix::process::Signal::TERM);
    proxy.wait().stdout
}

/// The rest of each log line that contains `text`, after it.
fn said<'l>(log: &'l str, text: &str) -> Vec<&'l str> {
    let after = |line: &'l str| line.split_once(text).map(|(_, said)| said);
    log.lines().filter_map(after).collect()
}

/// A request for `path` on a host that does not exist, for plugins that reply themselves.
fn nowhere(path: &str) -> String {
    format!("GET http://nowhere.invalid{path} HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n")
}

/// A port without a listener.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
