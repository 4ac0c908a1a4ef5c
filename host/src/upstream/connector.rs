//! What a worker needs to make and keep connections to upstreams.
//!
//! A [`Connector`] contains the current configuration: name servers, trust, limits. [`Learned`] is what the worker has
//! learned from upstreams. It outlives reloads, so its keys contain everything in which two configurations may differ.

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
    /// The addresses on which this proxy listens; the same for all workers.
    pub(super) own_addresses: Vec<SocketAddr>,
}

/// Connections to upstreams, and knowledge about them.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(super) pool: Pool,
    pub(super) http1_hosts: Http1Hosts,
    /// Handshakes with parent proxies in progress.
    pub(super) handshakes: Handshakes,
    pub(super) deadlines: Rc<Deadlines>,
}

impl Learned {
    /// Nothing yet.
    pub(crate) fn new(config: &Config, deadlines: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            pool: Pool::new(pool_limits(config), deadlines),
            http1_hosts: Http1Hosts::default(),
            handshakes: Handshakes::default(),
            deadlines: Rc::clone(deadlines),
        })
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Applies the limits of this configuration to idle connections.
    pub(crate) fn set_limits(&self, config: &Config) {
        self.pool.set_limits(pool_limits(config));
    }
}

impl Connector {
    /// Replaces `before`, whose resolver and cache it keeps if the configuration of DNS is the same.
    ///
    /// # Errors
    /// The resolver cannot be set up.
    pub(crate) fn new(
        config: &Arc<Config>,
        tls: &Arc<TlsClient>,
        name_files: &Arc<NameFiles>,
        learned: &Rc<Learned>,
        own_addresses: Vec<SocketAddr>,
        before: Option<&Self>,
    ) -> io::Result<Rc<Self>> {
        let has_same_dns = |before: &&Self| {
            before.config.dns == config.dns
                && before.config.timeouts.connect == config.timeouts.connect
        };
        let resolver = match before.filter(has_same_dns) {
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
            own_addresses,
        }))
    }

    /// The route of most requests: directly to `host`, without TLS.
    pub(crate) fn route<'a>(&self, host: &'a str, port: u16) -> Route<'a> {
        Route {
            tls: self.tls.number(),
            ..Route::direct(host, port)
        }
    }

    /// Connections that can be reused.
    pub(crate) fn pool(&self) -> &Pool {
        &self.learned.pool
    }

    /// Upstreams that have refused HTTP/2.
    pub(crate) fn http1_hosts(&self) -> &Http1Hosts {
        &self.learned.http1_hosts
    }

    /// The addresses on which this proxy listens.
    pub(crate) fn own_addresses(&self) -> &[SocketAddr] {
        &self.own_addresses
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
