//! Memory, disk and handshakes, with real files and real TLS in memory.

use std::collections::HashSet;
use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use jiff::SignedDuration;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error, HandshakeKind};
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::interception::fixtures::{self, CaFiles, Connected, Dir, handshake};
use crate::server_tls::Protocols;

struct Setup {
    dir: Dir,
    files: CaFiles,
    runtime: Runtime,
}

impl Setup {
    fn new() -> Self {
        Self::with(CaFiles::new())
    }

    fn with(files: CaFiles) -> Self {
        Self {
            dir: Dir::new("certificates"),
            files,
            runtime: runtime(),
        }
    }

    /// A new instance, as after a restart.
    fn certificates(&self) -> Arc<Certificates> {
        Arc::new(Certificates::new(&self.files.config(&self.dir), false).unwrap())
    }

    fn leaf(&self, certificates: &Arc<Certificates>, host: &str) -> Arc<Leaf> {
        self.runtime.block_on(certificates.leaf(host)).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("certificates").join(name)
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// The certificate that a client receives.
fn shown(certificates: &Certificates, leaf: &Leaf) -> CertificateDer<'static> {
    let client = fixtures::client(certificates.ca().certificate_der(), &[&TLS13]);
    let server = leaf.server_config(Protocols::Any);
    let ends = handshake(&client, leaf.host(), &server).unwrap();
    ends.client.peer_certificates().unwrap()[0].clone()
}

#[test]
fn clients_accept_the_certificates() {
    for files in [
        CaFiles::new(),
        CaFiles::made_by(
            fixtures::RSA_CA,
            fixtures::RSA_CA_KEY,
            fixtures::RSA_SIGNING_KEY,
        ),
        CaFiles::made_by(
            fixtures::EC_CA,
            fixtures::EC_CA_KEY_SEC1,
            fixtures::RSA_SIGNING_KEY,
        ),
    ] {
        let setup = Setup::with(files);
        let certificates = setup.certificates();
        let long = ["a".repeat(63), "b".repeat(63), "example.com".to_owned()].join(".");
        for host in ["www.example.com", "192.0.2.1", "2001:db8::1", &long] {
            for version in [&TLS12, &TLS13] {
                let client = fixtures::client(certificates.ca().certificate_der(), &[version]);
                let leaf = setup.leaf(&certificates, host);
                let server = leaf.server_config(Protocols::Any);
                let ends = handshake(&client, host, &server).unwrap();
                assert_eq!(ends.client.protocol_version(), Some(version.version));
            }
        }
    }
}

#[test]
fn protocols_are_offered_as_requested() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let leaf = setup.leaf(&certificates, "example.com");
    let negotiate = |protocols, wanted: &[&str]| {
        let mut client =
            (*fixtures::client(certificates.ca().certificate_der(), &[&TLS13])).clone();
        client.alpn_protocols = wanted.iter().map(|name| name.as_bytes().to_vec()).collect();
        let server = leaf.server_config(protocols);
        let ends: Connected = handshake(&Arc::new(client), "example.com", &server).ok()?;
        let chosen = ends.client.alpn_protocol().unwrap_or_default().to_vec();
        Some(String::from_utf8(chosen).unwrap())
    };
    let both = ["http/1.1", "h2"];
    assert_eq!(negotiate(Protocols::Any, &both).unwrap(), "h2");
    assert_eq!(negotiate(Protocols::Http1, &both).unwrap(), "http/1.1");
    assert_eq!(negotiate(Protocols::Http2, &both).unwrap(), "h2");
    assert_eq!(
        negotiate(Protocols::Any, &["http/1.1"]).unwrap(),
        "http/1.1"
    );
    assert_eq!(negotiate(Protocols::Any, &[]).unwrap(), "");
    assert_eq!(negotiate(Protocols::Http1, &["h2"]), None);
}

#[test]
fn configurations_are_made_once() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let leaf = setup.leaf(&certificates, "example.com");
    for protocols in [Protocols::Http1, Protocols::Http2, Protocols::Any] {
        let config = leaf.server_config(protocols);
        assert!(Arc::ptr_eq(&config, &leaf.server_config(protocols)));
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.session_storage.can_cache());
    }
}

