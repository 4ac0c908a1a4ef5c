//! Regression tests for fixed defects; each name is the claim that failed.
//!
//! The plugins are in the fixture `odd` and do unusual things on purpose. The modules follow an exchange: bodies,
//! trailers, failures, heads, upstreams, calls, connections.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::support::{OK, Origin, Proxy, ProxyCommand, get, request, shown};

/// A proxy with one plugin from the fixture, configured by `key=value` settings.
fn odd(name: &str, settings: &[&str]) -> ProxyCommand {
    beside(Proxy::command(), name, settings)
}

/// Adds one more plugin at the end of the chain.
fn beside(command: ProxyCommand, name: &str, settings: &[&str]) -> ProxyCommand {
    settings
        .iter()
        .fold(command.plugin("odd", name), |command, setting| {
            command.plugin_config(&format!("{name}.{setting}"))
        })
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(plain)
        .expect("a vector takes what is written");
    encoder.finish().expect("a vector takes what is written")
}

/// Decodes `coded`, which must be exactly one gzip member.
fn gunzip(coded: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(coded);
    let mut plain = Vec::new();
    decoder
        .read_to_end(&mut plain)
        .unwrap_or_else(|error| panic!("{error}: {}", shown(coded)));
    assert_eq!(shown(decoder.into_inner()), "", "bytes behind the content");
    plain
}

/// `len` bytes of text, in lines.
fn text(len: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|number: u32| format!("line {number} of a text\n").into_bytes());
    lines.take(len).collect()
}

/// In chunks of `len` bytes, including the last chunk.
fn chunked(content: &[u8], len: usize) -> Vec<Vec<u8>> {
    let chunk =
        |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let last = b"0\r\n\r\n".to_vec();
    content.chunks(len).map(chunk).chain([last]).collect()
}

/// Closes its first connection on the second request without a response; answers all other requests.
fn leaving_after_one() -> Origin {
    Origin::serve(|peer| {
        if peer.index() == 0 {
            peer.request();
            peer.send(OK);
            peer.head();
            return;
        }
        while peer.request().is_some() {
            peer.send(OK);
        }
    })
}

mod decoded_content {
    use super::*;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Content with its coding, and the chunk size; `None` means Content-Length.
    fn forms() -> Vec<(Vec<u8>, Option<usize>)> {
        vec![
            (text(1_000_000), None),
            (text(1_000_000), Some(10_000)),
            (crate::support::pattern(1_000_000), None),
            (text(20_000), Some(20)),
        ]
    }

