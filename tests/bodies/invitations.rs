//! `Expect: 100-continue`: the proxy sends 100 itself if it collects the body first; otherwise the origin does.

use super::{editors, orders, post};
use crate::support::{OK, Origin};

const EXPECT: &str = "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn a_body_that_is_collected_is_asked_for_by_the_proxy() {
    let origin = Origin::answering(OK);
    let proxy = editors().start();
    let mut client = proxy.client();
    for number in 1..=2 {
        client.send(post(&origin, "/", &orders(&["only=client whole append"])) + EXPECT);
        assert_eq!(client.message("POST").status(), 100);
        assert_eq!(
            origin.requests().len(),
            number - 1,
            "nothing is sent before the body is here"
        );
        client.send("body");
        assert_eq!(client.response_to("POST").text(), "origin-ok");
    }
    for request in origin.requests() {
        assert_eq!(
            (request.text().as_str(), request.field("Expect")),
            ("bodyA", None)
        );
    }
}

#[test]
fn a_body_that_comes_unasked_is_not_asked_for() {
    let origin = Origin::answering(OK);
    let proxy = editors().start();
    let mut client = proxy.client();
    client.send(post(&origin, "/", &orders(&["only=client whole append"])) + EXPECT + "body");
    assert_eq!(client.response_to("POST").status(), 200);
    assert!(client.interim.is_empty());
    assert_eq!(origin.only_request().field("Expect"), None);
}

#[test]
fn a_body_that_streams_is_asked_for_by_the_origin() {
    let proxy = editors().start();
    for chain in [
        "only=client stream append",
        "only=client whole limit=3 or_pass append",
    ] {
        let origin = Origin::serve(|peer| {
            peer.head();
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            peer.wait_for(b"0\r\n\r\n");
            peer.send(OK);
        });
        let mut client = proxy.client();
        client.send(post(&origin, "/", &orders(&[chain])) + EXPECT);
        origin.wait_for(b"Expect: 100-continue\r\n");
        assert_eq!(client.message("POST").status(), 100, "{chain}");
        client.send("body");
        assert_eq!(client.response_to("POST").text(), "origin-ok", "{chain}");
        assert_eq!(origin.only_request().text(), "bodyA", "{chain}");
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_comes() {
    let origin = Origin::answering(OK);
    let proxy = editors().start();
    let mut client = proxy.client();
    client.send(post(&origin, "/", &orders(&["whole limit=3"])) + EXPECT);
    assert_eq!(client.message("POST").status(), 413);
    client.read_to_end();
    assert_eq!(client.rest(), b"");
    origin.assert_untouched();
}
