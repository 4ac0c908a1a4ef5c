//! The web server: what is answered to requests that are for the proxy itself.
//!
//! A request in origin-form comes here, whatever the client's connection is; everything else is forwarded. The
//! [`Router`] finds who answers: the PAC file, a plugin with a fitting route, the static files, or nobody. Built once
//! and shared by all workers. Sending the answer is left to the exchange, running a plugin's part to `plugins::web`.

pub mod pac;
mod router;

use plugin_api::abi::web::protocol;

use crate::config::Config;
use crate::http1::{self, RequestHead};
use crate::plugins::web::{self, LoadedWeb};

pub use router::RouteError;
use router::{Asked, Router};
pub(crate) use router::{Matched, Missing};

/// Why the web server cannot be what it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum WebServerError {
    /// A plugin's route cannot be used.
    #[error("plugin {plugin}: route {pattern}: {reason}")]
    Route {
        /// Whose it is.
        plugin: String,
        /// As the plugin writes it.
        pattern: String,
        /// What is wrong with it, and what would do.
        reason: RouteError,
    },
    /// A plugin could not tell its routes.
    #[error("plugin {0} panicked while it told its routes; its log has more")]
    Panicked(String),
}

/// What answers requests for the proxy itself.
#[derive(Debug)]
pub(crate) struct WebServer {
    router: Router,
    plugins: Vec<LoadedWeb>,
}

/// Who answers a request.
pub(crate) enum Found<'s> {
    /// A plugin, on this route.
    Plugin(&'s LoadedWeb, Matched),
    /// Nobody, for this reason.
    Missing(Missing),
}

impl WebServer {
    /// `None` if nothing is to be served.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn new(
        config: &Config,
        plugins: Vec<LoadedWeb>,
    ) -> Result<Option<Self>, WebServerError> {
        if !config.web_server.is_enabled && plugins.is_empty() {
            return Ok(None);
        }
        let mut router = Router::default();
        for plugin in &plugins {
            let owner = router.add_owner(&plugin.name);
            let routes = web::routes(plugin);
            let routes = routes.ok_or_else(|| WebServerError::Panicked(plugin.name.clone()))?;
            for route in &routes {
                router
                    .add(owner, route)
                    .map_err(|reason| WebServerError::Route {
                        plugin: plugin.name.clone(),
                        pattern: route.pattern.clone(),
                        reason,
                    })?;
                let (protocols, methods) = (protocols(route.protocols), &*route.methods);
                let for_methods = if methods.is_empty() {
                    "all methods"
                } else {
                    methods
                };
                tracing::info!(
                    "Added route {} ({protocols}; {for_methods}) of {}",
                    route.pattern,
                    plugin.name
                );
            }
        }
        Ok(Some(Self { router, plugins }))
    }

    /// Who answers `request`; `is_secure`: it came over TLS.
    pub(crate) fn find(&self, request: &RequestHead, is_secure: bool) -> Found<'_> {
        let asked = Asked {
            path: path(request),
            method: request.method(),
            is_websocket: http1::asks_for_websocket(request),
            is_secure,
        };
        match self.router.find(&asked) {
            Ok(matched) => Found::Plugin(&self.plugins[matched.owner], matched),
            Err(missing) => Found::Missing(missing),
        }
    }
}

/// The protocols of a route, for the log.
fn protocols(bits: u32) -> String {
    let named = [
        (protocol::HTTP, "http"),
        (protocol::HTTPS, "https"),
        (protocol::WEBSOCKET, "websocket"),
    ];
    let meant = named.iter().filter(|(bit, _)| bits & bit != 0);
    meant.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// The path without its query. A request target is UTF-8.
fn path(request: &RequestHead) -> &str {
    let path = std::str::from_utf8(request.path()).unwrap_or_default();
    path.split('?').next().unwrap_or_default()
}