    #[test]
    fn of_a_response_arrives_whole() {
        for (plain, chunk_len) in forms() {
            let coded = gzip(&plain);
            let origin = Origin::serve(move |peer| {
                peer.request();
                let framing = match chunk_len {
                    None => format!("Content-Length: {}", coded.len()),
                    Some(_) => "Transfer-Encoding: chunked".to_owned(),
                };
                peer.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n{framing}\r\n\r\n"
                ));
                match chunk_len {
                    None => drop(peer.send(&coded)),
                    Some(len) => chunked(&coded, len).iter().for_each(|chunk| {
                        peer.send(chunk);
                    }),
                }
            });
            let proxy = odd("Pieces", &["way=upstream", "decoded=true"]).start();
            let answer = proxy.get(&origin, "/");
            assert!(answer.is_sound(), "{chunk_len:?} {:?}", answer.fault);
            assert_eq!(answer.field("Content-Encoding").as_deref(), Some("gzip"));
            assert!(gunzip(&answer.body) == plain, "{chunk_len:?}");
            proxy.wait_for_line(&format!("pieces upstream: {} bytes", plain.len()));
        }
    }

    #[test]
    fn of_a_request_arrives_whole() {
        let origin = Origin::answering(OK);
        let proxy = odd("Pieces", &["way=client", "decoded=true"]).start();
        for (plain, chunk_len) in forms() {
            let coded = gzip(&plain);
            let mut client = proxy.client();
            let framing = match chunk_len {
                None => format!("Content-Length: {}", coded.len()),
                Some(_) => "Transfer-Encoding: chunked".to_owned(),
            };
            let fields = format!("Content-Encoding: gzip\r\n{framing}\r\n");
            client.send(request("POST", &origin, "/", &fields));
            match chunk_len {
                None => client.send(&coded),
                Some(len) => chunked(&coded, len)
                    .iter()
                    .for_each(|chunk| client.send(chunk)),
            }
            assert_eq!(client.response_to("POST").status(), 200);
            let request = origin.requests().pop().expect("a request came");
            assert!(gunzip(&request.body) == plain, "{chunk_len:?}");
            proxy.wait_for_line(&format!("pieces client: {} bytes", plain.len()));
        }
    }

    #[test]
    fn keeps_nothing_that_describes_the_bytes_it_came_in() {
        let coded = gzip(b"some text");
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: \"strong\"\r\nContent-MD5: abc\r\n\
                    Digest: sha-256=abc\r\nContent-Digest: sha-256=:abc:\r\nRepr-Digest: sha-256=:abc:\r\nAccept-Ranges: bytes\r\n";
        let length = format!("Content-Length: {}\r\n\r\n", coded.len());
        let origin = Origin::answering([head.as_bytes(), length.as_bytes(), &coded].concat());
        let pieces = odd("Pieces", &["way=upstream", "decoded=true"]);
        let settings = [
            "way=upstream",
            "decoded=true",
            "limit=1000",
            "replacement=x",
        ];
        for command in [pieces, odd("Whole", &settings)] {
            let answer = command.start().get(&origin, "/");
            for name in [
                "Content-MD5",
                "Digest",
                "Content-Digest",
                "Repr-Digest",
                "Accept-Ranges",
            ] {
                assert_eq!(answer.field(name), None, "{name}");
            }
            assert_eq!(answer.all("ETag"), ["W/\"strong\""]);
        }
    }

    #[test]
    fn that_must_not_be_transformed_streams_as_it_came() {
        let coded = gzip(b"some text");
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: \"strong\"\r\nContent-MD5: abc\r\n\
                    Cache-Control: max-age=1, no-transform\r\n";
        let length = format!("Content-Length: {}\r\n\r\n", coded.len());
        let origin = Origin::answering([head.as_bytes(), length.as_bytes(), &coded].concat());
        let proxy = odd("Pieces", &["way=upstream", "decoded=true", "shouts=true"]).start();
        let answer = proxy.get(&origin, "/");
        assert!(answer.is_sound());
        assert_eq!(shown(&answer.body), shown(&coded));
        assert_eq!(answer.all("ETag"), ["\"strong\""]);
        assert_eq!(answer.all("Content-MD5"), ["abc"]);
        assert_eq!(answer.all("Content-Length"), [coded.len().to_string()]);
    }

    #[test]
    fn keeps_the_coding_that_the_proxy_answers_for() {
        let coded = gzip(b"some text");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            coded.len()
        );
        let origin = Origin::answering([head.as_bytes(), &coded].concat());
        let settings = [
            "way=upstream",
            "limit=1000",
            "replacement=another text",
            "drops_coding=true",
        ];
        let plain = odd("Whole", &settings).start();
        let answer = plain.get(&origin, "/");
        plain.wait_for_line("coding: Ok(())");
        assert_eq!(answer.field("Content-Encoding"), None);
        assert_eq!(answer.text(), "another text");

        let decoded = odd("Whole", &settings)
            .plugin_config("Whole.decoded=true")
            .start();
        let answer = decoded.get(&origin, "/");
        decoded.wait_for_line("coding: Err(HostOwned)");
        assert_eq!(answer.all("Content-Encoding"), ["gzip"]);
        assert_eq!(gunzip(&answer.body), b"another text");
    }

    #[test]
    fn in_parts_passes_unseen_or_is_refused() {
        let parts = "--x\r\nContent-Range: bytes 0-9/100\r\n\r\n0123456789\r\n--x--\r\n";
        let origin = Origin::answering(format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\n\
             Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: {}\r\n\r\n{parts}",
            parts.len()
        ));
        let whole = ["way=upstream", "limit=1000", "decoded=true"];
        let passing = [&whole[..], &["or_pass=true"]].concat();
        for command in [
            odd("Pieces", &["way=upstream", "decoded=true"]),
            odd("Whole", &passing),
        ] {
            let answer = command.start().get(&origin, "/");
            assert_eq!((answer.status(), answer.text().as_str()), (206, parts));
            assert_eq!(answer.all("Content-Encoding"), ["gzip"]);
        }
        let refused = odd("Whole", &whole).start().get(&origin, "/");
        assert_eq!(refused.status(), 502);
    }

    #[test]
    fn does_not_hold_up_the_other_connections_of_its_worker() {
        // One-megabyte members, repeated: slow to decode, quick to build.
        let member = gzip(&text(1_000_000));
        let coded = member.repeat(20);
        let origin = Origin::replying(move |request| {
            if request.target() != "/big" {
                return OK.into();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                coded.len()
            );
            [head.as_bytes(), &coded].concat()
        });
        let whole = [
            "way=upstream",
            "decoded=true",
            "limit=20000000",
            "shouts=true",
        ];
        for command in [
            odd("Pieces", &["way=upstream", "decoded=true"]),
            odd("Whole", &whole).config("[limits]\nmax_body_buffer = 20000000"),
        ] {
            let proxy = command.start();
            let mut big = proxy.client();
            let mut small = proxy.client();
            big.send(request("GET", &origin, "/big", "Connection: close\r\n"));
            origin.wait_for(b"/big");
            let big_started = Instant::now();
            let reading = thread::spawn(move || {
                big.read_to_end();
                big.response()
            });
            let mut longest = Duration::ZERO;
            while !reading.is_finished() {
                let started = Instant::now();
                assert_eq!(small.ask(get(&origin, "/small")).status(), 200);
                longest = longest.max(started.elapsed());
            }
            // A blocked worker would delay small requests for most of the big one, on any machine.
            let whole = big_started.elapsed();
            assert!(longest * 2 < whole, "{longest:?} of {whole:?}");
            let answer = reading.join().expect("the big answer comes");
            assert!(
                answer.is_sound() && answer.status() == 200,
                "{}",
                answer.start
            );
        }
    }
}

