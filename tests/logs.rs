//! The log: one line per exchange in the layout that people know, and no secret in any line.

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
        assert_eq!(level, "INFO");
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
    // As the origin sent it, or as the client got it.
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
    assert!(
        verbose
            .lines()
            .iter()
            .any(|line| line.contains(" - DEBUG - "))
    );
}
