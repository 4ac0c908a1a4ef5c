//! Builds a generation from a configuration.
//!
//! Each part is built regardless of the others, so that one attempt reports all problems.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::listener_part::{self, ListenerPart, Plugins};
use super::problem::{Problem, Problems};
use super::renew;
use super::reusable::{Inputs, Reusable};
use super::{Generation, ReusableCertificates, ReusableTlsClient};
use crate::config::{Config, InterceptionConfig, KeyPairFiles, ListenerConfig, UnknownProtocol};
use crate::events::{EventDispatcher, Events};
use crate::interception::Interception;
use crate::interception::certificates::{Certificates, CertificatesError};
use crate::key_pair::KeyPairError;
use crate::plugins::Chain;
use crate::plugins::host_table::HOST_TABLE;
use crate::plugins::instance::{Filter, Instance, Protocol};
use crate::plugins::load::{LoadRequest, Loaded, load};
use crate::plugins::spec::PluginSpec;
use crate::privileges::Identity;
use crate::server_tls::ServerTls;
use crate::telemetry::AccessOutput;
use crate::tls_listener::TlsListener;
use crate::upstream::mark;
use crate::upstream::resolve::NameFiles;
use crate::upstream::tls::TlsClient;
use crate::web::WebServer;

/// Builds the generation of this configuration, to replace `before`. Binds nothing and does not change the current
/// generation; plugins are loaded and configured.
///
/// # Errors
/// All problems. The parts that could be built are dropped; libraries stay in memory.
pub(crate) fn build(config: Config, before: Option<&Generation>) -> Result<Generation, Problems> {
    // Read before the parts are made, so that a later change is seen.
    let certificate_content = renew::content(&renew::certificate_files(&config));
    let mut findings = Findings::default();
    let plugins = load_plugins(&config, before)
        .map_err(|problems| findings.0.extend(problems))
        .ok();
    let tls_client = findings.note(tls_client(&config, before));
    let server_tls = findings.note(server_tls(&config, before));
    let interception = findings.note(interception(&config, before));
    let access_log_before = before.map(|before| &*before.access_log);
    let access_log = AccessOutput::open(&config.log, &config.access_log, access_log_before);
    let access_log = findings.note(access_log);
    let identity = findings.note(Identity::configured(&config.server));
    // What is to be served is unknown without the plugins.
    let services = plugins.and_then(|plugins| findings.note(services(&config, plugins, before)));
    let (ids, next_listener_id) = listener_part::ids(&config, before);
    let parts = config.listeners.iter().zip(ids).map(|(listener, id)| {
        let tls = server_tls.as_ref().and_then(Option::as_ref);
        let tls = findings.note(tls_listener(listener, tls));
        let services = services.as_ref()?;
        let plugins =
            listener_part::plugins_of(listener, &config, &services.plugins, &services.of_all);
        let Plugins { chain, web } = findings.note(plugins)?;
        Some(ListenerPart {
            id,
            config: listener.clone(),
            tls: tls?,
            chain,
            web,
        })
    });
    let parts: Vec<Option<ListenerPart>> = parts.collect();
    let listeners: Option<Vec<ListenerPart>> = parts.into_iter().collect();
    let (
        Some(services),
        Some(tls_client),
        Some(server_tls),
        Some(listeners),
        Some((interception, certificates)),
        Some(access_log),
        Some(identity),
    ) = (
        services,
        tls_client,
        server_tls,
        listeners,
        interception,
        access_log,
        identity,
    )
    else {
        return Err(Problems::new(findings.0, &config));
    };
    Ok(Generation {
        number: before.map_or(1, |before| before.number + 1),
        access_log: Arc::new(access_log),
        listeners,
        next_listener_id,
        of_all: services.of_all,
        plugins: services.plugins,
        events: services.events,
        dispatcher: services.dispatcher,
        certificate_content,
        tls_client,
        name_files: name_files(&config, before),
        server_tls,
        certificates,
        identity,
        interception: interception.map(Arc::new),
        marked_via: mark::marked(&config.via),
        config: Arc::new(config),
    })
}

/// The problems found so far.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Problem>);

impl Findings {
    pub(super) fn note<T>(&mut self, result: Result<T, impl Into<Problem>>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem.into())).ok()
    }
}

/// What the plugins serve.
struct Services {
    plugins: Loaded,
    of_all: Plugins,
    events: Events,
    dispatcher: Arc<EventDispatcher>,
}

fn services(
    config: &Config,
    plugins: Loaded,
    before: Option<&Generation>,
) -> Result<Services, Problem> {
    for plugin in &plugins.filters {
        for hook in plugin.uncalled_hooks() {
            tracing::warn!(
                "plugin {} implements {hook}, which this version of the proxy never calls",
                plugin.name()
            );
        }
    }
    let web = WebServer::new(config, plugins.web.clone())?;
    if web.is_none() && config.disable_http_proxy {
        return Err(Problem::NothingToServe);
    }
    let (dispatcher, events) =
        match before.filter(|before| before.dispatcher.serves(&plugins.subscribers)) {
            Some(before) => (Arc::clone(&before.dispatcher), before.events.clone()),
            None => EventDispatcher::start(plugins.subscribers.clone()).map_err(Problem::Events)?,
        };
    Ok(Services {
        of_all: Plugins {
            chain: Arc::new(chain(
                plugins.filters.clone(),
                plugins.protocols.clone(),
                config,
            )),
            web: web.map(Arc::new),
        },
        plugins,
        events,
        dispatcher,
    })
}

