//! The part of a generation that belongs to one listener: its TLS, and the plugins that serve its clients.
//!
//! Listeners with the same plugins share one chain and one web server.

use std::sync::Arc;

use super::problem::Problem;
use super::{Generation, build};
use crate::config::{Config, ListenerConfig};
use crate::listener::ListenerId;
use crate::plugins::Chain;
use crate::plugins::load::Loaded;
use crate::tls_listener::TlsListener;
use crate::web::WebServer;

/// A listener in a generation.
#[derive(Clone, Debug)]
pub(crate) struct ListenerPart {
    /// That of the listener with the same endpoint in the generation before, if there was one.
    pub(crate) id: ListenerId,
    pub(crate) config: ListenerConfig,
    /// `Some` exactly if its kind is `https`.
    pub(crate) tls: Option<Arc<TlsListener>>,
    pub(crate) chain: Arc<Chain>,
    /// `None` if requests addressed to the proxy itself are refused.
    pub(crate) web: Option<Arc<WebServer>>,
}

/// The plugins of one listener, or of all.
#[derive(Clone, Debug)]
pub(super) struct Plugins {
    pub(super) chain: Arc<Chain>,
    pub(super) web: Option<Arc<WebServer>>,
}

/// The ids of the listeners of `config`, and the next unused one.
pub(super) fn ids(config: &Config, before: Option<&Generation>) -> (Vec<ListenerId>, u64) {
    let mut next = before.map_or(0, |before| before.next_listener_id);
    let mut known: Vec<&ListenerPart> =
        before.map_or_else(Vec::new, |before| before.listeners.iter().collect());
    let id = |listener: &ListenerConfig| {
        let is_same = |part: &&ListenerPart| part.config.endpoint.is_at(&listener.endpoint);
        // Taken away: port 0 may be there several times.
        if let Some(position) = known.iter().position(is_same) {
            return known.remove(position).id;
        }
        next += 1;
        ListenerId(next - 1)
    };
    let ids = config.listeners.iter().map(id).collect();
    (ids, next)
}

/// The plugins that serve a listener.
///
/// # Errors
/// A name is that of no plugin, or the web server cannot be set up.
pub(super) fn plugins_of(
    listener: &ListenerConfig,
    config: &Config,
    loaded: &Loaded,
    all: &Plugins,
) -> Result<Plugins, Problem> {
    let Some(names) = &listener.plugins else {
        return Ok(all.clone());
    };
    if let Some(unknown) = names.iter().position(|name| !has_plugin(loaded, name)) {
        let entry = listener.entry.unwrap_or_default();
        return Err(Problem::UnknownPlugin {
            setting: format!("listeners[{entry}].plugins[{unknown}]"),
            name: names[unknown].clone(),
            known: known_names(loaded),
        });
    }
    let is_named = |name: &str| names.iter().any(|named| named == name);
    let (mut filters, mut protocols) = (loaded.filters.clone(), loaded.protocols.clone());
    filters.retain(|plugin| is_named(plugin.name()));
    protocols.retain(|plugin| is_named(plugin.name()));
    let mut web = loaded.web.clone();
    web.retain(|plugin| is_named(plugin.name()));
    let web = match web.len() == loaded.web.len() {
        true => all.web.clone(),
        false => WebServer::new(config, web)?.map(Arc::new),
    };
    let chain = build::chain(filters, protocols, config);
    Ok(Plugins {
        chain: Arc::new(chain),
        web,
    })
}

fn has_plugin(loaded: &Loaded, name: &str) -> bool {
    names(loaded).any(|known| known == name)
}

fn known_names(loaded: &Loaded) -> String {
    let mut known: Vec<&str> = names(loaded).collect();
    known.sort_unstable();
    known.dedup();
    match known.is_empty() {
        true => "none".to_owned(),
        false => known.join(", "),
    }
}

fn names(loaded: &Loaded) -> impl Iterator<Item = &str> {
    let filters = loaded.filters.iter().map(|plugin| plugin.name());
    let protocols = loaded.protocols.iter().map(|plugin| plugin.name());
    let web = loaded.web.iter().map(|plugin| plugin.name());
    let subscribers = loaded.subscribers.iter().map(|plugin| plugin.name());
    filters.chain(protocols).chain(web).chain(subscribers)
}
