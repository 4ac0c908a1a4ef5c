//! Every way to an upstream, over real sockets: parents and origins that answer well, badly, late or not at all.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::dial::Dialer;
use super::failure::{DialError, DialFailure, ParentFailure, SocksError};
use super::handshakes::Handshakes;
use super::parent::Parent;
use super::resolve::{NameFiles, Resolver};
use super::route::Route;
use super::tls::{TlsClient, TlsFault};
use crate::config::{DnsConfig, HostPattern, TlsConfig};
use crate::deadline::Deadlines;
use crate::error::{ExchangeError, Peer, Step};
use crate::http1::{HeadError, HeadLimits, RequestForm, Scheme};
use crate::reply::classify;
use crate::stream::MessageStream;
use crate::transport::Transport;
use crate::tunnel::{self, TunnelEnd, TunnelEndReason};

mod pool;
mod shares;
mod tls;

/// Silence for this long where something has to come is a hang.
const HANG: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(5);
const ORIGIN: &str = "origin.test";

// ---- a worker's means, and peers with a script -------------------------------------------------------------------

struct Setup {
    resolver: Resolver,
    tls: Arc<TlsClient>,
    deadlines: Rc<Deadlines>,
    limit: Duration,
}

impl Setup {
    fn new(ca: &Ca) -> Self {
        Self::configured(ca, &TlsConfig::default(), &[])
    }

    fn configured(ca: &Ca, tls: &TlsConfig, insecure_hosts: &[HostPattern]) -> Self {
        let dns = DnsConfig {
            servers: vec![SocketAddr::from(([127, 0, 0, 1], 1))],
            ..DnsConfig::default()
        };
        let deadlines = Deadlines::new();
        let ticker = Rc::clone(&deadlines);
        tokio::task::spawn_local(async move { ticker.run(|| ()).await });
        Self {
            resolver: Resolver::new(&dns, STALL, &no_name_files(&dns)).unwrap(),
            tls: TlsClient::trusting(ca.certificate(), tls, insecure_hosts),
            deadlines,
            limit: STALL,
        }
    }

    async fn dial(&self, route: &Route<'_>) -> Result<MessageStream, DialError> {
        let dialer = Dialer {
            resolver: &self.resolver,
            tls: &self.tls,
            deadlines: &self.deadlines,
            own_addresses: &[],
            handshakes: &Handshakes::default(),
            head_limits: HeadLimits::default(),
            read_len: 1024 * 1024,
            limit: self.limit,
        };
        dialer.dial(route).await.map(|dialled| dialled.stream)
    }

    async fn failure(&self, route: &Route<'_>) -> DialError {
        self.dial(route)
            .await
            .map(drop)
            .expect_err("a dial that fails")
    }

    async fn fault(&self, route: &Route<'_>) -> TlsFault {
        match self.failure(route).await.failure {
            DialFailure::Tls(failure) => failure.fault,
            other => panic!("{other}"),
        }
    }

    async fn parent_failure(&self, route: &Route<'_>) -> ParentFailure {
        match self.failure(route).await.failure {
            DialFailure::Parent(failure) => failure,
            other => panic!("{other}"),
        }
    }
}

/// A machine without a hosts file and without a resolv.conf.
fn no_name_files(dns: &DnsConfig) -> Arc<NameFiles> {
    let missing = PathBuf::from("/missing");
    Arc::new(NameFiles::at(dns, missing.clone(), missing, STALL))
}

pub(super) fn on_worker(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(HANG, test).await })
        .expect("an end before the test hangs");
}

/// Accepts one connection and runs `serve` on it.
async fn peer<T: 'static>(
    serve: impl AsyncFnOnce(TcpStream) -> T + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::task::spawn_local(async move {
        let (socket, _) = listener.accept().await.unwrap();
        serve(socket).await
    });
    (port, served)
}