pub(super) fn chain(
    filters: Vec<Arc<Instance<Filter>>>,
    protocols: Vec<Arc<Instance<Protocol>>>,
    config: &Config,
) -> Chain {
    Chain::new(filters, protocols, config.limits.max_body_buffer)
}

fn load_plugins(config: &Config, before: Option<&Generation>) -> Result<Loaded, Vec<Problem>> {
    let mut errors = Vec::new();
    let mut requests = Vec::new();
    for (position, entry) in config.plugins.iter().enumerate() {
        match PluginSpec::parse(&entry.spec) {
            Ok(spec) => requests.push(LoadRequest {
                spec,
                hook_limit: entry.timeout.unwrap_or(config.timeouts.plugin_hook),
                config: entry.config.clone(),
                position,
            }),
            Err(error) => errors.push((position, error)),
        }
    }
    let none = Loaded::default();
    let before = before.map_or(&none, |before| &before.plugins);
    let loaded = load(&requests, &config.plugin_dirs, HOST_TABLE, before);
    let loaded = loaded.map_err(|more| errors.extend(more)).ok();
    match loaded.filter(|_| errors.is_empty()) {
        Some(loaded) => Ok(loaded),
        None => Err(errors.into_iter().map(Problem::of_plugin).collect()),
    }
}

pub(super) fn tls_client(
    config: &Config,
    before: Option<&Generation>,
) -> Result<ReusableTlsClient, Problem> {
    let insecure_hosts = match &config.interception {
        Some(interception) => &interception.insecure_hosts[..],
        None => &[],
    };
    let upstream = &config.tls.upstream;
    let shown = upstream.client_certificates.iter();
    let shown = shown.flat_map(|shown| [&shown.files.cert_file, &shown.files.key_file]);
    let files = upstream.extra_ca_files.iter().chain(shown);
    let settings = (
        upstream.clone(),
        config.tls.key_log,
        insecure_hosts.to_vec(),
    );
    let inputs = Inputs::new(settings, files.map(PathBuf::as_path));
    let before = before.map(|before| &before.tls_client);
    let make = || TlsClient::new(&config.tls, insecure_hosts);
    Ok(Reusable::reuse_or(before, inputs, make)?)
}

fn name_files(config: &Config, before: Option<&Generation>) -> Arc<NameFiles> {
    match before.filter(|before| before.config.dns == config.dns) {
        Some(before) => Arc::clone(&before.name_files),
        None => Arc::new(NameFiles::of_system(&config.dns)),
    }
}

/// What the TLS of all listeners shares; `None` if none speaks TLS.
fn server_tls(
    config: &Config,
    before: Option<&Generation>,
) -> Result<Option<Arc<ServerTls>>, Problem> {
    let mut listeners = config.listeners.iter();
    if listeners.all(|listener| listener.key_pair.is_none()) {
        return Ok(None);
    }
    let logs_the_same = |before: &&Generation| before.config.tls.key_log == config.tls.key_log;
    let before = before.filter(logs_the_same);
    if let Some(before) = before.and_then(|before| before.server_tls.as_ref()) {
        return Ok(Some(Arc::clone(before)));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerTls::new(&provider, config.tls.key_log);
    Ok(Some(Arc::new(tls.map_err(Problem::Tls)?)))
}

/// The TLS of a listener; `None` if its clients connect without.
pub(super) fn tls_listener(
    listener: &ListenerConfig,
    tls: Option<&Arc<ServerTls>>,
) -> Result<Option<Arc<TlsListener>>, KeyPairError> {
    match (&listener.key_pair, tls) {
        (Some(files), Some(tls)) => TlsListener::load(files, tls).map(Arc::new).map(Some),
        _ => Ok(None),
    }
}

type BuiltInterception = (Option<Interception>, Option<ReusableCertificates>);

pub(super) fn interception(
    config: &Config,
    before: Option<&Generation>,
) -> Result<BuiltInterception, CertificatesError> {
    let Some(intercepted) = &config.interception else {
        return Ok((None, None));
    };
    // Which tunnels are intercepted does not affect existing certificates.
    let settings = InterceptionConfig {
        include: Vec::new(),
        exclude: Vec::new(),
        insecure_hosts: Vec::new(),
        allow_fronting: Vec::new(),
        relay_protocols: Vec::new(),
        rejected_for: Duration::ZERO,
        unknown: UnknownProtocol::default(),
        ..intercepted.clone()
    };
    let KeyPairFiles {
        cert_file,
        key_file,
    } = &intercepted.ca;
    let files = [cert_file, key_file, &intercepted.signing_key_file];
    let key_log = config.tls.key_log;
    let inputs = Inputs::new((settings, key_log), files.map(PathBuf::as_path));
    let made = before.and_then(|before| before.certificates.as_ref());
    let make = || Certificates::new(intercepted, key_log);
    let certificates = Reusable::reuse_or(made, inputs, make)?;
    let before = before.and_then(|before| before.interception.as_deref());
    let interception = Interception::new(intercepted, Arc::clone(&certificates.part), before);
    Ok((Some(interception), Some(certificates)))
}
