//! Filters that rewrite a request's method and host, and everything that depends on them.

use crate::support::tls::{Answer, Ask, Identity, Offer, Pki};
use crate::support::{OK, Origin, Proxy, ProxyCommand, request};

/// A proxy with the filter, followed by one that logs what it sees.
fn rewriting(command: ProxyCommand, settings: &[String]) -> ProxyCommand {
    let command = command
        .plugin("rewrites", "Rewrite")
        .plugin("rewrites", "Tell");
    settings.iter().fold(command, |command, setting| {
        command.plugin_config(&format!("Rewrite.{setting}"))
    })
}

fn to_host(command: ProxyCommand, at: &str, host: &str, port: u16) -> ProxyCommand {
    let settings = [
        format!("at='{at}'"),
        format!("host='{host}'"),
        format!("port={port}"),
    ];
    rewriting(command, &settings)
}

fn with_method(at: &str, method: &str) -> Proxy {
    let settings = [format!("at='{at}'"), format!("method='{method}'")];
    rewriting(Proxy::command(), &settings).start()
}

#[test]
fn a_request_goes_to_the_host_that_it_is_made_one_for() {
    for at in ["connection", "request"] {
        let (asked, meant) = (Origin::silent(), Origin::answering(OK));
        let port = meant.address().port();
        let proxy = to_host(Proxy::command(), at, "[::FFFF:127.0.0.1]", port).start();
        let mut client = proxy.client();
        for _ in 0..2 {
            let answer = client.ask(request("GET", &asked, "/x", ""));
            assert_eq!(answer.text(), "origin-ok", "{at}");
        }
        asked.assert_untouched();
        assert_eq!(meant.connections().len(), 1, "they share a connection");
        for request in meant.requests() {
            assert_eq!(request.target(), "/x");
            assert_eq!(request.all("Host"), [format!("127.0.0.1:{port}")]);
        }
        let line = proxy.wait_for_line("/x");
        let host = format!("127.0.0.1:{port}");
        assert!(
            line.ends_with(&format!("sees=GET,{host},{host},{host},true")),
            "{line}"
        );
    }
}

#[test]
fn a_request_whose_content_is_here_can_still_be_one_for_another_host() {
    let (asked, meant) = (Origin::silent(), Origin::answering(OK));
    let proxy = to_host(
        Proxy::command(),
        "body",
        "127.0.0.1",
        meant.address().port(),
    )
    .start();
    let answer = proxy.ask(format!(
        "{}body",
        request("POST", &asked, "/", "Content-Length: 4\r\n")
    ));
    assert_eq!(answer.status(), 200);
    assert_eq!(meant.only_request().text(), "body");
    asked.assert_untouched();
}

#[test]
fn rules_about_hosts_hold_for_the_new_one() {
    let (asked, denied) = (Origin::silent(), Origin::silent());
    let port = denied.address().port();
    let proxy = to_host(Proxy::command(), "connection", "localhost", port)
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin_config("FilterByUpstreamHost.hosts=['localhost']")
        .start();
    assert_eq!(proxy.get(&asked, "/").status(), 418);
    denied.assert_untouched();
    asked.assert_untouched();
}

#[test]
fn inside_a_tunnel_the_new_host_is_verified_and_asked() {
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let tunnelled = pki
            .origin()
            .offering(offer)
            .answering(Answer::ok("tunnelled"));
        let meant = pki.origin().offering(offer).answering(Answer::ok("meant"));
        let port = meant.address().port();
        let proxy = to_host(pki.intercepting(), "request", "localhost", port).start();
        let mut session = pki
            .client(&proxy)
            .offering(offer)
            .https(&tunnelled.authority());
        for _ in 0..2 {
            let answer = session.ask(Ask::get(&tunnelled.authority(), "/"));
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "meant"),
                "{offer:?}"
            );
        }
        tunnelled.assert_unasked();
        let seen = meant.requests();
        assert_eq!(seen.len(), 2);
        proxy.wait_for_line(&format!(
            ",localhost:{port},localhost:{port},localhost:{port},true"
        ));
    }
}

#[test]
fn a_new_host_that_the_certificate_is_not_for_gets_nothing() {
    let pki = Pki::new();
    let tunnelled = pki.origin().answering(Answer::ok("tunnelled"));
    let meant = pki
        .origin()
        .identity(Identity::WrongHost)
        .answering(Answer::ok("meant"));
    let proxy = to_host(
        pki.intercepting(),
        "request",
        "localhost",
        meant.address().port(),
    )
    .start();
    let answer = pki.client(&proxy).get(&tunnelled.authority(), "/");
    assert_eq!(answer.status, 502);
    tunnelled.assert_unasked();
    meant.assert_unasked();
}

#[test]
fn a_tunnel_to_an_address_proves_nothing_for_a_new_host_and_needs_to_prove_nothing() {
    let pki = Pki::new();
    let tunnelled = pki.origin().answering(Answer::ok("tunnelled"));
    let meant = Origin::answering(OK);
    let port = meant.address().port();
    let proxy = to_host(pki.intercepting(), "request", "localhost", port).start();
    let mut pipe = pki.client(&proxy).tunnel(&meant.authority());
    pipe.send(format!(
        "GET / HTTP/1.1\r\nHost: claimed.test:{port}\r\n\r\n"
    ));
    pipe.read_until(b"origin-ok");
    proxy.wait_for_line(&format!(
        "sees=GET,localhost:{port},localhost:{port},localhost:{port},true"
    ));
    tunnelled.assert_unasked();
}

