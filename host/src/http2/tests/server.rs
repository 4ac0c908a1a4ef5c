//! Connections of clients.

use std::cell::Cell;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::limits::LINGER_ROOM;
use super::super::server::{Abuse, ConnectionEnd, RequestTargets, ServerOptions, serve};
use super::{Stream, collect, deadlines, on_worker, sockets, turn};
use crate::deadline::Deadlines;
use crate::http1::Scheme;
use crate::transport::{Channel, ChannelError, Transport};

pub(super) const OPTIONS: ServerOptions = ServerOptions {
    targets: RequestTargets::Absolute {
        default_scheme: Scheme::Http,
        answers_https: false,
    },
    max_concurrent_streams: 100,
    max_head_len: 16 * 1024,
    handshake_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
    stall_timeout: Duration::from_secs(60),
};

/// A served connection and what comes of it.
pub(super) struct Served {
    pub(super) streams: mpsc::UnboundedReceiver<Rc<dyn Channel>>,
    end: JoinHandle<ConnectionEnd>,
    is_draining: Rc<Cell<bool>>,
    pub(super) deadlines: Rc<Deadlines>,
}

impl Served {
    fn begin(transport: Transport, options: ServerOptions) -> Self {
        let (sender, streams) = mpsc::unbounded_channel();
        let is_draining = Rc::new(Cell::new(false));
        let deadlines = deadlines();
        let (draining, table) = (Rc::clone(&is_draining), Rc::clone(&deadlines));
        let end = tokio::task::spawn_local(async move {
            let on_stream = |channel| drop(sender.send(channel));
            serve(transport, &options, &table, || draining.get(), on_stream).await
        });
        Self {
            streams,
            end,
            is_draining,
            deadlines,
        }
    }

    pub(super) async fn next(&mut self) -> Stream {
        Stream::new(self.streams.recv().await.expect("a stream"))
    }
}

pub(super) async fn connect_with(
    builder: Builder,
    options: ServerOptions,
) -> (SendRequest<Bytes>, Served) {
    let (client, accepted) = sockets().await;
    let served = Served::begin(Transport::Plain(accepted), options);
    let (send, connection) = builder.handshake(client).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    (send, served)
}

pub(super) async fn connect() -> (SendRequest<Bytes>, Served) {
    connect_with(Builder::new(), OPTIONS).await
}

pub(super) fn asking(method: &str, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

fn get() -> Request<()> {
    asking("GET", "http://o.example/a")
}

async fn send_all(stream: &mut SendStream<Bytes>, content: &'static [u8], is_end: bool) {
    stream
        .send_data(Bytes::from_static(content), is_end)
        .unwrap();
}

#[test]
fn serves_a_request_without_content() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        assert_eq!(
            stream.read_head().await,
            "GET http://o.example/a HTTP/1.1\r\nhost: o.example\r\n\r\n"
        );
        stream
            .write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            .await;
        drop(stream);
        let response: Response<_> = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().len(), 1);
        let (content, trailers) = collect(response.into_body()).await.unwrap();
        assert_eq!((&content[..], trailers), (&b"hello"[..], None));
    });
}

#[test]
fn reads_content_by_length_and_in_chunks() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let mut request = asking("POST", "http://o/");
        request.headers_mut().insert("content-length", 8.into());
        let (_response, mut body) = client.send_request(request, false).unwrap();
        let stream = served.next().await;
        assert!(stream.read_head().await.contains("content-length: 8\r\n"));
        send_all(&mut body, b"some", false).await;
        assert_eq!(stream.read_exactly(4).await, b"some");
        send_all(&mut body, b"more", true).await;
        assert_eq!(stream.read_exactly(4).await, b"more");

        let (_response, mut body) = client
            .send_request(asking("POST", "http://o/"), false)
            .unwrap();
        let stream = served.next().await;
        assert!(
            stream
                .read_head()
                .await
                .contains("transfer-encoding: chunked\r\n")
        );
        send_all(&mut body, b"some", false).await;
        assert_eq!(stream.read_until("some").await, "4\r\nsome");
        send_all(&mut body, b"0123456789abcdef", false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert_eq!(
            stream.read_until("\r\n\r\n").await,
            "\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n"
        );
        stream.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    });
}

