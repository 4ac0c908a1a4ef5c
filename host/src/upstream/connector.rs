//! What one worker needs to make and keep connections to upstreams.
//!
//! A [`Connector`] is what is in force: name servers, trust, limits. [`Learned`] is what a worker has learned meanwhile;
//! it outlives changes of the configuration, so keys name everything by which two configurations could differ.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::handshakes::Handshakes;
use super::http1_hosts::Http1Hosts;
use super::pool::{Pool, PoolLimits};
use super::resolve::{NameFiles, Resolver};
use super::tls::TlsClient;
use crate::config::Config;
use crate::deadline::Deadlines;
use crate::open_files;

/// Makes connections to upstreams.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(super) config: Arc<Config>,
    pub(super) resolver: Rc<Resolver>,
    pub(super) tls: Arc<TlsClient>,
    pub(super) learned: Rc<Learned>,
}

/// What is known of upstreams, and what is kept of them.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(super) pool: Pool,
    pub(super) http1_hosts: Http1Hosts,
    /// Handshakes with parent proxies that are under way.
    pub(super) handshakes: Handshakes,
    pub(super) deadlines: Rc<Deadlines>,
    /// Where this proxy listens; the same for all workers.
    pub(super) own_addresses: Vec<SocketAddr>,
}

impl Learned {
    /// Nothing yet. `own_addresses` are where this proxy listens.
    pub(crate) fn new(
        config: &Config,
        deadlines: &Rc<Deadlines>,
        own_addresses: Vec<SocketAddr>,
    ) -> Rc<Self> {
        Rc::new(Self {
            pool: Pool::new(pool_limits(config), deadlines),
            http1_hosts: Http1Hosts::default(),
            handshakes: Handshakes::default(),
            deadlines: Rc::clone(deadlines),
            own_addresses,
        })
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Connector {
    /// # Errors
    /// The resolver cannot be set up.
    pub(crate) fn new(
        config: &Arc<Config>,
        tls: &Arc<TlsClient>,
        name_files: &Arc<NameFiles>,
        learned: &Rc<Learned>,
    ) -> io::Result<Rc<Self>> {
        let resolver = Resolver::new(&config.dns, config.timeouts.connect, name_files)?;
        Ok(Rc::new(Self {
            config: Arc::clone(config),
            resolver: Rc::new(resolver),
            tls: Arc::clone(tls),
            learned: Rc::clone(learned),
        }))
    }

    /// Connections that can be used again.
    pub(crate) fn pool(&self) -> &Pool {
        &self.learned.pool
    }

    /// Upstreams that have turned down HTTP/2.
    pub(crate) fn http1_hosts(&self) -> &Http1Hosts {
        &self.learned.http1_hosts
    }

    /// Where this proxy listens.
    pub(crate) fn own_addresses(&self) -> &[SocketAddr] {
        &self.learned.own_addresses
    }
}

fn pool_limits(config: &Config) -> PoolLimits {
    let limits = &config.limits;
    PoolLimits {
        per_host: limits.upstream_idle_per_host.unwrap_or(usize::MAX),
        total: limits.upstream_idle_total.unwrap_or(usize::MAX),
        idle: limits.upstream_idle_timeout,
        descriptors: open_files::limit(),
    }
}
