//! What the proxy does, seen from outside.
//!
//! Every test starts the real binary on a free loopback port, talks to it over raw sockets, and plays the origins.
//! Tests do not depend on the proxy's internals; each reads *origin, proxy, client, assert*.
//! Rules that need no socket have unit tests beside their code.

/// Client connections spread over the workers.
mod balance;
/// Message bodies edited by plugins, byte by byte: hooks, framing, codings, limits, trailers, how bodies end.
mod bodies;
/// Plugins that try to crash the proxy or to read other requests' data.
mod boundary;
/// Invalid configurations.
mod broken;
/// The bundled plugins, configured as their READMEs show.
mod bundled;
/// Certificates created and exported by `proxy ca`.
mod ca;
/// Certificate files that change without a signal.
mod certificate_files;
/// `proxy check`.
mod check;
/// Start-up, flags, the configuration file, exit codes.
mod cli;
/// A table of raw messages: one row per violation of RFC 9110 or 9112.
mod conformance;
/// The control socket, and the commands that use it.
mod control;
/// Clients that disconnect before they get a response.
mod departures;
/// The configurations under `examples`, run unchanged.
mod examples;
/// Ten thousand requests against origins that fail at random.
mod faults;
/// Flags as proxy.py has them: every one with its default and its effect.
mod flags;
/// Peers that flood the proxy with cheap requests and frames.
mod floods;
/// Requests and responses that are forwarded unchanged: routing, bodies, reuse, retries.
mod forwarding;
/// Message framing attacks, sent in every possible split.
mod framing;
/// Every hook and every service of the plugin API, one claim each.
mod hooks;
/// HTTP/2 with clients and upstreams: protocol violations, limits, shared connections.
mod http2;
/// TLS interception with certificates issued by the proxy's own CA.
mod interception;
/// CONNECT and requests addressed to the proxy itself, and proxy loops.
mod itself;
/// Plugins other than filters: protocols and subscribers.
mod kinds;
/// Limits on heads, fields, memory and connections.
mod limits;
/// TLS between clients and the proxy.
mod listener_tls;
/// Several listeners: Unix sockets, TLS and plugins of each, added and removed by reloads.
mod listeners;
/// Where the log and the access log go, how lines are laid out, rotation, full disks.
mod log_files;
/// Connection-based authentication: NTLM and Negotiate.
mod logins;
/// The access log, and the rest of the log.
mod logs;
/// Name resolution: servers queried, failures reported, `/etc` files that change.
mod names;
/// Malformed responses: which are repaired, which only if configured, which are refused.
mod odd_responses;
/// Plugins are called in command-line order.
mod ordering;
/// PAC files made by `proxy pac generate`.
mod pac;
/// Loading filters from shared libraries, and what filters may do to an exchange.
mod plugins;
/// Connections to upstreams: which are pooled, shared and closed.
mod pooling;
/// `user` and `group`: a proxy of root serves as another user.
mod privileges;
/// Load balancers in front of the proxy that name their clients.
mod proxy_protocol;
/// Fixed bugs, each as the claim that failed.
mod regressions;
/// SIGHUP: reloading the configuration and plugins.
mod reload;
/// Reloads while requests are made all the time, and what they cost.
mod reload_load;
/// Filters that change a request's method or host.
mod rewrites;
/// The JSON Schema of the configuration.
mod schema;
/// Compatibility with proxy.py: its documented examples and plugin names.
mod seed;
/// Shutdown: signals, exchanges in flight, leftover files.
mod shutdown;
/// Clients that speak SOCKS5.
mod socks;
/// Exchanges that pause, and exchanges that stall.
mod stalls;
/// Plugins that block, loop or exit the process.
mod stuck;
/// Helpers shared by these tests.
mod support;
/// Service managers: notifications, the watchdog, inherited sockets.
#[cfg(target_os = "linux")]
mod systemd;
/// `--takeover`: a new process in place of a running one.
#[cfg(target_os = "linux")]
mod takeover;
/// Slow or silent peers, and the status each one gets.
mod timeouts;
/// Fixed bugs in TLS and HTTP/2.
mod tls_regressions;
/// CONNECT and upgraded connections, relayed without inspection.
mod tunnel;
/// Routes to upstreams that the configuration sets.
mod upstreams;
/// The proxy's own web server: files, a PAC file, plugin routes, and requests that match none of them.
mod web;
/// Fixed bugs in the web server, each as the claim that failed.
mod web_regressions;
/// WebSockets whose messages plugins read, frame by frame.
mod websocket;
