//! The static file server.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;

use super::{SECRET, Site, ask, assert_refused, get};
use crate::support::tls::{Ask, Form, Pki, Way};
use crate::support::{
    Client, Coding, End, Framing, HANG, Message, Proxy, Role, contains, parse, shown,
};

/// Sends a GET with additional field lines, each ending in CRLF.
fn fetch(proxy: &Proxy, path: &str, fields: &str) -> Message {
    let answer = proxy.ask(ask("GET", path, fields));
    assert!(answer.is_sound(), "{path} {fields}: {:?}", answer.fault);
    answer
}

/// Compressible text in which every line is different.
fn lines(count: usize) -> String {
    (0..count)
        .map(|number| format!("line {number}, and so on as far as it goes\n"))
        .collect()
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path);
    let set = file.and_then(|file| file.set_modified(time));
    set.expect("a scratch file has a time");
}

/// Repeats the request until `holds`: the proxy reopens the directory once a second.
#[track_caller]
fn wait_for(proxy: &Proxy, path: &str, what: &str, holds: impl Fn(&Message) -> bool) {
    let deadline = Instant::now() + HANG;
    let mut client = proxy.client();
    loop {
        let answer = client.ask(get(path));
        if holds(&answer) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{path}: no {what}: {}",
            answer.start
        );
        assert!(client.stays_quiet(Duration::from_millis(50)));
    }
}

// ---- file lookup and representation metadata ---------------------------------------------------------------------

#[test]
fn a_refusal_says_why_in_the_log_and_not_to_the_client() {
    let site = Site::new();
    site.write(".hidden", SECRET);
    site.write("file", "f");
    fs::create_dir(site.path("dir")).expect("a scratch directory can be written");
    std::os::unix::fs::symlink("/etc/hostname", site.path("out")).expect("links can be made");
    std::os::unix::fs::symlink("loop", site.path("loop")).expect("links can be made");
    let _socket = UnixListener::bind(site.path("socket")).expect("a socket can be made");
    let proxy = site.command().args(["--log-level", "DEBUG"]).start();
    for (path, status, reason) in [
        ("/.hidden", 404, "a name in the path begins with a dot"),
        ("/out", 404, "a symbolic link leads outside the directory"),
        ("/loop", 404, "symbolic links are not followed"),
        ("/socket", 404, "it is not a regular file"),
        ("/dir/", 404, "listings are disabled"),
        ("/none%00", 400, "a control character"),
        ("/none", 404, "reason=\"no such file\""),
        ("/a%2Fb", 404, "a percent-encoded slash"),
        ("/../x", 403, "the path leads outside the directory"),
    ] {
        let answer = proxy.ask(get(path));
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.text().contains(reason), "{path}");
        proxy.wait_for_line_where(reason, |line| {
            line.contains("DEBUG") && line.contains(reason) && line.contains(path)
        });
    }
}

#[test]
fn a_file_is_sent_with_what_is_known_of_it() {
    let site = Site::new();
    let path = site.write("a b.css", "body {}");
    set_modified(
        &path,
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
    );
    let proxy = site.command_with("cache_control = 'max-age=60'").start();
    let file = fetch(&proxy, "/a%20b.css?v=1", "");
    assert_eq!((file.status(), file.text().as_str()), (200, "body {}"));
    for (name, value) in [
        ("Content-Type", "text/css; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Cache-Control", "max-age=60"),
        ("Accept-Ranges", "bytes"),
        ("Content-Length", "7"),
    ] {
        assert_eq!(file.all(name), [value], "{name}");
    }
    assert_eq!(file.all("ETag").len(), 1);
    assert_eq!(file.all("Date").len(), 1);
    assert_eq!(file.all("Via"), [""; 0]);
}

#[test]
fn types_are_told_by_the_ends_of_names() {
    let site = Site::new();
    let proxy = site.serve();
    for (name, media_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.HTM", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.wasm", "application/wasm"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.of-nobody", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ] {
        site.write(name, "x");
        let file = fetch(&proxy, &format!("/{name}"), "");
        let told = file.field("Content-Type").unwrap_or_default();
        assert!(
            told == media_type || told.starts_with(&format!("{media_type};")),
            "{name}: {told}"
        );
        assert_eq!(file.all("X-Content-Type-Options"), ["nosniff"]);
    }
}