mod taken_content {
    use super::*;

    /// A PUT whose content passes a plugin that tried to buffer it whole, on a kept connection that then closes. The
    /// proxy resends it as first sent, and does not treat the client's next request as content.
    fn put_on_a_dead_connection(settings: &[&str], fields: &str, content: &[u8], body: &[u8]) {
        let origin = leaving_after_one();
        let proxy = odd("Whole", settings).start();
        let mut client = proxy.client();
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
        let next = request("GET", &origin, "/next", "Authorization: Basic c2VjcmV0\r\n");
        let head = request("PUT", &origin, "/put", fields);
        client.send([head.as_bytes(), content, next.as_bytes()].concat());
        assert_eq!(client.response_to("PUT").status(), 200);
        assert_eq!(client.response_to("GET").status(), 200);
        let mut puts = origin.requests();
        puts.retain(|each| each.method() == "PUT");
        assert_eq!(puts.last().expect("a whole one").body, body);
    }

    #[test]
    fn that_goes_on_after_all_is_not_asked_of_the_client_again() {
        put_on_a_dead_connection(
            &["way=client", "limit=10", "or_pass=true"],
            "Transfer-Encoding: chunked\r\n",
            b"14\r\nAAAAAAAAAAAAAAAAAAAA\r\n0\r\n\r\n",
            &[b'A'; 20],
        );
    }

    #[test]
    fn that_is_too_long_decoded_is_not_asked_of_the_client_again() {
        let coded = gzip(&[b'a'; 5000]);
        put_on_a_dead_connection(
            &["way=client", "limit=1000", "or_pass=true", "decoded=true"],
            &format!(
                "Content-Encoding: gzip\r\nContent-Length: {}\r\n",
                coded.len()
            ),
            &coded,
            &coded,
        );
    }

