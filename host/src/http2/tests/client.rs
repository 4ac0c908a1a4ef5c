//! Connections to upstreams.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::client::{Client, ClientOptions};
use super::{Stream, collect, on_worker, sockets, turn};
use crate::http1::Scheme;
use crate::transport::{ChannelError, Transport, Unprocessed};

const OPTIONS: ClientOptions = ClientOptions {
    scheme: Scheme::Https,
    max_head_len: 16 * 1024,
};

pub(super) type Arrived = (Request<RecvStream>, SendResponse<Bytes>);

/// What a test tells its upstream's connection to do.
enum Order {
    SayGoodbye,
    BreakOff,
}

pub(super) struct Upstream {
    requests: mpsc::UnboundedReceiver<Arrived>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Upstream {
    pub(super) async fn next(&mut self) -> Arrived {
        self.requests.recv().await.expect("a request")
    }
}

pub(super) async fn connect_with(builder: Builder) -> (Client, Upstream) {
    let (client, accepted) = sockets().await;
    let (sender, requests) = mpsc::unbounded_channel();
    let (orders, mut ordered) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let mut connection: Connection<TcpStream, Bytes> =
            builder.handshake(accepted).await.unwrap();
        loop {
            tokio::select! {
                arrived = connection.accept() => match arrived {
                    Some(Ok(arrived)) => drop(sender.send(arrived)),
                    _ => return,
                },
                Some(order) = ordered.recv() => match order {
                    Order::SayGoodbye => connection.graceful_shutdown(),
                    Order::BreakOff => return,
                },
            }
        }
    });
    let client = Client::start(Transport::Plain(client), OPTIONS)
        .await
        .unwrap();
    (client, Upstream { requests, orders })
}

async fn connect() -> (Client, Upstream) {
    connect_with(Builder::new()).await
}

pub(super) fn response(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: o.example\r\nX-A: B\r\n\r\n";

#[test]
fn sends_a_request_and_reads_the_response() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        assert!(client.can_open() && client.is_idle_since().is_some());
        let stream = Stream::new(client.open());
        assert_eq!((client.open_streams(), client.is_idle_since()), (1, None));
        stream.write(GET).await;
        let (request, mut respond) = upstream.next().await;
        assert_eq!(request.uri(), "https://o.example/a?b");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["x-a"], "B");
        assert!(request.body().is_end_stream());
        let mut head = response(200);
        head.headers_mut().insert("content-length", 5.into());
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(
            stream.read_until("hello").await,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        );
        assert_eq!(stream.read().await.unwrap(), b"");
        drop(stream);
        assert!(client.can_open() && client.is_idle_since().is_some());
    });
}

#[test]
fn content_is_sent_by_length_and_in_chunks() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream
            .write("POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\n\r\nhel")
            .await;
        let (request, _respond) = upstream.next().await;
        assert_eq!(request.headers()["content-length"], "5");
        stream.write("lo").await;
        let (content, _) = collect(request.into_body()).await.unwrap();
        assert_eq!(content, b"hello");

        let stream = Stream::new(client.open());
        let text = b"POST / HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n";
        for byte in text {
            stream.write([*byte]).await;
        }
        let (request, _respond) = upstream.next().await;
        assert!(request.headers().is_empty());
        let (content, trailers) = collect(request.into_body()).await.unwrap();
        assert_eq!(content, b"hello");
        assert_eq!(trailers.unwrap()["x-sum"], "1");
    });
}

#[test]
fn reads_interim_responses_chunks_and_trailers() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        respond.send_informational(response(100)).unwrap();
        assert_eq!(stream.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        respond.send_informational(response(103)).unwrap();
        let mut body = respond.send_response(response(200), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert_eq!(
            stream.read_until("x-sum: 1\r\n\r\n").await,
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
        );
        assert_eq!(stream.read().await.unwrap(), b"");
    });
}

#[test]
fn responses_without_content_are_marked_so() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        for (method, status, text) in [
            ("HEAD", 200, "HTTP/1.1 200 OK\r\n\r\n"),
            ("GET", 204, "HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", 304, "HTTP/1.1 304 Not Modified\r\n\r\n"),
            (
                "GET",
                404,
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            ),
        ] {
            let stream = Stream::new(client.open());
            stream
                .write(format!("{method} / HTTP/1.1\r\nHost: o\r\n\r\n"))
                .await;
            let (_request, mut respond) = upstream.next().await;
            respond.send_response(response(status), true).unwrap();
            assert_eq!(stream.read_head().await, text);
            assert_eq!(stream.read().await.unwrap(), b"");
        }
    });
}