#[test]
fn a_directory_is_its_index_at_a_path_that_ends_with_a_slash() {
    let site = Site::new();
    site.write("index.html", "top");
    site.write("dir/index.html", "deep");
    site.write("other/home.htm", "home");
    site.write("bare/a.txt", "a");
    let proxy = site
        .command_with("index = ['home.htm', 'index.html']")
        .start();
    for (path, content) in [("/", "top"), ("/dir/", "deep"), ("/other/", "home")] {
        assert_eq!(fetch(&proxy, path, "").text(), content, "{path}");
    }
    for (path, location) in [
        ("/dir", "/dir/"),
        ("/dir?a=/b", "/dir/?a=/b"),
        ("//dir", "/dir/"),
        ("/bare", "/bare/"),
    ] {
        let moved = fetch(&proxy, path, "");
        assert_eq!(moved.status(), 301, "{path}");
        assert_eq!(moved.all("Location"), [location]);
    }
    assert_eq!(fetch(&proxy, "/bare/", "").status(), 404);
}

#[test]
fn listings_are_off_unless_asked_for_and_escape_what_names_have() {
    let site = Site::new();
    for name in [
        "<script>alert(1)<.txt",
        "a b&c.txt",
        "\"quoted'.txt",
        "100%.txt",
        "?query.txt",
        "#hash.txt",
        "javascript:alert(1)",
        "ümlaut.txt",
        "sub/a.txt",
        ".hidden",
        ".git/config",
    ] {
        site.write(name, SECRET);
    }
    std::os::unix::fs::symlink("../secret", site.path("out")).expect("links can be made");
    assert_eq!(fetch(&site.serve(), "/", "").status(), 404);

    let proxy = site.command_with("listing = true").start();
    let page = fetch(&proxy, "/", "");
    assert_eq!(page.status(), 200);
    assert_eq!(page.all("Content-Type"), ["text/html; charset=utf-8"]);
    assert_eq!(page.all("X-Content-Type-Options"), ["nosniff"]);
    let text = page.text();
    for hidden in [
        "<script",
        "hidden",
        ".git",
        "\"out\"",
        "./out",
        "href=\"javascript",
    ] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert!(text.contains("&lt;script&gt;"), "{text}");
    // Every link leads to the file that it names.
    let links: Vec<&str> = text
        .split("href=\"./")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(links.len(), 9, "{text}");
    for link in links {
        let answer = fetch(&proxy, &format!("/{link}"), "");
        assert_eq!(answer.status(), 200, "{link}");
        let is_right = match link {
            "sub/" => answer.text().contains("a.txt"),
            _ => answer.text() == SECRET,
        };
        assert!(is_right, "{link}: {}", answer.text());
    }
    let head = proxy.ask(ask("HEAD", "/", ""));
    assert_eq!((head.status(), head.body.len()), (200, 0));
}

#[test]
fn head_says_what_get_would_say() {
    let site = Site::new();
    site.write("a.txt", lines(100));
    let proxy = site.serve();
    let mut client = proxy.client();
    for fields in ["", "Accept-Encoding: gzip\r\n"] {
        let whole = client.ask(ask("GET", "/a.txt", fields));
        let head = client.ask(ask("HEAD", "/a.txt", fields));
        let but_date = |message: &Message| -> Vec<_> {
            let fields = message.fields.iter().filter(|(name, _)| name != "Date");
            fields.cloned().collect()
        };
        assert_eq!(but_date(&head), but_date(&whole));
        assert!(head.body.is_empty() && client.rest().is_empty());
    }
}

#[test]
fn files_are_only_read() {
    let site = Site::new();
    let path = site.write("a.txt", "content");
    let proxy = site.serve();
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "MKCOL"] {
        let refused = proxy.ask(ask(method, "/a.txt", ""));
        assert_eq!(refused.status(), 405, "{method}");
        assert_eq!(refused.all("Allow"), ["GET, HEAD, OPTIONS"]);
    }
    let options = proxy.ask(ask("OPTIONS", "/a.txt", ""));
    assert_eq!(options.status(), 204);
    assert_eq!(options.all("Allow"), ["GET, HEAD, OPTIONS"]);
    assert_eq!(fs::read(path).expect("it is there"), b"content");
}

// ---- conditions and ranges ---------------------------------------------------------------------------------------