#[test]
fn sessions_are_resumed_with_the_same_host() {
    for version in [&TLS12, &TLS13] {
        let setup = Setup::new();
        let certificates = setup.certificates();
        let client = fixtures::client(certificates.ca().certificate_der(), &[version]);
        let kind = |host: &str, protocols| {
            let leaf = setup.leaf(&certificates, host);
            let ends = handshake(&client, host, &leaf.server_config(protocols)).unwrap();
            ends.client.handshake_kind().unwrap()
        };
        assert_eq!(
            kind("one.example", Protocols::Http1),
            HandshakeKind::Full,
            "{version:?}"
        );
        assert_eq!(
            kind("one.example", Protocols::Http1),
            HandshakeKind::Resumed
        );
        // Another configuration of the host, and another host.
        assert_eq!(kind("one.example", Protocols::Any), HandshakeKind::Resumed);
        assert_eq!(kind("two.example", Protocols::Http1), HandshakeKind::Full);
    }
}

#[test]
fn a_ticket_does_not_resume_a_session_with_another_host() {
    // An address is not sent as a server name, and the server name may differ from the tunnel's host.
    for (asked_for, tunnelled_to) in [("192.0.2.1", "192.0.2.2"), ("one.example", "two.example")] {
        for version in [&TLS12, &TLS13] {
            let setup = Setup::new();
            let certificates = setup.certificates();
            let client = fixtures::client(certificates.ca().certificate_der(), &[version]);
            let right = setup.leaf(&certificates, asked_for);
            let wrong = setup.leaf(&certificates, tunnelled_to);
            handshake(&client, asked_for, &right.server_config(Protocols::Any)).unwrap();
            let outcome = handshake(&client, asked_for, &wrong.server_config(Protocols::Any));
            assert!(
                matches!(
                    outcome.map(|_| ()),
                    Err(Error::InvalidCertificate(
                        CertificateError::NotValidForNameContext { .. }
                    ))
                ),
                "{asked_for} {version:?}"
            );
        }
    }
}

#[test]
fn secrets_are_logged_only_if_configured() {
    let setup = Setup::new();
    let config = setup.files.config(&setup.dir);
    for key_log in [false, true] {
        let certificates = Arc::new(Certificates::new(&config, key_log).unwrap());
        let leaf = setup.leaf(&certificates, "example.com");
        let logger = format!("{:?}", leaf.server_config(Protocols::Any).key_log);
        assert_eq!(logger.contains("KeyLogFile"), key_log, "{logger}");
    }
}

#[test]
fn a_hundred_first_requests_make_one_certificate() {
    for _ in 0..10 {
        let setup = Setup::new();
        let certificates = setup.certificates();
        let start = Barrier::new(2);
        let leaves = thread::scope(|scope| {
            let worker = || {
                start.wait();
                runtime().block_on(join_all((0..50).map(|_| certificates.leaf("example.com"))))
            };
            let workers = [scope.spawn(worker), scope.spawn(worker)];
            workers.map(|worker| worker.join().unwrap()).concat()
        });
        let distinct: HashSet<_> = leaves
            .iter()
            .map(|leaf| Arc::as_ptr(leaf.as_ref().unwrap()))
            .collect();
        assert_eq!((leaves.len(), distinct.len()), (100, 1));
        assert_eq!(certificates.minted(), 1);
        assert!(certificates.flights.lock().unwrap().is_empty());
    }
}

#[test]
fn other_hosts_do_not_wait() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let hosts: Vec<_> = (0..20).map(|number| format!("h{number}.example")).collect();
    let leaves = setup
        .runtime
        .block_on(join_all(hosts.iter().map(|host| certificates.leaf(host))));
    for (host, leaf) in hosts.iter().zip(leaves) {
        assert_eq!(leaf.unwrap().host(), host);
    }
    assert_eq!(certificates.minted(), 20);
    assert!(certificates.flights.lock().unwrap().is_empty());
}

#[test]
fn a_cancelled_request_does_not_affect_others() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    setup.runtime.block_on(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut holding = Box::pin(certificates.signer.run(move || held.recv()));
        assert!(poll_immediate(&mut holding).await.is_none());
        let mut first = Box::pin(certificates.leaf("example.com"));
        let mut second = Box::pin(certificates.leaf("example.com"));
        let mut alone = Box::pin(certificates.leaf("other.example"));
        assert!(poll_immediate(&mut first).await.is_none());
        assert!(poll_immediate(&mut second).await.is_none());
        assert!(poll_immediate(&mut alone).await.is_none());
        assert_eq!(certificates.flights.lock().unwrap().len(), 2);
        drop(first);
        drop(alone);
        assert_eq!(certificates.flights.lock().unwrap().len(), 1);
        release.send(()).unwrap();
        holding.await.unwrap().unwrap();
        second.await.unwrap();
    });
    assert!(certificates.flights.lock().unwrap().is_empty());
    assert!(certificates.cached("example.com").is_some());
}

