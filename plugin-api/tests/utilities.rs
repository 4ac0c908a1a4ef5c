//! The WebSocket client against servers over loopback: one of its own that sends any bytes, and tungstenite.
//!
//! All sockets have timeouts, so a test that would hang fails.
#![expect(
    clippy::unwrap_used,
    reason = "tests, with servers in functions of their own"
)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plugin_api::utilities::websocket::Opcode;
use plugin_api::utilities::{FrameError, WebsocketClient, WebsocketFrame};
use tungstenite::protocol::{Role, WebSocket, frame::CloseFrame, frame::coding::CloseCode};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server's end of a connection.
struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    /// The head of a request.
    fn request(&mut self) -> String {
        while !self.received.ends_with(b"\r\n\r\n") {
            assert!(self.receive(), "a whole request");
        }
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// Takes the handshake, and sends these bytes at once with the answer.
    fn open(&mut self, with: &[u8]) {
        let request = self.request();
        let key = field(&request, "Sec-WebSocket-Key");
        let accept = WebsocketFrame::key_to_accept(key);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.send(&[answer.as_bytes(), with].concat());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; none when the client has closed its direction of the connection.
    fn frame(&mut self) -> Option<WebsocketFrame> {
        loop {
            if let Some((frame, len)) = WebsocketFrame::parse(&self.received).unwrap() {
                self.received.drain(..len);
                assert!(frame.is_masked());
                return Some(frame);
            }
            if !self.receive() {
                assert_eq!(self.received, b"");
                return None;
            }
        }
    }

    fn receive(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let len = self.stream.read(&mut bytes).unwrap();
        self.received.extend(&bytes[..len]);
        len > 0
    }
}

fn field<'h>(head: &'h str, name: &str) -> &'h str {
    let value = |line: &'h str| line.strip_prefix(name)?.strip_prefix(": ");
    head.lines().find_map(value).expect("the field")
}

/// What a frame says, without its mask.
fn plain(frame: Option<WebsocketFrame>) -> Option<WebsocketFrame> {
    frame.map(|frame| WebsocketFrame {
        mask: None,
        ..frame
    })
}

/// A server for one connection, and the URL that leads to it.
fn server<T: Send + 'static>(
    work: impl FnOnce(Peer) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/chat?x", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let received = Vec::new();
        work(Peer { stream, received })
    });
    (url, server)
}