    #[test]
    fn keeps_to_the_smallest_limit() {
        let origin = Origin::answering(OK);
        let content = "Y".repeat(50);
        let limits = [["10", "1000"], ["1000", "10"]];
        for [first, second] in limits {
            let limit = |bytes: &str| format!("limit={bytes}");
            let command = odd("Whole", &["way=client", &limit(first)]);
            let proxy = beside(command, "WholeB", &["way=client", &limit(second)]).start();
            for (fields, body) in [
                ("Content-Length: 50\r\n", content.clone()),
                (
                    "Transfer-Encoding: chunked\r\n",
                    format!("32\r\n{content}\r\n0\r\n\r\n"),
                ),
            ] {
                let answer = proxy.ask(request("POST", &origin, "/", fields) + &body);
                assert_eq!(answer.status(), 413, "{first} before {second}, {fields}");
            }
        }
        origin.assert_untouched();
    }

    #[test]
    fn that_is_empty_is_nobodys() {
        let origin = Origin::answering(OK);
        let proxy = odd("Whole", &["way=client", "limit=10", "replacement=x"]).start();
        let fields = "Transfer-Encoding: chunked\r\n";
        let answer = proxy.ask(request("POST", &origin, "/", fields) + "0\r\n\r\n");
        assert_eq!(answer.status(), 200);
        assert_eq!(origin.only_request().text(), "");
        proxy.wait_for_line(" - POST ");
        assert!(
            !proxy
                .lines()
                .iter()
                .any(|line| line.contains("whole client"))
        );
    }

    #[test]
    fn that_is_watched_keeps_its_length() {
        let origin = Origin::answering(OK);
        for way in ["client", "upstream"] {
            let proxy = odd("Pieces", &[&format!("way={way}"), "watches=true"]).start();
            let answer = proxy.ask(request("POST", &origin, "/", "Content-Length: 3\r\n") + "abc");
            assert_eq!(answer.text(), "origin-ok");
            assert_eq!(answer.all("Content-Length"), ["9"]);
            let len = if way == "client" { 3 } else { 9 };
            proxy.wait_for_line(&format!("pieces {way}: {len} bytes"));
        }
        for request in origin.requests() {
            assert_eq!(request.all("Content-Length"), ["3"]);
            assert_eq!(request.text(), "abc");
        }
    }

    #[test]
    fn that_is_changed_by_a_watcher_does_not_look_whole() {
        let origin = Origin::answering(OK);
        let settings = ["way=upstream", "watches=true", "shouts=true"];
        let proxy = odd("Pieces", &settings).start();
        let answer = proxy.get(&origin, "/");
        assert!(
            answer.status() == 500 || !answer.complete,
            "{}",
            answer.text()
        );
        proxy.wait_for_line("content that it only observes");

        let origin = Origin::answering(OK);
        let settings = ["way=client", "watches=true", "shouts=true"];
        let proxy = odd("Pieces", &settings).start();
        let answer = proxy.ask(request("POST", &origin, "/", "Content-Length: 3\r\n") + "abc");
        assert_eq!(answer.status(), 500);
        assert_eq!(origin.requests().len(), 0);
    }
}

mod trailers {
    use super::*;
    use crate::support::{Client, HANG};
    use std::sync::{Mutex, mpsc};

    const LAST: &str = "0\r\nX-T: 1\r\n\r\n";

    /// Waits for a log line with exactly this message; returns its index.
    fn place(proxy: &Proxy, said: &str) -> usize {
        let end = format!(" - {said}");
        proxy.wait_for_line(&end);
        let lines = proxy.lines();
        let found = lines.iter().position(|line| line.ends_with(&end));
        found.unwrap_or_else(|| panic!("no {said:?} in {lines:#?}"))
    }

    /// Starts the response at once and finishes it after the request's trailers.
    fn answering_early() -> Origin {
        Origin::serve(|peer| {
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab");
            peer.wait_for(b"X-T: 1");
            peer.send("cdef");
        })
    }

    /// More than kernel buffers hold between a proxy and an origin that does not read.
    const FLOOD: usize = 24_000_000;

