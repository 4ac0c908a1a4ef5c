//! Problems that prevent the use of a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::{Config, ConfigError, PluginEntry, PluginPart};
use crate::interception::certificates::CertificatesError;
use crate::key_pair::KeyPairError;
use crate::plugins::load::LoadError;
use crate::privileges::PrivilegesError;
use crate::telemetry::TelemetryError;
use crate::upstream::tls::TlsClientError;
use crate::web::WebServerError;

/// A problem in the configuration, in a file that it names, or in a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A plugin cannot be used.
    #[error("{error}")]
    Plugin {
        /// Its position among the plugins.
        position: usize,
        /// The cause.
        error: LoadError,
    },
    /// A file of trusted certificates cannot be used.
    #[error(
        "{}: {source}; specify files with PEM certificates in --ca-file or tls.upstream.extra_ca_files", .path.display()
    )]
    CaFile {
        /// As configured.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The certificate or the key of the listener cannot be used.
    #[error(transparent)]
    TlsListener(#[from] KeyPairError),
    /// A listener names a plugin that is not configured.
    #[error("`{name}` is not a configured plugin; configured: {known}")]
    UnknownPlugin {
        /// The setting, such as `listeners[0].plugins[1]`.
        setting: String,
        /// As written.
        name: String,
        /// The names of all plugins.
        known: String,
    },
    /// The system provides no random numbers for the ticket keys.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The web server cannot serve what is configured.
    #[error(transparent)]
    WebServer(#[from] WebServerError),
    /// Nothing is to be served.
    #[error(
        "leaves nothing to serve; add --enable-web-server, --enable-static-server or --pac-file, or a plugin with routes"
    )]
    NothingToServe,
    /// The certificates of intercepted hosts cannot be stored.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// A client certificate or its key cannot be used.
    #[error(transparent)]
    ClientCertificate(KeyPairError),
    /// The configured user or group cannot be used.
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] TelemetryError),
    /// A thread for events cannot be started.
    #[error("cannot start a thread for events: {0}")]
    Events(io::Error),
}

impl From<TlsClientError> for Problem {
    fn from(error: TlsClientError) -> Self {
        match error {
            TlsClientError::CaFile(error) => Self::CaFile {
                path: error.path,
                source: error.reason,
            },
            TlsClientError::ClientCertificate(error) => Self::ClientCertificate(error),
        }
    }
}

impl Problem {
    pub(super) fn of_plugin((position, error): (usize, LoadError)) -> Self {
        Self::Plugin { position, error }
    }

    /// The problem with the place in the configuration that causes it.
    fn located(&self, config: &Config) -> ConfigError {
        let (origins, reason) = (&config.origins, self.to_string());
        match self {
            Self::Plugin { position, error } => {
                let plugin = config.plugins.get(*position);
                let entry = plugin.and_then(|plugin| plugin.entry);
                match (entry, error.part()) {
                    (Some(entry), part) if !is_chosen_by_flag(plugin, part) => {
                        origins.of_plugin(entry, part, reason)
                    }
                    _ => origins.of_flag("--plugins", reason),
                }
            }
            Self::CaFile { path, .. } => origins.of_file(path, reason),
            Self::TlsListener(error) | Self::ClientCertificate(error) => {
                origins.of_file(&error.path, reason)
            }
            Self::Certificates(CertificatesError::KeyPair(error)) => {
                origins.of_file(&error.path, reason)
            }
            Self::Certificates(CertificatesError::Directory { path, .. }) => {
                origins.of_file(path, reason)
            }
            Self::WebServer(WebServerError::Files(_)) => {
                origins.of_setting("web_server.static_files.dir", reason)
            }
            Self::WebServer(WebServerError::Pac(_)) => {
                origins.of_setting("web_server.pac.file", reason)
            }
            Self::AccessLog(_) => origins.of_setting("access_log.file", reason),
            Self::UnknownPlugin { setting, .. } => origins.of_setting(setting, reason),
            Self::Privileges(error) => origins.of_setting(error.setting(), reason),
            Self::NothingToServe => origins.of_setting("disable_http_proxy", reason),
            Self::WebServer(_) | Self::Certificates(_) | Self::Tls(_) | Self::Events(_) => {
                ConfigError::without_place(reason)
            }
        }
    }

    /// Whether the configuration or a plugin is the cause, rather than the system.
    fn is_configuration(&self) -> bool {
        !matches!(self, Self::Events(_) | Self::Tls(_) | Self::AccessLog(_))
    }
}

/// All problems, at least one. Displayed with a line for each.
#[derive(Debug)]
pub struct Problems {
    located: Vec<ConfigError>,
    is_configuration: bool,
}

impl Problems {
    pub(super) fn new(problems: Vec<Problem>, config: &Config) -> Self {
        Problems {
            is_configuration: problems.iter().any(Problem::is_configuration),
            located: problems.iter().map(|each| each.located(config)).collect(),
        }
    }

    /// Those of a build, if it failed, and what else prevents a start.
    pub(super) fn with_unmet(problems: Option<Problems>, unmet: Vec<ConfigError>) -> Self {
        let mut located = problems.map_or_else(Vec::new, |problems| problems.located);
        located.extend(unmet);
        Problems {
            located,
            is_configuration: true,
        }
    }

    /// The problems, each with its place in the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.located.iter()
    }

    /// Whether the configuration or a plugin is the cause, rather than the system.
    pub fn is_configuration(&self) -> bool {
        self.is_configuration
    }

    /// For people: each with the line of the file that it is about.
    pub fn with_excerpts(&self) -> String {
        let each = self.iter().map(ConfigError::with_excerpt);
        each.collect::<Vec<_>>().join("\n")
    }
}

/// Whether the flag `--plugins` names this part, and not the entry of the file, which gives the settings.
fn is_chosen_by_flag(plugin: Option<&PluginEntry>, part: PluginPart<'_>) -> bool {
    let is_config = matches!(part, PluginPart::Config(_));
    !is_config && plugin.is_some_and(|plugin| plugin.origin.starts_with("--plugins"))
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