fn connect(url: &str) -> WebsocketClient {
    let client = WebsocketClient::connect(url).unwrap();
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    client.stream().set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

fn frame_error(error: &io::Error) -> Option<FrameError> {
    error.get_ref()?.downcast_ref().copied()
}

#[test]
fn works_with_another_implementation() {
    let (url, server) = server(|mut peer| {
        peer.open(b"");
        let mut socket = WebSocket::from_raw_socket(peer.stream, Role::Server, None);
        loop {
            match socket.read().unwrap() {
                message if message.is_close() => break,
                message if message.is_text() && message.to_text().unwrap() == "leave" => {
                    let code = CloseCode::from(4001);
                    let reason = "as you wish".into();
                    socket.close(Some(CloseFrame { code, reason })).unwrap();
                }
                message if message.is_ping() => socket.flush().unwrap(),
                message => socket.send(message).unwrap(),
            }
        }
    });
    let mut client = connect(&url);
    let mut expected: Vec<_> = [0, 125, 126, 65535, 65536, 1_000_000]
        .map(|len| WebsocketFrame::binary(vec![0xa5; len]))
        .into();
    expected.push(WebsocketFrame::text("grüße"));
    for frame in &expected {
        client.send(frame).unwrap();
        assert_eq!(client.receive().unwrap().as_ref(), Some(frame));
    }
    client.send(&WebsocketFrame::ping("there?")).unwrap();
    let pong = client.receive().unwrap();
    assert_eq!(pong, Some(WebsocketFrame::pong("there?")));
    client
        .send(&WebsocketFrame::text("in ").fragment())
        .unwrap();
    client.send(&WebsocketFrame::continuation("two")).unwrap();
    let joined = client.receive().unwrap();
    assert_eq!(joined, Some(WebsocketFrame::text("in two")));
    client.send_text("leave").unwrap();
    assert_eq!(client.receive().unwrap(), None);
    let close = client.closed_with().unwrap();
    assert_eq!(close.close_code(), Some(4001));
    assert_eq!(close.close_reason(), Some("as you wish"));
    assert!(client.send_text("late").is_err());
    server.join().unwrap();
}

#[test]
fn requests_the_url_with_the_headers() {
    let (url, server) = server(|mut peer| peer.request());
    let headers = [
        ("Authorization", "Bearer x"),
        ("Origin", "http://a.example"),
    ];
    let error = WebsocketClient::connect_with(&url, &headers, PATIENCE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "WebSocket handshake failed: the server closed the connection without a response"
    );
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /chat?x HTTP/1.1\r\n"));
    assert!(url.contains(field(&request, "Host")));
    assert_eq!(field(&request, "Authorization"), "Bearer x");
    assert_eq!(field(&request, "Origin"), "http://a.example");
}

#[test]
fn an_invalid_response_is_reported() {
    let too_long = format!("HTTP/1.1 101 OK\r\nA: {}", "x".repeat(20_000));
    for (answer, expected) in [
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "WebSocket handshake failed: the server answered 403 Forbidden instead of 101",
        ),
        (
            "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "WebSocket handshake failed: Sec-WebSocket-Accept in the response does not match the key",
        ),
        (
            "HTTP/1.1 101 Half",
            "WebSocket handshake failed: the server closed the connection without a response",
        ),
        (
            &too_long,
            "WebSocket handshake failed: the response of the server is too long",
        ),
    ] {
        let answer = answer.to_owned();
        let (url, server) = server(move |mut peer| {
            peer.request();
            peer.send(answer.as_bytes());
        });
        let error = WebsocketClient::connect(&url).unwrap_err();
        assert_eq!(error.to_string(), expected);
        server.join().unwrap();
    }
}

