//! An origin that speaks TLS, and the CA that signs its certificate.
//!
//! It answers every request with the same bytes and records the requests. A client that does not trust it is not an
//! error: the test sees that no request arrived.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::wire::{Message, Role, parse};
use super::{HANG, Scratch};

/// Signs certificates.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    scratch: Scratch,
}

impl Ca {
    /// A new CA, which nobody trusts yet.
    pub(crate) fn named(name: &str) -> Ca {
        let mut params = CertificateParams::new([]).expect("no name is no bad name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        Ca {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a key can sign itself"),
            scratch: Scratch::new(),
        }
    }

    /// A file for `--ca-file`.
    pub(crate) fn file(&self) -> PathBuf {
        self.scratch.write("ca.pem", self.issuer.pem())
    }

    /// An origin with a certificate for `names`, which answers every request with `response`.
    pub(crate) fn origin(&self, names: &[&str], response: &str) -> TlsOrigin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let config = self.config(names);
        let requests = Arc::<Mutex<Vec<Message>>>::default();
        let acceptor = listener.try_clone().expect("a socket can be cloned");
        let (recorded, response) = (requests.clone(), response.to_owned());
        thread::spawn(move || {
            while let Ok((socket, _)) = acceptor.accept() {
                let (config, recorded, response) =
                    (config.clone(), recorded.clone(), response.clone());
                thread::spawn(move || serve(socket, config, &recorded, &response));
            }
        });
        TlsOrigin {
            address,
            listener,
            requests,
        }
    }

    fn config(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("there is randomness");
        let leaf = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("the names can be in a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = key
            .serialize_der()
            .try_into()
            .expect("rcgen writes keys that rustls reads");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }
}

/// A server that speaks TLS; ends when dropped.
pub(crate) struct TlsOrigin {
    address: SocketAddr,
    listener: TcpListener,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl TlsOrigin {
    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The received requests.
    pub(crate) fn requests(&self) -> Vec<Message> {
        lock(&self.requests).clone()
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        drop(SockRef::from(&self.listener).shutdown(Shutdown::Both));
    }
}

fn lock(requests: &Mutex<Vec<Message>>) -> MutexGuard<'_, Vec<Message>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection until the client ends it.
fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    requests: &Mutex<Vec<Message>>,
    response: &str,
) -> Option<()> {
    socket.set_read_timeout(Some(HANG)).ok()?;
    let session = ServerConnection::new(config).ok()?;
    let mut stream = StreamOwned::new(session, socket);
    let mut received = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let len = stream.read(&mut buffer).ok().filter(|&len| len > 0)?;
        received.extend_from_slice(&buffer[..len]);
        while let Some(request) =
            parse(&received, Role::Request, false).filter(|request| request.complete)
        {
            received.drain(..request.len);
            lock(requests).push(request);
            stream.write_all(response.as_bytes()).ok()?;
        }
    }
}
