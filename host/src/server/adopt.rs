//! Adopts listening sockets that another process has opened, in place of binding them.
//!
//! Each worker accepts on a descriptor of its own. Sockets of one address that share it (SO_REUSEPORT) are spread over
//! the workers. Where there are fewer sockets than workers, either more are bound, or several workers share one.

use std::io;
use std::net::SocketAddr;

use super::listen::{self, Bound};
use super::socket_file::SocketFile;
use crate::generation::{Generation, ListenerPart};
use crate::inherited::{self, InheritedError, InheritedSocket};
use crate::listener::Listener;
use crate::passed_sockets::{PassedAddress, PassedSocket, spread};

/// What the workers do for which there is no socket of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They share those of other workers. A socket of this process would be closed at its end, with the connections that
    /// wait in its queue; those of a service manager are not.
    Share,
    /// They bind one more, so that the kernel spreads the connections; with this backlog. If that is impossible, they share.
    Bind(u32),
}

/// Gives the sockets of a listener to the workers.
///
/// # Errors
/// A socket has no address, or there are no descriptors left.
pub(super) fn adopt(
    part: &ListenerPart,
    sockets: Vec<PassedSocket>,
    missing: Missing,
    per_worker: &mut [Vec<Listener>],
) -> io::Result<Bound> {
    let mut bound = Bound {
        id: part.id,
        addresses: Vec::new(),
        origin: part.config.origin.clone(),
        file: None,
        foreign: Vec::new(),
    };
    for (address, mut sockets) in by_address(sockets)? {
        if let (&PassedAddress::Tcp(address), Missing::Bind(backlog)) = (&address, missing) {
            while sockets.len() < per_worker.len()
                && let Ok(socket) = listen::bind(address, backlog)
            {
                sockets.push(PassedSocket::Tcp(socket));
            }
        }
        match address {
            PassedAddress::Tcp(address) => bound.addresses.push(address),
            // The configured file is ours now; that of a service manager is not.
            PassedAddress::Unix(Some(path))
                if missing != Missing::Share && part.config.endpoint.is_file(&path) =>
            {
                bound.file = Some(SocketFile::adopt(&path));
            }
            address => bound.foreign.push(address.to_string()),
        }
        if let Missing::Bind(backlog) = missing {
            // The length of the queue may have changed.
            let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
            for socket in &sockets {
                rustix::net::listen(socket, backlog)?;
            }
        }
        for (worker, socket) in spread(sockets.len(), per_worker.len()) {
            let listener = match sockets[socket].try_clone()? {
                PassedSocket::Tcp(socket) => {
                    listen::prepare((&socket).into())?;
                    Listener::tcp(part.id, socket)
                }
                PassedSocket::Unix(socket) => Listener::unix(part.id, socket),
            };
            per_worker[worker].push(listener?);
        }
    }
    Ok(bound)
}

/// The sockets of each address, in the order in which the addresses first appear.
fn by_address(sockets: Vec<PassedSocket>) -> io::Result<Vec<(PassedAddress, Vec<PassedSocket>)>> {
    let mut groups: Vec<(PassedAddress, Vec<PassedSocket>)> = Vec::new();
    for socket in sockets {
        let address = socket.address()?;
        match groups.iter_mut().find(|(known, _)| *known == address) {
            Some((_, group)) => group.push(socket),
            None => groups.push((address, vec![socket])),
        }
    }
    Ok(groups)
}

/// Sockets for the listeners of a configuration.
#[derive(Debug)]
pub(super) struct Passed {
    /// With the position of the listener.
    sockets: Vec<(usize, PassedSocket)>,
    /// Those of no listener.
    unused: Vec<PassedSocket>,
    missing: Missing,
}

impl Passed {
    /// None.
    pub(super) fn none() -> Self {
        Self {
            sockets: Vec::new(),
            unused: Vec::new(),
            missing: Missing::Share,
        }
    }

    /// The sockets of a service manager.
    ///
    /// # Errors
    /// A socket belongs to no listener.
    pub(super) fn inherited(
        sockets: Vec<InheritedSocket>,
        generation: &Generation,
    ) -> Result<Self, InheritedError> {
        let listeners = generation.listeners.iter();
        let listeners: Vec<&str> = listeners.map(|part| part.config.name.as_str()).collect();
        let names: Vec<&str> = sockets.iter().map(|socket| socket.name.as_str()).collect();
        let positions = inherited::assign(&listeners, &names)?;
        Ok(Self {
            sockets: positions
                .into_iter()
                .zip(sockets.into_iter().map(|socket| socket.socket))
                .collect(),
            unused: Vec::new(),
            missing: Missing::Share,
        })
    }

    /// The sockets of the proxy that this one replaces, with the endpoints of their listeners. They belong to the listeners
    /// with the same endpoint, or else to those that would listen at the same address.
    pub(super) fn taken_over(
        sockets: Vec<(String, PassedSocket)>,
        generation: &Generation,
    ) -> Self {
        let mut passed = Self {
            sockets: Vec::new(),
            unused: Vec::new(),
            missing: Missing::Bind(generation.config.backlog),
        };
        for (endpoint, socket) in sockets {
            let mut listeners = generation.listeners.iter();
            match listeners.position(|part| part.config.endpoint.to_string() == endpoint) {
                Some(position) => passed.sockets.push((position, socket)),
                None => passed.unused.push(socket),
            }
        }
        passed
    }

    /// All sockets of the listener at this position.
    pub(super) fn take(&mut self, position: usize) -> Vec<PassedSocket> {
        let taken = self.sockets.extract_if(.., |(of, _)| *of == position);
        taken.map(|(_, socket)| socket).collect()
    }

    /// The sockets at these addresses that belong to no listener by its endpoint.
    pub(super) fn take_at(&mut self, addresses: &[SocketAddr]) -> Vec<PassedSocket> {
        let is_meant = |socket: &mut PassedSocket| match socket.address() {
            Ok(PassedAddress::Tcp(address)) => addresses.contains(&address),
            _ => false,
        };
        self.unused.extract_if(.., is_meant).collect()
    }

    pub(super) fn missing(&self) -> Missing {
        self.missing
    }

    /// Reports the sockets that no listener uses; their addresses are given up.
    pub(super) fn report_unused(self) {
        let mut shown = Vec::new();
        for socket in self.unused {
            if let Ok(address) = socket.address()
                && !shown.contains(&address)
            {
                tracing::warn!("takeover: no listener is configured at {address}: giving it up");
                shown.push(address);
            }
        }
    }
}
