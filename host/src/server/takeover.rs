//! The start of a proxy that replaces a running one.
//!
//! It is found by its control socket: the configured one, or the default one of the same port.

use std::io;

use super::StartError;
use super::adopt::Passed;
use crate::config::{Config, ControlSocketConfig};
use crate::control::location;
use crate::control::message::OfferedSocket;
use crate::control::socket::ControlSocket;
use crate::control::takeover::Predecessor;
use crate::generation::Generation;
use crate::passed_sockets::PassedSocket;
use std::os::unix::net::UnixListener;

/// The running proxy that a proxy of this configuration replaces. `None`, with a line in the log: none is running.
///
/// # Errors
/// It cannot be reached, or the configuration does not say where its control socket is.
pub(super) fn find(config: &Config) -> Result<Option<Predecessor>, StartError> {
    let paths = match &config.server.control_socket {
        ControlSocketConfig::Off => return Err(StartError::NoControlSocket),
        ControlSocketConfig::At(path) => vec![path.clone()],
        ControlSocketConfig::Default => {
            let first = config.listeners.first();
            let port = first.and_then(|first| Some(first.endpoint.tcp()?.1));
            let port = port.filter(|port| *port != 0);
            let name = location::file_name(Some(port.ok_or(StartError::NoControlSocket)?));
            let dirs = location::default_dirs().into_iter();
            dirs.map(|dir| dir.join(&name)).collect()
        }
    };
    for path in &paths {
        if let Some(found) = Predecessor::connect(path)? {
            return Ok(Some(found));
        }
    }
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let paths = paths.join(" or ");
    tracing::info!("takeover: no proxy uses the control socket {paths}: starting without one");
    Ok(None)
}

/// Takes the sockets of the running proxy: those for the listeners, and its control socket.
///
/// # Errors
/// It refuses, or a socket cannot be used.
pub(super) fn take_sockets(
    predecessor: &mut Predecessor,
    generation: &Generation,
) -> Result<(Passed, Option<UnixListener>), StartError> {
    let mut sockets = Vec::new();
    let mut control = None;
    for (name, descriptor) in predecessor.sockets()? {
        let socket = PassedSocket::new(descriptor);
        match (
            name,
            socket.map_err(|error| predecessor.failed(&error.to_string()))?,
        ) {
            (OfferedSocket::Listener(endpoint), socket) => sockets.push((endpoint, socket)),
            (OfferedSocket::Control, PassedSocket::Unix(socket)) => control = Some(socket),
            (OfferedSocket::Control, PassedSocket::Tcp(_)) => {}
        }
    }
    Ok((Passed::taken_over(sockets, generation), control))
}

/// The control socket of the running proxy, if this configuration has it at the same path.
pub(super) fn control_socket(
    control: Option<UnixListener>,
    predecessor: &Predecessor,
    config: &Config,
) -> Option<io::Result<ControlSocket>> {
    let path = predecessor.path();
    let is_same = match &config.server.control_socket {
        ControlSocketConfig::At(own) => own == path,
        ControlSocketConfig::Default => true,
        ControlSocketConfig::Off => false,
    };
    control
        .filter(|_| is_same)
        .map(|socket| ControlSocket::adopt(socket, path))
}
