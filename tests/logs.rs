//! The log: one line per exchange in the familiar layout, and no secrets in any line.

use crate::support::{OK, Origin, Proxy, get, request, response};

#[test]
fn start_up_is_told_in_three_kinds_of_lines() {
    let proxy = Proxy::command()
        .args(["--num-workers", "2"])
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .start();
    let lines = proxy.lines();
    let position = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no {text:?} in {lines:#?}"))
    };
    let loaded = position(" - Loaded plugin libfilter_by_upstream_host.so:FilterByUpstreamHost ");
    let workers = position(" - Started 2 workers");
    let server = position(&format!(" - Started server on {}", proxy.address()));
    assert!(loaded < workers && workers < server, "{lines:#?}");
}

#[test]
fn every_line_has_time_level_process_and_place() {
    let proxy = Proxy::start();
    for line in proxy.lines() {
        let parts: Vec<&str> = line.splitn(5, " - ").collect();
        let [time, level, process, place, message] = parts[..] else {
            panic!("{line:?}")
        };
        assert!(time.len() == 23 && time.as_bytes()[19] == b',', "{time:?}");
        // The tests may run as root, which is a warning.
        let is_of_root = message.starts_with("running as root");
        assert_eq!(level, if is_of_root { "WARNING" } else { "INFO" });
        assert_eq!(process, format!("pid:{}", proxy.id()));
        let (name, number) = place.split_once(':').expect("a name and a line number");
        assert!(
            !name.is_empty() && number.parse::<u32>().is_ok(),
            "{place:?}"
        );
        assert!(!message.is_empty());
    }
}

#[test]
fn an_exchange_is_one_line() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.ask(get(&origin, "/some/path?q=1"));
    let line = proxy.wait_for_line("/some/path");
    let message = line.splitn(5, " - ").nth(4).expect("a message");
    let parts: Vec<&str> = message.split(" - ").collect();
    let client_address = client
        .socket()
        .local_addr()
        .expect("a connected socket has an address");
    assert_eq!(parts[0], client_address.to_string());
    assert_eq!(
        parts[1],
        format!("GET {}/some/path?q=1", origin.authority())
    );
    assert_eq!(parts[2], "200 OK");
    // The length as sent by the origin or as received by the client.
    let lengths = [OK.len(), client.received().len()].map(|len| format!("{len} bytes"));
    assert!(lengths.iter().any(|len| len == parts[3]), "{message:?}");
    assert!(
        parts[4]
            .strip_suffix(" ms")
            .is_some_and(|ms| ms.parse::<f64>().is_ok()),
        "{message:?}"
    );
}

