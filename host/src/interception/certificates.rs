//! The certificates of all intercepted hosts, shared by all workers.
//!
//! A certificate is looked up in memory, then on disk, and created if it is in neither. If several connections need the
//! same host at once, one of them reads or signs and the others wait; reading and signing do not run on worker threads.
//! Memory is limited: the least recently used host is removed first, and read from disk when it is needed again.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use lru::LruCache;
use rustls::sign::CertifiedKey;
use tokio::sync::OnceCell;

use super::ca::{Ca, MintError, Minted};
use super::disk::{CertificateDir, DirLimits, StoredFile};
use super::leaf::Leaf;
use super::signer::Signer;
use super::subject::Subject;
use crate::config::InterceptionConfig;
use crate::key_pair::KeyPairError;
use crate::server_tls::ServerTls;

/// Certificates by host.
#[derive(Debug)]
pub struct Certificates {
    ca: Ca,
    tls: Arc<ServerTls>,
    dir: CertificateDir,
    memory: Mutex<LruCache<Arc<str>, Arc<Leaf>>>,
    /// Hosts whose certificate is being read or created.
    flights: Mutex<HashMap<Arc<str>, Arc<Flight>>>,
    minted: AtomicU64,
    signer: Signer,
}

/// Set once the certificate is available; until then, one waiting task at a time tries.
type Flight = OnceCell<Arc<Leaf>>;

/// Why interception cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file of the CA cannot be used.
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    /// The directory for certificates cannot be created.
    #[error("{}: {source}; specify another directory with --ca-cert-dir", .path.display())]
    Directory {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The signing thread cannot be started.
    #[error("cannot start a thread for certificates: {0}")]
    Thread(io::Error),
    /// The system provides no random numbers for the ticket keys.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
}

