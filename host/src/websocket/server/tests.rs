//! The server side, tested with clients that are written frame by frame, over loopback sockets.

use std::future::poll_fn;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use proxy_websocket::apply_mask;

use super::super::frame::write_head;
use super::*;
use crate::stream::MessageStream;
use crate::transport::Transport;

const MAX_LEN: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

/// Runs a future as a worker does.
fn on_worker(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime")
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(20), future)
                .await
                .expect("the test to end");
        });
}

/// The proxy's side.
struct Server {
    stream: MessageStream,
    socket: ServerSocket,
}

impl Server {
    async fn receive(&mut self) -> ReceivedMessage {
        let (mut reader, mut writer) = self.stream.split();
        poll_fn(|cx| self.socket.poll_receive(&mut reader, &mut writer, cx)).await
    }

    async fn send(&mut self, kind: Kind, data: &[u8]) -> Result<(), SendError> {
        let mut writer = self.stream.writer();
        poll_fn(|cx| self.socket.poll_send(kind, data, &mut writer, cx)).await
    }

    async fn close(&mut self, code: u16) {
        let (mut reader, mut writer) = self.stream.split();
        self.socket.close(code, &mut reader, &mut writer).await;
    }

    /// Echoes every message, then closes; returns how the messages ended.
    async fn echo(mut self) -> Option<Vec<u8>> {
        loop {
            match self.receive().await {
                ReceivedMessage::Data { kind, data } => match self.send(kind, &data).await {
                    Ok(()) => {}
                    Err(not_sent) => assert_eq!(not_sent, SendError::Closed),
                },
                ReceivedMessage::Closed(data) => {
                    self.close(1000).await;
                    return data;
                }
            }
        }
    }
}

struct Client {
    socket: TcpStream,
    assembly: Assembly,
    received: Vec<u8>,
}

