//! Responses are replaced before they reach the client.

use crate::support::{Origin, Proxy, pattern, request};

fn proxy() -> Proxy {
    let command = Proxy::command().plugin("man_in_the_middle", "ManInTheMiddle");
    command.start()
}

#[test]
fn the_client_gets_the_text_with_its_own_head() {
    let origin = Origin::answering(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nETag: \"x\"\r\nContent-Type: a/b\r\n\
         Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    );
    let answer = proxy().get(&origin, "/");
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert_eq!(answer.text(), "Hello from man in the middle");
    assert_eq!(answer.all("Content-Length"), ["28"]);
    for name in ["Content-Range", "ETag", "Content-Type", "Content-Encoding"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn the_connection_serves_further_requests_whatever_the_origin_sends() {
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
            peer.send(pattern(8_000_000));
        }
    });
    let proxy = proxy();
    let mut client = proxy.client();
    for path in ["/1", "/2", "/3"] {
        let answer = client.ask(request("GET", &origin, path, ""));
        assert_eq!(answer.text(), "Hello from man in the middle");
    }
}

#[test]
fn a_response_without_content_passes() {
    let origin = Origin::answering("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    let answer = proxy().get(&origin, "/");
    assert_eq!(answer.status(), 304);
    assert_eq!(answer.field("ETag").as_deref(), Some("\"x\""));
}