#[test]
fn reads_after_a_request_wait_until_the_client_resets() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (_response, mut body) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream.read_head().await;
        let silent = tokio::time::timeout(Duration::from_millis(50), stream.read());
        assert!(silent.await.is_err());
        assert!(stream.channel.is_quiet());
        body.send_reset(Reason::CANCEL);
        stream.reset().await;
        assert!(!stream.channel.is_quiet());
        let error = stream.read_error().await;
        assert_eq!(Error::from(error).kind(), ErrorKind::ConnectionReset);
        assert!(stream.try_write(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err());
    });
}

#[test]
fn sends_interim_responses_chunks_and_trailers() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (mut response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream.read_head().await;
        stream
            .write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n")
            .await;
        for status in [100, 103] {
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            assert_eq!(interim.unwrap().unwrap().status(), status);
        }
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n";
        for byte in text {
            stream.write([*byte]).await;
        }
        drop(stream);
        let (content, trailers) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(content, b"abc0123456789");
        assert_eq!(trailers.unwrap()["x-sum"], "7");

        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream.write(&text[..text.len() - 12]).await;
        stream.write("\r\n").await;
        let (content, trailers) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!((&content[..], trailers), (&b"abc0123456789"[..], None));
    });
}

#[test]
fn interim_responses_are_limited() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (mut response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        let hints = format!("HTTP/1.1 103 x\r\nLink: {}\r\n\r\n", "a".repeat(10_000));
        for _ in 0..100 {
            stream.write(&hints).await;
        }
        stream.write("HTTP/1.1 204 x\r\n\r\n").await;
        let mut interim = 0;
        while let Some(head) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            assert_eq!(head.unwrap().status(), 103);
            interim += 1;
        }
        assert_eq!(interim, 6);
        assert_eq!(response.await.unwrap().status(), 204);
    });
}

#[test]
fn responses_without_content_end_with_their_head() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        for (method, text, length) in [
            (
                "HEAD",
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                Some("9"),
            ),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
            (
                "GET",
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                Some("9"),
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                Some("0"),
            ),
        ] {
            let (response, _) = client
                .send_request(asking(method, "http://o/"), true)
                .unwrap();
            let stream = served.next().await;
            stream.write(text).await;
            drop(stream);
            let response = response.await.unwrap();
            assert!(response.body().is_end_stream(), "{text}");
            let found = response.headers().get("content-length");
            assert_eq!(found.map(|value| value.to_str().unwrap()), length, "{text}");
        }
    });
}

#[test]
fn a_body_until_close_ends_when_its_direction_is_closed() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream.write("HTTP/1.1 200 OK\r\n\r\nall").await;
        stream.shutdown().await;
        drop(stream);
        let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(content, b"all");
    });
}

#[test]
fn an_unfinished_response_is_reset() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil close",
        ] {
            let (response, _) = client.send_request(get(), true).unwrap();
            let stream = served.next().await;
            stream.write(text).await;
            turn().await;
            drop(stream);
            let error = match response.await {
                Ok(response) => collect(response.into_body()).await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{text}");
        }
    });
}

/// Begins a request with content, and answers it before the content comes.
async fn answered_early() -> (SendRequest<Bytes>, Served, SendStream<Bytes>) {
    let (mut client, mut served) = connect().await;
    let (response, body) = client
        .send_request(asking("POST", "http://o/"), false)
        .unwrap();
    let stream = served.next().await;
    stream
        .write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .await;
    drop(stream);
    let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!(content, b"no");
    (client, served, body)
}

/// Sends content as the windows allow, up to `len` bytes; how many were taken before the stream was reset.
async fn send_until_reset(body: &mut SendStream<Bytes>, len: usize) -> usize {
    let mut sent = 0;
    while sent < len {
        body.reserve_capacity(64 * 1024);
        match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let room = room.min(64 * 1024);
                body.send_data(Bytes::from(vec![b'x'; room]), false)
                    .unwrap();
                sent += room;
            }
            _ => break,
        }
    }
    sent
}

