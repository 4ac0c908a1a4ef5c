//! Builds a generation from a configuration.
//!
//! Each part is built regardless of the others, so that one attempt reports all problems.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Problem, Problems};
use super::reusable::{Inputs, Reusable};
use super::{Generation, ReusableCertificates, ReusableTlsClient};
use crate::config::{Config, InterceptionConfig, KeyPairFiles, UnknownProtocol};
use crate::events::{EventDispatcher, Events};
use crate::interception::Interception;
use crate::interception::certificates::{Certificates, CertificatesError};
use crate::plugins::Chain;
use crate::plugins::host_table::HOST_TABLE;
use crate::plugins::load::{LoadRequest, Loaded, load};
use crate::plugins::spec::PluginSpec;
use crate::server_tls::ServerTls;
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
    let mut findings = Findings::default();
    let plugins = load_plugins(&config, before)
        .map_err(|problems| findings.0.extend(problems))
        .ok();
    let tls_client = findings.note(tls_client(&config, before));
    let tls_listener = findings.note(tls_listener(&config, before));
    let interception = findings.note(interception(&config, before));
    // What is to be served is unknown without the plugins.
    let services = plugins.and_then(|plugins| findings.note(services(&config, plugins, before)));
    let (Some(services), Some(tls_client), Some(tls_listener), Some((interception, certificates))) =
        (services, tls_client, tls_listener, interception)
    else {
        return Err(Problems::new(findings.0, &config));
    };
    Ok(Generation {
        number: before.map_or(1, |before| before.number + 1),
        chain: Arc::new(services.chain),
        plugins: services.plugins,
        events: services.events,
        dispatcher: services.dispatcher,
        tls_client,
        name_files: name_files(&config, before),
        tls_listener: tls_listener.map(Arc::new),
        certificates,
        interception: interception.map(Arc::new),
        web: services.web.map(Arc::new),
        marked_via: mark::marked(&config.via),
        config: Arc::new(config),
    })
}

/// The problems found so far.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn note<T>(&mut self, result: Result<T, impl Into<Problem>>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem.into())).ok()
    }
}

/// What the plugins serve.
struct Services {
    plugins: Loaded,
    chain: Chain,
    web: Option<WebServer>,
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
        chain: Chain::new(
            plugins.filters.clone(),
            plugins.protocols.clone(),
            config.limits.max_body_buffer,
        ),
        plugins,
        web,
        events,
        dispatcher,
    })
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

fn tls_client(config: &Config, before: Option<&Generation>) -> Result<ReusableTlsClient, Problem> {
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

fn tls_listener(
    config: &Config,
    before: Option<&Generation>,
) -> Result<Option<TlsListener>, Problem> {
    let Some(files) = &config.tls.listener else {
        return Ok(None);
    };
    let logs_the_same = |before: &&Generation| before.config.tls.key_log == config.tls.key_log;
    let before = before.filter(logs_the_same);
    let tls = match before.and_then(|before| before.tls_listener.as_ref()) {
        Some(before) => Arc::clone(before.tls()),
        None => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = ServerTls::new(&provider, config.tls.key_log);
            Arc::new(tls.map_err(Problem::Tls)?)
        }
    };
    Ok(Some(TlsListener::load(files, &tls)?))
}

type BuiltInterception = (Option<Interception>, Option<ReusableCertificates>);

fn interception(
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