    /// The proxy has read the whole request and is blocked on sending its content, which a plugin has enlarged, when
    /// the response arrives. Sending continues while the response hook waits.
    fn get_stuck_before_the_trailers(settings: &[&str]) -> (Proxy, Origin, Client) {
        let (read_on, may_read_on) = mpsc::channel();
        let may_read_on = Mutex::new(may_read_on);
        let origin = Origin::serve(move |peer| {
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab");
            let told = may_read_on.lock().map(|told| told.recv_timeout(HANG));
            assert!(matches!(told, Ok(Ok(()))), "the test is over");
            peer.discard(FLOOD - 200_000);
            peer.wait_for(b"X-T: 1");
            peer.send("cdef");
        });
        let flood = format!("flood={FLOOD}");
        let proxy = odd("SlowResponse", &[settings, &["ms=1000", &flood]].concat()).start();
        let mut client = proxy.client();
        let head = request("POST", &origin, "/", "Transfer-Encoding: chunked\r\n");
        client.send(head + "2\r\nxx\r\n" + LAST);
        proxy.wait_for_line("response waits");
        read_on.send(()).expect("the origin waits");
        (proxy, origin, client)
    }

    #[test]
    fn wait_for_a_response_hook_that_waits() {
        let (proxy, _origin, mut client) = get_stuck_before_the_trailers(&[]);
        let answer = client.response_to("POST");
        assert_eq!(answer.text(), "abcdef");
        assert_eq!(answer.all("X-Kept"), ["kept while it waits"]);
        assert!(place(&proxy, "response waits") < place(&proxy, "response goes on"));
        assert!(place(&proxy, "response goes on") < place(&proxy, "sees trailers"));
    }

    #[test]
    fn whose_hook_panics_harm_no_hook_that_waits() {
        let (proxy, _origin, mut client) = get_stuck_before_the_trailers(&["panics=true"]);
        client.read_to_end();
        assert!(place(&proxy, "response goes on") < place(&proxy, "sees trailers"));
        proxy.wait_for_line("boom in handle_client_trailers");
        let origin = Origin::answering(OK);
        assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
    }

    #[test]
    fn leave_the_response_where_it_is_seen() {
        let origin = answering_early();
        let command = odd("Pieces", &["way=upstream"]);
        let proxy = beside(command, "Trailers", &[]).start();
        let mut client = proxy.client();
        let head = request("POST", &origin, "/", "Transfer-Encoding: chunked\r\n");
        client.send(head + "2\r\nxx\r\n");
        client.read_until(b"ab");
        client.send(LAST);
        assert_eq!(client.response_to("POST").text(), "abcdef");
        proxy.wait_for_line("pieces upstream: 6 bytes, response seen always");
        proxy.wait_for_line(" - sees trailers");
    }

    #[test]
    fn are_shown_once_though_the_request_is_repeated() {
        let origin = leaving_after_one();
        let command = odd("Whole", &["way=client", "limit=1000"]);
        let proxy = beside(command, "Trailers", &[]).start();
        let mut client = proxy.client();
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
        let head = request("PUT", &origin, "/", "Transfer-Encoding: chunked\r\n");
        let answer = client.ask(head + "2\r\nxx\r\n" + LAST);
        assert_eq!(answer.status(), 200);
        let repeated = origin.requests().pop().expect("it was sent again");
        let calls = repeated
            .trailers
            .iter()
            .filter(|(name, _)| name == "X-Calls");
        let calls: Vec<_> = calls.map(|(_, value)| value.as_slice()).collect();
        assert_eq!(calls, [b"1"]);
        // The access line is the last line of the exchange.
        proxy.wait_for_line(" - PUT ");
        let lines = proxy.lines();
        let told = lines
            .iter()
            .filter(|line| line.ends_with(" - sees trailers"));
        assert_eq!(told.count(), 1);
    }
}

mod plugins_that_cannot_be_asked {
    use super::*;

    #[test]
    fn are_not_passed_by_for_want_of_a_state() {
        let origin = Origin::answering(OK);
        let proxy = odd("NoState", &[]).start();
        for _ in 0..2 {
            let answer = proxy.get(&origin, "/");
            assert_eq!(answer.status(), 500);
            assert!(!answer.text().contains("origin-ok"));
        }
    }

