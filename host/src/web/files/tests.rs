//! Requests for files and what a client gets: through a socket and through a channel, byte for byte.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::ReadBuf;

use super::fixtures::{SECRET, Site, request};
use super::send::FileResponse;
use super::*;
use crate::content_coding::Decoder;
use crate::deadline::Deadlines;
use crate::http1::{BodyDecoder, BodyFraming};
use crate::reply::AGENT;
use crate::reply::ReplyForm;
use crate::stream::MessageStream;
use crate::transport::{Channel, ChannelError, Transport};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const PATIENCE: Duration = Duration::from_secs(10);

// ---- a client ----------------------------------------------------------------------------------------------------

/// What a client has received.
#[derive(Debug)]
struct Got {
    head: String,
    content: Vec<u8>,
}

impl Got {
    fn of(bytes: &[u8]) -> Self {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n").expect("a head") + 4;
        Self {
            head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
            content: bytes[end..].to_vec(),
        }
    }

    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// The value of a field that occurs at most once.
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1);
        let value = lines.find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            (field == name).then_some(value)
        });
        assert!(!lines.any(|line| line.starts_with(&format!("{name}:"))));
        value
    }

    /// The content, without chunks and coding.
    fn plain(&self) -> Vec<u8> {
        let mut coded = self.content.clone();
        if self.field("Transfer-Encoding").is_some() {
            coded = unchunked(&coded);
        }
        let Some(coding) = self.field("Content-Encoding") else {
            return coded;
        };
        let coding = match coding {
            "gzip" => Coding::Gzip,
            "br" => Coding::Brotli,
            other => panic!("{other}"),
        };
        let mut decoder = Decoder::new(coding, 1 << 24);
        let mut plain = Vec::new();
        let mut sink = |piece: &[u8]| {
            plain.extend_from_slice(piece);
            Ok::<_, ()>(())
        };
        decoder.decode(&coded, &mut sink).unwrap();
        decoder.finish().unwrap();
        plain
    }
}

fn unchunked(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
    let (mut content, mut at) = (Vec::new(), 0);
    while !decoder.is_complete() {
        let step = decoder.decode(&bytes[at..]).unwrap();
        content.extend_from_slice(&bytes[at..][step.content]);
        assert!(step.consumed > 0, "the body is cut off");
        at += step.consumed;
    }
    assert_eq!(at, bytes.len());
    content
}

fn on_worker<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime")
        .block_on(future)
}

/// How a response is transported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionKind {
    Socket,
    Channel,
}

const CONNECTION_KINDS: [ConnectionKind; 2] = [ConnectionKind::Socket, ConnectionKind::Channel];

/// The result of sending, the received bytes, and their counted number.
type SendResult = (Result<(), SendFileError>, Vec<u8>, u64);

fn send(response: FileResponse, kind: ConnectionKind) -> SendResult {
    on_worker(async {
        match kind {
            ConnectionKind::Socket => send_by_socket(response).await,
            ConnectionKind::Channel => send_by_channel(response, |_| ()).await,
        }
    })
}

async fn send_by_socket(response: FileResponse) -> SendResult {
    let (socket, mut client) = connected().await;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut stream = MessageStream::new(Transport::Plain(socket), &Deadlines::new(), 1024);
    let mut sent = 0;
    let result = response
        .send(&mut stream.writer(), PATIENCE, &mut sent)
        .await;
    drop(stream);
    (result, reader.join().unwrap(), sent)
}

async fn connected() -> (tokio::net::TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap().0, client)
}

/// `on_write` is called for each write, with the length written before.
async fn send_by_channel(response: FileResponse, on_write: impl Fn(usize) + 'static) -> SendResult {
    let sink = Rc::new(Sink {
        bytes: RefCell::default(),
        on_write,
    });
    let channel = Rc::clone(&sink) as Rc<dyn Channel>;
    let mut stream = MessageStream::new(Transport::Channel(channel), &Deadlines::new(), 1024);
    let mut sent = 0;
    let result = response
        .send(&mut stream.writer(), PATIENCE, &mut sent)
        .await;
    (result, sink.bytes.take(), sent)
}

/// A channel that keeps what is written to it.
struct Sink<F> {
    bytes: RefCell<Vec<u8>>,
    on_write: F,
}

