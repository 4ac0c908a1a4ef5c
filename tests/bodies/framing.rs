//! The framing matches the body that is sent, and the connection stays usable.

use super::{Framed, answering, editors, orders, post, text};
use crate::support::{End, Framing, OK, Origin, get, request};

const EDITS: [&str; 2] = ["stream append", "whole append"];
const OK_LINE: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn an_http_1_0_client_reads_to_the_end_unless_the_length_is_known() {
    let proxy = editors().start();
    for framed in [Framed::Length, Framed::Chunked, Framed::UntilClose] {
        let origin = answering(framed, OK_LINE, &text(1000));
        for (chain, framing) in EDITS
            .into_iter()
            .zip([Framing::UntilClose, Framing::Length])
        {
            let mut client = proxy.client();
            let answer = client.ask(format!(
                "GET http://{}/ HTTP/1.0\r\n{}\r\n",
                origin.authority(),
                orders(&[chain])
            ));
            assert!(answer.is_sound(), "{:?}", answer.fault);
            assert_eq!(answer.framing, framing, "{framed:?}, {chain}");
            assert!(answer.body == [&text(1000)[..], b"A"].concat());
            assert_eq!(client.read_to_end(), End::Closed);
        }
    }
}

#[test]
fn an_http_1_0_request_arrives_edited() {
    let proxy = editors().start();
    let origin = Origin::answering(OK);
    for chain in EDITS {
        let head = post(&origin, "/", &orders(&[chain])).replace("HTTP/1.1", "HTTP/1.0");
        let answer = proxy.ask(Framed::Length.message(&head, b"body"));
        assert_eq!(answer.status(), 200);
    }
    let requests = origin.requests();
    let bodies: Vec<_> = requests.iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["bodyA", "bodyA"]);
    assert_eq!(requests[0].framing, Framing::Chunked);
    assert_eq!(requests[1].framing, Framing::Length);
}

#[test]
fn a_response_without_a_body_promises_none() {
    let proxy = editors().start();
    let heads = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        ),
    ];
    for chain in ["stream append", "whole append", "stream decoded append"] {
        let mut client = proxy.client();
        for (number, (method, head)) in heads.into_iter().enumerate() {
            let path = format!("/{}/{number}", chain.len());
            let origin = Origin::answering(head);
            let answer = client.ask(request(method, &origin, &path, &orders(&[chain])));
            assert!(answer.is_sound(), "{chain}, {head}: {:?}", answer.fault);
            assert_eq!(answer.body, b"", "{chain}, {head}");
            let length = answer.field("Content-Length");
            assert!(
                length.is_none() || length.as_deref() == Some("0") && answer.status() == 205,
                "{chain}, {head}: {length:?}"
            );
            let line = proxy.wait_for_line(&path);
            assert!(!line.contains("A-upstream"), "{line}");
        }
        // No bytes are left over, and the connection stays usable.
        let origin = Origin::answering(OK);
        let answer = client.ask(request("GET", &origin, "/", &orders(&[chain])));
        assert_eq!(answer.text(), "origin-okA");
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_head_response_keeps_its_length_where_nobody_edits() {
    let proxy = editors().start();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let answer = proxy.ask(request("HEAD", &origin, "/", ""));
    assert_eq!(answer.field("Content-Length").as_deref(), Some("100"));
}

#[test]
fn plugins_are_not_asked_about_empty_bodies() {
    let proxy = editors().start();
    for chain in EDITS {
        let mut client = proxy.client();
        for framed in [Framed::Length, Framed::Chunked] {
            let path = format!("/{}/{framed:?}", chain.len());
            let origin = answering(framed, OK_LINE, b"");
            client.send(framed.message(&post(&origin, &path, &orders(&[chain])), b""));
            let answer = client.response_to("POST");
            assert!(
                answer.is_sound() && answer.body.is_empty(),
                "{chain}, {framed:?}"
            );
            let line = proxy.wait_for_line(&path);
            assert!(!line.contains("A-"), "{line}");
        }
    }
}

#[test]
fn requests_behind_a_collected_body_are_answered_in_order() {
    let origin = Origin::replying(|request| {
        Framed::Length.message(
            OK_LINE,
            format!("{}{}", request.target(), request.text()).as_bytes(),
        )
    });
    let proxy = editors().start();
    let mut wire = Vec::new();
    let mut wanted = Vec::new();
    for (number, framed) in [Framed::Length, Framed::Chunked, Framed::Length]
        .iter()
        .enumerate()
    {
        for chain in ["only=client whole append", "only=client stream append"] {
            let path = format!("/{number}{}", chain.len());
            wire.extend(framed.message(&post(&origin, &path, &orders(&[chain])), b"body"));
            wanted.push(format!("{path}bodyA"));
        }
        wire.extend(get(&origin, "/get").into_bytes());
        wanted.push("/get".to_owned());
    }
    let mut client = proxy.client();
    client.send(wire);
    let texts: Vec<_> = wanted.iter().map(|_| client.response().text()).collect();
    assert_eq!(texts, wanted);
    assert_eq!(client.rest(), b"");
}
