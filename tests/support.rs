//! The vocabulary of the tests: an origin with a script, a proxy, a client that checks everything.
//!
//! Guarantees: everything listens on port 0 of a loopback address, readiness is an event and never a guess, everything
//! that was started ends with the test, and the log of a process is printed only when its test fails. Assertions are
//! the test's own business.

mod background;
mod binaries;
mod client;
mod coding;
mod log;
pub(crate) mod logins;
mod name_server;
#[cfg(target_os = "linux")]
pub(crate) mod namespace;
mod origin;
mod proxy;
mod scratch;
#[cfg(target_os = "linux")]
mod service_manager;
pub(crate) mod tls;
mod tls_origin;
mod wire;

use std::time::Duration;

pub(crate) use binaries::{plugin_directory, plugin_library, proxy_binary};
pub(crate) use client::{Client, End};
pub(crate) use coding::{Coding, bomb};
pub(crate) use log::Log;
pub(crate) use name_server::{Manner, NameServer};
pub(crate) use origin::{Origin, Peer, has_ipv6};
pub(crate) use proxy::{Exit, Proxy, ProxyCommand};
pub(crate) use scratch::Scratch;
#[cfg(target_os = "linux")]
pub(crate) use service_manager::ServiceManager;
pub(crate) use tls_origin::Ca;
pub(crate) use wire::{Framing, Message, Role, parse, parse_all};

/// Silence for this long where something must arrive is a hang.
pub(crate) const HANG: Duration = Duration::from_secs(10);

/// An answer of an origin, for tests that do not care.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\norigin-ok";

/// A GET in absolute-form for `path` at `origin`, without a body.
pub(crate) fn get(origin: &Origin, path: &str) -> String {
    request("GET", origin, path, "")
}

/// A request in absolute-form; `fields` are whole lines, each with its CRLF.
pub(crate) fn request(method: &str, origin: &Origin, path: &str, fields: &str) -> String {
    let authority = origin.authority();
    format!("{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

/// A response with a body of known length.
pub(crate) fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Bytes for a message in an assertion: text as text, everything else escaped, long input cut.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], bytes.len()),
        None => text,
    }
}

/// Whether `needle` occurs in `haystack`.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    position(haystack, needle).is_some()
}

/// The position of `needle` in `haystack`.
pub(crate) fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Bytes that differ at every offset, so that lost, duplicated and swapped parts show.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