#[test]
fn a_websocket_becomes_a_stream() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.enable_connect_protocol();
        let (client, mut upstream) = connect_with(builder).await;
        assert!(client.supports_websocket());
        let stream = Stream::new(client.open());
        stream
            .write("GET /c HTTP/1.1\r\nHost: o\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            .await;
        let (request, mut respond) = upstream.next().await;
        assert_eq!(request.method(), "CONNECT");
        let protocol = request.extensions().get::<h2::ext::Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        let mut body = respond.send_response(response(200), false).unwrap();
        let head = stream.read_head().await;
        assert!(
            head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{head}"
        );
        assert!(
            head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{head}"
        );
        stream.write("ping").await;
        stream.shutdown().await;
        let (content, _) = collect(request.into_body()).await.unwrap();
        assert_eq!(content, b"ping");
        body.send_data(Bytes::from_static(b"pong"), true).unwrap();
        assert_eq!(stream.read_exactly(4).await, b"pong");
        assert_eq!(stream.read().await.unwrap(), b"");

        let (plain, mut upstream) = connect().await;
        assert!(!plain.supports_websocket());
        let stream = Stream::new(plain.open());
        stream.write("GET /c HTTP/1.1\r\nHost: o\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n").await;
        assert_eq!(upstream.next().await.0.method(), "GET");
    });
}

#[test]
fn a_refused_request_counts_as_unprocessed() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        for (reason, expected) in [
            (Reason::REFUSED_STREAM, Some(Unprocessed::Refused)),
            (Reason::HTTP_1_1_REQUIRED, Some(Unprocessed::Http1Required)),
            (Reason::INTERNAL_ERROR, None),
        ] {
            let stream = Stream::new(client.open());
            stream.write(GET).await;
            let (_request, mut respond) = upstream.next().await;
            respond.send_reset(reason);
            // A further read returns the same error.
            for error in [stream.read_error().await, stream.read_error().await] {
                match expected {
                    Some(expected) => assert!(
                        matches!(error, ChannelError::Unprocessed(why, _) if why == expected),
                        "{reason}"
                    ),
                    None => assert!(matches!(error, ChannelError::Reset(_)), "{reason}"),
                }
            }
        }
    });
}

#[test]
fn a_truncated_response_is_an_error() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        let mut body = respond.send_response(response(200), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        stream.read_until("abc").await;
        body.send_reset(Reason::NO_ERROR);
        stream.reset().await;
        assert!(matches!(stream.read_error().await, ChannelError::Reset(_)));

        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, _respond) = upstream.next().await;
        upstream.orders.send(Order::BreakOff).unwrap_or_default();
        stream.read_error().await;
        while client.can_open() {
            turn().await;
        }
        let late = Stream::new(client.open());
        assert!(late.try_write(GET.as_bytes()).await.is_err());
    });
}

#[test]
fn content_of_another_length_than_announced_is_an_error() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        for content in [&b"hell"[..], b"hello!"] {
            let stream = Stream::new(client.open());
            stream.write(GET).await;
            let (_request, mut respond) = upstream.next().await;
            let mut head = response(200);
            head.headers_mut().insert("content-length", 5.into());
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(content), true).unwrap();
            stream.read_head().await;
            stream.read_error().await;
        }
    });
}

#[test]
fn after_goaway_streams_finish_and_none_begins() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        upstream.orders.send(Order::SayGoodbye).unwrap_or_default();
        while client.can_open() {
            turn().await;
        }
        assert!(!client.is_alive());
        respond.send_response(response(204), true).unwrap();
        stream.read_head().await;
        let late = Stream::new(client.open());
        let error = late.try_write(GET.as_bytes()).await.unwrap_err();
        // Whoever writes content finds out by reading.
        for error in [error, late.read_error().await] {
            assert!(
                matches!(error, ChannelError::Unprocessed(Unprocessed::LeftOut, _)),
                "{error}"
            );
        }
    });
}

#[test]
fn a_dropped_stream_is_cancelled() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        drop(stream);
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), Reason::CANCEL);
        let unused = client.open();
        drop(unused);
        assert_eq!(client.open_streams(), 0);
    });
}

#[test]
fn the_end_of_a_response_may_come_late() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        let mut head = response(200);
        head.headers_mut().insert("content-length", 3.into());
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        stream.read_until("abc").await;
        drop(stream);
        let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), reset)
                .await
                .is_err()
        );
        assert_eq!(client.open_streams(), 1);
        body.send_data(Bytes::new(), true).unwrap();
        while client.open_streams() > 0 {
            turn().await;
        }
    });
}

