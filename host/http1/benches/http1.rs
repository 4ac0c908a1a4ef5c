//! The cost of the codec without sockets: reading a head, writing it for the next hop, decoding a chunked body.
//!
//! Buffers are reused as in the steady state of a connection, so a new allocation on the path shows here.
//! `scripts/bench` measures whole exchanges.

#![expect(
    clippy::unwrap_used,
    reason = "the messages are constants of this file"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proxy_http1::{
    BodyDecoder, BodyFraming, ConnectionAnnouncement, FieldLine, HeadKind, HeadLimits, HeadScanner,
    OutFraming, RequestForm, RequestForward, RequestHead, ResponseForward, ResponseHead,
    forward_request, forward_response,
};

const REQUEST: &[u8] =
    b"GET http://www.example.com/articles/2026/11/a-title?from=feed HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Referer: http://www.example.com/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Cache-Control: max-age=0\r\n\
    Proxy-Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Sun, 22 Nov 2026 08:49:37 GMT\r\n\
    Server: nginx\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 20480\r\n\
    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    ETag: \"0123456789abcdef\"\r\n\
    Vary: Accept-Encoding\r\n\
    Cache-Control: public, max-age=600\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Connection: keep-alive\r\n\r\n";

fn parse(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("request", |bencher| {
        let mut buffers = (Vec::new(), Vec::new());
        bencher.iter(|| {
            buffers =
                parse_request(black_box(REQUEST), buffers_of(&mut buffers), &limits).into_buffers()
        });
    });
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |bencher| {
        let mut buffers = (Vec::new(), Vec::new());
        bencher.iter(|| {
            buffers = parse_response(black_box(RESPONSE), buffers_of(&mut buffers), &limits)
                .into_buffers()
        });
    });
    group.finish();
}

fn forward(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut out = Vec::new();
    let mut group = c.benchmark_group("forward");
    group.bench_function("request", |bencher| {
        let head = parse_request(REQUEST, Buffers::default(), &limits);
        let options = RequestForward {
            via: "proxy",
            drop_fields: &[],
            framing: BodyFraming::Empty,
            upgrade: None,
            form: RequestForm::Origin,
        };
        bencher.iter(|| {
            out.clear();
            forward_request(black_box(&head), &options, &mut out);
        });
    });
    group.bench_function("response", |bencher| {
        let head = parse_response(RESPONSE, Buffers::default(), &limits);
        let options = ResponseForward {
            via: "proxy",
            framing: OutFraming::Length(20_480),
            connection: ConnectionAnnouncement::Nothing,
            date: None,
            trailers: false,
        };
        bencher.iter(|| {
            out.clear();
            forward_response(black_box(&head), &options, &mut out);
        });
    });
    group.finish();
}

fn chunked(c: &mut Criterion) {
    let body = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"]
        .concat()
        .repeat(16);
    let body = [body.as_slice(), b"0\r\n\r\n"].concat();
    let mut group = c.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("64 KiB in 16 chunks", |bencher| {
        bencher.iter(|| content_len(black_box(&body)))
    });
    group.finish();
}

type Buffers = (Vec<u8>, Vec<FieldLine>);

fn buffers_of(buffers: &mut Buffers) -> Buffers {
    let (mut text, mut lines) = std::mem::take(buffers);
    text.clear();
    lines.clear();
    (text, lines)
}

/// The text with a whole head, as found by the scanner.
fn scanned(text: &[u8], mut buffer: Vec<u8>, kind: HeadKind, limits: &HeadLimits) -> Vec<u8> {
    let bounds = HeadScanner::default()
        .scan(text, kind, limits)
        .unwrap()
        .unwrap();
    buffer.extend_from_slice(&text[..bounds.end]);
    buffer
}

fn parse_request(text: &[u8], (buffer, lines): Buffers, limits: &HeadLimits) -> RequestHead {
    RequestHead::parse(
        scanned(text, buffer, HeadKind::Request, limits),
        0,
        lines,
        limits,
    )
    .unwrap()
}

fn parse_response(text: &[u8], (buffer, lines): Buffers, limits: &HeadLimits) -> ResponseHead {
    ResponseHead::parse(
        scanned(text, buffer, HeadKind::Response, limits),
        0,
        lines,
        limits,
    )
    .unwrap()
}

fn content_len(body: &[u8]) -> usize {
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
    let (mut at, mut content) = (0, 0);
    loop {
        let step = decoder.decode(&body[at..]).unwrap();
        at += step.consumed;
        content += step.content.len();
        if step.end {
            return content;
        }
    }
}

criterion_group!(benches, parse, forward, chunked);
criterion_main!(benches);