#[test]
fn a_client_with_an_early_response_may_keep_sending_until_the_connection_ends() {
    on_worker(async {
        let (client, served, mut body) = answered_early().await;
        // More than its windows let it send at once.
        assert!(send_until_reset(&mut body, 3 << 20).await >= 3 << 20);
        served.is_draining.set(true);
        served.deadlines.wake_all();
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), Reason::NO_ERROR);
        drop((client, body));
        assert!(matches!(served.end.await.unwrap(), ConnectionEnd::Closed));
    });
}

#[test]
fn a_client_that_ends_its_request_after_an_early_response_is_not_reset() {
    on_worker(async {
        let (mut client, mut served, mut body) = answered_early().await;
        send_all(&mut body, b"the rest", true).await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream
            .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
        drop(stream);
        assert_eq!(response.await.unwrap().status(), 200);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(
            body.poll_reset(&mut cx),
            Poll::Pending | Poll::Ready(Err(_))
        ));
    });
}

#[test]
fn discarding_after_an_early_response_is_limited() {
    on_worker(async {
        let (_client, _served, mut body) = answered_early().await;
        let sent = send_until_reset(&mut body, 2 * LINGER_ROOM).await;
        assert!(sent < 2 * LINGER_ROOM, "everything was taken");
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), Reason::NO_ERROR);
    });
}

#[test]
fn a_tunnel_carries_bytes_and_half_closes() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, mut body) = client
            .send_request(asking("CONNECT", "o:443"), false)
            .unwrap();
        let stream = served.next().await;
        assert_eq!(
            stream.read_head().await,
            "CONNECT o:443 HTTP/1.1\r\nhost: o:443\r\n\r\n"
        );
        send_all(&mut body, b"early", false).await;
        let held = tokio::time::timeout(Duration::from_millis(50), stream.read());
        assert!(held.await.is_err(), "bytes before the tunnel was agreed to");
        stream
            .write("HTTP/1.1 200 Connection established\r\n\r\nfirst")
            .await;
        assert_eq!(stream.read_exactly(5).await, b"early");
        send_all(&mut body, b"last", true).await;
        assert_eq!(stream.read_exactly(4).await, b"last");
        assert_eq!(stream.read().await.unwrap(), b"");
        stream.write("still").await;
        stream.shutdown().await;
        drop(stream);
        let response = response.await.unwrap();
        assert!(response.headers().is_empty());
        let (content, _) = collect(response.into_body()).await.unwrap();
        assert_eq!(content, b"firststill");
    });
}

#[test]
fn a_tunnel_may_be_half_closed_by_the_other_side_first() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, mut body) = client
            .send_request(asking("CONNECT", "o:443"), false)
            .unwrap();
        let stream = served.next().await;
        stream.read_head().await;
        stream.write("HTTP/1.1 200 OK\r\n\r\nall").await;
        stream.shutdown().await;
        let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(content, b"all");
        send_all(&mut body, b"answer", false).await;
        assert_eq!(stream.read_exactly(6).await, b"answer");
        send_all(&mut body, b"", true).await;
        assert_eq!(stream.read().await.unwrap(), b"");
    });
}

#[test]
fn a_broken_tunnel_is_reset_and_a_refused_one_answered() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, _body) = client
            .send_request(asking("CONNECT", "o:443"), false)
            .unwrap();
        let stream = served.next().await;
        stream.write("HTTP/1.1 200 OK\r\n\r\npart").await;
        turn().await;
        stream.channel.reset_on_close();
        drop(stream);
        let error = collect(response.await.unwrap().into_body())
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));

        let (response, _body) = client
            .send_request(asking("CONNECT", "o:443"), false)
            .unwrap();
        let stream = served.next().await;
        stream
            .write("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno")
            .await;
        drop(stream);
        let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(content, b"no");
    });
}

