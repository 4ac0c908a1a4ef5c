//! Session tickets, each good for one host only.
//!
//! One ticketer serves all hosts and all workers, so that its keys change in one place. rustls compares the name that
//! the client sent when it resumes (RFC 6066 §3), but here this name does not decide which host is served: the tunnel
//! does, and addresses are not sent at all. Without more, whoever can change the tunnel's request on its way to the
//! proxy could have a client resume a session with one host while the proxy talks to another, and no certificate
//! would be shown that gives it away. So the host stands inside of the ticket, under its authentication.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::server::ProducesTickets;

/// The tickets of one host.
#[derive(Debug)]
pub(super) struct HostTickets {
    /// Of fixed length: no host's mark begins with another's.
    mark: [u8; SHA256_OUTPUT_LEN],
    shared: Arc<dyn ProducesTickets>,
}

impl HostTickets {
    pub(super) fn new(host: &str, shared: Arc<dyn ProducesTickets>) -> Self {
        let mut mark = [0; SHA256_OUTPUT_LEN];
        mark.copy_from_slice(digest(&SHA256, host.as_bytes()).as_ref());
        Self { mark, shared }
    }
}

impl ProducesTickets for HostTickets {
    fn enabled(&self) -> bool {
        self.shared.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.shared.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.shared.encrypt(&[&self.mark, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let marked = self.shared.decrypt(cipher)?;
        marked.strip_prefix(&self.mark).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_host_only() {
        let shared = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let one = HostTickets::new("one.example", Arc::clone(&shared));
        let again = HostTickets::new("one.example", Arc::clone(&shared));
        let other = HostTickets::new("other.example", Arc::clone(&shared));
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(again.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(other.decrypt(&ticket), None);
        let unmarked = shared.encrypt(b"").unwrap();
        assert_eq!(one.decrypt(&unmarked), None);
    }
}