    #[test]
    fn let_nobody_in() {
        let origin = Origin::answering(OK);
        let proxy = odd("NoStateAtLogin", &[]).start();
        for _ in 0..2 {
            assert_eq!(proxy.get(&origin, "/").status(), 500);
        }
        origin.assert_untouched();
    }

    #[test]
    fn are_not_passed_by_after_a_panic() {
        let origin = Origin::answering(OK);
        let proxy = odd("PanicWhenConnected", &[]).start();
        for _ in 0..2 {
            let answer = proxy.get(&origin, "/");
            assert_eq!(answer.status(), 500);
            assert!(!answer.text().contains("origin-ok"));
        }
    }
}

mod heads {
    use super::*;

    #[test]
    fn keep_what_plugins_add_whatever_connection_names() {
        let origin = Origin::answering(
            "HTTP/1.1 200 OK\r\nConnection: X-Zoo, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
        );
        let proxy = Proxy::command().plugin("zoo", "AddField").start();
        let fields = "Connection: X-Zoo, X-Hop\r\nX-Zoo: the client's\r\nX-Hop: 1\r\n";
        let answer = proxy.ask(request("GET", &origin, "/", fields));
        for message in [&answer, &origin.only_request()] {
            assert_eq!(message.all("X-Zoo"), ["was here"], "{}", message.start);
            assert_eq!(message.field("X-Hop"), None, "{}", message.start);
        }
    }

    #[test]
    fn of_a_plugin_promise_no_tunnel() {
        let origin = Origin::answering(OK);
        let proxy = odd("AnswerAll", &[]).start();
        let mut client = proxy.client();
        let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
        client.send(connect.to_owned() + &get(&origin, "/inside-the-tunnel"));
        assert_eq!(client.response_to("CONNECT").status(), 500);
        client.read_to_end();
        assert_eq!(shown(client.rest()), "");
        proxy.wait_for_line(" - CONNECT ");
        assert!(
            !proxy
                .lines()
                .iter()
                .any(|line| line.contains("answers GET"))
        );
        origin.assert_untouched();
    }

    #[test]
    fn that_announce_the_end_of_the_connection_keep_to_it() {
        let origin = Origin::serve(|peer| {
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok");
            peer.wait_for(b"abcd");
            peer.send("ok");
            peer.park();
        });
        let proxy = Proxy::start();
        let mut client = proxy.client();
        client.send(request("POST", &origin, "/1", "Content-Length: 4\r\n") + "ab");
        client.read_until(b"\r\n\r\nok");
        client.try_send("cd".to_owned() + &request("POST", &origin, "/2", "Content-Length: 0\r\n"));
        let answer = client.response_to("POST");
        assert_eq!(answer.text(), "okok");
        assert_eq!(answer.all("Connection"), ["close"]);
        client.read_to_end();
        assert_eq!(shown(client.rest()), "");
        assert_eq!(origin.messages().len(), 1);
    }
}

mod upstreams {
    use super::*;

    /// Only Linux configures more than one loopback address by default.
    #[cfg(target_os = "linux")]
    #[test]
    fn are_connected_to_from_the_source_of_each_exchange() {
        let origin = Origin::serve(|peer| {
            while peer.request().is_some() {
                let source = peer.remote_ip().expect("a connection has two ends");
                peer.send(crate::support::response("200 OK", &source.to_string()));
            }
        });
        let proxy = odd("SourceAddress", &[]).start();
        for _ in 0..2 {
            for source in ["127.0.0.1", "127.0.0.2"] {
                let answer = proxy.ask(format!(
                    "GET http://some.example:{}/ HTTP/1.1\r\nHost: some.example\r\nX-Source: {source}\r\n\r\n",
                    origin.address().port()
                ));
                assert_eq!(answer.text(), source);
            }
        }
        assert_eq!(origin.connections().len(), 2);
    }

