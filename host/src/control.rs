//! The control socket: a Unix socket through which the operator's commands reach a running proxy.
//!
//! Each side writes JSON objects, one per line, see `message`. `location` is where the socket is, `socket` makes it and
//! removes it, `client` speaks to a running proxy, `takeover` replaces one, and `command` has the commands of the executable. The proxy's own
//! part, which carries out the commands, is in `server`.

#[cfg(unix)]
pub(crate) mod client;
#[cfg(unix)]
pub mod command;
pub(crate) mod location;
pub(crate) mod message;
#[cfg(unix)]
pub(crate) mod socket;
pub(crate) mod status;
#[cfg(unix)]
pub(crate) mod takeover;