impl<F> fmt::Debug for Sink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl<F: Fn(usize)> Channel for Sink<F> {
    fn poll_read(
        &self,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ChannelError>> {
        (self.on_write)(self.bytes.borrow().len());
        // Accepts less than offered, as a flow-control window does.
        let len = bytes.len().min(50_000);
        self.bytes.borrow_mut().extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_reset(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn reset_on_close(&self) {}

    fn is_quiet(&self) -> bool {
        true
    }
}

fn response(files: &Files, head: &str) -> FileResponse {
    let request = request(head);
    let form = ReplyForm {
        is_head: request.is_method("HEAD"),
        is_last: false,
    };
    files.answer(&request).into_response(form, DATE)
}

/// Sends `METHOD path` with more fields over both transports; asserts the same response.
fn exchange(files: &Files, line: &str, fields: &str) -> Got {
    let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let [by_socket, by_channel] = CONNECTION_KINDS.map(|kind| {
        let (result, bytes, sent) = send(response(files, &head), kind);
        result.unwrap();
        assert_eq!(sent, bytes.len() as u64);
        Got::of(&bytes)
    });
    assert_eq!(by_socket.status(), by_channel.status());
    if !by_socket.head.contains("boundary=") {
        assert_eq!(by_socket.head, by_channel.head);
        assert!(by_socket.content == by_channel.content);
    }
    by_socket
}

fn get(files: &Files, path: &str, fields: &str) -> Got {
    exchange(files, &format!("GET {path}"), fields)
}

fn open(site: &Site) -> Files {
    Files::open(&site.config()).unwrap()
}

/// Compressible text without repeated parts.
fn text(len: usize) -> Vec<u8> {
    let mut text = String::with_capacity(len + 1024);
    for number in 0.. {
        if text.len() >= len {
            break;
        }
        text.push_str(&format!("line {number}, and so on as far as it goes\n"));
    }
    text.truncate(len);
    text.into_bytes()
}

/// A long sparse file.
fn long_file(site: &Site) -> u64 {
    let file = File::create(site.write("a.bin", "")).unwrap();
    file.set_len(30_000_000).unwrap();
    30_000_000
}

fn set_modified(path: &std::path::Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
        .unwrap();
}

// ---- which file --------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn no_spelling_bypasses_what_is_not_served() {
    use std::os::unix::fs::symlink;
    let site = Site::new("escapes");
    site.write("a.txt", "a");
    site.write("dir/index.html", "d");
    std::fs::create_dir(site.outside("public-secret")).unwrap();
    std::fs::write(site.outside("public-secret/secret"), SECRET).unwrap();
    for name in [
        ".git/config",
        ".htpasswd",
        "dir/.env",
        ".well-known/.hidden",
    ] {
        site.write(name, SECRET);
    }
    symlink("../secret", site.root().join("out")).unwrap();
    symlink("..", site.root().join("outdir")).unwrap();
    symlink("../../secret", site.root().join("dir/up")).unwrap();
    let mut count = 0;
    for has_listing in [false, true] {
        let config = StaticFilesConfig {
            has_listing,
            ..site.config()
        };
        let files = Files::open(&config).unwrap();
        for line in include_str!("escapes.txt").lines() {
            let Some((status, path)) = line.split_once(' ') else {
                continue;
            };
            if status == "#" {
                continue;
            }
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (result, bytes, _) = send(response(&files, &head), ConnectionKind::Channel);
            result.unwrap();
            let got = Got::of(&bytes);
            assert_eq!(got.status().to_string(), status, "{path}");
            assert!(memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none());
            count += 1;
        }
    }
    assert!(count > 200);
}

#[test]
fn workers_may_share_the_files() {
    fn shared<T: Send + Sync>(_: &T) {}
    let site = Site::new("shared");
    shared(&open(&site));
}

#[test]
fn a_file_is_sent_with_its_metadata() {
    let site = Site::new("plain");
    let path = site.write("a b.css", "body {}");
    set_modified(&path, 784_111_777);
    let files = Files::open(&StaticFilesConfig {
        cache_control: "max-age=60".to_owned(),
        ..site.config()
    })
    .unwrap();
    let got = get(&files, "/./a%20b.css?v=1", "");
    let tag = got.field("ETag").unwrap();
    assert!(tag.starts_with("\"7-"), "{tag}");
    assert_eq!(
        got.head,
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/css; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Last-Modified: {DATE}\r\nETag: {tag}\r\nCache-Control: max-age=60\r\nVary: Accept-Encoding\r\n\
             Accept-Ranges: bytes\r\nContent-Length: 7\r\nServer: {AGENT}\r\nDate: {DATE}\r\n\r\n"
        )
    );
    assert_eq!(got.content, b"body {}");
}

#[test]
fn files_of_any_length_arrive_complete() {
    let site = Site::new("lengths");
    let files = open(&site);
    for len in [0, 1, 16_000, 65_536, 65_537, 131_072, 3_000_000] {
        site.write("a.bin", text(len));
        let got = get(&files, "/a.bin", "");
        assert_eq!(got.field("Content-Length"), Some(&*len.to_string()));
        assert!(got.content == text(len), "{len}");
        let head = exchange(&files, "HEAD /a.bin", "");
        assert_eq!(head.head, got.head);
        assert!(head.content.is_empty());
    }
}

#[test]
fn other_methods_get_405_or_the_allowed_ones() {
    let site = Site::new("methods");
    site.write("a", "x");
    let files = open(&site);
    let options = exchange(&files, "OPTIONS /a", "");
    assert_eq!(options.status(), 204);
    assert_eq!(options.field("Content-Length"), None);
    let asterisk = response(&files, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        Got::of(&send(asterisk, ConnectionKind::Channel).1).status(),
        204
    );
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get"] {
        let got = exchange(&files, &format!("{method} /a"), "");
        assert_eq!(got.status(), 405, "{method}");
        assert_eq!(got.field("Allow"), options.field("Allow"));
    }
}