#[test]
fn who_has_it_already_gets_304() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = site.serve();
    let whole = fetch(&proxy, "/a.txt", "");
    let tag = whole.field("ETag").expect("a file has a tag");
    let date = whole.field("Last-Modified").expect("a file has a date");
    let mut client = proxy.client();
    for (fields, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: W/{tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", {tag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        // The entity tag takes precedence over the date.
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"),
            200,
        ),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(),
            200,
        ),
        ("If-Modified-Since: yesterday\r\n".into(), 200),
        ("If-Match: \"x\"\r\n".into(), 412),
        (format!("If-Match: {tag}\r\n"), 200),
        (
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".into(),
            412,
        ),
    ] {
        let answer = client.ask(ask("GET", "/a.txt", &fields));
        assert_eq!(answer.status(), status, "{fields}");
        if status == 304 {
            assert_eq!(answer.all("ETag"), std::slice::from_ref(&tag));
            assert!(answer.body.is_empty());
        }
        assert!(client.rest().is_empty());
    }
}

#[test]
fn a_file_that_was_written_to_has_another_tag() {
    let site = Site::new();
    site.write("a.txt", "one");
    let proxy = site.serve();
    let tag = |proxy: &Proxy| fetch(proxy, "/a.txt", "").field("ETag");
    let first = tag(&proxy);
    assert_eq!(first, tag(&proxy));
    let path = site.write("a.txt", "two");
    let later = SystemTime::now() + Duration::from_secs(5);
    set_modified(&path, later);
    let known = format!("If-None-Match: {}\r\n", first.clone().unwrap_or_default());
    let changed = fetch(&proxy, "/a.txt", &known);
    assert_eq!((changed.status(), changed.text().as_str()), (200, "two"));
    assert_ne!(changed.field("ETag"), first);
}

#[test]
fn parts_are_sent_to_who_asks_for_them() {
    let site = Site::new();
    site.write("a.txt", "0123456789");
    let proxy = site.serve();
    let tag = fetch(&proxy, "/a.txt", "")
        .field("ETag")
        .unwrap_or_default();
    for (fields, range, content) in [
        ("Range: bytes=0-3\r\n".to_owned(), "bytes 0-3/10", "0123"),
        ("Range: bytes=4-\r\n".into(), "bytes 4-9/10", "456789"),
        ("Range: bytes=-3\r\n".into(), "bytes 7-9/10", "789"),
        ("Range: bytes=-30\r\n".into(), "bytes 0-9/10", "0123456789"),
        ("Range: bytes=8-99\r\n".into(), "bytes 8-9/10", "89"),
        ("Range: bytes=3-4,20-\r\n".into(), "bytes 3-4/10", "34"),
        (
            format!("Range: bytes=0-0\r\nIf-Range: {tag}\r\n"),
            "bytes 0-0/10",
            "0",
        ),
    ] {
        let part = fetch(&proxy, "/a.txt", &fields);
        assert_eq!(part.status(), 206, "{fields}");
        assert_eq!(part.all("Content-Range"), [range], "{fields}");
        assert_eq!(part.text(), content, "{fields}");
        assert_eq!(part.all("Content-Type"), ["text/plain; charset=utf-8"]);
        assert_eq!(part.all("ETag"), std::slice::from_ref(&tag));
    }
    for fields in [
        "Range: bytes=10-\r\n",
        "Range: bytes=-0\r\n",
        "Range: bytes=11-12,20-\r\n",
    ] {
        let refused = fetch(&proxy, "/a.txt", fields);
        assert_eq!(refused.status(), 416, "{fields}");
        assert_eq!(refused.all("Content-Range"), ["bytes */10"]);
    }
    for fields in [
        "Range: lines=1-2\r\n",
        "Range: bytes=4-3\r\n",
        "Range: bytes=a-b\r\n",
        "Range: bytes=0-3\r\nIf-Range: \"x\"\r\n",
        "Range: bytes=0-3\r\nRange: bytes=4-5\r\n",
        // The ranges add up to more than the whole file.
        "Range: bytes=0-9,0-9,0-9\r\n",
    ] {
        let whole = fetch(&proxy, "/a.txt", fields);
        assert_eq!(
            (whole.status(), whole.text().as_str()),
            (200, "0123456789"),
            "{fields}"
        );
    }
    let head = proxy.ask(ask("HEAD", "/a.txt", "Range: bytes=0-3\r\n"));
    assert_eq!(
        (head.status(), head.field("Content-Length")),
        (200, Some("10".into()))
    );
}

