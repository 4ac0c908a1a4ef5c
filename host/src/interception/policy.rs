//! Whose TLS is ended here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::certificates::Certificates;
use super::memory::HostMemory;
use crate::config::{HostPattern, InterceptionConfig};

/// How long a destination that spoke no TLS is connected in clear first.
const CLEAR_FOR: Duration = Duration::from_secs(300);

/// Interception as it is configured, and what has been learnt about hosts. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Interception {
    pub(crate) certificates: Arc<Certificates>,
    include: Vec<HostPattern>,
    exclude: Vec<HostPattern>,
    insecure: Vec<HostPattern>,
    /// Hosts with the clients that do not accept our certificates for them: one client does not decide for others.
    pub(crate) rejected: HostMemory,
    /// Hosts that speak no TLS, as far as they have said.
    pub(crate) clear: HostMemory,
}

impl Interception {
    pub(crate) fn new(config: &InterceptionConfig, certificates: Arc<Certificates>) -> Self {
        Self {
            certificates,
            include: config.include.clone(),
            exclude: config.exclude.clone(),
            insecure: config.insecure_hosts.clone(),
            rejected: HostMemory::new(config.rejected_for),
            clear: HostMemory::new(CLEAR_FOR),
        }
    }

    /// Whether tunnels of `client` to `host` are looked into, as far as the configuration and experience say.
    pub(crate) fn wants(&self, client: IpAddr, host: &str, port: u16) -> bool {
        self.wants_name(client, host, host, port)
    }

    /// As [`wants`](Self::wants), for a tunnel to an address: `name` is whom the client asks for there.
    pub(crate) fn wants_name(&self, client: IpAddr, host: &str, name: &str, port: u16) -> bool {
        let names = |patterns: &[HostPattern]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.matches(host) || pattern.matches(name))
        };
        names(&self.include)
            && !names(&self.exclude)
            && !(self.rejected.is_used() && self.rejected.knows(&pair(client, name), port))
    }

    /// `client` does not accept our certificate for `name`.
    pub(crate) fn reject(&self, client: IpAddr, name: &str, port: u16) {
        self.rejected.remember(&pair(client, name), port);
    }

    /// The certificate of the authority, in DER.
    pub(crate) fn authority_der(&self) -> &[u8] {
        self.certificates.authority().certificate_der()
    }

    /// Whether anything is accepted from this host.
    pub(crate) fn trusts_blindly(&self, host: &str) -> bool {
        self.insecure.iter().any(|pattern| pattern.matches(host))
    }
}

fn pair(client: IpAddr, name: &str) -> String {
    format!("{client} {}", name.trim_end_matches('.'))
}
