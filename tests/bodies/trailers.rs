//! Trailer sections: seen and edited by plugins, kept when the body is collected.

use super::{editors, orders, post};
use crate::support::{Framing, Message, OK, Origin, get};

const TRAILERS: &str = "X-Change: as sent\r\nX-Remove: me\r\nx-keep: 1\r\nContent-Length: 5\r\n";

fn body_with_trailers() -> String {
    format!("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n{TRAILERS}\r\n")
}

fn named(message: &Message, name: &str) -> Option<String> {
    let is_named = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
    let field = message.trailers.iter().find(is_named);
    field.map(|field| String::from_utf8_lossy(&field.1).into_owned())
}

#[test]
fn are_edited_whatever_becomes_of_the_body() {
    let origin = Origin::answering(format!("HTTP/1.1 200 OK\r\n{}", body_with_trailers()));
    let proxy = editors().plugin("zoo", "EditTrailers").start();
    let mut client = proxy.client();
    for chain in ["skip", "stream append", "whole append", "wait=1 whole drop"] {
        client.send(post(&origin, "/", &orders(&[chain])) + &body_with_trailers());
        let answer = client.response_to("POST");
        let request = origin.requests().pop().expect("a request came");
        for message in [answer, request] {
            let told = format!("{chain}: {}", message.start);
            assert!(message.is_sound(), "{told}: {:?}", message.fault);
            assert_eq!(message.framing, Framing::Chunked, "{told}");
            let body = match chain.split(' ').next_back() {
                Some("append") => "bodyA",
                Some("drop") => "",
                _ => "body",
            };
            assert_eq!(message.text(), body, "{told}");
            let seen = named(&message, "X-Seen").unwrap_or_default();
            assert_eq!(seen, "X-Change X-Remove x-keep", "{told}");
            assert_eq!(
                named(&message, "X-Change").as_deref(),
                Some("changed"),
                "{told}"
            );
            assert_eq!(named(&message, "X-Keep").as_deref(), Some("1"), "{told}");
            for gone in ["X-Remove", "Connection", "Content-Length"] {
                assert_eq!(named(&message, gone), None, "{told}");
            }
        }
    }
    assert_eq!(client.ask(get(&Origin::answering(OK), "/")).status(), 200);
}

#[test]
fn are_seen_behind_a_body_without_content() {
    let empty = format!("Transfer-Encoding: chunked\r\n\r\n0\r\n{TRAILERS}\r\n");
    let origin = Origin::answering(format!("HTTP/1.1 200 OK\r\n{empty}"));
    let proxy = editors().plugin("zoo", "EditTrailers").start();
    for chain in ["skip", "stream append", "whole append"] {
        let answer = proxy.ask(post(&origin, "/", &orders(&[chain])) + &empty);
        let request = origin.requests().pop().expect("a request came");
        for message in [answer, request] {
            let told = format!("{chain}: {}", message.start);
            assert_eq!(
                (message.is_sound(), message.body.len()),
                (true, 0),
                "{told}"
            );
            let change = named(&message, "X-Change");
            assert_eq!(change.as_deref(), Some("changed"), "{told}");
        }
    }
}

#[test]
fn are_kept_where_nobody_edits_them() {
    let origin = Origin::answering(format!("HTTP/1.1 200 OK\r\n{}", body_with_trailers()));
    let proxy = editors().start();
    for chain in [
        "stream append",
        "whole append",
        "whole limit=2 or_pass append",
    ] {
        let answer = proxy.ask(post(&origin, "/", &orders(&[chain])) + &body_with_trailers());
        let request = origin.requests().pop().expect("a request came");
        for message in [answer, request] {
            assert!(message.is_sound(), "{chain}: {:?}", message.fault);
            assert_eq!(message.text(), "bodyA", "{chain}");
            assert_eq!(
                named(&message, "X-Change").as_deref(),
                Some("as sent"),
                "{chain}"
            );
            assert_eq!(
                named(&message, "X-Remove").as_deref(),
                Some("me"),
                "{chain}"
            );
        }
    }
}

#[test]
fn are_left_out_for_an_http_1_0_client() {
    let origin = Origin::answering(format!("HTTP/1.1 200 OK\r\n{}", body_with_trailers()));
    let proxy = editors().plugin("zoo", "EditTrailers").start();
    for chain in ["stream append", "whole append"] {
        let request =
            get(&origin, "/").replace("HTTP/1.1\r\n", &format!("HTTP/1.0\r\n{}", orders(&[chain])));
        let answer = proxy.ask(request);
        assert!(answer.is_sound(), "{chain}: {:?}", answer.fault);
        assert_eq!(answer.text(), "bodyA", "{chain}");
    }
}

#[test]
fn of_a_request_leave_the_response_in_sight() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        peer.wait_for(b"X-Seen");
        peer.send("6\r\nsecond\r\n0\r\n\r\n");
        peer.park();
    });
    let proxy = editors().plugin("zoo", "EditTrailers").start();
    let mut client = proxy.client();
    let chain = orders(&["stream upper"]);
    client.send(post(&origin, "/", &chain) + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
    client.read_until(b"FIRST");
    client.send(format!("0\r\n{TRAILERS}\r\n"));
    let answer = client.response_to("POST");
    assert!(answer.is_sound(), "{:?}", answer.fault);
    assert_eq!(answer.text(), "FIRSTSECOND");
}
