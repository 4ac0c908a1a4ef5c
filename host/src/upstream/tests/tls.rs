//! TLS to upstreams: trust, offered protocols, client certificates, resumption, and error messages.

use std::path::PathBuf;
use std::{env, fs, process};

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::LazyConfigAcceptor;

use super::*;
use crate::config::{ClientCertificate, KeyPairFiles, UpstreamTls};
use crate::error::Cause;
use crate::upstream::HttpVersions;
use crate::upstream::pool::{Pool, PoolLimits};

fn pattern(text: &str) -> Vec<HostPattern> {
    vec![HostPattern::parse(text).unwrap()]
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// An origin that shows this chain.
fn showing(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsAcceptor {
    let config = server_config()
        .with_no_client_auth()
        .with_single_cert(chain, der(key))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn self_signed(is_ca: IsCa) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = params(ORIGIN);
    params.is_ca = is_ca;
    showing(vec![params.self_signed(&key).unwrap().der().clone()], &key)
}

fn status_of(fault: TlsFault) -> (u16, &'static str) {
    let failure = super::super::tls::TlsFailure::new(ORIGIN, fault);
    let error = DialError {
        host: ORIGIN.to_owned(),
        port: 443,
        parent: None,
        failure: failure.into(),
    };
    classify(&ExchangeError::new(Peer::Upstream, Step::Dial, error))
}

// ---- certificates ------------------------------------------------------------------------------------------------

/// Origins whose certificates prove nothing to those who trust `ca`, and why not.
fn impostors(ca: &Ca) -> Vec<(TlsAcceptor, &'static str)> {
    let stranger = Ca::named("a stranger");
    let mut expired = params(ORIGIN);
    expired.not_before = date_time_ymd(2001, 1, 1);
    expired.not_after = date_time_ymd(2002, 1, 1);
    let mut not_yet = params(ORIGIN);
    not_yet.not_before = date_time_ymd(3001, 1, 1);
    not_yet.not_after = date_time_ymd(3002, 1, 1);
    let mut for_clients = params(ORIGIN);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params(ORIGIN).signed_by(&key, &stranger.0).unwrap();
    let with_root = vec![leaf.der().clone(), stranger.certificate()];
    let unconstrained = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    vec![
        (ca.acceptor(&["other.test"]), "is for a different name"),
        (ca.sign(expired), "has expired"),
        (ca.sign(not_yet), "is not valid yet"),
        (ca.sign(for_clients), "is not valid for servers"),
        (stranger.acceptor(&[ORIGIN]), "is from an unknown CA"),
        (
            showing(with_root, &key),
            "leads to a root that is not trusted",
        ),
        (self_signed(IsCa::NoCa), "is self-signed"),
        (self_signed(unconstrained), "is self-signed"),
        (
            showing(vec![ca.certificate()], ca.0.key()),
            "is a CA certificate, not a server certificate",
        ),
    ]
}

#[test]
fn an_invalid_certificate_is_refused_with_its_reason() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        for (acceptor, reason) in impostors(&ca) {
            let (port, _) = origin(acceptor, async |_| ()).await;
            let error = setup.failure(&https(ORIGIN, port)).await;
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot connect to origin.test:{port}: TLS with origin.test failed: its certificate {reason}"
                )
            );
            let DialFailure::Tls(failure) = &error.failure else {
                panic!("{error}");
            };
            assert!(is_about_certificate(&failure.fault));
            assert!(!failure.fault.is_not_tls() && !failure.fault.is_version_too_old());
            let error = ExchangeError::new(Peer::Upstream, Step::Dial, error);
            assert_eq!(classify(&error), (502, "tls_certificate_error"));
        }
    });
}