#[test]
fn after_a_failure_the_next_request_retries() {
    let setup = Setup::with(CaFiles::valid_for(Duration::from_secs(3600)));
    let certificates = setup.certificates();
    let now = Timestamp::now();
    let too_late = now + SignedDuration::from_hours(2);
    setup.runtime.block_on(async {
        let (failed, made) = tokio::join!(
            certificates.leaf_at("example.com", too_late),
            certificates.leaf_at("example.com", now),
        );
        assert!(matches!(failed, Err(MintError::CaExpired(_))));
        made.unwrap();
    });
    assert_eq!(certificates.minted(), 1);
}

#[test]
fn memory_is_searched_in_any_spelling_and_creates_nothing() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    assert!(certificates.cached("example.com").is_none());
    let leaf = setup.leaf(&certificates, "Example.COM.");
    for host in ["example.com", "example.com."] {
        assert!(Arc::ptr_eq(&certificates.cached(host).unwrap(), &leaf));
    }
    assert!(Arc::ptr_eq(
        &setup.leaf(&certificates, "EXAMPLE.com"),
        &leaf
    ));
    let address = setup.leaf(&certificates, "2001:DB8::0:1");
    assert!(Arc::ptr_eq(
        &certificates.cached("2001:db8::1").unwrap(),
        &address
    ));
    assert_eq!(certificates.minted(), 2);
}

#[test]
fn memory_drops_the_least_recently_used() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let host = |number: usize| format!("h{number}.example");
    let capacity = setup.files.config(&setup.dir).cached_certificates;
    for number in 0..capacity {
        setup.leaf(&certificates, &host(number));
    }
    assert!(certificates.cached(&host(0)).is_some());
    setup.leaf(&certificates, "one-more.example");
    assert!(certificates.cached(&host(0)).is_some());
    assert!(certificates.cached(&host(1)).is_none());
    assert_eq!(certificates.memory.lock().unwrap().len(), capacity);
    // It is still on disk.
    setup.leaf(&certificates, &host(1));
    assert_eq!(certificates.minted(), capacity as u64 + 1);
}

#[test]
fn certificates_outlive_the_process() {
    let setup = Setup::new();
    for host in ["example.com", "::1", "192.0.2.1", "localhost", "intranet"] {
        let before = setup.certificates();
        let first = shown(&before, &setup.leaf(&before, host));
        let after = setup.certificates();
        assert_eq!(shown(&after, &setup.leaf(&after, host)), first, "{host}");
        assert_eq!(after.minted(), 0);
    }
    assert!(setup.file("example.com.pem").exists());
}

#[test]
#[cfg(unix)]
fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new();
    setup.leaf(&setup.certificates(), "example.com");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(setup.file("")), 0o700);
    assert_eq!(mode(setup.file("example.com.pem")), 0o600);
    let names: Vec<_> = fs::read_dir(setup.file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["example.com.pem"]);
}

#[test]
fn invalid_files_are_replaced() {
    let foreign = Setup::new();
    let other_ca = foreign.certificates();
    foreign.leaf(&other_ca, "example.com");
    let by_another = fs::read_to_string(foreign.file("example.com.pem")).unwrap();

    let setup = Setup::new();
    let certificates = setup.certificates();
    setup.leaf(&certificates, "other.example");
    let for_another = fs::read_to_string(setup.file("other.example.pem")).unwrap();

    let mut rekeyed = setup.files.clone();
    rekeyed.signing_key = fixtures::EC_CA_KEY_SEC1.to_owned();
    let dir = Dir::new("rekeyed");
    let rekeyed = Ca::load(&rekeyed.config(&dir)).unwrap();
    let with_another_key = rekeyed.mint("example.com").unwrap();
    let with_another_key = super::super::ca::to_pem(&with_another_key.chain[0]);

    let subject = Subject::of("example.com").unwrap();
    let minted_at = |days: i64| {
        let then = Timestamp::now() - SignedDuration::from_hours(days * 24);
        let minted = certificates.ca.mint_for(&subject, then).unwrap();
        super::super::ca::to_pem(&minted.chain[0])
    };
    let fresh = minted_at(0);
    let forged = {
        let mut der = certificates.ca.mint("example.com").unwrap().chain[0].to_vec();
        *der.last_mut().unwrap() ^= 1;
        super::super::ca::to_pem(&CertificateDer::from(der))
    };
    for (content, reason) in [
        ("", "empty"),
        ("\0\x01\x02 garbage", "garbage"),
        (&fresh[..200], "cut off"),
        (&by_another, "by another CA"),
        (&for_another, "for another host"),
        (&with_another_key, "with another key"),
        (&minted_at(198), "expired"),
        (&minted_at(197), "about to expire"),
        (&forged, "with a wrong signature"),
    ] {
        let path = setup.file("example.com.pem");
        fs::write(&path, content).unwrap();
        let certificates = setup.certificates();
        shown(&certificates, &setup.leaf(&certificates, "example.com"));
        assert_eq!(certificates.minted(), 1, "{reason}");
        assert_ne!(fs::read_to_string(&path).unwrap(), content, "{reason}");
    }
    for good in [fresh, minted_at(195)] {
        fs::write(setup.file("example.com.pem"), good).unwrap();
        let certificates = setup.certificates();
        shown(&certificates, &setup.leaf(&certificates, "example.com"));
        assert_eq!(certificates.minted(), 0);
    }
}

