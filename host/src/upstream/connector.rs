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
use super::route::Route;
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

    /// Keeps as many idle connections as this configuration says, from now on.
    pub(crate) fn set_limits(&self, config: &Config) {
        self.pool.set_limits(pool_limits(config));
    }
}

impl Connector {
    /// In place of `before`, whose resolver it takes over with all answers if it is to ask the same.
    ///
    /// # Errors
    /// The resolver cannot be set up.
    pub(crate) fn new(
        config: &Arc<Config>,
        tls: &Arc<TlsClient>,
        name_files: &Arc<NameFiles>,
        learned: &Rc<Learned>,
        before: Option<&Self>,
    ) -> io::Result<Rc<Self>> {
        let asks_the_same = |before: &&Self| {
            before.config.dns == config.dns
                && before.config.timeouts.connect == config.timeouts.connect
        };
        let resolver = match before.filter(asks_the_same) {
            Some(before) => Rc::clone(&before.resolver),
            None => {
                let limit = config.timeouts.connect;
                Rc::new(Resolver::new(&config.dns, limit, name_files)?)
            }
        };
        Ok(Rc::new(Self {
            config: Arc::clone(config),
            resolver,
            tls: Arc::clone(tls),
            learned: Rc::clone(learned),
        }))
    }

    /// A route straight to `host` in clear, as most requests go.
    pub(crate) fn route<'a>(&self, host: &'a str, port: u16) -> Route<'a> {
        Route {
            tls: self.tls.number(),
            ..Route::direct(host, port)
        }
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