#[test]
fn a_websocket_looks_like_an_upgrade() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        // The client has to know that it may.
        while !client.is_extended_connect_protocol_enabled() {
            turn().await;
        }
        let mut request = asking("CONNECT", "http://o/chat");
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut body) = client.send_request(request, false).unwrap();
        let stream = served.next().await;
        let head = stream.read_head().await;
        let key = head.split("sec-websocket-key: ").nth(1).unwrap();
        let accept = super::super::websocket_key::accept(&key.as_bytes()[..24]);
        let accept = str::from_utf8(&accept).unwrap();
        stream
            .write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"))
            .await;
        send_all(&mut body, b"ping", true).await;
        assert_eq!(stream.read_exactly(4).await, b"ping");
        stream.write("pong").await;
        drop(stream);
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let (content, _) = collect(response.into_body()).await.unwrap();
        assert_eq!(content, b"pong");

        let mut request = asking("CONNECT", "http://o/chat");
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("other"));
        let (response, _body) = client.send_request(request, false).unwrap();
        assert_eq!(response.await.unwrap().status(), 501);
    });
}

#[test]
fn accepts_no_more_than_the_window_of_the_client() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.initial_window_size(10_000);
        let (mut client, mut served) = connect_with(builder, OPTIONS).await;
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            let (response, _) = client.send_request(get(), true).unwrap();
            let stream = served.next().await;
            stream.write(head).await;
            assert_eq!(stream.fill(&[7; 64 * 1024]).await, 10_000, "{head}");
            let mut response = response.await.unwrap();
            let data = response.body_mut().data().await.unwrap().unwrap();
            let _ = response
                .body_mut()
                .flow_control()
                .release_capacity(data.len());
            stream.write(vec![7; data.len()]).await;
        }
    });
}

#[test]
fn the_end_of_a_body_needs_no_window() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.initial_window_size(5);
        let (mut client, mut served) = connect_with(builder, OPTIONS).await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        stream
            .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for part in ["5\r\nhello", "\r\n0\r\n", "A: b\r\n\r\n"] {
            stream.write(part).await;
        }
        drop(stream);
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        assert!(body.data().await.is_none());
        assert!(body.trailers().await.unwrap().is_some());
    });
}

#[test]
fn a_client_sends_no_more_than_is_read() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (_response, mut body) = client
            .send_request(asking("POST", "http://o/"), false)
            .unwrap();
        let stream = served.next().await;
        let window = super::super::limits::STREAM_WINDOW as usize;
        body.send_data(Bytes::from(vec![7; 2 * window]), true)
            .unwrap();
        stream.read_head().await;
        let mut read = 0;
        while read < 2 * window {
            read += stream.read().await.unwrap().len();
        }
        // What a client sends on other streams is not held up by one that nobody reads.
        let (_response, mut unread) = client
            .send_request(asking("POST", "http://o/"), false)
            .unwrap();
        unread
            .send_data(Bytes::from(vec![7; 2 * window]), true)
            .unwrap();
        let unread = served.next().await;
        let (_response, mut other) = client
            .send_request(asking("POST", "http://o/"), false)
            .unwrap();
        other.send_data(Bytes::from_static(b"on"), true).unwrap();
        let other = served.next().await;
        other.read_until("2\r\non\r\n0\r\n\r\n").await;
        drop(unread);
    });
}

#[test]
fn a_head_that_is_too_long_is_answered() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let mut request = get();
        request
            .headers_mut()
            .insert("x", "y".repeat(17_000).parse().unwrap());
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        let (_response, _) = client.send_request(get(), true).unwrap();
        served.next().await.read_head().await;
    });
}

#[test]
fn malformed_requests_are_reset_and_others_continue() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        for (uri, name, value) in [
            ("http://a/", "host", "b"),
            ("http://u@a/", "x", "y"),
            ("http://a/", "x", " y"),
            ("http://a/", "x", "y\t"),
            ("http://a/", "content-length", "5"),
            ("http://a/", "content-length", "x"),
        ] {
            let mut request = asking("GET", uri);
            request.headers_mut().insert(name, value.parse().unwrap());
            let (response, _) = client.send_request(request, true).unwrap();
            let error = response.await.unwrap_err();
            assert_eq!(
                error.reason(),
                Some(Reason::PROTOCOL_ERROR),
                "{name}: {value}"
            );
        }
        let (_response, _) = client.send_request(get(), true).unwrap();
        served.next().await.read_head().await;
    });
}