#[test]
fn a_self_signed_certificate_is_accepted_if_it_is_trusted_directly() {
    on_worker(async {
        let (ca, files) = (Ca::new(), Files::new("own"));
        let past = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        let today = (date_time_ymd(2001, 1, 1), date_time_ymd(3002, 1, 1));
        for (number, ((not_before, not_after), name, refusal)) in [
            (today, ORIGIN, None),
            (today, "other.test", Some("is for a different name")),
            (past, ORIGIN, Some("has expired")),
        ]
        .into_iter()
        .enumerate()
        {
            let key = KeyPair::generate().unwrap();
            let mut own = params(name);
            own.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            (own.not_before, own.not_after) = (not_before, not_after);
            let own = own.self_signed(&key).unwrap();
            let config = TlsConfig {
                upstream: UpstreamTls {
                    extra_ca_files: vec![files.write(&format!("{number}.pem"), &own.pem())],
                    ..UpstreamTls::default()
                },
                ..TlsConfig::default()
            };
            let setup = Setup::configured(&ca, &config, &[]);
            let (port, _) = origin(showing(vec![own.der().clone()], &key), async |_| ()).await;
            match (setup.dial(&https(ORIGIN, port)).await, refusal) {
                (Ok(_), None) => {}
                (Err(error), Some(refusal)) => {
                    assert!(error.to_string().contains(refusal), "{error}");
                }
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    });
}

#[test]
fn an_insecure_host_may_show_any_certificate() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::configured(&ca, &TlsConfig::default(), &pattern(".origin.test"));
        for (acceptor, _) in impostors(&ca) {
            let (port, served) = origin(acceptor.clone(), async |_| ()).await;
            let _open = setup.dial(&https(ORIGIN, port)).await.unwrap();
            assert!(served.await.unwrap().is_some());
            let (port, _) = origin(acceptor, async |_| ()).await;
            let fault = setup.fault(&https("origin.example", port)).await;
            assert!(is_about_certificate(&fault), "{fault}");
        }
    });
}

#[test]
fn an_insecure_host_must_have_the_key_of_its_certificate() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::configured(&ca, &TlsConfig::default(), &[HostPattern::all()]);
        for version in [&TLS12, &TLS13] {
            let (key, stolen) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
            let leaf = params(ORIGIN).signed_by(&stolen, &ca.0).unwrap();
            let signing = any_supported_type(&der(&key)).unwrap();
            let pair = CertifiedKey::new(vec![leaf.der().clone()], signing);
            let config = only(version)
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
            let (port, _) = origin(TlsAcceptor::from(Arc::new(config)), async |_| ()).await;
            let fault = setup.fault(&https(ORIGIN, port)).await;
            assert!(is_about_certificate(&fault), "{fault}");
        }
    });
}

fn only(
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
}

// ---- certificates of ours ----------------------------------------------------------------------------------------

/// Files that are gone when dropped.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = env::temp_dir().join(format!("proxy-upstream-{}-{name}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for clients, shown to `hosts`.
    fn client_certificate(&self, name: &str, hosts: &str, signer: &Ca) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &signer.0).unwrap();
        ClientCertificate {
            hosts: pattern(hosts),
            files: KeyPairFiles {
                cert_file: self.write(&format!("{name}-cert.pem"), &certificate.pem()),
                key_file: self.write(&format!("{name}-key.pem"), &key.serialize_pem()),
            },
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn showing_to_hosts(client_certificates: Vec<ClientCertificate>) -> TlsConfig {
    TlsConfig {
        upstream: UpstreamTls {
            client_certificates,
            ..UpstreamTls::default()
        },
        ..TlsConfig::default()
    }
}

/// Asks clients for a certificate by `ca`.
fn demanding(ca: &Ca, version: &'static SupportedProtocolVersion, names: &[&str]) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &ca.0).unwrap();
    let config = only(version)
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.der().clone()], der(&key))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[test]
fn a_client_certificate_is_selected_by_the_first_matching_entry() {
    on_worker(async {
        let (ca, files) = (Ca::new(), Files::new("shown"));
        let config = showing_to_hosts(vec![
            files.client_certificate("one", "one.test", &ca),
            files.client_certificate("any", "*.test", &ca),
        ]);
        let setup = Setup::configured(&ca, &config, &pattern("insecure.test"));
        for version in [&TLS12, &TLS13] {
            let acceptor = demanding(&ca, version, &["one.test", "two.test"]);
            for (host, shown) in [
                ("one.test", 0),
                ("one.test", 0),
                ("two.test", 1),
                ("insecure.test", 1),
            ] {
                let (port, served) = origin(acceptor.clone(), async |mut stream| {
                    stream.write_all(b"x").await.unwrap();
                    stream.flush().await.unwrap();
                    stream.get_ref().1.peer_certificates().unwrap().to_vec()
                })
                .await;
                let mut stream = setup.dial(&https(host, port)).await.unwrap();
                assert_eq!(read_some(&mut stream).await.unwrap(), b"x");
                let seen = served.await.unwrap().unwrap();
                let file = &config.upstream.client_certificates[shown].files.cert_file;
                let expected = pem_of(&fs::read(file).unwrap());
                assert_eq!(seen, [expected], "{host}");
            }
        }
    });
}