/// Reads up to an empty line.
async fn read_head(from: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// An HTTP parent that answers CONNECT with these bytes and then closes; what it was asked comes out of the handle.
async fn answering(answer: impl Into<Vec<u8>>) -> (Parent, JoinHandle<String>) {
    let answer = answer.into();
    let (port, asked) = peer(async move |mut socket| {
        let head = read_head(&mut socket).await;
        // The other side may have had enough before the end.
        let _ = socket.write_all(&answer).await;
        let _ = socket.shutdown().await;
        head
    })
    .await;
    (parent("http", port), asked)
}

fn parent(scheme: &str, port: u16) -> Parent {
    Parent::parse(&format!("{scheme}://127.0.0.1:{port}")).unwrap()
}

fn tunnel_through(parent: &Parent) -> Route<'_> {
    Route {
        parent: Some(parent),
        is_tunnel: true,
        ..Route::direct(ORIGIN, 443)
    }
}

// ---- certificates ------------------------------------------------------------------------------------------------

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        Self::named("the one that is trusted")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).unwrap())
    }

    fn sign(&self, params: CertificateParams) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let config = server_config()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], der(&key))
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn server_config() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    key.serialize_der().try_into().unwrap()
}

/// A TLS origin for one connection.
async fn origin<T: 'static>(
    acceptor: TlsAcceptor,
    serve: impl AsyncFnOnce(TlsStream<TcpStream>) -> T + 'static,
) -> (u16, JoinHandle<Option<T>>) {
    peer(async move |socket| match acceptor.accept(socket).await {
        Ok(stream) => Some(serve(stream).await),
        Err(_) => None,
    })
    .await
}

const LOOPBACK: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST)];

fn https(host: &str, port: u16) -> Route<'_> {
    Route {
        scheme: Scheme::Https,
        addresses: LOOPBACK,
        ..Route::direct(host, port)
    }
}

async fn read_some(stream: &mut MessageStream) -> std::io::Result<Vec<u8>> {
    let mut reader = stream.reader();
    reader.deadline().arm(STALL);
    if reader.buffered().is_empty() {
        reader.fill().await?;
    }
    let read = reader.buffered().to_vec();
    reader.consume(read.len());
    Ok(read)
}

// ---- straight ----------------------------------------------------------------------------------------------------

#[test]
fn a_socket_is_bound_to_the_source_of_the_route() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (port, seen) = peer(async |socket| socket.peer_addr().unwrap().ip()).await;
        let source = "127.0.0.2".parse().ok();
        let route = Route {
            source,
            ..Route::direct("127.0.0.1", port)
        };
        setup.dial(&route).await.unwrap();
        assert_eq!(Some(seen.await.unwrap()), source);
        let unreachable = Route {
            source: "::1".parse().ok(),
            ..route
        };
        setup.failure(&unreachable).await;
    });
}

#[test]
fn given_addresses_are_tried_in_order_without_resolving() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (port, served) = peer(async |_| ()).await;
        let addresses = ["127.0.0.3", "::1", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        let route = Route {
            addresses: &addresses,
            ..Route::direct("no.such.name.test", port)
        };
        setup.dial(&route).await.unwrap();
        served.await.unwrap();
    });
}

// ---- TLS ---------------------------------------------------------------------------------------------------------

#[test]
fn tls_carries_bytes_both_ways_at_once_and_closes_properly() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let len = 3 * 1024 * 1024;
        let (port, echoed) = origin(ca.acceptor(&[ORIGIN]), async move |stream| {
            let (mut from, mut to) = tokio::io::split(stream);
            // Ends with a `close_notify` from the client; anything else is an error.
            tokio::io::copy(&mut from, &mut to).await.unwrap()
        })
        .await;
        let mut stream = setup.dial(&https(ORIGIN, port)).await.unwrap();
        let sent: Vec<u8> = (0..len as u32).map(|at| (at >> 3) as u8).collect();
        let mut received = Vec::new();
        {
            let (mut reader, mut writer) = stream.split();
            let write = async { writer.write_all(&sent, STALL).await.unwrap() };
            let read = async {
                reader.deadline().arm(STALL);
                while received.len() < len {
                    assert!(reader.fill().await.unwrap() > 0);
                    received.extend_from_slice(reader.buffered());
                    let read = reader.buffered().len();
                    reader.consume(read);
                }
            };
            tokio::join!(write, read);
        }
        assert!(received == sent);
        stream.linger(STALL).await;
        assert_eq!(echoed.await.unwrap(), Some(len as u64));
    });
}

