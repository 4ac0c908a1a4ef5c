//! Session tickets, each valid for one host only.
//!
//! All hosts and workers share one ticketer, so that its keys rotate in one place. At resumption, rustls compares the
//! name that the client sent (RFC 6066 §3), but here the tunnel decides which host is served, not that name, and
//! addresses are not sent at all. Without further protection, an attacker who can change the client's CONNECT could
//! make it resume a session with one host while the proxy connects to another, and no certificate would reveal that. So
//! the ticket contains the host, authenticated.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::server::ProducesTickets;

/// The tickets of one host.
#[derive(Debug)]
pub(super) struct HostTickets {
    /// Of fixed length, so that no host's mark is a prefix of another's.
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
    fn a_ticket_is_valid_for_its_host_only() {
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
