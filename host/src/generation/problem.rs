//! Problems that prevent the use of a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::interception::certificates::CertificatesError;
use crate::key_pair::KeyPairError;
use crate::plugins::load::LoadError;
use crate::upstream::tls::TlsClientError;
use crate::web::WebServerError;

/// A problem in the configuration, in a file that it names, or in a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] LoadError),
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
    /// The system provides no random numbers for the ticket keys.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The web server cannot serve what is configured.
    #[error(transparent)]
    WebServer(#[from] WebServerError),
    /// Nothing is to be served.
    #[error(
        "--disable-http-proxy leaves nothing to serve; add --enable-web-server, --enable-static-server or --pac-file, or a plugin with routes"
    )]
    NothingToServe,
    /// The certificates of intercepted hosts cannot be stored.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// A client certificate or its key cannot be used.
    #[error("tls.upstream.client_certificates: {0}")]
    ClientCertificate(KeyPairError),
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
    /// Whether the configuration or a plugin is the cause, rather than the system.
    fn is_configuration(&self) -> bool {
        !matches!(self, Self::Events(_) | Self::Tls(_))
    }
}

/// All problems, at least one. Displayed with a line for each.
#[derive(Debug)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// Iterates over the problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether the configuration or a plugin is the cause, rather than the system.
    pub fn is_configuration(&self) -> bool {
        self.0.iter().any(Problem::is_configuration)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