#[test]
fn who_asks_head_gets_no_content_whatever_the_upstream_is_asked() {
    for response in [
        OK.to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_owned(),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}",
            "x".repeat(2_000_000)
        ),
    ] {
        let origin = Origin::answering(response);
        let proxy = with_method("connection", "GET");
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(request("HEAD", &origin, "/x", ""));
            let answer = client.response_to("HEAD");
            assert_eq!(answer.status(), 200);
        }
        assert!(client.rest().is_empty());
        let requests = origin.requests();
        assert!(
            requests
                .iter()
                .all(|request| request.start.starts_with("GET /x "))
        );
        let line = proxy.wait_for_line("sees=GET,");
        assert!(
            line.contains(" HEAD "),
            "the log has the client's method: {line}"
        );
    }
}

#[test]
fn who_asks_get_gets_a_whole_response_from_an_upstream_that_is_asked_head() {
    let origin = Origin::serve(|peer| {
        while let Some(request) = peer.request() {
            assert!(request.start.starts_with("HEAD "));
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Encoding: gzip\r\nX: y\r\n\r\n",
            );
        }
    });
    let proxy = with_method("request", "HEAD");
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.ask(request("GET", &origin, "/x", ""));
        assert_eq!((answer.status(), answer.text().as_str()), (200, ""));
        assert_eq!(answer.all("Content-Length"), ["0"]);
        assert_eq!(answer.field("Content-Encoding"), None);
        assert_eq!(answer.field("X").as_deref(), Some("y"));
    }
    assert_eq!(origin.connections().len(), 1, "the connection is kept");
}

#[test]
fn methods_change_over_http2_as_well() {
    for (client_method, method) in [("HEAD", "GET"), ("GET", "HEAD"), ("GET", "POST")] {
        let pki = Pki::new();
        let origin = pki
            .origin()
            .offering(Offer::Http2)
            .answering(Answer::ok("content"));
        let settings = ["at='request'".to_owned(), format!("method='{method}'")];
        let proxy = rewriting(pki.intercepting(), &settings).start();
        let authority = origin.authority();
        let mut session = pki.client(&proxy).offering(Offer::Http2).https(&authority);
        for _ in 0..2 {
            let answer = session.ask(Ask::new(client_method, &authority, "/"));
            let content = if method == "POST" { "content" } else { "" };
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, content),
                "{method}"
            );
        }
        assert!(origin.requests().iter().all(|seen| seen.method == method));
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    for (setting, expected) in [
        ("method=''", "not a valid value"),
        ("method='G T'", "not a valid value"),
        ("method=\"GET\\r\\nX: y\"", "not a valid value"),
        ("method='CONNECT'", "this hook may not change that"),
        ("host=''\nRewrite.port=80", "not a valid name"),
        ("host='a b'\nRewrite.port=80", "not a valid name"),
        ("host='127.1'\nRewrite.port=80", "not a valid name"),
        ("host='a.test:80'\nRewrite.port=80", "not a valid name"),
        ("host='a.test'\nRewrite.port=0", "not a valid value"),
    ] {
        let origin = Origin::answering(OK);
        let mut settings = vec!["at='request'".to_owned()];
        settings.extend(setting.split("\nRewrite.").map(str::to_owned));
        let proxy = rewriting(Proxy::command(), &settings).start();
        assert_eq!(proxy.get(&origin, "/x").text(), "origin-ok", "{setting}");
        let line = proxy.wait_for_line("/x");
        assert!(
            line.contains(&format!("refused={expected}")),
            "{setting}: {line}"
        );
        assert!(origin.only_request().start.starts_with("GET /x "));
    }
}

#[test]
fn it_is_refused_once_the_upstream_is_chosen_and_for_tunnels() {
    for setting in ["method='POST'", "host='other.test'"] {
        let origin = Origin::answering(OK);
        let settings = ["at='response'", setting, "port=80"].map(str::to_owned);
        let proxy = rewriting(Proxy::command(), &settings).start();
        assert_eq!(proxy.get(&origin, "/x").text(), "origin-ok");
        let line = proxy.wait_for_line("/x");
        assert!(
            line.contains("refused=this hook may not change that"),
            "{line}"
        );

        let settings = ["at='connection'", setting, "port=80"].map(str::to_owned);
        let proxy = rewriting(Proxy::command(), &settings).start();
        let mut tunnel = proxy.tunnel(&origin);
        assert_eq!(
            tunnel.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
            "origin-ok"
        );
        drop(tunnel);
        let line = proxy.wait_for_line("CONNECT");
        assert!(
            line.contains("refused=this hook may not change that"),
            "{line}"
        );
    }
}

#[test]
fn content_cannot_be_sent_with_trace() {
    let origin = Origin::answering(OK);
    let proxy = with_method("request", "TRACE");
    let answer = proxy.ask(format!(
        "{}body",
        request("POST", &origin, "/x", "Content-Length: 4\r\n")
    ));
    assert_eq!(answer.status(), 200);
    let line = proxy.wait_for_line("/x");
    assert!(line.contains("refused=not a valid value"), "{line}");
    assert!(origin.only_request().start.starts_with("POST "));
}