#[test]
fn content_of_another_length_than_announced_is_an_error() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        for content in [&b"hell"[..], b"hello!"] {
            let mut request = asking("POST", "http://o/");
            request.headers_mut().insert("content-length", 5.into());
            let (_response, mut body) = client.send_request(request, false).unwrap();
            let stream = served.next().await;
            stream.read_head().await;
            send_all(&mut body, content, true).await;
            stream.read_error().await;
        }
    });
}

#[test]
fn a_draining_connection_finishes_its_streams() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        served.is_draining.set(true);
        served.deadlines.wake_all();
        let refused = std::future::poll_fn(|cx| client.poll_ready(cx));
        if refused.await.is_ok() {
            // The GOAWAY is still on its way.
            while std::future::poll_fn(|cx| client.poll_ready(cx))
                .await
                .is_ok()
            {
                turn().await;
            }
        }
        stream
            .write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend")
            .await;
        drop(stream);
        let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(content, b"end");
        assert!(matches!(served.end.await.unwrap(), ConnectionEnd::Closed));
    });
}

#[test]
fn a_draining_connection_without_streams_is_closed() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (response, _) = client.send_request(get(), true).unwrap();
        served.next().await.write("HTTP/1.1 204 x\r\n\r\n").await;
        response.await.unwrap();
        turn().await;
        served.is_draining.set(true);
        served.deadlines.wake_all();
        assert!(matches!(served.end.await.unwrap(), ConnectionEnd::Closed));
    });
}

#[test]
fn malformed_trailers_never_look_like_an_end() {
    on_worker(async {
        let (mut client, mut served) = connect().await;
        let (_response, mut body) = client
            .send_request(asking("POST", "http://o/"), false)
            .unwrap();
        let stream = served.next().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("good", "1".parse().unwrap());
        trailers.insert("x-sum", "1 ".parse().unwrap());
        send_all(&mut body, b"content", false).await;
        body.send_trailers(trailers).unwrap();
        assert!(
            stream
                .read_until("content")
                .await
                .ends_with("\r\n\r\n7\r\ncontent")
        );
        assert_eq!(stream.read().await.unwrap_or_default(), b"\r\n");
        let error = stream.read_error().await;
        assert!(matches!(error, ChannelError::Malformed(_)));
    });
}

#[test]
fn an_idle_connection_is_closed() {
    on_worker(async {
        let options = ServerOptions {
            idle_timeout: Duration::from_millis(100),
            ..OPTIONS
        };
        let (mut client, mut served) = connect_with(Builder::new(), options).await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        // Longer than an idle connection may live.
        let longer = served.deadlines.slot();
        longer.arm(3 * options.idle_timeout);
        assert!(longer.bound(std::future::pending::<()>()).await.is_none());
        stream.write("HTTP/1.1 204 x\r\n\r\n").await;
        drop(stream);
        assert_eq!(response.await.unwrap().status(), 204);
        let end = served.end.await.unwrap();
        assert!(matches!(end, ConnectionEnd::Idle), "{end:?}");
    });
}