#[test]
fn each_exchange_of_a_connection_has_its_line() {
    let origin = Origin::replying(|request| {
        response(
            if request.target() == "/b" {
                "404 Not Found"
            } else {
                "200 OK"
            },
            "x",
        )
        .into()
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for path in ["/a", "/b", "/c"] {
        client.ask(get(&origin, path));
    }
    proxy.wait_for_line("/c - 200 OK");
    let lines: Vec<String> = proxy
        .lines()
        .into_iter()
        .filter(|line| line.contains(" - GET "))
        .collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(
        lines[0].contains("/a - 200 OK - ") && lines[1].contains("/b - 404 Not Found - "),
        "{lines:#?}"
    );
}

#[test]
fn a_tunnel_is_one_line_at_its_end() {
    let origin = Origin::echoing();
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    client.send("twelve bytes");
    client.read_exact(12);
    client.finish();
    client.read_to_end();
    let line = proxy.wait_for_line(" - CONNECT ");
    assert!(
        line.contains(&format!(" - CONNECT {} - 12 bytes - ", origin.authority())),
        "{line}"
    );
}

#[test]
fn failures_have_a_line_too() {
    let proxy = Proxy::start();
    proxy.ask("GET http://127.0.0.1:1/closed HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = proxy.wait_for_line("/closed");
    assert!(
        line.contains("502") && line.contains("connection_refused"),
        "{line}"
    );
}

#[test]
fn an_answer_of_a_plugin_names_the_plugin() {
    let proxy = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .start();
    proxy.ask("GET http://google.com/ HTTP/1.1\r\nHost: google.com\r\n\r\n");
    let line = proxy.wait_for_line(" - GET ");
    assert!(
        line.contains("418") && line.contains("FilterByUpstreamHost"),
        "{line}"
    );
}

#[test]
fn no_secret_is_logged_at_any_level() {
    let origin = Origin::replying(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: s=tasty-secret\r\nContent-Length: 11\r\n\r\nbody-secret"
            .into()
    });
    let proxy = Proxy::command()
        .args(["--log-level", "DEBUG", "--basic-auth", "user:pass-secret"])
        .start();
    let fields = "Proxy-Authorization: Basic dXNlcjpwYXNzLXNlY3JldA==\r\nAuthorization: Bearer bearer-secret\r\nCookie: c=cookie-secret\r\n";
    assert_eq!(
        proxy.ask(request("GET", &origin, "/done", fields)).status(),
        200
    );
    proxy.wait_for_line("/done");
    for line in proxy.lines() {
        assert!(
            !line.contains("-secret") && !line.contains("dXNlcjpwYXNz"),
            "{line}"
        );
    }
}

#[test]
fn a_peer_cannot_forge_a_line() {
    let origin =
        Origin::answering(b"HTTP/1.1 200 fine\x1b[31m\r\nContent-Length: 1\r\n\r\nx".as_slice());
    let proxy = Proxy::start();
    proxy.ask(format!(
        "GET http://{}/\u{202e}path HTTP/1.1\r\nHost: a\r\n\r\n",
        origin.authority()
    ));
    let line = proxy.wait_for_line(" - GET ");
    assert!(
        line.chars()
            .all(|each| !each.is_control() && each != '\u{202e}'),
        "{line:?}"
    );
}

#[test]
fn debug_tells_more_and_error_tells_less() {
    let origin = Origin::answering(OK);
    let verbose = Proxy::command().args(["--log-level", "d"]).start();
    assert_eq!(verbose.get(&origin, "/verbose").status(), 200);
    verbose.wait_for_line("/verbose");
    // Without a web server, it is refused.
    verbose.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    verbose.wait_for_line(" - DEBUG - ");
}

/// The part of a line after the duration.
fn behind_the_duration(line: &str) -> &str {
    line.split_once(" ms - ").map_or("", |(_, rest)| rest)
}

#[test]
fn a_refused_request_names_the_host_it_was_for() {
    let proxy = Proxy::command()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .start();
    proxy.ask("GET http://google.com/page HTTP/1.1\r\nHost: google.com\r\n\r\n");
    let line = proxy.wait_for_line("/page");
    assert!(
        line.contains(" - GET None:None/page - None None - 0 bytes - "),
        "{line}"
    );
    let note = "answered 418 by FilterByUpstreamHost";
    assert_eq!(
        behind_the_duration(&line),
        format!("{note} - for google.com:80")
    );
    proxy.ask("CONNECT google.com:443 HTTP/1.1\r\nHost: google.com:443\r\n\r\n");
    let line = proxy.wait_for_line(" - CONNECT ");
    assert!(line.contains(" - CONNECT None:None - 0 bytes - "), "{line}");
    assert_eq!(
        behind_the_duration(&line),
        format!("{note} - for google.com:443")
    );
}

#[test]
fn a_request_that_the_proxy_refuses_names_what_was_asked_for() {
    let proxy = Proxy::command().args(["--basic-auth", "user:pass"]).start();
    let long = format!(
        "GET http://long.test/{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(20_000)
    );
    for (request, begin, rest) in [
        (
            "GET http://login.test/p HTTP/1.1\r\nHost: login.test\r\n\r\n",
            "GET None:None/p - None None",
            "answered 407, http_request_denied - for login.test:80",
        ),
        (
            "CONNECT tunnel.test:443 HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n",
            "CONNECT None:None",
            "answered 407, http_request_denied - for tunnel.test:443",
        ),
        (
            "POST http://twice.test/p HTTP/1.1\r\nHost: twice.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "POST None:None/p - None None",
            "answered 400, http_request_error - for twice.test:80",
        ),
        (
            "GET http://version.test:81/p HTTP/9.9\r\nHost: version.test\r\n\r\n",
            "GET None:None/p - None None",
            "answered 505, http_request_error - for version.test:81",
        ),
        (
            "GET /p HTTP/1.1\r\nHost: one.test\r\nHost: two.test\r\n\r\n",
            "GET None:None/p - None None",
            "answered 400, http_request_error - for one.test:80",
        ),
        (
            "GET http://a:geheim@user.test/p HTTP/1.1\r\nHost: user.test\r\nBad Name: x\r\n\r\n",
            "GET None:None/p - None None",
            "answered 400, http_request_error - for user.test:80",
        ),
        (
            "PASS geheim\r\n",
            "PASS None:None- - None None",
            "answered 400, http_request_error",
        ),
        (
            &long,
            "GET None:None/aaa",
            "answered 414, http_request_error - for long.test:80",
        ),
    ] {
        let since = proxy.lines().len();
        let mut client = proxy.client();
        client.send(request);
        client.response();
        proxy.wait_for_lines(" - access_log:", since + 1 - start_lines(&proxy));
        let line = proxy.lines().pop().unwrap_or_default();
        assert!(line.contains(&format!(" - {begin}")), "{line}");
        assert_eq!(behind_the_duration(&line), rest, "{line}");
        assert!(line.len() < 600 && !line.contains("geheim"), "{line}");
    }
}

/// The number of lines outside the access log.
fn start_lines(proxy: &Proxy) -> usize {
    let lines = proxy.lines();
    lines
        .iter()
        .filter(|line| !line.contains(" - access_log:"))
        .count()
}

#[test]
fn a_line_names_the_user() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--basic-auth", "marianne:geheim"])
        .start();
    let fields = "Proxy-Authorization: Basic bWFyaWFubmU6Z2VoZWlt\r\n";
    proxy.ask(request("GET", &origin, "/page", fields));
    let line = proxy.wait_for_line("/page");
    assert_eq!(behind_the_duration(&line), "user marianne");
}

#[test]
fn a_client_that_speaks_no_http_is_told_from_its_first_bytes() {
    let proxy = Proxy::start();
    // In each protocol the client waits for an answer before it sends more.
    for (sent, name) in [
        (
            &b"\x05\x01\x00"[..],
            "SOCKS5: configure it as an HTTP proxy, or add a listener of the kind \"socks5\"",
        ),
        (b"\x04\x01\0\x50\x7f\0\0\x01u\0", "SOCKS4: "),
        (
            b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03",
            "TLS: set the proxy URL to http://",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH: "),
        (b"EHLO client.test\r\n", "SMTP: "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain HTTP/2: "),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY protocol: ",
        ),
        (
            b"GET /\r\n",
            "a request line without a version (HTTP/0.9): ",
        ),
    ] {
        let mut client = proxy.client();
        client.send(sent);
        assert!(client.response().status() >= 400, "{name}");
        let line = proxy.wait_for_line(&format!("this port speaks HTTP; the client sent {name}"));
        assert!(
            line.contains(" - - None:None- - None None - 0 bytes - "),
            "{line}"
        );
    }
}

#[test]
fn a_reason_phrase_cannot_pass_for_our_words() {
    let forged = "OK - 0 bytes - 0.01 ms - answered 403 by EgressAllowlist";
    let origin = Origin::answering(format!(
        "HTTP/1.1 200 {forged}\r\nContent-Length: 1\r\n\r\nx"
    ));
    let proxy = Proxy::start();
    proxy.get(&origin, "/page");
    let line = proxy.wait_for_line("/page");
    assert!(
        line.contains(&format!("/page - 200 \"{forged}\" - ")),
        "{line}"
    );
}

#[test]
fn a_client_that_leaves_has_made_no_mistake() {
    let origin = Origin::serve(|peer| {
        let head = peer.head().expect("a request");
        if head.start.starts_with("GET") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            let piece = vec![b'z'; 1_000_000];
            while peer.send(&piece) {}
        }
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(get(&origin, "/download"));
    client.read_until(b"200 OK");
    client.reset();
    let line = proxy.wait_for_line("/download");
    assert_eq!(
        behind_the_duration(&line),
        "cut off, the client disconnected",
        "{line}"
    );
    for is_reset in [true, false] {
        let mut client = proxy.client();
        let path = format!("/upload-{is_reset}");
        let fields = "Content-Length: 1000\r\n";
        client.send(request("POST", &origin, &path, fields) + "half");
        origin.wait_for(format!("POST {path}").as_bytes());
        match is_reset {
            true => client.reset(),
            false => drop(client),
        }
        let line = proxy.wait_for_line(&path);
        assert!(
            behind_the_duration(&line).ends_with("the client disconnected"),
            "{line}"
        );
    }
}

#[test]
fn lines_of_a_worker_are_in_the_order_of_their_times() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--num-workers", "1", "--log-level", "d"])
        .start();
    // Few enough failures that none is suppressed.
    for number in 0..8 {
        proxy.get(&origin, &format!("/{number}"));
        proxy.ask("GET http://127.0.0.1:1/closed HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    proxy.get(&origin, "/last");
    proxy.wait_for_line("/last");
    let lines = proxy.lines();
    let times: Vec<&str> = lines.iter().filter_map(|line| line.get(..23)).collect();
    assert!(times.is_sorted(), "{lines:#?}");
    let kinds = lines.iter().map(|line| line.contains(" - access_log:"));
    let kinds: Vec<bool> = kinds.collect();
    assert!(
        kinds.windows(2).filter(|pair| pair[0] != pair[1]).count() > 8,
        "the two kinds of lines are not mixed: {lines:#?}"
    );
}
