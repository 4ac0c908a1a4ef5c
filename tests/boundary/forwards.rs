//! Forwards that a plugin cancels: nothing is forwarded, and the request data that the plugin borrowed stays unchanged.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::goes_on;
use crate::support::tls::{Ask, Form, Pki, Way};
use crate::support::{OK, Origin, Proxy, request};

/// Each way to cancel, with status and content of the response and the number of requests forwarded.
const WAYS: [(&str, u16, &str, usize); 13] = [
    ("dropped-unpolled", 200, "kept", 0),
    ("dropped-after-a-poll", 200, "kept", 0),
    ("dropped-and-silent", 500, "", 0),
    ("leaked", 200, "kept", 0),
    ("leaked-and-over", 500, "", 0),
    ("lost-a-race", 200, "kept", 0),
    ("polled-for-nobody", 200, "kept", 0),
    ("another-after-it", 200, "origin-ok", 1),
    ("another-after-a-leak", 200, "origin-ok", 1),
    ("reply-before-it", 200, "before", 0),
    ("reply-after-it", 200, "after", 0),
    ("polled-if-woken", 200, "origin-ok", 1),
    ("reply-behind-a-failure", 200, "instead", 0),
];

#[test]
fn a_forward_that_is_given_up_does_not_happen_and_its_request_stays() {
    let busy = Origin::answering(OK);
    let proxy = Proxy::command().plugin("hostile", "GivesUp").start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Other requests, whose heads would reuse the memory of a freed one.
        scope.spawn(|| {
            let field = format!("X-Other: {}\r\n", "c".repeat(60));
            while !is_over.load(Relaxed) {
                proxy.ask(request(
                    "GET",
                    &busy,
                    &format!("/{}", "o".repeat(80)),
                    &field,
                ));
            }
        });
        for (way, status, text, forwards) in WAYS {
            let origin = Origin::answering(OK);
            let mut client = proxy.client();
            let answer = client.ask(format!(
                "GET /{way}/{} HTTP/1.1\r\nHost: site.example\r\nX-To: http://{}/forwarded\r\nX-Mine: {}\r\n\r\n",
                "a".repeat(60),
                origin.authority(),
                "b".repeat(60)
            ));
            assert_eq!(answer.status(), status, "{way}");
            if status == 200 {
                assert_eq!(answer.text(), text, "{way}");
            }
            assert_eq!(origin.requests().len(), forwards, "{way}");
        }
        is_over.store(true, Relaxed);
    });
    goes_on(&proxy);
}

#[test]
fn behind_a_forward_that_failed_filters_see_the_request_that_is_left() {
    let proxy = Proxy::command()
        .plugin("hostile", "SeesTheEnd")
        .plugin("hostile", "GivesUp")
        .start();
    let answer = proxy
        .ask("GET /reply-behind-a-failure/x HTTP/1.1\r\nHost: site.example\r\nX-Mine: yes\r\n\r\n");
    assert_eq!(answer.text(), "instead");
    proxy.wait_for_line("saw the end of /reply-behind-a-failure/x with yes");
}

#[test]
fn a_forward_that_is_given_up_does_not_happen_over_http2_either() {
    let pki = Pki::new();
    let proxy = pki.relaying().args(pki.listener());
    let proxy = proxy.plugin("hostile", "GivesUp").start();
    let client = pki.client(&proxy).over(Way::Http2);
    let mut session = client.pipe().session(Form::Origin("https"));
    for (way, status, text, forwards) in WAYS {
        let origin = Origin::answering(OK);
        let to = format!("http://{}/forwarded", origin.authority());
        let path = format!("/{way}/{}", "a".repeat(60));
        let answer = session.ask(Ask::get("here", &path).field("x-to", &to));
        assert_eq!(answer.status, status, "{way}");
        if status == 200 {
            assert_eq!(answer.text(), text, "{way}");
        }
        assert_eq!(origin.requests().len(), forwards, "{way}");
    }
}
