//! Every hook, every edit and every service that `plugin-api` promises, through the real binary and real libraries.
//!
//! The plugins are those of the zoo; what each does stands there. Loading them, and what the hooks of one plain
//! exchange do, is in `plugins.rs`.

/// Values that no message may have, and changes in the wrong hook.
mod bad_input;
/// What clients say first inside of their tunnels, and who decides about it.
mod hello;
/// Which hook is called when, what it is told, what is kept for it.
mod order;
/// What the proxy does for hooks that wait, and for tasks.
mod services;
/// Bytes that pass through a tunnel.
mod tunnels;
/// The way to an upstream: names, schemes, parents, failures.
mod ways;
/// Who may come in: connections and users.
mod welcome;

use crate::support::{Proxy, ProxyCommand};
use std::net::{Ipv4Addr, TcpListener};

fn zoo(name: &str) -> ProxyCommand {
    Proxy::command().plugin("zoo", name)
}

/// Ends the proxy; the whole log.
fn log(proxy: Proxy) -> String {
    proxy.signal(rustix::process::Signal::TERM);
    proxy.wait().stdout
}

/// What stands after `text` in the lines of a log that have it.
fn said<'l>(log: &'l str, text: &str) -> Vec<&'l str> {
    let after = |line: &'l str| line.split_once(text).map(|(_, said)| said);
    log.lines().filter_map(after).collect()
}

/// A request for `path` at a host that does not exist, for plugins that answer themselves.
fn nowhere(path: &str) -> String {
    format!("GET http://nowhere.invalid{path} HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n")
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