fn pem_of(text: &[u8]) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(text).unwrap()
}

#[test]
fn a_rejected_client_certificate_is_reported_by_its_alert() {
    on_worker(async {
        let (ca, stranger) = (Ca::new(), Ca::named("a stranger"));
        let files = Files::new("unshown");
        let certificate = files.client_certificate("strange", "strange.test", &stranger);
        let setup = Setup::configured(&ca, &showing_to_hosts(vec![certificate]), &[]);
        for host in [ORIGIN, "strange.test"] {
            let acceptor = demanding(&ca, &TLS12, &[host]);
            let (port, _) = origin(acceptor, async |_| ()).await;
            let fault = setup.fault(&https(host, port)).await;
            let words = fault.to_string();
            assert!(matches!(fault, TlsFault::Alert(_)), "{words}");
            assert!(
                words.contains("tls.upstream.client_certificates"),
                "{words}"
            );
            assert_eq!(status_of(fault), (502, "tls_alert_received"));

            // TLS 1.3: the client's part in the handshake is over when its certificate is looked at.
            let acceptor = demanding(&ca, &TLS13, &[host]);
            let (port, _) = origin(acceptor, async |_| ()).await;
            let mut stream = setup.dial(&https(host, port)).await.unwrap();
            let error = read_some(&mut stream).await.unwrap_err();
            let error = ExchangeError::new(Peer::Upstream, Step::ReadHead, Cause::io(error));
            assert_eq!(classify(&error), (502, "tls_alert_received"), "{error}");
        }
    });
}

#[test]
fn an_unusable_client_certificate_is_reported_with_its_file() {
    let (ca, files) = (Ca::new(), Files::new("broken"));
    let good = files.client_certificate("good", "*", &ca);
    let other = files.client_certificate("other", "*", &ca);
    let broken = |path: &mut PathBuf, text: &str| *path = files.write("broken.pem", text);
    let fails = |spoil: &dyn Fn(&mut KeyPairFiles), words: &[&str]| {
        let mut certificate = good.clone();
        spoil(&mut certificate.files);
        let error = TlsClient::new(&showing_to_hosts(vec![certificate]), &[])
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    };
    let missing = PathBuf::from("/nonexistent/x.pem");
    fails(
        &|files| files.cert_file = missing.clone(),
        &["/nonexistent/x.pem", "No such file"],
    );
    fails(
        &|files| files.key_file = missing.clone(),
        &["/nonexistent/x.pem", "No such file"],
    );
    fails(
        &|files| broken(&mut files.cert_file, ""),
        &["broken.pem", "no certificate"],
    );
    fails(
        &|files| broken(&mut files.key_file, ""),
        &["broken.pem", "no private key"],
    );
    fails(
        &|files| files.key_file = other.files.key_file.clone(),
        &["other-key.pem", "not the key of the certificate"],
    );
}

// ---- versions of HTTP --------------------------------------------------------------------------------------------

/// Speaks these versions of HTTP.
fn speaking(ca: &Ca, protocols: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([ORIGIN.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca.0).unwrap();
    let mut config = server_config()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], der(&key))
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    TlsAcceptor::from(Arc::new(config))
}