#[test]
fn a_write_to_a_peer_that_does_not_read_times_out() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let (port, _open) = origin(ca.acceptor(&[ORIGIN]), async |stream| stream).await;
        let mut stream = setup.dial(&https(ORIGIN, port)).await.unwrap();
        let more_than_kernels_buffer = vec![0; 32 * 1024 * 1024];
        let error = stream
            .writer()
            .write_all(&more_than_kernels_buffer, Duration::from_millis(100))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn addresses_and_absolute_names_are_verified_as_such() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        for host in ["127.0.0.1", "origin.test."] {
            let acceptor = ca.acceptor(&[ORIGIN, "127.0.0.1"]);
            let (port, _) = origin(acceptor, async |_| ()).await;
            setup.dial(&https(host, port)).await.unwrap();
        }
    });
}

#[test]
fn only_an_end_with_close_notify_is_no_error() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        for is_clean in [true, false] {
            let acceptor = ca.acceptor(&[ORIGIN]);
            let (port, _) = origin(acceptor, async move |mut stream| {
                stream.write_all(b"part").await.unwrap();
                stream.flush().await.unwrap();
                match is_clean {
                    true => stream.shutdown().await.unwrap(),
                    false => stream.get_mut().0.shutdown().await.unwrap(),
                }
                let _ = stream.get_mut().0.read(&mut [0; 1]).await;
            })
            .await;
            let mut stream = setup.dial(&https(ORIGIN, port)).await.unwrap();
            assert_eq!(read_some(&mut stream).await.unwrap(), b"part");
            match read_some(&mut stream).await {
                Ok(rest) => assert!(is_clean && rest.is_empty()),
                Err(error) => {
                    assert!(!is_clean);
                    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                }
            }
        }
    });
}

#[test]
fn idle_tls_is_quiet_until_a_close_or_data() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        for last_words in [None, Some(&b"unasked"[..])] {
            let (go, told) = tokio::sync::oneshot::channel();
            let acceptor = ca.acceptor(&[ORIGIN]);
            // The tickets of TLS 1.3 arrive while the connection is idle.
            let (port, served) = origin(acceptor, async move |mut stream| {
                stream.flush().await.unwrap();
                told.await.unwrap();
                match last_words {
                    Some(words) => stream.write_all(words).await.unwrap(),
                    None => stream.shutdown().await.unwrap(),
                }
                stream.flush().await.unwrap();
                stream
            })
            .await;
            let stream = setup.dial(&https(ORIGIN, port)).await.unwrap();
            assert!(stream.is_quiet());
            go.send(()).unwrap();
            let _open = served.await.unwrap();
            while stream.is_quiet() {
                tokio::task::yield_now().await;
            }
            assert!(!stream.is_quiet_now());
        }
    });
}

// ---- HTTP parents ------------------------------------------------------------------------------------------------

#[test]
fn a_parent_connects_and_bytes_after_its_response_are_kept() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let answer =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Fine\r\nContent-Length: 9\r\n\r\nbanner";
        let (parent, asked) = answering(answer).await;
        let mut stream = setup.dial(&tunnel_through(&parent)).await.unwrap();
        assert_eq!(
            asked.await.unwrap(),
            "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n"
        );
        assert_eq!(read_some(&mut stream).await.unwrap(), b"banner");
        assert_eq!(read_some(&mut stream).await.unwrap(), b"");
    });
}