#[test]
fn a_directory_is_its_index_a_listing_or_nothing() {
    let site = Site::new("directories");
    site.write("with/second.html", "second");
    site.write("with/index.html/x", "a directory of that name");
    site.write("without/a.txt", "a");
    let config = |has_listing| StaticFilesConfig {
        index: Vec::from(["index.html", "second.html"].map(str::to_owned)),
        has_listing,
        ..site.config()
    };
    let files = Files::open(&config(false)).unwrap();
    assert_eq!(get(&files, "/with/", "").content, b"second");
    assert_eq!(get(&files, "/without/", "").status(), 404);
    assert_eq!(get(&files, "/", "").status(), 404);
    let files = Files::open(&config(true)).unwrap();
    assert_eq!(get(&files, "/with/", "").content, b"second");
    let listing = get(&files, "/without/", "");
    assert_eq!(listing.status(), 200);
    assert_eq!(
        listing.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        String::from_utf8(listing.content)
            .unwrap()
            .contains("./a.txt")
    );
    assert_eq!(get(&files, "/none/", "").status(), 404);
}

#[test]
fn a_directory_without_its_slash_is_redirected_to_the_same_host() {
    let site = Site::new("redirect");
    site.write("dir/a b/x", "x");
    site.write("evil.example/x", "x");
    let files = open(&site);
    for (path, location) in [
        ("/dir", "/dir/"),
        ("/dir?a=/../b", "/dir/?a=/../b"),
        ("/dir?", "/dir/?"),
        ("/dir//a%20b", "/dir/a%20b/"),
        ("//evil.example", "/evil.example/"),
        ("//evil.example/%2e%2e/dir", "/dir/"),
        ("///evil.example?//x", "/evil.example/?//x"),
        ("/.//dir", "/dir/"),
    ] {
        let got = get(&files, path, "");
        assert_eq!(got.status(), 301, "{path}");
        assert_eq!(got.field("Location"), Some(location), "{path}");
    }
    // It is the root already.
    assert_eq!(get(&files, "//evil.example/%2e%2e", "").status(), 404);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_served() {
    use std::os::unix::ffi::OsStrExt;
    let site = Site::new("bytes");
    let name = std::ffi::OsStr::from_bytes(b"\xc0\xae\xff");
    std::fs::write(site.root().join(name), "x").unwrap();
    assert_eq!(get(&open(&site), "/%c0%ae%ff", "").content, b"x");
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_forbidden() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new("forbidden");
    let path = site.write("a", "x");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
    // Root may read everything.
    if File::open(&path).is_err() {
        assert_eq!(get(&open(&site), "/a", "").status(), 403);
    }
    assert_eq!(NotServed::from(OpenError::Forbidden).status, 403);
}

#[cfg(unix)]
#[test]
fn names_that_only_windows_forbids_are_served() {
    let site = Site::new("odd-names");
    let names = [
        "2026-11-28T12:30:00.log",
        "sha256:0123",
        "Module::Name.html",
        "c:",
        "file::$DATA",
        "aux.js",
        "con.txt",
        "CON",
        "nul.tar.gz",
        "com1",
        "readme...",
        "a.txt.",
        "final space ",
        "back\\slash",
        "c:\\x",
        "dir:/aux/x.",
        "GIT~1",
    ];
    for name in names {
        site.write(name, name);
    }
    let files = open(&site);
    for name in names {
        let answer = get(&files, &format!("/{}", encoded(name.as_bytes())), "");
        assert_eq!(
            (answer.status(), &answer.content[..]),
            (200, name.as_bytes()),
            "{name}"
        );
    }
    assert_eq!(
        get(&files, "/dir:/aux", "").field("Location"),
        Some("/dir%3A/aux/")
    );
}

// ---- which representation ----------------------------------------------------------------------------------------

#[test]
fn a_current_copy_is_not_sent_again() {
    let site = Site::new("conditions");
    let path = site.write("a.txt", "content");
    set_modified(&path, 784_111_777);
    let files = Files::open(&StaticFilesConfig {
        cache_control: "no-cache".to_owned(),
        ..site.config()
    })
    .unwrap();
    let tag = get(&files, "/a.txt", "").field("ETag").unwrap().to_owned();
    for method in ["GET", "HEAD"] {
        let line = format!("{method} /a.txt");
        let got = exchange(&files, &line, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!(
            got.head,
            format!(
                "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nCache-Control: no-cache\r\n\
                 Vary: Accept-Encoding\r\nServer: {AGENT}\r\nDate: {DATE}\r\n\r\n"
            )
        );
        assert!(got.content.is_empty());
    }
    let got = get(&files, "/a.txt", &format!("If-Modified-Since: {DATE}\r\n"));
    assert_eq!(got.status(), 304);
    let got = get(&files, "/a.txt", "If-Match: \"other\"\r\n");
    assert_eq!(got.status(), 412);
}

#[test]
fn requested_ranges_are_sent() {
    let site = Site::new("ranges");
    let content = text(3_000_000);
    site.write("a.bin", &content);
    let files = open(&site);
    for (range, part) in [
        ("0-0", 0..1),
        ("100-199", 100..200),
        ("1000000-", 1_000_000..3_000_000),
        ("-70000", 2_930_000..3_000_000),
        ("0-2999999", 0..3_000_000),
    ] {
        let got = get(&files, "/a.bin", &format!("Range: bytes={range}\r\n"));
        assert_eq!(got.status(), 206, "{range}");
        assert_eq!(
            got.field("Content-Range").unwrap(),
            format!("bytes {}-{}/3000000", part.start, part.end - 1)
        );
        assert_eq!(
            got.content.len().to_string(),
            got.field("Content-Length").unwrap()
        );
        assert!(got.content == content[part]);
    }
    let got = get(&files, "/a.bin", "Range: bytes=3000000-\r\n");
    assert_eq!(got.status(), 416);
    assert_eq!(got.field("Content-Range"), Some("bytes */3000000"));
    let whole = [
        "Range: bytes=4-2\r\n",
        "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n",
    ];
    for fields in whole {
        assert_eq!(get(&files, "/a.bin", fields).content.len(), 3_000_000);
    }
    let head = exchange(&files, "HEAD /a.bin", "Range: bytes=0-1\r\n");
    assert_eq!(head.status(), 200);
}

#[test]
fn several_ranges_are_one_response_of_known_length() {
    let site = Site::new("multipart");
    let content = text(400_000);
    site.write("a.bin", &content);
    let files = open(&site);
    for ranges in [
        &[0..10, 500..520][..],
        &[300_000..399_999, 0..5],
        &[0..100_000, 200_000..200_001, 250_000..400_000],
    ] {
        let specs: Vec<_> = ranges
            .iter()
            .map(|range| format!("{}-{}", range.start, range.end - 1))
            .collect();
        let fields = format!("Range: bytes={}\r\n", specs.join(", "));
        let got = get(&files, "/a.bin", &fields);
        assert_eq!(got.status(), 206);
        assert_eq!(
            got.content.len().to_string(),
            got.field("Content-Length").unwrap()
        );
        assert_eq!(got.field("Content-Range"), None);
        let kind = got.field("Content-Type").unwrap();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut expected = Vec::new();
        for (at, range) in ranges.iter().enumerate() {
            let line_end = if at == 0 { "" } else { "\r\n" };
            expected.extend_from_slice(
                format!(
                    "{line_end}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                     Content-Range: bytes {}-{}/400000\r\n\r\n",
                    range.start,
                    range.end - 1
                )
                .as_bytes(),
            );
            expected.extend_from_slice(&content[range.clone()]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(got.content == expected);
    }
}

#[test]
fn text_is_compressed_for_clients_that_accept_it() {
    let site = Site::new("compressed");
    let content = text(300_000);
    site.write("a.txt", &content);
    site.write("short.txt", text(1023));
    site.write("a.png", &content);
    let files = open(&site);
    for (accept, coding) in [("gzip, br", "gzip"), ("gzip;q=0.9, br", "br")] {
        let got = get(&files, "/a.txt", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(got.field("Content-Encoding"), Some(coding));
        assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(got.field("Content-Length"), None);
        assert_eq!(got.field("Accept-Ranges"), None);
        assert!(got.field("ETag").unwrap().starts_with("W/\""));
        assert!(got.content.len() < content.len() / 2);
        assert!(got.plain() == content);
        let tag = got.field("ETag").unwrap();
        let again = format!("Accept-Encoding: {accept}\r\nIf-None-Match: {tag}\r\n");
        assert_eq!(get(&files, "/a.txt", &again).status(), 304);
        let head = exchange(
            &files,
            "HEAD /a.txt",
            &format!("Accept-Encoding: {accept}\r\n"),
        );
        assert_eq!(head.head, got.head);
        assert!(head.content.is_empty());
    }
    let accept = "Accept-Encoding: gzip, br\r\n";
    let short = get(&files, "/short.txt", accept);
    assert_eq!(short.field("Content-Encoding"), None);
    let image = get(&files, "/a.png", accept);
    assert_eq!(image.field("Content-Encoding"), None);
    assert_eq!(image.field("Vary"), None);
    let part = get(&files, "/a.txt", &format!("{accept}Range: bytes=5-9\r\n"));
    assert_eq!(part.status(), 206);
    assert_eq!(part.content, content[5..10]);
    let old = "GET /a.txt HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n";
    let old = Got::of(&send(response(&files, old), ConnectionKind::Channel).1);
    assert!(old.content == content);
}

#[test]
fn slow_clients_hold_a_limited_number_of_encoders() {
    let site = Site::new("encoders");
    site.write("a.txt", text(2000));
    let files = open(&site);
    let head = "GET /a.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut held: Vec<_> = (0..MAX_ENCODERS).map(|_| response(&files, head)).collect();
    let plain = Got::of(&send(response(&files, head), ConnectionKind::Channel).1);
    assert_eq!(plain.field("Content-Encoding"), None);
    assert!(plain.field("ETag").unwrap().starts_with('"'));
    held.pop();
    let coded = Got::of(&send(response(&files, head), ConnectionKind::Channel).1);
    assert_eq!(coded.field("Content-Encoding"), Some("gzip"));
}

#[test]
fn a_precompressed_file_is_sent_instead() {
    let site = Site::new("precompressed");
    let file = site.write("a.bin", "plain");
    let gzip = site.write("a.bin.gz", "as gzip");
    let brotli = site.write("a.bin.br", "as br");
    let set = |seconds: [u64; 3]| {
        for (path, seconds) in [&file, &gzip, &brotli].into_iter().zip(seconds) {
            set_modified(path, seconds);
        }
    };
    set([1000, 1000, 2000]);
    let files = open(&site);
    let plain = get(&files, "/a.bin", "");
    assert_eq!(plain.content, b"plain");
    assert_eq!(plain.field("Vary"), Some("Accept-Encoding"));
    let coded = get(&files, "/a.bin", "Accept-Encoding: gzip, br\r\n");
    assert_eq!(coded.content, b"as br");
    assert_eq!(coded.field("Content-Encoding"), Some("br"));
    assert_eq!(coded.field("Content-Type"), plain.field("Content-Type"));
    assert!(coded.field("ETag").unwrap().ends_with("-br\""));
    let gzip_only = get(&files, "/a.bin", "Accept-Encoding: gzip\r\n");
    assert_eq!(gzip_only.content, b"as gzip");
    let part = get(
        &files,
        "/a.bin",
        "Accept-Encoding: br\r\nRange: bytes=3-\r\n",
    );
    assert_eq!(part.field("Content-Range"), Some("bytes 3-4/5"));
    assert_eq!(part.field("Content-Encoding"), Some("br"));
    assert_eq!(part.content, b"br");
    // Older than its source.
    set([1500, 1000, 1000]);
    let stale = get(&files, "/a.bin", "Accept-Encoding: gzip, br\r\n");
    assert_eq!(stale.content, b"plain");
    let itself = get(&files, "/a.bin.gz", "Accept-Encoding: gzip\r\n");
    assert_eq!(itself.field("Content-Encoding"), None);
    assert_eq!(itself.field("Content-Type"), Some("application/gzip"));
}

// ---- sending -----------------------------------------------------------------------------------------------------

#[test]
fn a_truncated_file_closes_the_connection() {
    let site = Site::new("shrunk");
    let files = open(&site);
    for len in [1000, 2_000_000] {
        for kind in CONNECTION_KINDS {
            let path = site.write("a.bin", text(len));
            let response = response(&files, "GET /a.bin HTTP/1.1\r\nHost: a\r\n\r\n");
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(500).unwrap();
            let (result, bytes, sent) = send(response, kind);
            assert!(matches!(result, Err(SendFileError::Shrunk)));
            assert!(bytes.len() < len);
            assert_eq!(sent, bytes.len() as u64);
        }
    }
}

#[test]
fn a_file_truncated_while_it_is_sent_closes_the_connection() {
    let site = Site::new("shrinking");
    let path = site.write("a.bin", text(1_000_000));
    site.write("a.txt", text(1_000_000));
    let files = open(&site);
    let shrink = move |written: usize| {
        if written > 0 {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(300_000).unwrap();
        }
    };
    let response = response(&files, "GET /a.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let (result, bytes, _) = on_worker(send_by_channel(response, shrink));
    assert!(matches!(result, Err(SendFileError::Shrunk)));
    let content = Got::of(&bytes).content;
    assert!(content.len() < 300_000 && text(300_000).starts_with(&content));
}

#[test]
fn a_grown_file_is_sent_at_its_announced_length() {
    use std::io::Write;
    let site = Site::new("grown");
    let files = open(&site);
    for len in [1000, 2_000_000] {
        for kind in CONNECTION_KINDS {
            let path = site.write("a.bin", text(len));
            let response = response(&files, "GET /a.bin HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(&text(100_000)).unwrap();
            let (result, bytes, _) = send(response, kind);
            result.unwrap();
            assert!(Got::of(&bytes).content == text(len));
        }
    }
}

#[test]
fn a_stalled_client_is_closed() {
    let site = Site::new("stalled");
    let len = long_file(&site);
    let files = open(&site);
    on_worker(async {
        let (socket, client) = connected().await;
        let deadlines = Deadlines::new();
        let ticker = Rc::clone(&deadlines);
        tokio::task::spawn_local(async move { ticker.run(|| ()).await });
        let mut stream = MessageStream::new(Transport::Plain(socket), &deadlines, 1024);
        let response = response(&files, "GET /a.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut sent = 0;
        let stall = Duration::from_millis(100);
        let result = response.send(&mut stream.writer(), stall, &mut sent).await;
        let Err(SendFileError::Client(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(sent > 0 && sent < len);
        drop(client);
    });
}

#[test]
fn a_closed_client_is_not_a_file_error() {
    let site = Site::new("gone");
    long_file(&site);
    let files = open(&site);
    on_worker(async {
        let (socket, client) = connected().await;
        drop(client);
        let mut stream = MessageStream::new(Transport::Plain(socket), &Deadlines::new(), 1024);
        let response = response(&files, "GET /a.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        let result = response.send(&mut stream.writer(), PATIENCE, &mut 0).await;
        assert!(matches!(result, Err(SendFileError::Client(_))));
    });
}

#[test]
fn the_last_response_of_a_connection_says_close() {
    let site = Site::new("last");
    site.write("a", "x");
    let request = request("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let form = ReplyForm {
        is_head: false,
        is_last: true,
    };
    let response = open(&site).answer(&request).into_response(form, DATE);
    let (_, bytes, _) = send(response, ConnectionKind::Channel);
    assert_eq!(Got::of(&bytes).field("Connection"), Some("close"));
}