#[test]
fn a_silent_server_times_out() {
    // Until the client goes.
    let (url, server) = server(|mut peer| while peer.receive() {});
    let limit = Duration::from_millis(50);
    let error = WebsocketClient::connect_with(&url, &[], limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    server.join().unwrap();
}

#[test]
fn pings_are_answered_between_the_fragments_of_a_message() {
    let (url, server) = server(|mut peer| {
        // All of it comes with the answer to the handshake.
        let frames = [
            WebsocketFrame::text("one").fragment(),
            WebsocketFrame::ping("1"),
            WebsocketFrame::continuation(" two").fragment(),
            WebsocketFrame::ping(""),
            WebsocketFrame::continuation(""),
            WebsocketFrame::text(""),
            WebsocketFrame::close(1000, "bye"),
        ];
        peer.open(&frames.map(|frame| frame.build()).concat());
        [(); 4].map(|()| plain(peer.frame()))
    });
    let mut client = connect(&url);
    let mut messages = Vec::new();
    client
        .run(|_, message| {
            messages.push(message);
            Ok(())
        })
        .unwrap();
    assert_eq!(
        messages,
        [WebsocketFrame::text("one two"), WebsocketFrame::text("")]
    );
    let expected = [
        Some(WebsocketFrame::pong("1")),
        Some(WebsocketFrame::pong("")),
        Some(WebsocketFrame::close(1000, "bye")),
        None,
    ];
    assert_eq!(server.join().unwrap(), expected);
}

#[test]
fn messages_before_the_servers_close_are_received() {
    let (url, server) = server(|mut peer| {
        peer.open(&WebsocketFrame::text("first").build());
        let close = plain(peer.frame());
        let rest = [
            WebsocketFrame::ping("not answered"),
            WebsocketFrame::text("last"),
            WebsocketFrame::close(1000, ""),
        ];
        peer.send(&rest.map(|frame| frame.build()).concat());
        (close, peer.frame())
    });
    let mut client = connect(&url);
    let mut texts = Vec::new();
    client
        .run(|client, message| {
            texts.push(message.as_text().map(str::to_owned));
            client.close(4000, "enough")?;
            client.close(4000, "twice")
        })
        .unwrap();
    assert_eq!(texts, [Some("first".to_owned()), Some("last".to_owned())]);
    assert_eq!(client.receive().unwrap(), None);
    let (close, end) = server.join().unwrap();
    assert_eq!(close, Some(WebsocketFrame::close(4000, "enough")));
    assert_eq!(end, None);
}

#[test]
fn a_protocol_error_is_answered_with_its_code() {
    for (bytes, expected) in [
        (&b"\x81\x81maskx"[..], FrameError::Masked),
        (b"\xc1\x00", FrameError::Reserved),
        (b"\x80\x00", FrameError::Continuation),
        (b"\x81\x01\xff", FrameError::NotUtf8),
        (b"\x82\x7e\x03\xe9", FrameError::TooLong),
    ] {
        let (url, server) = server(move |mut peer| {
            peer.open(bytes);
            (plain(peer.frame()), peer.frame())
        });
        let mut client = connect(&url);
        client.set_max_message_len(1000);
        let error = client.receive().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(frame_error(&error), Some(expected));
        assert_eq!(
            client.receive().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        let close = WebsocketFrame::close(expected.close_code(), "");
        assert_eq!(server.join().unwrap(), (Some(close), None));
    }
}

#[test]
fn a_disconnect_without_a_close_is_an_error() {
    let (url, server) = server(|mut peer| peer.open(b"\x81\x05hel"));
    let mut client = connect(&url);
    let error = client.receive().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(
        error.to_string(),
        "the server closed the connection without a Close frame"
    );
    server.join().unwrap();
}

#[test]
fn receiving_can_be_retried_after_a_timeout() {
    let (url, server) = server(|mut peer| {
        peer.open(b"\x81\x05hel");
        let go_on = plain(peer.frame());
        peer.send(b"lo");
        go_on
    });
    let mut client = connect(&url);
    let short = Duration::from_millis(20);
    client.stream().set_read_timeout(Some(short)).unwrap();
    let error = client.receive().unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_text("go on").unwrap();
    assert_eq!(
        client.receive().unwrap(),
        Some(WebsocketFrame::text("hello"))
    );
    assert_eq!(server.join().unwrap(), Some(WebsocketFrame::text("go on")));
}

#[test]
fn invalid_frames_are_not_sent() {
    let (url, server) = server(|mut peer| {
        peer.open(b"");
        [(); 3].map(|()| plain(peer.frame()))
    });
    let mut client = connect(&url);
    let mut refuses = |frame: WebsocketFrame, expected| {
        let error = client.send(&frame).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(frame_error(&error), Some(expected));
    };
    refuses(WebsocketFrame::continuation(""), FrameError::Continuation);
    refuses(WebsocketFrame::ping([0; 126]), FrameError::ControlTooLong);
    refuses(
        WebsocketFrame::new(Opcode::Text, b"\xff"),
        FrameError::NotUtf8,
    );
    let error = client.close(1005, "").unwrap_err();
    assert_eq!(frame_error(&error), Some(FrameError::CloseCode));
    let begun = WebsocketFrame::text("begun").fragment();
    client.send(&begun).unwrap();
    let error = client.send_text("another").unwrap_err();
    assert_eq!(frame_error(&error), Some(FrameError::Interleaved));
    client.send(&WebsocketFrame::continuation("")).unwrap();
    drop(client);
    let expected = [Some(begun), Some(WebsocketFrame::continuation("")), None];
    assert_eq!(server.join().unwrap(), expected);
}

#[test]
fn a_mask_is_new_for_every_frame() {
    let (url, server) = server(|mut peer| {
        peer.open(b"");
        [(); 3].map(|()| peer.frame().unwrap().mask)
    });
    let mut client = connect(&url);
    for _ in 0..3 {
        let own = WebsocketFrame::text("same").masked_with([0; 4]);
        client.send(&own).unwrap();
    }
    let masks = server.join().unwrap();
    // Three of a kind do not happen by chance.
    assert!(masks[0] != masks[1] || masks[1] != masks[2]);
}
