//! Requests that break a rule, or resemble another kind of request.

use super::{Site, ask, empty, get};
use crate::support::{End, OK, Origin, Proxy, ProxyCommand};

/// A proxy with a web server, a PAC file and a plugin with routes.
fn all(site: &Site) -> ProxyCommand {
    let pac = "function FindProxyForURL(url, host) { return \"DIRECT\"; }";
    site.command()
        .args(["--pac-file", pac, "--pac-file-url-path", "/pac"])
        .plugin("routes", "Pages")
}

#[test]
fn a_target_that_is_too_long_gets_414() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = all(&site).start();
    let long = "x".repeat(64 * 1024);
    for path in ["/a.txt?", "/plain?", "/pac?", "/none?", "/"] {
        let mut client = proxy.client();
        client.send(get(&format!("{path}{long}")));
        let answer = client.response();
        assert_eq!(answer.status(), 414, "{path}");
        client.read_to_end();
        assert_eq!(client.rest(), b"");
    }
    // A long query within the limit.
    let query = "q=".to_owned() + &"x".repeat(4000);
    assert_eq!(proxy.ask(get(&format!("/plain?{query}"))).text(), "plain");
}

#[test]
fn percent_encoding_that_is_none_gets_400() {
    let site = Site::new();
    let proxy = all(&site).start();
    let mut client = proxy.client();
    for path in [
        "/%",
        "/%f",
        "/%zz",
        "/users/%",
        "/users/%4",
        "/users/%g1",
        "/users/%+1",
        "/users/%ff",
        "/plain%",
        "/pac%2",
        "/rest/%c3",
    ] {
        let answer = client.ask(get(path));
        assert_eq!(answer.status(), 400, "{path}: {}", answer.start);
        assert!(answer.is_sound(), "{path}");
    }
    // The connection stayed open throughout.
    assert_eq!(client.ask(get("/plain")).text(), "plain");
}

#[test]
fn an_authority_behind_two_slashes_is_a_path() {
    let origin = Origin::answering(OK);
    let site = Site::new();
    site.write("a.txt", "content");
    let servers = [empty().start(), all(&site).start()];
    for proxy in &servers {
        let mut client = proxy.client();
        for path in ["", "/", "/a.txt", "/plain"] {
            let answer = client.ask(get(&format!("//{}{path}", origin.authority())));
            assert_eq!(answer.status(), 404, "{path}");
        }
    }
    let followed = servers[1].ask(get("//a.txt"));
    assert!(matches!(followed.status(), 200 | 404), "{}", followed.start);
    origin.assert_untouched();
}

#[test]
fn targets_that_are_no_paths_reach_nothing() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = all(&site).start();
    let origin = Origin::answering(OK);
    let authority = origin.authority();
    for target in [
        "a.txt",
        "plain",
        "",
        "?",
        "*",
        "#",
        "\\a.txt",
        ".",
        "..",
        "/a\0b",
        "/\0",
        "/a\x7f",
        "/a\tb",
        "/a b",
        "/a\rb",
        "/a\u{b}b",
        "/\u{e9}",
        "/a.txt#fragment",
        &format!("{authority}/a.txt"),
        "file:///etc/passwd",
        "ftp://here/a.txt",
        "http:///a.txt",
        "http:/a.txt",
    ] {
        let mut client = proxy.client();
        client.send(get(target));
        let answer = client.response();
        let status = answer.status();
        assert!(
            matches!(status, 400 | 404 | 501 | 505),
            "{target:?}: {}",
            answer.start
        );
        assert!(!answer.text().contains("content\n") && answer.text() != "content");
    }
    origin.assert_untouched();
}

#[test]
fn bytes_that_are_no_utf8_in_a_target_are_refused() {
    let site = Site::new();
    let proxy = all(&site).start();
    for path in [&b"/\xff"[..], b"/users/\xc3", b"/a.txt?\xfe", b"/pac?\x80"] {
        let request = [b"GET ", path, b" HTTP/1.1\r\nHost: here\r\n\r\n"].concat();
        let answer = proxy.ask(&request);
        assert_eq!(answer.status(), 400, "{path:?}: {}", answer.start);
    }
}

#[test]
fn a_request_has_one_host() {
    let proxy = Proxy::command().plugin("routes", "Pages").start();
    for head in [
        "GET /plain HTTP/1.1\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ] {
        assert_eq!(proxy.ask(head).status(), 400, "{head:?}");
    }
    // An empty Host is valid (RFC 9112 §3.2).
    let empty = "GET /plain HTTP/1.1\r\nHost:\r\n\r\n";
    assert_eq!(proxy.ask(empty).status(), 200);
}

#[test]
fn a_request_whose_end_is_unclear_is_refused() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = all(&site).start();
    for path in ["/a.txt", "/echo", "/plain", "/pac", "/none"] {
        for fields in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 4\r\nContent-Length: 5\r\n",
            "Content-Length: +4\r\n",
            "Transfer-Encoding: gzip, chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            let mut client = proxy.client();
            client.send(ask("POST", path, fields) + "0\r\n\r\nGET /plain HTTP/1.1\r\n\r\n");
            let answer = client.response_to("POST");
            assert!(
                matches!(answer.status(), 400 | 501),
                "{path} {fields}: {}",
                answer.start
            );
            client.read_to_end();
            assert_eq!(client.rest(), b"", "{path} {fields}");
        }
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered_as_well() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = all(&site).start();
    let mut client = proxy.client();
    for (path, content) in [("/a.txt", "content"), ("/plain", "plain")] {
        client.dribble(get(path));
        assert_eq!(client.response().text(), content);
    }
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn methods_that_nobody_knows_are_refused_with_what_is_allowed() {
    let site = Site::new();
    site.write("a.txt", "content");
    let proxy = all(&site).start();
    for (path, allowed) in [
        ("/a.txt", "GET, HEAD, OPTIONS"),
        ("/pac", "GET, HEAD"),
        ("/plain", "GET, HEAD"),
    ] {
        for method in ["DELETE", "PROPFIND", "get", "M-SEARCH"] {
            let answer = proxy.ask(ask(method, path, ""));
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.all("Allow"), [allowed], "{method} {path}");
        }
    }
    // CONNECT takes an authority, not a path.
    let connect = proxy
        .client()
        .ask("CONNECT /a.txt HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(connect.status(), 400);
}