#[test]
fn several_parts_are_told_apart_by_a_boundary() {
    let site = Site::new();
    site.write("a.txt", lines(20_000));
    let content = lines(20_000);
    let proxy = site.serve();
    let parts = [(0, 99), (300_000, 400_000), (1000, 1000)];
    let written: Vec<String> = parts.map(|(from, to)| format!("{from}-{to}")).into();
    let fields = format!("Range: bytes={}\r\n", written.join(", "));
    let answer = fetch(&proxy, "/a.txt", &fields);
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.framing, Framing::Length);
    assert_eq!(answer.all("Content-Range"), [""; 0]);
    let media_type = answer.field("Content-Type").unwrap_or_default();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.unwrap_or_else(|| panic!("{media_type}"));
    let len = content.len();
    let mut expected = String::new();
    for (from, to) in parts {
        expected.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {from}-{to}/{len}\r\n\r\n{}",
            &content[from..=to]
        ));
    }
    expected.push_str(&format!("\r\n--{boundary}--\r\n"));
    // Ignore the preamble, all bytes before the first boundary (RFC 2046 §5.1.1).
    let expected = expected.trim_start();
    let text = answer.text();
    assert!(text.trim_start() == expected, "{}", shown(text.as_bytes()));
}

// ---- codings -----------------------------------------------------------------------------------------------------

#[test]
fn text_is_compressed_on_its_way_to_who_takes_that() {
    let site = Site::new();
    let content = lines(4000);
    site.write("a.txt", &content);
    let proxy = site.serve();
    for (accept, coding) in [
        ("gzip", Some(Coding::Gzip)),
        ("br", Some(Coding::Brotli)),
        ("gzip;q=0.5, br;q=0.9", Some(Coding::Brotli)),
        ("*", Some(Coding::Gzip)),
        ("", None),
        ("identity", None),
        ("zstd, deflate", None),
        ("gzip;q=0, br;q=0", None),
        ("gzip;q=0.1, identity", None),
    ] {
        let answer = fetch(&proxy, "/a.txt", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.all("Vary"), ["Accept-Encoding"], "{accept}");
        let tag = answer.field("ETag").unwrap_or_default();
        match coding {
            Some(coding) => {
                assert_eq!(answer.all("Content-Encoding"), [coding.name()], "{accept}");
                assert_eq!(answer.framing, Framing::Chunked);
                assert_eq!(answer.all("Accept-Ranges"), [""; 0]);
                assert!(tag.starts_with("W/"), "{tag}");
                assert!(answer.body.len() < content.len() / 3);
                let decoded = coding.decode(&answer.body).expect("it is whole");
                assert!(decoded == content.as_bytes(), "{accept}");
            }
            None => {
                assert_eq!(answer.all("Content-Encoding"), [""; 0], "{accept}");
                assert_eq!(answer.framing, Framing::Length);
                assert!(!tag.starts_with("W/"), "{tag}");
                assert!(answer.text() == content);
            }
        }
        let known = format!("Accept-Encoding: {accept}\r\nIf-None-Match: {tag}\r\n");
        assert_eq!(fetch(&proxy, "/a.txt", &known).status(), 304, "{accept}");
    }
}

#[test]
fn what_gains_nothing_or_must_not_change_is_sent_as_it_is() {
    let site = Site::new();
    let content = lines(4000);
    for name in ["a.txt", "a.png", "a.zip"] {
        site.write(name, &content);
    }
    site.write("short.txt", lines(3));
    let proxy = site.serve();
    let accept = "Accept-Encoding: gzip, br\r\n";
    for path in ["/a.png", "/a.zip", "/short.txt"] {
        let answer = fetch(&proxy, path, accept);
        assert_eq!(answer.all("Content-Encoding"), [""; 0], "{path}");
    }
    // Ranges refer to the uncompressed file.
    let part = fetch(&proxy, "/a.txt", &format!("{accept}Range: bytes=0-4\r\n"));
    assert_eq!((part.status(), part.text().as_str()), (206, "line "));
    let mut client = proxy.client();
    let old = client.ask(format!("GET /a.txt HTTP/1.0\r\n{accept}\r\n"));
    assert_eq!(old.all("Content-Encoding"), [""; 0]);
    assert!(old.text() == content);
    let never = site.command_with("compress_from = 0").start();
    assert_eq!(
        fetch(&never, "/a.txt", accept).all("Content-Encoding"),
        [""; 0]
    );
}