#[test]
fn opens_no_more_streams_than_the_upstream_allows() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.max_concurrent_streams(2);
        let (client, _upstream) = connect_with(builder).await;
        let first = client.open();
        assert!(client.can_open());
        let _second = client.open();
        assert!(!client.can_open() && client.is_alive());
        drop(first);
        assert!(client.can_open());
    });
}

#[test]
fn a_retired_connection_only_finishes() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        client.retire();
        assert!(!client.can_open());
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        respond.send_response(response(204), true).unwrap();
        stream.read_head().await;
    });
}

#[test]
fn a_reader_gets_the_error_of_a_request_that_cannot_be_sent() {
    on_worker(async {
        let (client, _upstream) = connect().await;
        let stream = Stream::new(client.open());
        let reader = stream.clone();
        let read = async { reader.read_error().await };
        let write = async { stream.try_write(b"GET / HTTP/1.1\r\n\r\n").await };
        let (error, written) = tokio::join!(read, write);
        assert!(written.is_err());
        assert!(matches!(error, ChannelError::Io(error) if error.kind() == ErrorKind::InvalidData));
    });
}

#[test]
fn accepts_no_more_than_the_window_of_the_upstream() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.initial_window_size(10_000);
        let (client, mut upstream) = connect_with(builder).await;
        let stream = Stream::new(client.open());
        stream
            .write("POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 1000000\r\n\r\n")
            .await;
        let (request, _respond) = upstream.next().await;
        assert_eq!(stream.fill(&[7; 64 * 1024]).await, 10_000);
        let upload = async { stream.write(vec![7; 990_000]).await };
        let (content, ()) = tokio::join!(collect(request.into_body()), upload);
        assert_eq!(content.unwrap().0.len(), 1_000_000);
    });
}

#[test]
fn many_streams_share_a_connection() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let streams: Vec<_> = (0..100).map(|_| Stream::new(client.open())).collect();
        for (number, stream) in streams.iter().enumerate() {
            stream
                .write(format!("GET /{number} HTTP/1.1\r\nHost: o\r\n\r\n"))
                .await;
        }
        for _ in 0..100 {
            let (request, mut respond) = upstream.next().await;
            let path = request.uri().path()[1..].to_owned();
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data(Bytes::from(path.repeat(10_000) + "!"), true)
                .unwrap();
        }
        for (number, stream) in streams.iter().enumerate() {
            let text = stream.read_until("\r\n0\r\n\r\n").await;
            let content = text.matches(char::is_numeric).count();
            assert!(content >= number.to_string().len() * 10_000);
        }
    });
}

#[test]
fn the_connection_ends_with_its_last_handle() {
    on_worker(async {
        let (client, mut upstream) = connect().await;
        let stream = Stream::new(client.open());
        drop(client);
        stream.write(GET).await;
        let (_request, mut respond) = upstream.next().await;
        respond.send_response(response(204), true).unwrap();
        stream.read_head().await;
        drop((stream, respond));
        assert!(upstream.requests.recv().await.is_none());
    });
}

#[test]
fn an_upstream_that_floods_is_disconnected() {
    on_worker(async {
        let floods: [&[u8]; 4] = [
            // PING acknowledgements that nobody has asked for, and empty frames of an unknown type.
            b"\0\0\x08\x06\x01\0\0\0\x0012345678",
            b"\0\0\0\x77\0\0\0\0\0",
            // SETTINGS, and ALTSVC.
            b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\x02\x0a\0\0\0\0\0\0\0",
        ];
        for frame in floods {
            let (ours, mut upstream) = sockets().await;
            upstream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
            let client = Client::start(Transport::Plain(ours), OPTIONS)
                .await
                .unwrap();
            let stream = Stream::new(client.open());
            stream.write(GET.as_bytes()).await;
            let (mut reader, mut writer) = upstream.split();
            let many = frame.repeat(500);
            let mut received = Vec::new();
            let flood = async { while writer.write_all(&many).await.is_ok() {} };
            let listen = async {
                let _ = reader.read_to_end(&mut received).await;
            };
            tokio::join!(flood, listen);
            assert!(stream.read().await.is_err());
            assert!(!client.is_alive());
            // The error of a GOAWAY, if it was not lost in the reset.
            if let Some(at) = memchr::memmem::find(&received, b"\0\0\x08\x07\0") {
                assert_eq!(received[at + 16], 11);
            }
        }
    });
}
