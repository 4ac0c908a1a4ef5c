//! From a configuration to what is in force.
//!
//! Each part is made whether or not the others can be, so that one attempt shows everything that is wrong.

use std::sync::Arc;

use super::Generation;
use super::problem::{Problem, Problems};
use crate::config::{Config, HostPattern};
use crate::events::{Events, Herald};
use crate::interception::Interception;
use crate::interception::certificates::{Certificates, CertificatesError};
use crate::plugins::Chain;
use crate::plugins::host_table::HOST_TABLE;
use crate::plugins::load::{LoadError, LoadRequest, Loaded, load};
use crate::plugins::spec::PluginSpec;
use crate::tls_listener::{TlsListener, TlsListenerError};
use crate::upstream::mark;
use crate::upstream::resolve::NameFiles;
use crate::upstream::tls::TlsClient;
use crate::web::WebServer;

/// Makes what is in force with this configuration. Binds nothing; plugins are loaded and configured.
///
/// # Errors
/// Everything that is wrong. What could be made is ended again; libraries stay in memory.
pub(crate) fn build(config: Config) -> Result<Generation, Problems> {
    let mut findings = Findings::default();
    let plugins = findings.note(load_plugins(&config));
    let tls_client = findings.note(TlsClient::new(&config.tls, insecure_hosts(&config)));
    let tls_listener = findings.note(tls_listener(&config));
    let interception = findings.note(interception(&config));
    // Without the plugins nobody knows what is to be served.
    let served = plugins.and_then(|plugins| findings.note(served(&config, plugins)));
    let (Some(served), Some(tls_client), Some(tls_listener), Some(interception)) =
        (served, tls_client, tls_listener, interception)
    else {
        return Err(Problems(findings.0));
    };
    Ok(Generation {
        chain: Arc::new(served.chain),
        plugin_names: served.names,
        events: served.events,
        herald: served.herald,
        tls_client: Arc::new(tls_client),
        name_files: Arc::new(NameFiles::of_system(&config.dns)),
        tls_listener: tls_listener.map(Arc::new),
        interception: interception.map(Arc::new),
        web: served.web.map(Arc::new),
        marked_via: mark::marked(&config.via),
        config: Arc::new(config),
    })
}

/// What is wrong so far.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn note<T>(&mut self, made: Result<T, impl Into<Problem>>) -> Option<T> {
        made.map_err(|problem| self.0.push(problem.into())).ok()
    }
}

/// What plugins are for.
struct Served {
    chain: Chain,
    names: Vec<String>,
    web: Option<WebServer>,
    events: Events,
    herald: Herald,
}

fn served(config: &Config, plugins: Loaded) -> Result<Served, Problem> {
    for plugin in &plugins.filters {
        for hook in plugin.uncalled_hooks() {
            tracing::warn!(
                "plugin {} implements {hook}, which this version of the proxy never calls",
                plugin.name()
            );
        }
    }
    let web = WebServer::new(config, plugins.web)?;
    if web.is_none() && config.disable_http_proxy {
        return Err(Problem::NothingToServe);
    }
    let (herald, events) = Herald::start(plugins.subscribers).map_err(Problem::Events)?;
    Ok(Served {
        chain: Chain::new(
            plugins.filters,
            plugins.protocols,
            config.limits.max_body_buffer,
        ),
        names: plugins.names,
        web,
        events,
        herald,
    })
}

fn load_plugins(config: &Config) -> Result<Loaded, LoadError> {
    let requests = config
        .plugins
        .iter()
        .map(|entry| {
            Ok(LoadRequest {
                spec: PluginSpec::parse(&entry.spec)?,
                hook_limit: entry.timeout.unwrap_or(config.timeouts.plugin_hook),
                config: entry.config.clone(),
                config_origin: entry.origin.clone(),
            })
        })
        .collect::<Result<Vec<_>, LoadError>>()?;
    load(&requests, &config.plugin_dirs, HOST_TABLE)
}

fn insecure_hosts(config: &Config) -> &[HostPattern] {
    match &config.interception {
        Some(interception) => &interception.insecure_hosts,
        None => &[],
    }
}

fn tls_listener(config: &Config) -> Result<Option<TlsListener>, TlsListenerError> {
    let files = config.tls.listener.as_ref();
    let load = |files| TlsListener::load(files, config.tls.key_log);
    files.map(load).transpose()
}

fn interception(config: &Config) -> Result<Option<Interception>, CertificatesError> {
    let Some(intercepted) = &config.interception else {
        return Ok(None);
    };
    let certificates = Certificates::new(intercepted, config.tls.key_log)?;
    Ok(Some(Interception::new(intercepted, Arc::new(certificates))))
}