    #[test]
    fn that_are_parents_do_not_ask_the_client_for_credentials() {
        let parent = Origin::answering(
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"parent\"\r\n\
             Content-Length: 0\r\n\r\n",
        );
        let url = format!("url=http://user:password@{}", parent.authority());
        let proxy = odd("ViaParent", &[&url]).start();
        let answer = proxy.ask("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.field("Proxy-Authenticate"), None);
        assert!(
            parent
                .only_request()
                .target()
                .starts_with("http://a.example")
        );
    }

    #[test]
    fn that_were_found_in_the_end_leave_no_failure_behind() {
        let origin = Origin::answering(OK);
        let port = format!("port={}", origin.address().port());
        let proxy = odd("FailOver", &["host=127.0.0.1", &port]).start();
        let answer = proxy.ask("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
        assert_eq!(answer.text(), "origin-ok");
        assert_eq!(answer.all("X-Failure"), ["[]"]);
        let line = proxy.wait_for_line(" - failed: ");
        assert!(!line.ends_with("failed: "), "{line}");
    }
}

mod calls {
    use super::*;

    const CALL: &str = "GET http://a.example/call HTTP/1.1\r\nHost: a.example\r\n\r\n";

    fn caller(method: &str, url: &str) -> ProxyCommand {
        let method = format!("method=\"{method}\"");
        odd("Caller", &[&method, &format!("url=\"{url}\"")])
    }

    #[test]
    fn cannot_be_split() {
        let origin = Origin::answering(OK);
        let url = format!("http://{}/", origin.authority());
        for (method, rest) in [
            ("GET", r"?x=A HTTP/1.1\r\nX-Admin: 1\r\nFoo:"),
            ("POST", r"?x=A HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
            ("GET", r"?x=A\nX-Admin: 1"),
            ("GET", "a b"),
            ("GE T", ""),
            (r"GET / HTTP/1.1\r\nX-Admin: 1\r\n\r\nGET", ""),
        ] {
            let proxy = caller(method, &(url.clone() + rest)).start();
            let answer = proxy.ask(CALL);
            assert_eq!(answer.status(), 502, "{method} {rest}");
            assert!(
                answer
                    .text()
                    .contains("contains a space or a control character"),
                "{}",
                answer.text()
            );
        }
        origin.assert_untouched();
    }

    #[test]
    fn that_are_not_idempotent_are_not_repeated() {
        for (method, status, sent) in [("POST", 502, 2), ("GET", 200, 3)] {
            let origin = leaving_after_one();
            let proxy = caller(method, &format!("http://{}/pay", origin.authority())).start();
            assert_eq!(proxy.ask(CALL).text(), "got 200", "{method}");
            assert_eq!(proxy.ask(CALL).status(), status, "{method}");
            assert_eq!(origin.messages().len(), sent, "{method}");
        }
    }

    #[test]
    fn with_credentials_of_their_connection_leave_none_behind() {
        for (authorization, connections) in [("Basic abc", 1), ("Negotiate abc", 2)] {
            let origin = Origin::answering(OK);
            let proxy = caller("GET", &format!("http://{}/", origin.authority()))
                .plugin_config(&format!("Caller.authorization={authorization}"))
                .start();
            assert_eq!(proxy.ask(CALL).text(), "got 200");
            assert_eq!(proxy.get(&origin, "/").text(), "origin-ok");
            assert_eq!(origin.connections().len(), connections, "{authorization}");
        }
    }
}

mod connections {
    use super::*;
    use rustix::process::Signal;
    use std::time::{Duration, Instant};

    #[test]
    fn end_for_those_who_were_told_of_their_beginning() {
        let command = odd("Visitors", &["label=early"]).plugin("odd", "Doorman");
        let proxy = beside(command, "VisitorsB", &["label=late"]).start();
        let mut client = proxy.client();
        client.read_to_end();
        proxy.wait_for_line("early went");
        proxy.signal(Signal::TERM);
        let exit = proxy.wait();
        assert!(exit.stdout.contains("early came"), "{}", exit.stdout);
        assert!(!exit.stdout.contains("late "), "{}", exit.stdout);
    }

    #[test]
    fn leave_no_work_that_keeps_the_process() {
        let origin = Origin::answering(OK);
        let proxy = odd("Blocker", &["seconds=20"]).start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        proxy.wait_for_line("blocks");
        client.reset();
        let started = Instant::now();
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait().code, Some(0));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