#[test]
fn a_parent_gets_our_credentials() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (parent, asked) = answering("HTTP/1.0 200 OK\r\n\r\n").await;
        let url = format!("http://user:pass@127.0.0.1:{}", parent.port());
        let parent = Parent::parse(&url).unwrap();
        let route = Route {
            host: "::1",
            ..tunnel_through(&parent)
        };
        setup.dial(&route).await.unwrap();
        assert_eq!(
            asked.await.unwrap(),
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\
             Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        );
    });
}

#[test]
fn a_parent_that_rejects_the_credentials_is_a_bad_gateway() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let answer = "HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        let (parent, _) = answering(answer).await;
        let error = setup.failure(&tunnel_through(&parent)).await;
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to origin.test:443 through {parent}: the parent proxy answered 407"
            )
        );
        let error = ExchangeError::new(Peer::Upstream, Step::Dial, error);
        assert_eq!(classify(&error), (502, "destination_unavailable"));
    });
}

#[test]
fn invalid_responses_of_a_parent_are_refused() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let fails = async |answer: String| {
            let (parent, _) = answering(answer).await;
            setup.parent_failure(&tunnel_through(&parent)).await
        };
        assert!(matches!(
            fails("SSH-2.0-x\r\n\r\n".to_owned()).await,
            ParentFailure::Head(_)
        ));
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000));
        assert!(matches!(
            fails(endless).await,
            ParentFailure::Head(HeadError::HeadTooLong)
        ));
        assert!(matches!(
            fails("HTTP/1.1 100 Continue\r\n\r\n".repeat(20)).await,
            ParentFailure::TooManyInterim
        ));
        for cut in ["", "HTTP/1.1 200 OK\r\n"] {
            assert!(matches!(fails(cut.to_owned()).await, ParentFailure::Closed));
        }
    });
}

#[test]
fn a_silent_parent_times_out() {
    on_worker(async {
        let mut setup = Setup::new(&Ca::new());
        setup.limit = Duration::from_millis(50);
        for (scheme, beginning) in [
            ("http", &b"HTTP/1.1 2"[..]),
            ("https", b"\x16\x03\x03"),
            ("socks5", b"\x05"),
        ] {
            let (port, _) = peer(async move |mut socket| {
                let _ = socket.write_all(beginning).await;
                while socket.read(&mut [0; 1024]).await.is_ok_and(|len| len > 0) {}
            })
            .await;
            let parent = parent(scheme, port);
            let error = setup.failure(&tunnel_through(&parent)).await;
            let message = error.to_string();
            match &error.failure {
                DialFailure::TimedOut(_) => assert_ne!(scheme, "https"),
                DialFailure::Tls(failure) => {
                    assert_eq!(scheme, "https");
                    assert!(message.ends_with("the handshake did not finish within 0.05 s"));
                    assert!(matches!(failure.fault, TlsFault::TimedOut(_)), "{message}");
                }
                other => panic!("{other}"),
            }
            assert!(message.contains(&parent.to_string()), "{message}");
            let error = ExchangeError::new(Peer::Upstream, Step::Dial, error);
            assert_eq!(classify(&error), (504, "connection_timeout"));
        }
    });
}

#[test]
fn a_plain_request_goes_to_a_parent_without_connect() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (parent, asked) = answering("").await;
        let route = Route {
            is_tunnel: false,
            ..tunnel_through(&parent)
        };
        assert_eq!(
            route.request_form(),
            RequestForm::Absolute {
                host: ORIGIN,
                port: 443,
                proxy_authorization: None
            }
        );
        let mut stream = setup.dial(&route).await.unwrap();
        let request = b"GET http://origin.test:443/ HTTP/1.1\r\n\r\n";
        stream.writer().write_all(request, STALL).await.unwrap();
        assert_eq!(asked.await.unwrap().as_bytes(), request);
        for form in [
            tunnel_through(&parent).request_form(),
            Route::direct(ORIGIN, 80).request_form(),
        ] {
            assert_eq!(form, RequestForm::Origin);
        }
    });
}