#[test]
fn files_of_another_purpose_are_left_alone() {
    let setup = Setup::new();
    for content in [
        fixtures::RSA_CA_KEY,
        fixtures::KEY_ENCRYPTED_PKCS8,
        fixtures::EC_CA_KEY_SEC1,
        fixtures::RSA_CA,
    ] {
        let certificates = setup.certificates();
        let path = setup.file("ca.example.pem");
        fs::write(&path, content).unwrap();
        shown(&certificates, &setup.leaf(&certificates, "ca.example"));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn certificates_in_memory_are_renewed_a_day_before_they_end() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let start = Timestamp::now();
    let leaf_after = |hours: i64| {
        let now = start + SignedDuration::from_hours(hours);
        let leaf = certificates.leaf_at("example.com", now);
        setup.runtime.block_on(leaf).unwrap()
    };
    let first = leaf_after(0);
    assert!(Arc::ptr_eq(&leaf_after(196 * 24 - 1), &first));
    let last_hour = start + SignedDuration::from_hours(196 * 24);
    assert!(certificates.cached_at("example.com", last_hour).is_none());
    assert!(!Arc::ptr_eq(&leaf_after(196 * 24), &first));
    assert_eq!(certificates.minted(), 2);
}

#[test]
fn a_ca_in_its_last_day_signs_each_host_once() {
    let setup = Setup::with(CaFiles::valid_for(Duration::from_secs(3600)));
    let certificates = setup.certificates();
    let first = setup.leaf(&certificates, "example.com");
    assert!(Arc::ptr_eq(
        &setup.leaf(&certificates, "example.com"),
        &first
    ));
    let restarted = setup.certificates();
    setup.leaf(&restarted, "example.com");
    assert_eq!(restarted.minted(), 0);
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    assert!(certificates.cached_at("example.com", end).is_none());
}

#[test]
fn a_read_only_directory_prevents_storing_only() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    fs::remove_dir(setup.file("")).unwrap();
    fs::write(setup.dir.path().join("certificates"), "in the way").unwrap();
    let leaf = setup.leaf(&certificates, "example.com");
    shown(&certificates, &leaf);
    assert!(Arc::ptr_eq(
        &certificates.cached("example.com").unwrap(),
        &leaf
    ));
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let setup = Setup::new();
    let mut config = setup.files.config(&setup.dir);
    config.cert_dir = setup.dir.file("file", "").join("certificates");
    let error = Certificates::new(&config, false).unwrap_err().to_string();
    assert!(error.contains("/file/certificates: "), "{error}");
    assert!(error.contains("--ca-cert-dir"), "{error}");
}

#[test]
fn a_certificate_for_one_connection_is_not_stored() {
    let setup = Setup::new();
    let certificates = setup.certificates();
    let unkept = || {
        setup
            .runtime
            .block_on(certificates.transient_leaf("a.test"))
    };
    shown(&certificates, &unkept().unwrap());
    assert!(certificates.cached("a.test").is_none());
    assert!(!setup.file("a.test.pem").exists());
    // A stored one is served.
    let leaf = setup.leaf(&certificates, "a.test");
    assert!(Arc::ptr_eq(&leaf, &unkept().unwrap()));
    assert_eq!(certificates.minted(), 2);
}
