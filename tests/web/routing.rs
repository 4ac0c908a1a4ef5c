//! Who answers a request: the web server, an origin, or neither.

use super::{Site, ask, assert_refused, empty, get};
use crate::support::tls::{Answer, Ask, Form, Pki, Version, Way};
use crate::support::{End, Framing, OK, Origin, Proxy, request};

#[test]
fn on_one_connection_origin_form_is_answered_and_the_rest_forwarded() {
    let origin = Origin::answering(OK);
    let echo = Origin::echoing();
    let proxy = empty().start();
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.ask(get("/here")).status(), 404);
        let forwarded = client.ask(crate::support::get(&origin, "/there"));
        assert_eq!(forwarded.text(), "origin-ok");
    }
    let authority = echo.authority();
    let tunnel = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    assert_eq!(client.ask(tunnel).status(), 200);
    client.send("through");
    assert_eq!(client.read_exact(7), b"through");
    let targets: Vec<String> = origin
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(targets, ["/there", "/there"]);
}

#[test]
fn pipelined_requests_are_answered_in_their_order_whoever_answers() {
    let origin = Origin::answering(OK);
    let site = Site::new();
    site.write("a.txt", "file a");
    let proxy = site.command().plugin("routes", "Pages").start();
    let mut client = proxy.client();
    let there = crate::support::get(&origin, "/");
    let requests = [
        get("/a.txt"),
        there.clone(),
        get("/plain"),
        get("/none"),
        there,
        ask("HEAD", "/plain", ""),
        get("/users/7"),
    ];
    client.send(requests.concat());
    let answers = requests.map(|request| {
        let method = request.split(' ').next().unwrap_or_default();
        let answer = client.response_to(method);
        (answer.status(), answer.text())
    });
    let texts: Vec<&str> = answers.iter().map(|(_, text)| &**text).collect();
    assert_eq!(
        answers.each_ref().map(|answer| answer.0),
        [200, 200, 200, 404, 200, 200, 200]
    );
    assert_eq!(texts[..3], ["file a", "origin-ok", "plain"]);
    assert_eq!(texts[4..], ["origin-ok", "", "GET id=\"7\""]);
}

#[test]
fn without_the_proxy_absolute_form_is_answered_too_and_connect_refused() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .args(["--disable-http-proxy"])
        .plugin("routes", "Pages")
        .start();
    let mut client = proxy.client();
    let plain = client.ask(crate::support::get(&origin, "/plain"));
    assert_eq!((plain.status(), plain.text()), (200, "plain".into()));
    assert_eq!(client.ask(crate::support::get(&origin, "/x")).status(), 404);
    assert_eq!(client.ask(get("/plain")).text(), "plain");
    let authority = origin.authority();
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let refused = client.ask(connect);
    assert_eq!(refused.status(), 403);
    assert!(
        refused.text().contains("--disable-http-proxy"),
        "{}",
        refused.text()
    );
    origin.assert_untouched();
}

#[test]
fn without_the_proxy_there_has_to_be_something_to_serve() {
    let exit = Proxy::command().args(["--disable-http-proxy"]).run();
    assert_refused(
        &exit,
        &[
            "leaves nothing to serve",
            "--enable-web-server",
            "--pac-file",
        ],
    );
    let filter = Proxy::command().args(["--disable-http-proxy"]);
    assert_refused(
        &filter.plugin("zoo", "Nothing").run(),
        &["nothing to serve"],
    );
    // A web server without routes and files is still something to serve.
    let proxy = empty().args(["--disable-http-proxy"]).start();
    assert_eq!(proxy.ask(get("/")).status(), 404);
}

#[test]
fn without_a_web_server_the_client_is_told_how_a_proxy_is_asked() {
    let proxy = Proxy::start();
    for path in ["/", "/wpad.dat", "/index.html"] {
        let answer = proxy.ask(get(path));
        assert_eq!(answer.status(), 400);
        let text = answer.text();
        assert!(text.contains("proxy"), "{text}");
        assert!(
            text.contains("http://") || text.contains("absolute"),
            "{text}"
        );
    }
}

#[test]
fn what_is_not_there_is_said_shortly_and_the_connection_goes_on() {
    let proxy = empty().start();
    let mut client = proxy.client();
    let answer = client.ask(get("/none"));
    assert!(answer.is_sound());
    assert_eq!(answer.start, "HTTP/1.1 404 Not Found");
    assert_eq!(answer.framing, Framing::Length);
    assert!((1..200).contains(&answer.body.len()), "{}", answer.text());
    assert_eq!(answer.all("Connection"), [""; 0]);
    assert_eq!(answer.all("Server").len(), 1);
    assert_eq!(answer.all("Via"), [""; 0]);
    assert_eq!(answer.all("Proxy-Status"), [""; 0]);
    let head = client.ask(ask("HEAD", "/none", ""));
    assert_eq!((head.status(), head.body.len()), (404, 0));
    assert_eq!(head.field("Content-Length"), answer.field("Content-Length"));
    assert_eq!(client.ask(get("/none")).status(), 404);
    assert_eq!(client.rest(), b"");
}