#[test]
fn tls_goes_through_a_parent_that_is_itself_reached_by_tls() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let inner = ca.acceptor(&[ORIGIN]);
        let outer = ca.acceptor(&["127.0.0.1"]);
        let (port, served) = origin(outer, async move |mut stream| {
            let asked = read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut stream = inner.accept(stream).await.unwrap();
            let mut question = [0; 5];
            stream.read_exact(&mut question).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
            stream.shutdown().await.unwrap();
            (asked, question)
        })
        .await;
        let parent = parent("https", port);
        let route = Route {
            parent: Some(&parent),
            is_tunnel: false,
            ..https(ORIGIN, 443)
        };
        let mut stream = setup.dial(&route).await.unwrap();
        stream.writer().write_all(b"ping!", STALL).await.unwrap();
        assert_eq!(read_some(&mut stream).await.unwrap(), b"pong");
        assert_eq!(read_some(&mut stream).await.unwrap(), b"");
        let (asked, question) = served.await.unwrap().unwrap();
        assert!(asked.starts_with("CONNECT origin.test:443 "), "{asked}");
        assert_eq!(&question, b"ping!");
    });
}

// ---- SOCKS5 parents ----------------------------------------------------------------------------------------------

/// The length of each question, and the answer to it.
type Script = Vec<(usize, &'static [u8])>;

/// A SOCKS5 parent that waits for each question and answers it byte by byte; then what it was asked.
async fn socks(script: Script) -> (u16, JoinHandle<Vec<u8>>) {
    peer(async move |mut socket| {
        let mut asked = Vec::new();
        socket.set_nodelay(true).unwrap();
        for (question_len, answer) in script {
            let mut question = vec![0; question_len];
            if socket.read_exact(&mut question).await.is_err() {
                return asked;
            }
            asked.extend(question);
            for byte in answer {
                let _ = socket.write_all(&[*byte]).await;
                tokio::task::yield_now().await;
            }
        }
        asked
    })
    .await
}

const ACCEPTED: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0banner";

#[test]
fn a_socks_parent_connects_by_name() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let (port, asked) = socks(vec![(3, b"\x05\0"), (18, ACCEPTED)]).await;
        let parent = parent("socks5h", port);
        let mut stream = setup.dial(&tunnel_through(&parent)).await.unwrap();
        let mut banner = Vec::new();
        while banner.len() < 6 {
            banner.extend(read_some(&mut stream).await.unwrap());
        }
        assert_eq!(banner, b"banner");
        assert_eq!(
            asked.await.unwrap(),
            b"\x05\x01\0\x05\x01\0\x03\x0borigin.test\x01\xbb"
        );
    });
}

#[test]
fn a_socks_parent_gets_our_credentials_if_it_asks() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        for (script, asked_len) in [
            (
                vec![(4, &b"\x05\x02"[..]), (5, b"\x01\0"), (18, ACCEPTED)],
                27,
            ),
            (vec![(4, &b"\x05\0"[..]), (18, ACCEPTED)], 22),
        ] {
            let (port, asked) = socks(script).await;
            let parent = Parent::parse(&format!("socks5://u:p@127.0.0.1:{port}")).unwrap();
            setup.dial(&tunnel_through(&parent)).await.unwrap();
            assert_eq!(asked.await.unwrap().len(), asked_len);
        }
    });
}

