//! The web server: answers requests addressed to the proxy itself.
//!
//! Requests in origin-form come here, on any client connection; all others are forwarded. The [`Router`] finds the
//! handler: the PAC file, a plugin with a matching route, the static files, or none. It is built once and shared by all
//! workers. The exchange sends the response, and `plugins::web` runs plugins.

pub(crate) mod files;
pub mod pac;
mod router;

use std::sync::Arc;

use plugin_api::abi::web::protocol;

use crate::config::Config;
use crate::http1::{self, RequestHead};
use crate::plugins::instance::{Instance, Web};
use crate::plugins::web;

use files::Files;
pub use files::FilesError;
use pac::{Pac, PacError};
pub use router::RouteError;
pub(crate) use router::{Matched, NoRoute};
use router::{RouteKey, Router};

/// The owner of the PAC file's routes, for messages.
const PAC_OWNER: &str = "the PAC file (--pac-file-url-path)";

/// Why the web server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WebServerError {
    /// A route cannot be used.
    #[error("{owner}: route {pattern}: {reason}")]
    Route {
        /// The owner of the route.
        owner: String,
        /// The pattern, as written.
        pattern: String,
        /// What is wrong with it, and how to fix it.
        reason: RouteError,
    },
    /// The static files cannot be served.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The PAC file cannot be served.
    #[error(transparent)]
    Pac(#[from] PacError),
    /// A plugin panicked while it listed its routes.
    #[error("plugin {0} panicked while listing its routes; see the log")]
    Panicked(String),
}

/// Answers requests for the proxy itself.
#[derive(Debug)]
pub(crate) struct WebServer {
    router: Router,
    /// By position, as the router names them.
    owners: Vec<Owner>,
    /// Handles paths without a route.
    files: Option<Files>,
}

/// The owner of routes.
#[derive(Debug)]
enum Owner {
    Plugin(Arc<Instance<Web>>),
    Pac(Pac),
}

/// The handler of a request.
pub(crate) enum Handler<'s> {
    /// A plugin, on this route.
    Plugin(&'s Arc<Instance<Web>>, Matched),
    /// The PAC file.
    Pac(&'s Pac),
    /// The static files, if they contain it.
    Files(&'s Files),
    /// None, for this reason.
    NoRoute(NoRoute),
}

impl WebServer {
    /// `None` if nothing is to be served.
    ///
    /// # Errors
    /// The first problem found.
    pub(crate) fn new(
        config: &Config,
        plugins: Vec<Arc<Instance<Web>>>,
    ) -> Result<Option<Self>, WebServerError> {
        if !config.web_server.is_enabled && plugins.is_empty() {
            return Ok(None);
        }
        let mut server = Self {
            router: Router::default(),
            owners: Vec::new(),
            files: match &config.web_server.static_files {
                Some(files) => Some(Files::open(files)?),
                None => None,
            },
        };
        if let Some(pac) = &config.web_server.pac {
            server.add(PAC_OWNER, Owner::Pac(Pac::load(pac)?))?;
        }
        for plugin in plugins {
            let name = plugin.name().to_owned();
            server.add(&name, Owner::Plugin(plugin))?;
        }
        Ok(Some(server))
    }

    fn add(&mut self, name: &str, owner: Owner) -> Result<(), WebServerError> {
        let routes = match &owner {
            Owner::Pac(pac) => pac.routes(),
            Owner::Plugin(plugin) => {
                web::routes(plugin).ok_or_else(|| WebServerError::Panicked(name.to_owned()))?
            }
        };
        let position = self.router.add_owner(name);
        for route in &routes {
            let failed = |reason| WebServerError::Route {
                owner: name.to_owned(),
                pattern: route.pattern.clone(),
                reason,
            };
            self.router.add(position, route).map_err(failed)?;
            let (protocols, methods) = (protocols(route.protocols), &*route.methods);
            let methods = if methods.is_empty() {
                "all methods"
            } else {
                methods
            };
            tracing::info!(
                "Added route {} ({protocols}; {methods}) of {name}",
                route.pattern
            );
        }
        self.owners.push(owner);
        Ok(())
    }

    /// Finds the handler of `request`; `is_secure`: it arrived over TLS.
    pub(crate) fn find(&self, request: &RequestHead, is_secure: bool) -> Handler<'_> {
        let key = RouteKey {
            path: path(request),
            method: request.method(),
            is_websocket: self.router.has_websockets() && http1::requests_websocket(request),
            is_secure,
        };
        match self.router.find(&key) {
            Ok(matched) => match &self.owners[matched.owner] {
                Owner::Plugin(plugin) => Handler::Plugin(plugin, matched),
                Owner::Pac(pac) => Handler::Pac(pac),
            },
            Err(no_route) => match &self.files {
                Some(files) if no_route == NoRoute::Path => Handler::Files(files),
                _ => Handler::NoRoute(no_route),
            },
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

/// The path without the query. A request target is UTF-8.
fn path(request: &RequestHead) -> &str {
    let target = request.path();
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    std::str::from_utf8(&target[..path_len]).unwrap_or_default()
}