#[test]
fn the_access_line_of_a_request_has_no_upstream() {
    let proxy = Proxy::command().plugin("routes", "Pages").start();
    let mut client = proxy.client();
    let local = client.socket().local_addr();
    let local = local.expect("a connected socket has an address");
    let missing = client.ask(get("/none?a=b"));
    let line = proxy.wait_for_line("/none?a=b - ");
    let len = missing.len;
    let wanted = format!(" - {local} - GET /none?a=b - 404 Not Found - {len} bytes - ");
    assert!(line.contains(&wanted), "{wanted}\n{line}");
    let page = client.ask(get("/plain"));
    let line = proxy.wait_for_line("/plain - ");
    let wanted = format!(" - GET /plain - 200 OK - {} bytes - ", page.len);
    assert!(line.contains(&wanted), "{wanted}\n{line}");
    client.ask(get("/facts"));
    let line = proxy.wait_for_line("/facts - ");
    assert!(line.contains("page=facts"), "{line}");
}

#[test]
fn files_have_access_lines_as_well() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = site.serve();
    for (request, path, status) in [
        (get("/a.txt"), "GET /a.txt", "200 OK"),
        (ask("HEAD", "/a.txt?h", ""), "HEAD /a.txt?h", "200 OK"),
        (get("/none"), "GET /none", "404 Not Found"),
        (
            ask("PUT", "/a.txt?p", ""),
            "PUT /a.txt?p",
            "405 Method Not Allowed",
        ),
    ] {
        let answer = proxy.ask(&request);
        let line = proxy.wait_for_line(&format!(" - {path} - "));
        let wanted = format!(" - {path} - {status} - {} bytes - ", answer.len);
        assert!(line.contains(&wanted), "{wanted}\n{line}");
    }
}

#[test]
fn content_for_nothing_is_not_read_and_ends_the_connection() {
    let site = Site::new();
    site.write("a.txt", "content");
    let servers = [empty().start(), site.serve()];
    for (proxy, path) in servers.iter().zip(["/none", "/a.txt"]) {
        for fields in ["Content-Length: 19\r\n", "Transfer-Encoding: chunked\r\n"] {
            let mut client = proxy.client();
            // The content looks like a second request.
            let asked = ask("POST", path, fields) + "GET / HTTP/1.1\r\n\r\n";
            let answer = client.ask(asked);
            assert!(matches!(answer.status(), 404 | 405), "{}", answer.start);
            assert_eq!(answer.all("Connection"), ["close"]);
            assert_eq!(client.read_to_end(), End::Closed);
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn http10_gets_an_answer_and_the_end() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = site.command().plugin("routes", "Pages").start();
    for (path, status) in [("/none", 404), ("/a.txt", 200), ("/plain", 200)] {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.framing, Framing::Length);
        assert_eq!(client.read_to_end(), End::Closed);
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn over_tls_both_versions_reach_the_web_server_and_the_proxy() {
    let pki = Pki::new();
    let site = Site::new();
    site.write("a.txt", "content");
    let origin = pki.origin().serve_clear(|_| Answer::ok("origin-ok"));
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .args(site.arguments())
        .plugin("routes", "Pages")
        .start();
    let here = proxy.address().to_string();
    for (way, version) in [(Way::Tls, Version::Http1), (Way::Http2, Version::Http2)] {
        let client = pki.client(&proxy).over(way);
        let mut session = client.pipe().session(Form::Origin("https"));
        for _ in 0..2 {
            let file = session.ask(Ask::get(&here, "/a.txt"));
            assert_eq!(file.told(), (200, "content".into()));
            assert_eq!(file.version, version);
            let page = session.ask(Ask::get(&here, "/users/a%20b?q"));
            assert_eq!(page.told(), (200, "GET id=\"a b\"".into()));
            assert_eq!(session.ask(Ask::get(&here, "/none")).status, 404);
        }
        let facts = session.ask(Ask::get("some.example", "/facts")).text();
        let client_at = session.local.to_string();
        assert!(
            facts.starts_with(&client_at) && facts.ends_with(" https /facts"),
            "{facts}"
        );
        let mut session = client.session();
        let forwarded = session.ask(Ask::get(&origin.authority(), "/there"));
        assert_eq!(forwarded.told(), (200, "origin-ok".into()));
    }
}

#[test]
fn a_route_may_be_for_tls_or_for_clear_connections_alone() {
    let pki = Pki::new();
    let routes =
        "Told.routes=[{ pattern = '/tls', kind = 'https' }, { pattern = '/clear', kind = 'http' }]";
    let told = |command: crate::support::ProxyCommand| {
        command
            .plugin("routes", "Told")
            .plugin_config(routes)
            .start()
    };
    let clear = told(Proxy::command());
    let secure = told(pki.relaying().args(pki.listener()));
    assert_eq!(clear.ask(get("/clear")).status(), 200);
    assert_eq!(clear.ask(get("/tls")).status(), 404);
    for way in [Way::Tls, Way::Http2] {
        let mut session = pki
            .client(&secure)
            .over(way)
            .pipe()
            .session(Form::Origin("https"));
        assert_eq!(session.ask(Ask::get("here", "/tls")).status, 200);
        assert_eq!(session.ask(Ask::get("here", "/clear")).status, 404);
    }
}

/// Filters apply only to forwarded requests.
#[test]
fn filters_are_not_asked_about_requests_for_the_proxy_itself() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("odd", "AnswerAll")
        .plugin("routes", "Pages")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.ask(get("/plain")).text(), "plain");
    assert_eq!(client.ask(get("/none")).status(), 404);
    let filtered = client.ask(request("GET", &origin, "/plain", ""));
    assert_eq!(filtered.text(), "hi");
    origin.assert_untouched();
}

/// `OPTIONS *` addresses the server as a whole and has no path.
#[test]
fn options_of_the_whole_server_are_answered() {
    let proxy = empty().start();
    let answer = proxy.ask("OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(matches!(answer.status(), 200 | 204), "{}", answer.start);
}