fn over(versions: HttpVersions, port: u16) -> Route<'static> {
    Route {
        versions,
        ..https(ORIGIN, port)
    }
}

#[test]
fn the_route_selects_the_offered_protocols() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        for (versions, offered) in [
            (HttpVersions::Http1, &["http/1.1"][..]),
            (HttpVersions::Any, &["h2", "http/1.1"]),
        ] {
            let (port, seen) = peer(async |socket| {
                let accepted = LazyConfigAcceptor::new(Acceptor::default(), socket).await;
                let accepted = accepted.unwrap();
                let hello = accepted.client_hello();
                let offers = hello.alpn().unwrap().map(|name| name.to_vec());
                offers.collect::<Vec<_>>()
            })
            .await;
            setup.failure(&over(versions, port)).await;
            let offered: Vec<&[u8]> = offered.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(seen.await.unwrap(), offered);
        }
    });
}

#[test]
fn the_preferred_common_version_is_used() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let speaks = async |versions, protocols: &[&str]| {
            let acceptor = speaking(&ca, protocols);
            let (port, _) = origin(acceptor, async |stream| stream).await;
            let stream = setup.dial(&over(versions, port)).await;
            stream.map(|stream| stream.speaks_http2())
        };
        use HttpVersions::{Any, Http1};
        for (versions, protocols, speaks_http2) in [
            (Http1, &["h2", "http/1.1"][..], false),
            (Http1, &[], false),
            (Any, &[], false),
            (Any, &["http/1.1"], false),
            (Any, &["http/1.1", "h2"], false),
            (Any, &["h2", "http/1.1"], true),
            (Any, &["h2"], true),
        ] {
            let speaks = speaks(versions, protocols).await.unwrap();
            assert_eq!(speaks, speaks_http2, "{versions:?} {protocols:?}");
        }
        let error = speaks(Http1, &["h2"]).await.unwrap_err();
        let words = error.to_string();
        assert!(words.contains("supports only HTTP/2"), "{words}");
        assert!(matches!(
            error.failure,
            DialFailure::Tls(failure)
                if matches!(failure.fault, TlsFault::Alert(AlertDescription::NoApplicationProtocol))
        ));
    });
}

#[test]
fn a_parent_is_never_offered_http2() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let acceptor = speaking(&ca, &["h2", "http/1.1"]);
        let inner = acceptor.clone();
        let (port, served) = origin(acceptor, async move |mut stream| {
            let spoken = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _open = inner.accept(stream).await.unwrap();
            spoken
        })
        .await;
        let parent = parent("https", port);
        let route = Route {
            parent: Some(&parent),
            ..over(HttpVersions::Any, 443)
        };
        let stream = setup.dial(&route).await.unwrap();
        assert!(stream.speaks_http2());
        assert_eq!(served.await.unwrap().unwrap().unwrap(), b"http/1.1");
    });
}

// ---- sessions ----------------------------------------------------------------------------------------------------

#[test]
fn connections_are_pooled_and_their_sessions_resumed() {
    on_worker(async {
        let ca = Ca::new();
        for version in [&TLS12, &TLS13] {
            for insecure in [&[][..], &[HostPattern::all()]] {
                let setup = Setup::configured(&ca, &TlsConfig::default(), insecure);
                let key = KeyPair::generate().unwrap();
                let leaf = params(ORIGIN).signed_by(&key, &ca.0).unwrap();
                let config = only(version)
                    .with_no_client_auth()
                    .with_single_cert(vec![leaf.der().clone()], der(&key))
                    .unwrap();
                let acceptor = TlsAcceptor::from(Arc::new(config));
                let kinds = [
                    pooled(&setup, acceptor.clone(), HttpVersions::Http1).await,
                    pooled(&setup, acceptor, HttpVersions::Any).await,
                ];
                assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
            }
        }
    });
}