/// A connection of which 4 KiB are read every 20 ms.
struct Slowly {
    socket: TcpStream,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl Slowly {
    /// Holds little in its socket, and reads nothing `at_first`.
    fn new(socket: TcpStream, at_first: Duration) -> Self {
        let shared = socket2::SockRef::from(&socket);
        shared.set_recv_buffer_size(64 * 1024).unwrap();
        Self {
            socket,
            pause: Box::pin(tokio::time::sleep(at_first)),
        }
    }
}

impl AsyncRead for Slowly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(self.pause.as_mut().poll(cx));
        let mut part = [0; 4096];
        let len = part.len().min(out.remaining());
        let mut part = ReadBuf::new(&mut part[..len]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part))?;
        out.put_slice(part.filled());
        self.pause = Box::pin(tokio::time::sleep(Duration::from_millis(20)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slowly {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A client that reads slowly.
async fn connect_slowly(
    options: ServerOptions,
    at_first: Duration,
) -> (SendRequest<Bytes>, Served) {
    let (client, accepted) = sockets().await;
    let served = Served::begin(Transport::Plain(accepted), options);
    let mut builder = Builder::new();
    builder
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    let (send, connection) = builder
        .handshake(Slowly::new(client, at_first))
        .await
        .unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    (send, served)
}

#[test]
fn a_connection_that_still_sends_a_response_is_not_idle() {
    on_worker(async {
        let options = ServerOptions {
            idle_timeout: Duration::from_millis(300),
            ..OPTIONS
        };
        // Longer than an idle connection may live.
        let at_first = 3 * options.idle_timeout;
        let (mut client, mut served) = connect_slowly(options, at_first).await;
        let content = vec![7; 30_000];
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let mut responses = Vec::new();
        // Together more than what sockets hold.
        for _ in 0..20 {
            let (response, _) = client.send_request(get(), true).unwrap();
            responses.push(response);
        }
        for _ in 0..20 {
            let stream = served.next().await;
            stream.write([head.as_bytes(), &content].concat()).await;
        }
        for response in responses {
            let (read, _) = collect(response.await.unwrap().into_body()).await.unwrap();
            assert_eq!(read.len(), content.len());
        }
        let end = served.end.await.unwrap();
        assert!(matches!(end, ConnectionEnd::Idle), "{end:?}");
    });
}

#[test]
fn the_last_answer_reaches_a_client_that_still_sends() {
    on_worker(async {
        let (mut client, mut served) = connect_slowly(OPTIONS, Duration::ZERO).await;
        let (response, _) = client.send_request(get(), true).unwrap();
        let stream = served.next().await;
        served.is_draining.set(true);
        served.deadlines.wake_all();
        while std::future::poll_fn(|cx| client.poll_ready(cx))
            .await
            .is_ok()
        {
            turn().await;
        }
        let content = vec![7; 600_000];
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let write = async {
            stream.write([head.as_bytes(), &content].concat()).await;
            drop(stream);
        };
        let read = async { collect(response.await.unwrap().into_body()).await };
        let ((), read) = tokio::join!(write, read);
        assert_eq!(read.unwrap().0.len(), content.len());
        assert!(matches!(served.end.await.unwrap(), ConnectionEnd::Closed));
    });
}

#[test]
fn a_client_without_a_preface_times_out() {
    on_worker(async {
        let options = ServerOptions {
            handshake_timeout: Duration::from_millis(100),
            ..OPTIONS
        };
        let (_silent, accepted) = sockets().await;
        let served = Served::begin(Transport::Plain(accepted), options);
        assert!(matches!(
            served.end.await.unwrap(),
            ConnectionEnd::HandshakeTimedOut
        ));
        let (mut client, accepted) = sockets().await;
        let served = Served::begin(Transport::Plain(accepted), OPTIONS);
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(
            served.end.await.unwrap(),
            ConnectionEnd::Failed(_)
        ));
    });
}

#[test]
fn a_client_that_leaves_resets_its_streams() {
    on_worker(async {
        let (client, accepted) = sockets().await;
        let mut served = Served::begin(Transport::Plain(accepted), OPTIONS);
        let (mut send, connection) = h2::client::handshake(client).await.unwrap();
        let driver = tokio::task::spawn_local(connection);
        let (_response, _) = send.send_request(get(), true).unwrap();
        let stream = served.next().await;
        driver.abort();
        stream.reset().await;
        assert!(stream.try_write(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err());
    });
}

#[test]
fn there_are_no_more_streams_than_allowed() {
    on_worker(async {
        let options = ServerOptions {
            max_concurrent_streams: 2,
            ..OPTIONS
        };
        let (mut client, mut served) = connect_with(Builder::new(), options).await;
        while client.current_max_send_streams() != 2 {
            turn().await;
        }
        let responses: Vec<_> = (0..3)
            .map(|_| client.clone().send_request(get(), true).unwrap().0)
            .collect();
        let first = served.next().await;
        let _second = served.next().await;
        assert!(
            tokio::time::timeout(Duration::from_millis(50), served.streams.recv())
                .await
                .is_err()
        );
        first.write("HTTP/1.1 204 x\r\n\r\n").await;
        drop(first);
        served.next().await;
        drop(responses);
        let _ = std::future::poll_fn(|cx| client.poll_ready(cx)).await;
    });
}

#[test]
fn many_streams_share_a_connection() {
    on_worker(async {
        let mut builder = Builder::new();
        builder.initial_connection_window_size(8 * 1024 * 1024);
        let (client, mut served) = connect_with(builder, OPTIONS).await;
        let mut responses = Vec::new();
        for number in 0..100 {
            let uri = format!("http://o/{number}");
            responses.push(
                client
                    .clone()
                    .send_request(asking("GET", &uri), true)
                    .unwrap()
                    .0,
            );
        }
        for _ in 0..100 {
            let stream = served.next().await;
            tokio::task::spawn_local(async move {
                let head = stream.read_head().await;
                let path = head
                    .split(' ')
                    .nth(1)
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned();
                let body = path.repeat(10_000);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write(head + &body).await;
            });
        }
        for (number, response) in responses.into_iter().enumerate() {
            let (content, _) = collect(response.await.unwrap().into_body()).await.unwrap();
            assert_eq!(content, number.to_string().repeat(10_000).as_bytes());
        }
    });
}

/// Frames as a client writes them by hand.
mod raw {
    pub(super) const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// The type of a GOAWAY frame.
    pub(super) const GOAWAY: u8 = 7;

    /// `GET http://a/`.
    pub(super) fn headers(id: u32) -> Vec<u8> {
        let block = b"\x82\x86\x84\x41\x01a";
        [
            &[0, 0, block.len() as u8, 1, 5][..],
            &id.to_be_bytes(),
            block,
        ]
        .concat()
    }

    pub(super) fn reset(id: u32) -> Vec<u8> {
        [
            &[0, 0, 4, 3, 0][..],
            &id.to_be_bytes(),
            &8_u32.to_be_bytes(),
        ]
        .concat()
    }

    /// The error that the last of the frames tells, if it is a GOAWAY.
    pub(super) fn goodbye(mut frames: &[u8]) -> Option<u8> {
        let mut last = None;
        while let [a, b, c, kind, rest @ ..] = frames {
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let payload = rest.get(5..5 + len)?;
            last = (*kind == GOAWAY).then(|| payload[7]);
            frames = &rest[5 + len..];
        }
        last
    }
}

/// How an exchange behaves whose client resets its stream.
#[derive(Clone, Copy, PartialEq)]
enum Exchange {
    /// It notices.
    Attentive,
    /// It does something else, and keeps its channel.
    Busy,
}

/// Sends streams and their resets, `at_once` pairs in one write, and counts how many were served.
async fn reset_rapidly(at_once: u32, exchange: Exchange) -> (u32, u32) {
    const TIMES: u32 = 10_000;
    let (mut client, accepted) = sockets().await;
    let mut served = Served::begin(Transport::Plain(accepted), OPTIONS);
    client.write_all(raw::START).await.unwrap();
    let mut received = Vec::new();
    let (mut seen, mut most, mut kept) = (0, 0, Vec::new());
    let mut sent = 0;
    while sent < TIMES && !served.end.is_finished() && raw::goodbye(&received).is_none() {
        let mut frames = Vec::new();
        for _ in 0..at_once {
            let id = 2 * sent + 1;
            frames.extend(raw::headers(id));
            if at_once > 1 {
                frames.extend(raw::reset(id));
            }
            sent += 1;
        }
        if client.write_all(&frames).await.is_err() {
            break;
        }
        if at_once == 1 {
            // The stream is accepted before it is reset.
            turn().await;
            let _ = client.write_all(&raw::reset(2 * sent - 1)).await;
        }
        while let Ok(channel) = served.streams.try_recv() {
            seen += 1;
            let stream = Stream::new(channel);
            match exchange {
                Exchange::Busy => kept.push(stream),
                Exchange::Attentive => drop(tokio::task::spawn_local(async move {
                    stream.reset().await;
                })),
            }
        }
        most = most.max(kept.len() as u32);
        let _ = client.try_read_buf(&mut received);
    }
    // It is waited for until it closes, too.
    let _ = client.shutdown().await;
    let end = served.end.await.unwrap();
    assert!(matches!(end, ConnectionEnd::Abusive(_)), "{end}");
    let _ = client.read_to_end(&mut received).await;
    assert!(
        sent < TIMES || at_once == TIMES,
        "10,000 resets went unnoticed"
    );
    let calm = Reason::ENHANCE_YOUR_CALM;
    if let Some(error) = raw::goodbye(&received) {
        assert_eq!(u32::from(error), u32::from(calm));
    }
    (seen, most)
}

#[test]
fn rapid_resets_end_the_connection() {
    on_worker(async {
        for at_once in [1, 20, 10_000] {
            let (seen, _) = reset_rapidly(at_once, Exchange::Attentive).await;
            assert!(seen < 1_100, "{at_once}: {seen}");
            let (seen, kept) = reset_rapidly(at_once, Exchange::Busy).await;
            assert!(seen <= 200 && kept <= 200, "{at_once}: {seen}, {kept}");
        }
    });
}

/// Frames that carry nothing: type, flags, stream and content.
const IDLE_FRAMES: [(u8, u8, u8, &[u8]); 8] = [
    (2, 0, 5, b"\0\0\0\0\x10"),
    (4, 0, 0, b""),
    (6, 0, 0, b"12345678"),
    (6, 1, 0, b"12345678"),
    (8, 0, 0, b"\0\0\0\x01"),
    (0x77, 0, 0, b""),
    (0x0a, 0, 0, b"\0\0"),
    (0x10, 0, 0, b"\0\0\0\x01u=1"),
];

#[test]
fn too_many_frames_without_content_end_the_connection() {
    on_worker(async {
        for (kind, flags, stream, content) in IDLE_FRAMES {
            let (mut client, accepted) = sockets().await;
            let served = Served::begin(Transport::Plain(accepted), OPTIONS);
            client.write_all(raw::START).await.unwrap();
            let frame = [
                &[0, 0, content.len() as u8, kind, flags, 0, 0, 0, stream][..],
                content,
            ]
            .concat();
            let many = frame.repeat(500);
            let (mut reader, mut writer) = client.split();
            let (mut received, mut sent) = (Vec::new(), 0);
            let flood = async {
                while sent < 100_000 && writer.write_all(&many).await.is_ok() {
                    sent += 500;
                }
                // It is waited for until it closes, too.
                let _ = writer.shutdown().await;
            };
            let listen = async {
                let _ = reader.read_to_end(&mut received).await;
            };
            tokio::join!(flood, listen);
            assert!(sent >= 10_000, "{kind}: {sent} frames");
            let end = served.end.await.unwrap();
            assert!(
                matches!(end, ConnectionEnd::Abusive(Abuse::IdleFrames)),
                "{kind}: {end}"
            );
            if let Some(error) = raw::goodbye(&received) {
                let calm = u32::from(Reason::ENHANCE_YOUR_CALM);
                assert_eq!(u32::from(error), calm, "{kind}");
            }
        }
    });
}

#[test]
fn other_tasks_run_while_frames_pour_in() {
    on_worker(async {
        // Requests give allowance, so that this goes on for ever: 32 PRIORITY frames with each.
        let (mut client, accepted) = sockets().await;
        let mut served = Served::begin(Transport::Plain(accepted), OPTIONS);
        let priority = b"\0\0\x05\x02\0\0\0\0\x05\0\0\0\0\x10".repeat(32);
        let mut all = raw::START.to_vec();
        for stream in 0..100 {
            all.extend(raw::headers(2 * stream + 1));
            all.extend(&priority);
        }
        client.write_all(&all).await.unwrap();
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        tokio::task::spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(served.next().await);
        }
        let turns = turns.get();
        assert!(turns >= 3, "{turns} turns of another task");
    });
}