#[test]
fn refusals_and_closes_of_a_socks_parent_are_distinguished() {
    on_worker(async {
        let setup = Setup::new(&Ca::new());
        let fails = async |url: &str, script| {
            let (port, _) = socks(script).await;
            let parent = Parent::parse(&format!("socks5://{url}127.0.0.1:{port}")).unwrap();
            setup.parent_failure(&tunnel_through(&parent)).await
        };
        let refusals: [(&str, Script, SocksError); 6] = [
            ("", vec![(3, b"\x05\xff")], SocksError::NoMethod),
            ("", vec![(3, b"\x05\x02")], SocksError::NoMethod),
            ("u:p@", vec![(4, b"\x05\x01")], SocksError::NoMethod),
            (
                "u:p@",
                vec![(4, b"\x05\x02"), (5, b"\x01\x01")],
                SocksError::Unauthorized,
            ),
            ("", vec![(3, b"HTTP/1.1 400")], SocksError::VersionInvalid),
            (
                "",
                vec![(3, b"\x05\0"), (18, b"\x05\x05\0\x01")],
                SocksError::Refused(5),
            ),
        ];
        for (url, script, refusal) in refusals {
            match fails(url, script).await {
                ParentFailure::Socks(error) => assert_eq!(error, refusal),
                other => panic!("{other}"),
            }
        }
        for cut in 0..ACCEPTED.len() - b"banner".len() {
            let script = vec![(3, &b"\x05\0"[..]), (18, &ACCEPTED[..cut])];
            let failure = fails("", script).await;
            assert!(matches!(failure, ParentFailure::Closed), "{cut}: {failure}");
        }
    });
}

#[test]
fn tls_goes_through_socks() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        let acceptor = ca.acceptor(&[ORIGIN]);
        let (port, _) = peer(async move |mut socket| {
            socket.read_exact(&mut [0; 3]).await.unwrap();
            socket.write_all(b"\x05\0").await.unwrap();
            socket.read_exact(&mut [0; 18]).await.unwrap();
            socket.write_all(&ACCEPTED[..10]).await.unwrap();
            let mut stream = acceptor.accept(socket).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await;
        let parent = parent("socks5", port);
        let route = Route {
            parent: Some(&parent),
            ..https(ORIGIN, 443)
        };
        let mut stream = setup.dial(&route).await.unwrap();
        assert_eq!(read_some(&mut stream).await.unwrap(), b"hello");
    });
}

// ---- tunnels -----------------------------------------------------------------------------------------------------

#[test]
fn a_tunnel_relays_between_plain_and_tls_and_passes_half_closes_on() {
    on_worker(async {
        let ca = Ca::new();
        let setup = Setup::new(&ca);
        // More than enough for splice to take over, if it could.
        let upload: Vec<u8> = (0..1_500_000_u32).map(|at| (at >> 5) as u8).collect();
        let expected = upload.clone();
        let received = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&received);
        let (port, _) = origin(ca.acceptor(&[ORIGIN]), async move |mut stream| {
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&request).await.unwrap();
            stream.shutdown().await.unwrap();
            *seen.borrow_mut() = request;
        })
        .await;
        let upstream = setup.dial(&https(ORIGIN, port)).await.unwrap();
        let (client_port, client) = peer(async move |mut socket| {
            socket.write_all(&upload).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut response = Vec::new();
            socket.read_to_end(&mut response).await.unwrap();
            response
        })
        .await;
        let client_socket = TcpStream::connect(("127.0.0.1", client_port))
            .await
            .unwrap();
        let relayed = tunnel::relay(
            TunnelEnd {
                transport: Transport::Plain(client_socket),
                received: Vec::new(),
                read_len: 1024 * 1024,
            },
            TunnelEnd {
                transport: upstream.into_parts().0,
                received: Vec::new(),
                read_len: 1024 * 1024,
            },
            &setup.deadlines,
            tunnel::TunnelLimits {
                idle: STALL,
                half_closed: STALL,
            },
            None,
            &crate::in_flight::Moved::default(),
        )
        .await;
        assert!(matches!(relayed.end, TunnelEndReason::Closed));
        let len = expected.len() as u64;
        assert_eq!((relayed.to_upstream, relayed.to_client), (len, len));
        assert!(*received.borrow() == expected);
        assert!(client.await.unwrap() == expected);
    });
}