/// An exchange on a new connection, and another one when it has been through the pool.
async fn pooled(setup: &Setup, acceptor: TlsAcceptor, versions: HttpVersions) -> HandshakeKind {
    let limits = PoolLimits {
        per_host: 1,
        total: 1,
        idle: STALL,
        descriptors: None,
    };
    let pool = Pool::new(limits, &setup.deadlines);
    let (port, served) = origin(acceptor, async |mut stream| {
        for _ in 0..2 {
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.get_ref().1.handshake_kind().unwrap()
    })
    .await;
    let route = over(versions, port);
    let mut stream = setup.dial(&route).await.unwrap();
    for is_last in [false, true] {
        stream.writer().write_all(b"ping", STALL).await.unwrap();
        assert_eq!(read_some(&mut stream).await.unwrap(), b"pong");
        if is_last {
            break;
        }
        pool.put(&route, stream);
        stream = pool.take(&route, MessageStream::is_quiet_now).unwrap();
    }
    served.await.unwrap().unwrap()
}

// ---- peers that speak something else -----------------------------------------------------------------------------

/// Answers the first bytes of a handshake with these, whatever they were.
async fn saying(words: &[u8]) -> u16 {
    let words = words.to_vec();
    let (port, _) = peer(async move |mut socket| {
        let _ = socket.write_all(&words).await;
        while socket.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {}
    })
    .await;
    port
}

#[test]
fn a_peer_without_tls_differs_from_one_that_leaves() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        for greeting in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"SSH-2.0-x\r\n",
            b"220 mail.test ESMTP\r\n",
            // What a database says first: a length that could begin a handshake.
            b"\x16\0\0\0\x0a5.7.1\0",
        ] {
            let fault = setup.fault(&https(ORIGIN, saying(greeting).await)).await;
            assert!(matches!(fault, TlsFault::NotTls), "{fault}");
            assert!(fault.is_not_tls() && !is_about_certificate(&fault));
            assert_eq!(status_of(fault), (502, "tls_protocol_error"));
        }
        let (port, _) = peer(async |mut socket| socket.read(&mut [0; 4096]).await).await;
        let fault = setup.fault(&https(ORIGIN, port)).await;
        assert!(matches!(fault, TlsFault::Ended(_)), "{fault}");
        assert!(!fault.is_not_tls());
    });
}

#[test]
fn a_destination_that_speaks_first_does_not_speak_tls() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (parent, _) = answering("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n").await;
        let route = Route {
            parent: Some(&parent),
            ..https(ORIGIN, 443)
        };
        let fault = setup.fault(&route).await;
        assert!(fault.is_not_tls(), "{fault}");
    });
}

#[test]
fn a_peer_with_old_versions_only_is_recognised() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let protocol_version = b"\x15\x03\x01\0\x02\x02\x46";
        // TLS 1.0, a random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
        let mut hello = b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01".to_vec();
        hello.extend([7; 32]);
        hello.extend(b"\0\0\x2f\0");
        for (answer, error_type) in [
            (&protocol_version[..], "tls_alert_received"),
            (&hello, "tls_protocol_error"),
        ] {
            let fault = setup.fault(&https(ORIGIN, saying(answer).await)).await;
            let words = fault.to_string();
            assert!(fault.is_version_too_old(), "{words}");
            assert!(!fault.is_not_tls() && !is_about_certificate(&fault));
            assert!(
                words.ends_with("it supports neither TLS 1.2 nor TLS 1.3"),
                "{words}"
            );
            assert_eq!(status_of(fault), (502, error_type));
        }
        // No suite in common, perhaps because it is old, perhaps not: it does not say.
        let handshake_failure = b"\x15\x03\x03\0\x02\x02\x28";
        let port = saying(handshake_failure).await;
        let fault = setup.fault(&https(ORIGIN, port)).await;
        assert!(!fault.is_version_too_old(), "{fault}");
    });
}

fn is_about_certificate(fault: &TlsFault) -> bool {
    matches!(fault, TlsFault::Certificate(_) | TlsFault::NameInvalid)
}