impl Certificates {
    /// Reads the CA and creates the directory. With `key_log`, session secrets go to the file that the environment
    /// variable SSLKEYLOGFILE names.
    ///
    /// # Errors
    /// A file of the CA cannot be used, or the directory cannot be created.
    pub fn new(config: &InterceptionConfig, key_log: bool) -> Result<Self, CertificatesError> {
        let ca = Ca::load(config)?;
        let tls = ServerTls::new(ca.provider(), key_log).map_err(CertificatesError::Tls)?;
        let limits = DirLimits {
            files: config.kept_certificates,
            len: config.kept_certificates_len,
        };
        let dir = CertificateDir::open(&config.cert_dir, limits).map_err(|source| {
            CertificatesError::Directory {
                path: config.cert_dir.clone(),
                source,
            }
        })?;
        let capacity = NonZeroUsize::new(config.cached_certificates).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            ca,
            tls: Arc::new(tls),
            dir,
            memory: Mutex::new(LruCache::sparse(capacity)),
            flights: Mutex::default(),
            minted: AtomicU64::new(0),
            signer: Signer::start().map_err(CertificatesError::Thread)?,
        })
    }

    /// The CA that signs them.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The number of certificates created.
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// The certificate of a host (in lower case, without brackets) if it is in memory. Does not block.
    pub fn cached(&self, host: &str) -> Option<Arc<Leaf>> {
        self.cached_at(host, Timestamp::now())
    }

    /// The certificate of a host name or an address, from memory, from disk, or created now.
    ///
    /// Cancel safe: work in progress continues, or the next waiting task starts it anew.
    ///
    /// # Errors
    /// The host cannot be in a certificate, or the CA has expired.
    pub async fn leaf(self: &Arc<Self>, host: &str) -> Result<Arc<Leaf>, MintError> {
        self.leaf_at(host, Timestamp::now()).await
    }

    /// The same for one connection: a new certificate is stored neither in memory nor on disk. For hosts that may be
    /// invented, because the upstream has not proven its identity.
    ///
    /// # Errors
    /// As [`leaf`](Self::leaf).
    pub async fn transient_leaf(self: &Arc<Self>, host: &str) -> Result<Arc<Leaf>, MintError> {
        let now = Timestamp::now();
        let subject = Subject::of(host)?;
        if let Some(leaf) = self.cached_at(subject.host(), now) {
            return Ok(leaf);
        }
        let certificates = Arc::clone(self);
        let made = self.signer.run(move || {
            let minted = certificates.mint(&subject, now)?;
            Ok(certificates.leaf_of(&subject, minted))
        });
        made.await.unwrap_or(Err(MintError::Stopped))
    }

    fn cached_at(&self, host: &str, now: Timestamp) -> Option<Arc<Leaf>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let leaf = unpoisoned(&self.memory).get(host).map(Arc::clone)?;
        (!leaf.is_due(now)).then_some(leaf)
    }

    async fn leaf_at(self: &Arc<Self>, host: &str, now: Timestamp) -> Result<Arc<Leaf>, MintError> {
        let subject = Subject::of(host)?;
        if let Some(leaf) = self.cached_at(subject.host(), now) {
            return Ok(leaf);
        }
        let passenger = self.join(subject.host());
        let obtained = passenger.flight.get_or_try_init(|| async {
            let certificates = Arc::clone(self);
            let obtained = self.signer.run(move || certificates.obtain(&subject, now));
            obtained.await.unwrap_or(Err(MintError::Stopped))
        });
        obtained.await.map(Arc::clone)
    }

    /// Joins the tasks that wait for the same host, or starts with it.
    fn join(&self, host: &Arc<str>) -> Waiter<'_> {
        let mut flights = unpoisoned(&self.flights);
        let flight = flights.entry(Arc::clone(host)).or_default();
        Waiter {
            flight: Arc::clone(flight),
            host: Arc::clone(host),
            certificates: self,
        }
    }

    /// Reads or creates the certificate. Blocks.
    fn obtain(&self, subject: &Subject, now: Timestamp) -> Result<Arc<Leaf>, MintError> {
        // Another task may have stored it since the first look-up.
        if let Some(leaf) = self.cached_at(subject.host(), now) {
            return Ok(leaf);
        }
        let kept = self.dir.read(subject);
        let may_replace = !matches!(kept, StoredFile::Foreign);
        if let Some(kept) = self.usable(subject, kept, now) {
            return Ok(self.remember(subject, kept));
        }
        let minted = self.mint(subject, now)?;
        if may_replace && let Some(certificate) = minted.chain.first() {
            self.dir.write(subject, certificate);
        }
        Ok(self.remember(subject, minted))
    }

    /// Reads the stored certificate, or signs one. Blocks.
    fn mint(&self, subject: &Subject, now: Timestamp) -> Result<Minted, MintError> {
        let minted = self.ca.mint_for(subject, now)?;
        self.minted.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(host = &**subject.host(), "created a certificate");
        Ok(minted)
    }

    fn usable(&self, subject: &Subject, kept: StoredFile, now: Timestamp) -> Option<Minted> {
        let host = &**subject.host();
        match kept {
            StoredFile::Missing => None,
            StoredFile::Certificate(certificate) => {
                let recognised = self.ca.recognise(certificate, subject, now);
                recognised
                    .inspect_err(
                        |reason| tracing::debug!(host, %reason, "replacing a stored certificate"),
                    )
                    .ok()
            }
            StoredFile::Garbage => {
                tracing::debug!(host, "replacing a file that contains no certificate");
                None
            }
            StoredFile::Foreign => {
                tracing::debug!(host, "not replacing a file that is not ours");
                None
            }
        }
    }

    fn leaf_of(&self, subject: &Subject, minted: Minted) -> Arc<Leaf> {
        let renew_at = self.ca.renew_at(minted.not_after);
        let key = CertifiedKey::new(minted.chain, Arc::clone(self.ca.leaf_key()));
        Arc::new(Leaf::new(subject.host(), key, renew_at, &self.tls))
    }

    fn remember(&self, subject: &Subject, minted: Minted) -> Arc<Leaf> {
        let leaf = self.leaf_of(subject, minted);
        let forgotten =
            unpoisoned(&self.memory).push(Arc::clone(subject.host()), Arc::clone(&leaf));
        // Dropped without the lock.
        drop(forgotten);
        leaf
    }
}

/// A task that waits for a host's certificate.
struct Waiter<'a> {
    flight: Arc<Flight>,
    host: Arc<str>,
    certificates: &'a Certificates,
}

impl Drop for Waiter<'_> {
    /// Removes the entry with its last task, or with the first one that has the certificate, which is in memory by
    /// then.
    fn drop(&mut self) {
        let mut flights = unpoisoned(&self.certificates.flights);
        // One reference is ours, one the table's; others are only created under this lock.
        let is_last = Arc::strong_count(&self.flight) <= 2;
        let is_ours = flights
            .get(&self.host)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        if is_ours && (is_last || self.flight.initialized()) {
            flights.remove(&self.host);
        }
    }
}

/// The data behind these locks is consistent whenever they are released, even by a panic.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
