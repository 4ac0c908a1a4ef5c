//! The listeners that are bound, for as long as the proxy accepts connections on them.
//!
//! A reload binds those that are new before anything changes, so that one that cannot be bound changes nothing. Workers
//! begin to accept on them, and stop accepting on removed ones, when they switch to the new generation.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(unix)]
use std::{collections::BTreeSet, os::fd::AsFd};

use super::StartError;
use super::adopt::Passed;
use super::listen::{Bound, NewListeners, listen};
use super::port_file::{PortFile, PortFileError};
#[cfg(unix)]
use super::{requests::Offered, socket_file::SocketFile};
use crate::config::Endpoint;
#[cfg(unix)]
use crate::control::message::OfferedSocket;
use crate::generation::Generation;
use crate::listener::Sockets;
use crate::privileges::Identity;

/// The listeners of the current generation.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) sockets: Arc<Sockets>,
    /// In the order of the configuration. A reload that is being made shares them.
    bound: Vec<Arc<Bound>>,
    /// `None` if it is not configured, or cannot be written any more.
    port_file: Option<PortFile>,
}

impl Listeners {
    /// Binds those of the first generation.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub(super) fn bind(generation: &Generation, passed: &mut Passed) -> Result<Self, StartError> {
        let NewListeners { bound, per_worker } = listen(generation, &[], passed)?;
        let sockets = Sockets::new(generation.config.num_workers.get());
        sockets.add(per_worker);
        Ok(Self {
            sockets: Arc::new(sockets),
            bound: bound.into_iter().map(Arc::new).collect(),
            port_file: None,
        })
    }

    /// Makes this user the owner of the files that the listeners have created.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn give_to(&self, identity: &Identity) -> io::Result<()> {
        let mut sockets = self.bound.iter().filter_map(|bound| bound.file.as_ref());
        sockets.try_for_each(|file| identity.own(file.path()))
    }

    /// Writes the port file, if one is configured. It replaces that of another process.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_port_file(&mut self, generation: &Generation) -> Result<(), PortFileError> {
        let Some(path) = &generation.config.port_file else {
            return Ok(());
        };
        let ports = self
            .bound
            .iter()
            .filter_map(|bound| bound.addresses.first());
        let ports: Vec<u16> = ports.map(SocketAddr::port).collect();
        // The new one takes its place.
        let written = PortFile::write(path, &ports)?;
        if let Some(before) = self.port_file.replace(written) {
            before.leave();
        }
        Ok(())
    }

    /// The sockets, each once, for a process that replaces this one. `generation` is the current one.
    ///
    /// # Errors
    /// There are no descriptors left.
    #[cfg(unix)]
    pub(super) fn offer(&self, generation: &Generation) -> io::Result<Vec<Offered>> {
        let mut known = BTreeSet::new();
        let mut offered = Vec::new();
        for worker in 0..self.sockets.workers() {
            for listener in self.sockets.of(worker)? {
                let mut parts = generation.listeners.iter();
                let Some(part) = parts.find(|part| part.id == listener.id) else {
                    continue;
                };
                if known.insert(listener.identity()?) {
                    offered.push(Offered {
                        name: OfferedSocket::Listener(part.config.endpoint.to_string()),
                        descriptor: Arc::new(listener.as_fd().try_clone_to_owned()?),
                    });
                }
            }
        }
        Ok(offered)
    }

    /// Makes what the replaced process has left this process's: the files of Unix sockets, which get their configured
    /// permissions, and the port file.
    #[cfg(unix)]
    pub(super) fn own_files(&mut self, generation: &Generation) {
        for bound in &self.bound {
            let Some(file) = &bound.file else { continue };
            file.own();
            let mut parts = generation.listeners.iter();
            if let Some(part) = parts.find(|part| part.id == bound.id)
                && let Endpoint::Unix { mode, .. } = &part.config.endpoint
            {
                bound.set_mode(*mode);
            }
        }
        // This process serves already.
        if let Err(error) = self.write_port_file(generation) {
            tracing::error!("{error}");
        }
    }

    /// Leaves the files of Unix sockets to the process that replaces this one.
    #[cfg(unix)]
    pub(super) fn leave_files(&self) {
        let files = self.bound.iter().filter_map(|bound| bound.file.as_ref());
        files.for_each(SocketFile::leave);
    }

    /// Those that are bound, for a reload.
    pub(super) fn bound(&self) -> Vec<Arc<Bound>> {
        self.bound.clone()
    }

    /// The port of the first TCP listener.
    pub(super) fn first_port(&self) -> Option<u16> {
        let mut addresses = self.bound.iter().flat_map(|bound| &bound.addresses);
        addresses.next().map(SocketAddr::port)
    }

    /// The addresses as the log shows them, that of the first listener first.
    pub(super) fn shown(&self) -> Vec<String> {
        self.bound.iter().flat_map(|bound| bound.shown()).collect()
    }

    /// Adopts the listeners of this generation, which is about to become the current one: the `new` ones, and those that
    /// are bound already.
    pub(super) fn follow(&mut self, generation: &Generation, new: NewListeners) {
        for address in new.bound.iter().flat_map(Bound::shown) {
            tracing::info!("listening on {address}");
        }
        self.sockets.add(new.per_worker);
        let mut known = std::mem::take(&mut self.bound);
        known.extend(new.bound.into_iter().map(Arc::new));
        for part in &generation.listeners {
            let Some(position) = known.iter().position(|bound| bound.id == part.id) else {
                continue;
            };
            let bound = known.remove(position);
            if let Endpoint::Unix { mode, .. } = &part.config.endpoint {
                bound.set_mode(*mode);
            }
            self.bound.push(bound);
        }
        for address in known.iter().flat_map(|removed| removed.shown()) {
            tracing::info!("no longer listening on {address}: its connections are drained");
        }
        if let Err(error) = self.write_port_file(generation) {
            tracing::warn!("the port file names the listeners from before the reload: {error}");
        }
    }
}