#[test]
fn files_that_somebody_has_compressed_are_sent_instead() {
    let site = Site::new();
    let content = "body { color: red }\n";
    let plain = site.write("a.css", content);
    set_modified(&plain, SystemTime::now() - Duration::from_secs(60));
    site.write("a.css.gz", Coding::Gzip.encode(content.as_bytes()));
    site.write("a.css.br", Coding::Brotli.encode(content.as_bytes()));
    let proxy = site.serve();
    let mut tags = Vec::new();
    for (accept, coding) in [
        ("", None),
        ("gzip", Some(Coding::Gzip)),
        ("gzip, br", Some(Coding::Brotli)),
    ] {
        let answer = fetch(&proxy, "/a.css", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(answer.framing, Framing::Length);
        assert_eq!(answer.all("Content-Type"), ["text/css; charset=utf-8"]);
        assert_eq!(answer.all("Vary"), ["Accept-Encoding"]);
        assert_eq!(
            answer.field("Content-Encoding").as_deref(),
            coding.map(Coding::name)
        );
        let decoded = match coding {
            Some(coding) => coding.decode(&answer.body).expect("it is whole"),
            None => answer.body.clone(),
        };
        assert_eq!(decoded, content.as_bytes());
        tags.extend(answer.field("ETag"));
    }
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");

    let gzip = "Accept-Encoding: gzip\r\n";
    let never = site.command_with("precompressed = false").start();
    assert_eq!(
        fetch(&never, "/a.css", gzip).all("Content-Encoding"),
        [""; 0]
    );
    // A precompressed file older than the original is stale.
    set_modified(&plain, SystemTime::now() + Duration::from_secs(60));
    assert_eq!(fetch(&proxy, "/a.css", gzip).text(), content);
}

#[test]
fn compressed_text_arrives_over_http2_as_well() {
    let (site, pki) = (Site::new(), Pki::new());
    let content = lines(4000);
    site.write("a.txt", &content);
    let proxy = pki.relaying().args(pki.listener()).args(site.arguments());
    let proxy = proxy.start();
    for way in [Way::Tls, Way::Http2] {
        let mut session = pki
            .client(&proxy)
            .over(way)
            .pipe()
            .session(Form::Origin("https"));
        let answer = session.ask(Ask::get("here", "/a.txt").field("Accept-Encoding", "gzip"));
        assert_eq!((answer.status, &answer.fault), (200, &None));
        assert_eq!(answer.all("Content-Encoding"), ["gzip"]);
        let decoded = Coding::Gzip.decode(&answer.body).expect("it is whole");
        assert!(decoded == content.as_bytes(), "{way:?}");
    }
}

// ---- long files, and changes during the transfer -----------------------------------------------------------------

/// Content in which every mebibyte is different.
fn long_content(mebibytes: u32) -> Vec<u8> {
    let mut content = crate::support::pattern(1 << 20).repeat(mebibytes as usize);
    for (number, part) in (0..mebibytes).zip(content.chunks_mut(1 << 20)) {
        part[..4].copy_from_slice(&number.to_be_bytes());
    }
    content
}

const CLOSING: &str = "Connection: close\r\n";

/// The only response on a closed connection.
fn only(received: &[u8]) -> Message {
    let answer = parse(received, Role::Response("GET"), true).expect("a response");
    assert_eq!(answer.len, received.len());
    answer
}

#[test]
fn a_long_file_arrives_as_it_is_at_fast_and_slow_clients() {
    let (site, pki) = (Site::new(), Pki::new());
    let content = long_content(50);
    site.write("long.bin", &content);
    let slow_content = &content[..12 << 20];
    site.write("slow.bin", slow_content);
    let clear = site.serve();
    let secure = pki.relaying().args(pki.listener()).args(site.arguments());
    let secure = secure.start();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = clear.client();
            client.receive_little();
            client.send(ask("GET", "/slow.bin", CLOSING));
            assert_eq!(client.read_slowly_to_end(), End::Closed);
            let answer = only(client.received());
            assert!(answer.is_sound() && answer.body == slow_content);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = clear.client();
                client.send(ask("GET", "/long.bin", CLOSING));
                assert_eq!(client.read_to_end(), End::Closed);
                let answer = only(client.received());
                assert!(answer.is_sound() && answer.body == content);
            });
        }
        scope.spawn(|| {
            let mut pipe = pki.client(&secure).over(Way::Tls).pipe();
            pipe.send(ask("GET", "/long.bin", CLOSING));
            let (received, end) = pipe.read_to_end();
            assert_eq!(end, End::Closed);
            let answer = only(&received);
            assert!(answer.is_sound() && answer.body == content);
        });
        let session = pki.client(&secure).over(Way::Http2).pipe();
        let session = session.session(Form::Origin("https"));
        let pending = ["/long.bin", "/slow.bin"].map(|path| session.begin(Ask::get("here", path)));
        for (pending, content) in pending.into_iter().zip([&content[..], slow_content]) {
            let answer = pending.finish().expect("a response");
            assert_eq!((answer.status, &answer.fault), (200, &None));
            assert!(answer.body == content);
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_costs_nobody_else_anything() {
    let site = Site::new();
    site.write("long.bin", long_content(20));
    site.write("a.txt", "content");
    let proxy = site.serve();
    let before = proxy.open_files();
    for _ in 0..5 {
        let mut client = proxy.client();
        client.send(get("/long.bin"));
        client.read_until(b"\r\n\r\n");
        client.reset();
    }
    assert_eq!(fetch(&proxy, "/a.txt", "").text(), "content");
    assert!(proxy.wait_for_open_files(before) <= before);
}

/// Requests a file and stalls the transfer: the socket buffers do not hold 100 MB.
fn held_up(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.receive_little();
    client.send(get("/long.bin"));
    client.read_until(b"\r\n\r\n");
    client
}

const LONG: u64 = 100_000_000;

fn long_file(site: &Site) -> File {
    site.write("long.bin", "");
    let file = File::options().write(true).open(site.path("long.bin"));
    let file = file.expect("it is there");
    file.set_len(LONG).expect("a scratch file can grow");
    file
}

#[test]
fn a_file_that_shrinks_meanwhile_ends_the_connection_and_is_not_padded() {
    let site = Site::new();
    let file = long_file(&site);
    let proxy = site.serve();
    let mut client = held_up(&proxy);
    file.set_len(1000).expect("a scratch file can shrink");
    client.read_to_end();
    let answer = parse(client.received(), Role::Response("GET"), true).expect("a head");
    assert_eq!(answer.field("Content-Length"), Some(LONG.to_string()));
    assert!(!answer.complete, "{} bytes of content", answer.body.len());
    let line = proxy.wait_for_line("/long.bin - 200 OK - ");
    assert!(line.contains("cut off"), "{line}");
    // A new request gets the current content.
    assert_eq!(fetch(&proxy, "/long.bin", "").body.len(), 1000);
}

#[test]
fn over_tls_a_file_that_shrinks_is_visibly_cut_off_as_well() {
    let (site, pki) = (Site::new(), Pki::new());
    let file = long_file(&site);
    let proxy = pki.relaying().args(pki.listener()).args(site.arguments());
    let proxy = proxy.start();
    let mut pipe = pki.client(&proxy).over(Way::Tls).pipe();
    pipe.send(get("/long.bin"));
    pipe.read_until(b"\r\n\r\n");
    let session = pki.client(&proxy).over(Way::Http2).pipe();
    let session = session.session(Form::Origin("https"));
    let mut stream = session.open(&Ask::get("here", "/long.bin"));
    stream.finish();
    let head = stream.head().expect("a head");
    assert_eq!(head.field("content-length"), Some(LONG.to_string()));
    file.set_len(1000).expect("a scratch file can shrink");
    let (rest, _) = pipe.read_to_end();
    assert!((rest.len() as u64) < LONG, "{}", rest.len());
    let mut len = 0;
    let fault = loop {
        match stream.read() {
            Ok(part) if part.is_empty() => break None,
            Ok(part) => len += part.len() as u64,
            Err(fault) => break Some(fault),
        }
    };
    assert!(fault.is_some() && len < LONG, "{len} bytes and an end");
}

#[test]
fn a_file_that_is_replaced_meanwhile_arrives_as_it_was() {
    let site = Site::new();
    site.write("long.bin", long_content(30));
    let proxy = site.serve();
    let mut client = proxy.client();
    client.receive_little();
    client.send(ask("GET", "/long.bin", CLOSING));
    client.read_until(b"\r\n\r\n");
    site.write("new.bin", "new");
    fs::rename(site.path("new.bin"), site.path("long.bin")).expect("a scratch file can move");
    assert_eq!(fetch(&proxy, "/long.bin", "").text(), "new");
    client.read_to_end();
    assert!(only(client.received()).body == long_content(30));
}

// ---- the directory -----------------------------------------------------------------------------------------------

#[test]
fn a_directory_that_goes_has_no_files_until_it_is_back() {
    let site = Site::new();
    site.write("a.txt", "one");
    let proxy = site.serve();
    assert_eq!(fetch(&proxy, "/a.txt", "").text(), "one");
    fs::remove_dir_all(site.path("")).expect("a scratch directory can go");
    wait_for(&proxy, "/a.txt", "404", |answer| answer.status() == 404);
    assert_eq!(fetch(&proxy, "/", "").status(), 404);
    site.write("a.txt", "two");
    wait_for(&proxy, "/a.txt", "new file", |answer| {
        answer.text() == "two"
    });
}

#[test]
fn a_directory_that_is_swapped_for_another_is_noticed() {
    let site = Site::new();
    site.write("a.txt", "one");
    let proxy = site.serve();
    assert_eq!(fetch(&proxy, "/a.txt", "").text(), "one");
    let public = site.path("");
    fs::rename(&public, site.scratch.path("old")).expect("a scratch directory can move");
    site.write("a.txt", "two");
    wait_for(&proxy, "/a.txt", "new file", |answer| {
        answer.text() == "two"
    });
}

#[test]
fn a_directory_that_is_not_there_is_named_at_start() {
    let site = Site::new();
    fs::remove_dir(site.path("")).expect("it is empty");
    let directory = site.path("").display().to_string();
    let directory = directory.trim_end_matches('/');
    let words = [directory, "create this directory", "--static-server-dir"];
    assert_refused(&site.command().run(), &words);
    fs::write(site.scratch.path("public"), "a file").expect("a scratch file can be written");
    assert_refused(&site.command().run(), &words);
}

/// The default is `public` beside the executable.
#[test]
fn the_default_directory_may_be_missing() {
    let proxy = Proxy::command().args(["--enable-static-server"]).start();
    assert_eq!(fetch(&proxy, "/no-such-file.txt", "").status(), 404);
}

#[test]
fn a_static_server_directory_alone_serves_nothing() {
    let site = Site::new();
    site.write("a.txt", "content");
    let directory = site.path("").into_os_string();
    let proxy = Proxy::command().args(["--static-server-dir".into(), directory]);
    assert_eq!(proxy.start().ask(get("/a.txt")).status(), 400);
}

#[test]
fn what_may_not_be_read_is_said() {
    if geteuid().is_root() {
        eprintln!("the superuser may read everything: nothing to be seen here");
        return;
    }
    let site = Site::new();
    let path = site.write("a.txt", SECRET);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).expect("it is ours");
    let answer = fetch(&site.serve(), "/a.txt", "");
    assert_eq!(answer.status(), 403);
    assert!(!answer.text().contains(SECRET));
}

#[test]
fn what_is_no_file_is_not_served_and_holds_nobody_up() {
    let site = Site::new();
    site.write("a.txt", "content");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, site.path("pipe.txt"), FileType::Fifo, mode, 0).expect("pipes can be made");
    let _socket = UnixListener::bind(site.path("socket")).expect("sockets can be made");
    std::os::unix::fs::symlink("/dev/zero", site.path("zero")).expect("links can be made");
    for symlinks in ["inside", "all"] {
        let settings = format!("symlinks = '{symlinks}'\nlisting = true");
        let proxy = site.command_with(&settings).start();
        let mut client = proxy.client();
        for path in ["/pipe.txt", "/socket", "/zero", "/pipe.txt/"] {
            let answer = client.ask(ask("GET", path, "Accept-Encoding: gzip\r\n"));
            assert!(
                matches!(answer.status(), 403 | 404),
                "{path}: {}",
                answer.start
            );
        }
        assert_eq!(client.ask(get("/a.txt")).text(), "content");
        let page = client.ask(get("/"));
        assert!(!contains(&page.body, b"pipe.txt"), "{}", page.text());
    }
}
