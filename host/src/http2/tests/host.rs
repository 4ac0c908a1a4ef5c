//! Channels under the readers and writers of the host.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::{Request, Response};

use super::{client, collect, on_worker, server};
use crate::http1::{HeadKind, HeadLimits, RequestHead};
use crate::stream::MessageStream;
use crate::transport::Transport;
use crate::tunnel::{self, TunnelEnd, TunnelEndReason};

const READ_LEN: usize = 1024 * 1024;
const STALL: Duration = Duration::from_secs(10);

#[test]
fn a_message_stream_reads_requests_and_writes_responses() {
    on_worker(async {
        let (mut client, mut served) = server::connect().await;
        let request = server::asking("GET", "http://o.example/a");
        let (response, _) = client.send_request(request, true).unwrap();
        let channel = served.next().await.channel;
        let transport = Transport::Channel(channel);
        let mut stream = MessageStream::new(transport, &served.deadlines, READ_LEN);
        let mut reader = stream.reader();
        reader.deadline().arm(STALL);
        let limits = HeadLimits::default();
        let text = reader
            .read_head(HeadKind::Request, &limits, || ())
            .await
            .unwrap();
        let head = RequestHead::parse(text.text, text.start, Vec::new(), &limits).unwrap();
        assert_eq!((head.host(), head.path()), ("o.example", &b"/a"[..]));
        assert!(!stream.has_buffered() && stream.is_quiet());
        let content = vec![7; 3_000_000];
        let mut slices = [
            std::io::IoSlice::new(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"),
            std::io::IoSlice::new(&content),
            std::io::IoSlice::new(b""),
        ];
        let mut writer = stream.writer();
        let write = writer.write_all_vectored(&mut slices, STALL);
        let read = async { collect(response.await.unwrap().into_body()).await };
        let (written, read) = tokio::join!(write, read);
        written.unwrap();
        assert!(read.unwrap().0 == content);
    });
}

async fn send(mut stream: SendStream<Bytes>, content: Vec<u8>) {
    stream.send_data(Bytes::from(content), true).unwrap();
    drop(stream);
}

#[test]
fn a_tunnel_connects_two_streams() {
    on_worker(async {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let (upstream, mut origin) = client::connect_with(builder).await;
        let to_origin = super::Stream::new(upstream.open());
        to_origin
            .write("GET /c HTTP/1.1\r\nHost: o\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n")
            .await;
        let (at_origin, mut respond): (Request<_>, _) = origin.next().await;
        let from_origin = respond.send_response(client::response(200), false).unwrap();
        to_origin.read_head().await;

        let (mut client, mut served) = server::connect().await;
        let request = server::asking("CONNECT", "o:443");
        let (response, from_client) = client.send_request(request, false).unwrap();
        let to_client = served.next().await;
        to_client.read_head().await;
        to_client.write("HTTP/1.1 200 OK\r\n\r\n").await;
        let response: Response<_> = response.await.unwrap();

        let (up, down) = (vec![1; 5_000_000], vec![2; 3_000_000]);
        let end = |stream: super::Stream| TunnelEnd {
            transport: Transport::Channel(stream.channel),
            received: Vec::new(),
            read_len: READ_LEN,
        };
        let (to_client, to_origin) = (end(to_client), end(to_origin));
        let moved = crate::in_flight::Moved::default();
        let limits = tunnel::TunnelLimits {
            idle: STALL,
            half_closed: STALL,
        };
        let relay = tunnel::relay(
            to_client,
            to_origin,
            &served.deadlines,
            limits,
            None,
            &moved,
        );
        let (relayed, at_client, at_origin, (), ()) = tokio::join!(
            relay,
            collect(response.into_body()),
            collect(at_origin.into_body()),
            send(from_client, up.clone()),
            send(from_origin, down.clone()),
        );
        assert!(
            matches!(relayed.end, TunnelEndReason::Closed),
            "{relayed:?}"
        );
        assert_eq!(
            (relayed.to_upstream, relayed.to_client),
            (5_000_000, 3_000_000)
        );
        assert!(at_client.unwrap().0 == down && at_origin.unwrap().0 == up);
    });
}
