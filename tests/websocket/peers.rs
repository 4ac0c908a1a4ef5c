//! Third-party peers: tungstenite on both sides, over TCP and over TLS.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, Utf8Bytes, WebSocket};

use super::{ASK, SWITCH, sockets};
use crate::support::{Client, HANG, Proxy, Scratch};

/// Serves one connection: echoes messages, answers Pings and Closes. Returns the messages received.
fn serve(mut stream: impl Read + Write) -> Vec<Message> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head comes");
        head.push(byte[0]);
    }
    stream.write_all(SWITCH.as_bytes()).expect("it is taken");
    stream.flush().expect("it is taken");
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let mut got = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                if message.is_text() || message.is_binary() {
                    socket.send(message.clone()).expect("it is taken");
                }
                got.push(message);
            }
            Err(Error::ConnectionClosed) => return got,
            Err(error) => panic!("the server's side broke: {error}"),
        }
    }
}

fn server(
    serve: impl FnOnce(TcpStream) -> Vec<Message> + Send + 'static,
) -> (u16, JoinHandle<Vec<Message>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the proxy connects");
        socket
            .set_read_timeout(Some(HANG))
            .expect("TCP has this option");
        serve(socket)
    });
    (port, server)
}

/// A client with an open WebSocket.
fn connect(proxy: &Proxy, host: &str) -> WebSocket<TcpStream> {
    let mut client: Client = proxy.client();
    client.send(format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{ASK}\r\n"
    ));
    assert_eq!(client.response().status(), 101);
    let socket = client.socket().try_clone().expect("a socket can be cloned");
    socket
        .set_read_timeout(Some(HANG))
        .expect("TCP has this option");
    WebSocket::from_partially_read(socket, client.rest().to_vec(), Role::Client, None)
}

/// Sends texts, bytes and Pings, reads the answers, and closes.
fn converse(client: &mut WebSocket<TcpStream>) {
    for len in [0, 1, 125, 126, 1000, 65535, 65536, 1 << 20] {
        client
            .send(Message::text("ä".repeat(len)))
            .expect("it is taken");
        assert!(client.read().expect("an answer") == Message::text("Ä".repeat(len)));
        client
            .send(Message::binary(vec![7; len]))
            .expect("it is taken");
        assert!(client.read().expect("an answer") == Message::binary(vec![7; len]));
    }
    client.send(Message::Ping("p".into())).expect("it is taken");
    assert_eq!(client.read().expect("a Pong"), Message::Pong("p".into()));
    close(client);
}

fn close(client: &mut WebSocket<TcpStream>) {
    let goodbye = CloseFrame {
        code: CloseCode::Library(4100),
        reason: Utf8Bytes::from_static("done"),
    };
    client.close(Some(goodbye.clone())).expect("it is taken");
    assert_eq!(
        client.read().expect("a Close"),
        Message::Close(Some(goodbye))
    );
    let end = client.read();
    assert!(matches!(end, Err(Error::ConnectionClosed)), "{end:?}");
}

#[test]
fn tungstenite_speaks_to_itself() {
    let (port, server) = server(serve);
    let proxy = sockets().start();
    let mut client = connect(&proxy, &format!("127.0.0.1:{port}"));
    converse(&mut client);
    let got = server.join().expect("the server ends in order");
    assert_eq!(got.len(), 18);
    assert!(matches!(&got[17], Message::Close(Some(close)) if close.reason == "done"));
}

#[test]
fn tungstenite_speaks_to_itself_over_tls() {
    let key = KeyPair::generate().expect("there is randomness");
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a key can sign itself");
    let scratch = Scratch::new();
    let trusted = scratch.write("server.pem", certificate.pem());
    let (chain, key) = (vec![certificate.der().clone()], key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions")
        .with_no_client_auth()
        .with_single_cert(
            chain,
            key.try_into().expect("rcgen writes what rustls reads"),
        )
        .expect("key and certificate belong together");
    let (port, server) = server(move |socket| {
        let session = ServerConnection::new(Arc::new(config)).expect("the configuration is whole");
        serve(StreamOwned::new(session, socket))
    });
    let proxy = sockets()
        .plugin("zoo", "Detour")
        .plugin_config("Detour.scheme=\"https\"")
        .args(["--ca-file".as_ref(), trusted.as_os_str()])
        .start();
    let mut client = connect(&proxy, &format!("localhost:{port}"));
    converse(&mut client);
    assert_eq!(server.join().expect("the server ends in order").len(), 18);
}

#[test]
fn ten_thousand_small_messages_pass_in_order() {
    const COUNT: usize = 10_000;
    let (port, server) = server(serve);
    let proxy = sockets().start();
    let mut client = connect(&proxy, &format!("127.0.0.1:{port}"));
    let socket = client
        .get_ref()
        .try_clone()
        .expect("a socket can be cloned");
    let sender = thread::spawn(move || {
        let mut client = WebSocket::from_raw_socket(socket, Role::Client, None);
        for number in 0..COUNT {
            client
                .write(Message::text(format!("n{number}")))
                .expect("it is taken");
        }
        client.flush().expect("it is taken");
    });
    for number in 0..COUNT {
        let answer = client.read().expect("an answer");
        assert_eq!(answer, Message::text(format!("N{number}")));
    }
    sender.join().expect("the sender ends");
    close(&mut client);
    assert_eq!(
        server.join().expect("the server ends in order").len(),
        COUNT + 1
    );
}
