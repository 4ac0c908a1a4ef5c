//! What the proxy does, seen from outside.
//!
//! Every test starts the real binary on a free loopback port, speaks to it over raw sockets, and stands in for
//! the origins behind it. Nothing here knows how the proxy is built; a test reads *origin, proxy, client, assert*.
//! Rules that need no socket are tested beside the code that holds them.

/// What plugins make of bodies, byte by byte: hooks, framing, codings, limits, trailers, ends.
mod bodies;
/// Plugins that try to take the proxy down or to read what is not theirs.
mod boundary;
/// Configurations that cannot be used.
mod broken;
/// The bundled plugins, each through the real binary, as its README shows it.
mod bundled;
/// Certificates made and handed out by `proxy ca`.
mod ca;
/// `proxy check`.
mod check;
/// Start-up, flags, the configuration file, exit codes.
mod cli;
/// The table of raw messages: one row per way to get RFC 9110 or 9112 wrong.
mod conformance;
/// Clients that leave while nobody answers them.
mod departures;
/// The configurations that the repository shows, started as they stand there.
mod examples;
/// Ten thousand requests against origins that fail at random.
mod faults;
/// Peers that send as much as they can of what costs them nothing.
mod floods;
/// Requests and responses that pass through whole: routing, bodies, reuse, retries.
mod forwarding;
/// Attacks on where a message ends, fed in every split.
mod framing;
/// Every hook and every service that plugins are promised, one claim each.
mod hooks;
/// HTTP/2 on either side: what breaks its rules, what must stay bounded, what is shared.
mod http2;
/// TLS that the proxy ends, with certificates of its own CA.
mod interception;
/// CONNECT and requests that lead to the proxy itself, and loops of several proxies.
mod itself;
/// Plugins that are no filters: protocols and subscribers.
mod kinds;
/// Bounds on heads, fields, memory and connections.
mod limits;
/// TLS between clients and the proxy.
mod listener_tls;
/// Authentication of connections: NTLM and Negotiate.
mod logins;
/// What one exchange leaves in the log.
mod logs;
/// Names of hosts: who is asked, what is said of failures, and files that change.
mod names;
/// Responses that break the grammar: which are repaired, which only on demand, which refused.
mod odd_responses;
/// The order of plugins on the command line is the order of calls.
mod ordering;
/// PAC files made by `proxy pac generate`.
mod pac;
/// Loading filters from shared libraries, and what they may do to an exchange.
mod plugins;
/// Connections to upstreams: which are kept, shared and given up.
mod pooling;
/// Defects that were found and fixed, each as the claim that failed.
mod regressions;
/// SIGHUP and what it puts in force.
mod reload;
/// Filters that change method and host of a request.
mod rewrites;
/// What users of proxy.py know: its examples, and the names of its plugins.
mod seed;
/// The end of the process: signals, exchanges in flight, what is left behind.
mod shutdown;
/// Exchanges in which somebody pauses, and those in which nobody does anything any more.
mod stalls;
/// Plugins that block, loop, or end the process.
mod stuck;
/// The vocabulary of these tests.
mod support;
/// Peers that are slow or silent, and the status each one earns.
mod timeouts;
/// The same where TLS or HTTP/2 is spoken.
mod tls_regressions;
/// CONNECT and upgraded connections: bytes that are nobody's business.
mod tunnel;
/// Ways to upstreams, as far as the configuration names them.
mod upstreams;
/// The proxy's own web server: files, a PAC file, routes of plugins, and what is none of theirs.
mod web;
/// Defects of the web server, each as the claim that failed.
mod web_regressions;
/// WebSockets whose messages plugins see, frame by frame.
mod websocket;