impl Client {
    async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, kind: Kind, data: &[u8]) {
        self.write(&masked(0x80 | kind.number(), data)).await;
    }

    /// The next message; `None` at the end of the connection.
    async fn next(&mut self) -> Option<(Kind, Vec<u8>)> {
        loop {
            let mut rest = &self.received[..];
            let message = self.assembly.next(&mut rest).expect("a server's frames");
            let taken = self.received.len() - rest.len();
            self.received.drain(..taken);
            if let Some(Message { kind, data }) = message {
                return Some((kind, data));
            }
            if self.socket.read_buf(&mut self.received).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn expect(&mut self, kind: Kind, data: impl AsRef<[u8]>) {
        let (seen, said) = self.next().await.expect("a message");
        assert_eq!(seen, kind);
        assert!(said == data.as_ref(), "{} bytes", said.len());
    }

    /// Expects a Close with this code, and the end of the connection.
    async fn expect_closed(&mut self, code: u16) {
        self.expect(Kind::Close, code.to_be_bytes()).await;
        assert_eq!(self.next().await, None);
    }
}

/// A masked frame with this first byte.
fn masked(first: u8, data: &[u8]) -> Vec<u8> {
    let mask = *b"\x12\xf4\x00\x9a";
    let mut frame = Vec::new();
    write_head(Kind::Binary, Some(mask), data.len(), &mut frame);
    frame[0] = first;
    let start = frame.len();
    frame.extend_from_slice(data);
    apply_mask(&mut frame[start..], mask, 0);
    frame
}

async fn connect(idle: Duration) -> (Client, Server) {
    let deadlines = Deadlines::new();
    let ticker = Rc::clone(&deadlines);
    tokio::task::spawn_local(async move { ticker.run(|| ()).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap().0);
    // Small buffers, so that little is in transit.
    let (from, to) = (SockRef::from(&accepted), SockRef::from(&connected));
    from.set_send_buffer_size(1 << 16).unwrap();
    to.set_recv_buffer_size(1 << 16).unwrap();
    let transport = Transport::Plain(accepted);
    let stream = MessageStream::new(transport, &deadlines, 1 << 17);
    let max_len = MAX_LEN;
    let socket = ServerSocket::new(MessageLimits { idle, max_len }, &deadlines);
    let client = Client {
        socket: connected,
        assembly: Assembly::new(Side::Upstream.sender(), u64::MAX),
        received: Vec::new(),
    };
    (client, Server { stream, socket })
}

/// Runs an echo server and `client`; returns how the messages ended.
fn with_echo<C: Future<Output = ()>>(client: impl FnOnce(Client) -> C, end: Option<&[u8]>) {
    on_worker(async {
        let (peer, server) = connect(LONG).await;
        let (ended, ()) = tokio::join!(server.echo(), client(peer));
        assert_eq!(ended.as_deref(), end);
    });
}

/// Asserts that these bytes cause a Close with this code, and nothing more.
#[track_caller]
fn assert_refused(bytes: &[u8], code: u16) {
    let behind = masked(0x81, b"behind");
    let bytes = [&masked(0x81, b"before"), bytes, &behind[..]].concat();
    with_echo(
        async |mut client: Client| {
            client.write(&bytes).await;
            client.expect(Kind::Text, "before").await;
            client.expect_closed(code).await;
        },
        None,
    );
}

#[test]
fn messages_are_echoed_regardless_of_fragmentation() {
    let goodbye = b"\x0f\xa0reason";
    with_echo(
        async |mut client: Client| {
            client.send(Kind::Text, "grüße".as_bytes()).await;
            client.expect(Kind::Text, "grüße").await;
            client.write(&masked(0x02, b"first ")).await;
            client.send(Kind::Ping, b"between").await;
            client.write(&masked(0x00, b"second ")).await;
            client.send(Kind::Pong, b"unasked").await;
            client.write(&masked(0x80, b"third")).await;
            client.expect(Kind::Pong, "between").await;
            client.expect(Kind::Binary, "first second third").await;
            client.send(Kind::Text, b"").await;
            client.expect(Kind::Text, "").await;
            client.send(Kind::Close, goodbye).await;
            client.expect_closed(4000).await;
        },
        Some(goodbye),
    );
}

#[test]
fn frames_are_assembled_byte_by_byte() {
    with_echo(
        async |mut client: Client| {
            client.socket.set_nodelay(true).unwrap();
            for &byte in &masked(0x81, &[b'x'; 200]) {
                client.write(&[byte]).await;
                tokio::task::yield_now().await;
            }
            client.expect(Kind::Text, [b'x'; 200]).await;
            client.send(Kind::Close, b"\x03\xe8").await;
            client.expect_closed(1000).await;
        },
        Some(b"\x03\xe8"),
    );
}

#[test]
fn a_close_without_a_code_is_answered_with_none() {
    with_echo(
        async |mut client: Client| {
            client.send(Kind::Close, b"").await;
            client.expect(Kind::Close, b"").await;
            assert_eq!(client.next().await, None);
        },
        Some(b""),
    );
}

#[test]
fn protocol_errors_close_with_their_code() {
    assert_refused(b"\x81\x01x", 1002);
    assert_refused(&masked(0xc1, b"x"), 1002);
    assert_refused(&masked(0x83, b"x"), 1002);
    assert_refused(&masked(0x80, b"x"), 1002);
    assert_refused(&masked(0x09, b"x"), 1002);
    assert_refused(&masked(0x88, b"\x03"), 1002);
    assert_refused(&masked(0x88, b"\x03\xed"), 1002);
    assert_refused(&masked(0x88, b"\x03\xe8\xff"), 1007);
    assert_refused(&masked(0x81, b"\xff"), 1007);
    assert_refused(&masked(0x82, &vec![0; MAX_LEN as usize + 1]), 1009);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    with_echo(
        async |mut client: Client| {
            client.send(Kind::Text, b"last words").await;
            client.socket.shutdown().await.unwrap();
            client.expect(Kind::Text, "last words").await;
            client.expect_closed(1000).await;
        },
        None,
    );
}

#[test]
fn long_messages_pass_both_ways_at_once() {
    let long = vec![b'l'; MAX_LEN as usize];
    with_echo(
        async |client: Client| {
            let (mut from, mut to) = client.socket.into_split();
            let frames = [masked(0x81, &long).repeat(8), masked(0x88, &[])].concat();
            let read = async {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes).await.unwrap();
                bytes
            };
            let (written, bytes) = tokio::join!(to.write_all(&frames), read);
            written.unwrap();
            assert_eq!(bytes.len(), 8 * (long.len() + 10) + 2);
            assert!(bytes.ends_with(b"\x88\x00"));
        },
        Some(b""),
    );
}

#[test]
fn pings_of_a_client_that_reads_nothing_are_answered_in_part() {
    on_worker(async {
        let (mut client, mut server) = connect(LONG).await;
        let pings = masked(0x89, &[7; 125]).repeat(1000);
        // Far more than fits on the way back.
        let sending = async {
            for _ in 0..40 {
                client.write(&pings).await;
            }
            client.send(Kind::Ping, b"last").await;
            client.send(Kind::Text, b"text").await;
        };
        let (received, ()) = tokio::join!(server.receive(), sending);
        let text = b"text".to_vec();
        assert_eq!(
            received,
            ReceivedMessage::Data {
                kind: Kind::Text,
                data: text
            }
        );
        let outgoing = &server.socket.outgoing;
        assert!(outgoing.is_full() && outgoing.queued() - outgoing.sent() < 65 * 1024);
        let reading = async {
            loop {
                match client.next().await {
                    Some((Kind::Pong, data)) if data == b"last" => break,
                    other => assert_eq!(other, Some((Kind::Pong, vec![7; 125]))),
                }
            }
            client.send(Kind::Close, b"").await;
        };
        let (received, ()) = tokio::join!(server.receive(), reading);
        assert_eq!(received, ReceivedMessage::Closed(Some(Vec::new())));
    });
}

#[test]
fn a_send_waits_for_a_client_that_does_not_read() {
    on_worker(async {
        let (mut client, mut server) = connect(LONG).await;
        let piece = vec![7; 1 << 18];
        let mut sent = 0;
        loop {
            let send = server.send(Kind::Binary, &piece);
            match futures_util::poll!(std::pin::pin!(send)) {
                Poll::Ready(result) => result.unwrap(),
                Poll::Pending => break,
            }
            sent += 1;
            assert!(sent < 1000);
        }
        let outgoing = &server.socket.outgoing;
        assert!(outgoing.queued() - outgoing.sent() < (64 << 10) + (1 << 18));
        let reading = async {
            for _ in 0..=sent {
                client.expect(Kind::Binary, &piece).await;
            }
            client.send(Kind::Close, b"").await;
            client.expect_closed(1000).await;
            drop(client);
        };
        let sending = async {
            server.send(Kind::Binary, &piece).await.unwrap();
            server.close(1000).await;
        };
        tokio::join!(sending, reading);
        assert!(server.socket.sent() > (sent as u64 + 1) << 18);
    });
}

#[test]
fn a_close_is_last_and_the_clients_close_is_received() {
    on_worker(async {
        let (mut client, mut server) = connect(LONG).await;
        assert_eq!(
            server.send(Kind::Text, b"\xff").await,
            Err(SendError::Invalid)
        );
        assert_eq!(
            server.send(Kind::Close, b"\x03\xed").await,
            Err(SendError::Invalid)
        );
        server.send(Kind::Close, b"\x0f\xa1over").await.unwrap();
        assert_eq!(
            server.send(Kind::Text, b"more").await,
            Err(SendError::Closed)
        );
        client.expect(Kind::Close, b"\x0f\xa1over").await;
        client.send(Kind::Text, b"under way").await;
        client.send(Kind::Close, b"\x0f\xa1").await;
        let (kind, data) = (Kind::Text, b"under way".to_vec());
        assert_eq!(server.receive().await, ReceivedMessage::Data { kind, data });
        for _ in 0..2 {
            let closed = ReceivedMessage::Closed(Some(b"\x0f\xa1".to_vec()));
            assert_eq!(server.receive().await, closed);
        }
        let ((), ()) = tokio::join!(server.close(1000), async {
            assert_eq!(client.next().await, None);
            drop(client);
        });
    });
}

#[test]
fn a_close_by_the_proxy_waits_for_the_clients() {
    on_worker(async {
        let (mut client, mut server) = connect(LONG).await;
        server.send(Kind::Text, b"bye").await.unwrap();
        let ((), ()) = tokio::join!(server.close(1011), async {
            client.expect(Kind::Text, "bye").await;
            client.expect(Kind::Close, 1011_u16.to_be_bytes()).await;
            client.send(Kind::Text, b"nobody hears this").await;
            client.send(Kind::Close, &1011_u16.to_be_bytes()).await;
            assert_eq!(client.next().await, None);
            drop(client);
        });
    });
}

#[test]
fn a_client_that_does_not_answer_a_close_is_dropped() {
    on_worker(async {
        let (client, mut server) = connect(LONG).await;
        server.close(1000).await;
        drop(client);
    });
}

#[test]
fn a_silent_client_is_pinged_once_and_then_closed() {
    on_worker(async {
        let (mut client, server) = connect(Duration::from_millis(600)).await;
        let (ended, ()) = tokio::join!(server.echo(), async {
            client.expect(Kind::Ping, "").await;
            client.expect_closed(1001).await;
            drop(client);
        });
        assert_eq!(ended, None);
    });
}

#[test]
fn a_client_that_answers_pings_is_kept() {
    on_worker(async {
        let (mut client, server) = connect(Duration::from_millis(600)).await;
        let (ended, ()) = tokio::join!(server.echo(), async {
            for _ in 0..3 {
                client.expect(Kind::Ping, "").await;
                client.send(Kind::Pong, b"").await;
            }
            client.send(Kind::Close, b"").await;
            client.expect(Kind::Close, "").await;
            drop(client);
        });
        assert_eq!(ended.as_deref(), Some(&b""[..]));
    });
}

#[test]
fn a_stalled_client_ends_its_sender() {
    on_worker(async {
        let (client, mut server) = connect(Duration::from_millis(400)).await;
        let piece = vec![7; 1 << 20];
        while server.send(Kind::Binary, &piece).await.is_ok() {}
        assert_eq!(server.receive().await, ReceivedMessage::Closed(None));
        drop(client);
        server.close(1000).await;
    });
}

#[test]
fn driving_answers_pings_and_wakes_the_receiver() {
    on_worker(async {
        let (mut client, mut server) = connect(LONG).await;
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let (mut reader, mut writer) = server.stream.split();
        let cx = &mut Context::from_waker(&waker);
        let received = server.socket.poll_receive(&mut reader, &mut writer, cx);
        assert!(received.is_pending());
        let mut socket = server.socket;
        let asking = async {
            client.send(Kind::Ping, b"there?").await;
            client.expect(Kind::Pong, "there?").await;
            client.send(Kind::Text, b"text").await;
        };
        let driving = poll_fn(|cx| {
            socket.drive(&mut reader, &mut writer, cx);
            match woken.has_been() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        tokio::join!(driving, asking);
        let received = socket.poll_receive(&mut reader, &mut writer, cx);
        assert!(matches!(
            received,
            Poll::Ready(ReceivedMessage::Data { kind: Kind::Text, data }) if data == b"text"
        ));
    });
}

/// Whether the waker was called.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl Woken {
    fn has_been(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
