//! Bodies that end early: because of a plugin, a peer or a dead connection.

use super::{Framed, answering, editors, orders, post, text};
use crate::support::{OK, Origin, Proxy, get, request};

const OK_LINE: &str = "HTTP/1.1 200 OK\r\n";

fn errors(proxy: &Proxy) -> Vec<String> {
    let is_error = |line: &String| line.contains("ERROR");
    proxy.lines().into_iter().filter(is_error).collect()
}

/// An origin that sends its response in two parts.
fn in_two_parts(framed: Framed) -> Origin {
    let message = framed.message(OK_LINE, &text(200_000));
    Origin::serve(move |peer| {
        while peer.request().is_some() {
            peer.send(&message[..100_000]);
            peer.send(&message[100_000..]);
            if framed == Framed::UntilClose {
                return;
            }
        }
    })
}

#[test]
fn a_response_that_a_plugin_closes_looks_broken() {
    let proxy = editors().start();
    for framed in [Framed::Length, Framed::Chunked, Framed::UntilClose] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let path = format!("/{framed:?}/{version}");
            let origin = in_two_parts(framed);
            let chain = orders(&["only=upstream stream after=150000 close", "stream upper"]);
            let mut client = proxy.client();
            client.send(
                post(&origin, &path, &chain).replace("HTTP/1.1\r", &format!("{version}\r"))
                    + "\r\n",
            );
            let answer = client.response_to("POST");
            let is_cut = answer.body.len() < 200_000
                && text(200_000).to_ascii_uppercase().starts_with(&answer.body);
            assert!(is_cut, "{path}: {} bytes", answer.body.len());
            client.read_to_end();
            let looks_whole = answer.complete && client.end() == Some(crate::support::End::Closed);
            assert!(!looks_whole, "{path}");
            let line = proxy.wait_for_line(&path);
            assert!(line.contains("closed by Edit"), "{line}");
        }
    }
    assert_eq!(errors(&proxy), [""; 0]);
}

#[test]
fn a_response_that_a_plugin_closes_at_once_is_none() {
    let proxy = editors().start();
    let origin = answering(Framed::Length, OK_LINE, b"secret");
    let mut client = proxy.client();
    client.send(post(&origin, "/closed", &orders(&["stream after=0 close"])) + "\r\n");
    client.read_to_end();
    assert_eq!(client.received(), b"");
    let line = proxy.wait_for_line("/closed");
    assert!(line.contains("closed by Edit"), "{line}");
    assert_eq!(errors(&proxy), [""; 0]);
}

#[test]
fn a_request_that_a_plugin_closes_never_looks_whole() {
    let proxy = editors().start();
    for framed in [Framed::Length, Framed::Chunked] {
        for (chain, path) in [
            ("only=client stream after=150000 close", "/late"),
            ("only=client stream after=0 close", "/soon"),
        ] {
            let origin = Origin::answering(OK);
            let mut client = proxy.client();
            let head = post(&origin, &format!("{path}{framed:?}"), &orders(&[chain]));
            client.try_send(framed.message(&head, &text(200_000)));
            client.read_to_end();
            assert_eq!(client.received(), b"", "{chain}");
            let line = proxy.wait_for_line(&format!("{path}{framed:?}"));
            assert!(line.contains("closed by Edit"), "{line}");
            origin.wait_for_end();
            assert_eq!(origin.requests().len(), 0, "{chain}");
        }
    }
    assert_eq!(errors(&proxy), [""; 0]);
}

#[test]
fn a_failure_in_the_middle_looks_broken_and_is_an_error() {
    let proxy = editors().start();
    for what in ["fail", "panic"] {
        let origin = in_two_parts(Framed::Chunked);
        let chain = format!("only=upstream stream after=150000 {what}");
        let mut client = proxy.client();
        client.send(post(&origin, "/", &orders(&[&chain])) + "\r\n");
        assert!(!client.response_to("POST").complete, "{what}");
        proxy.wait_for_line("handle_upstream_chunk");
        let origin = Origin::answering(OK);
        let chain = format!("only=client stream after=1 {what}");
        let head = post(&origin, "/", &orders(&[&chain]));
        let answer = proxy.ask(Framed::Chunked.message(&head, b"body"));
        assert_eq!(answer.status(), 500, "{what}");
        assert_eq!(origin.requests().len(), 0, "{what}");
    }
}

#[test]
fn an_origin_may_answer_before_an_edited_upload_is_over() {
    let origin = Origin::serve(|peer| {
        peer.wait_for(b"FIRST");
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nstop");
    });
    let proxy = editors().start();
    let chain = orders(&["only=client stream upper"]);
    let mut client = proxy.client();
    client.send(post(&origin, "/", &chain) + "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let answer = client.response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "stop"));
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    client.finish();
    client.read_to_end();
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_origin_that_answers_before_it_reads_keeps_a_client_whose_body_was_collected() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        peer.park();
    });
    let proxy = editors().start();
    let mut client = proxy.client();
    let head = post(&origin, "/", &orders(&["only=client whole append"]));
    client.send(Framed::Length.message(&head, &text(500_000)));
    let answer = client.response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_no_whole_request() {
    let origin = Origin::answering(OK);
    let proxy = editors().start();
    for (chain, path) in [("whole append", "/whole"), ("stream append", "/stream")] {
        for ending in ["reset", "finish"] {
            let path = format!("{path}/{ending}");
            let mut client = proxy.client();
            client.send(post(&origin, &path, &orders(&[chain])) + "Content-Length: 10\r\n\r\nhalf");
            match ending {
                "reset" => client.reset(),
                _ => {
                    client.finish();
                    assert_eq!(client.response_to("POST").status(), 400, "{path}");
                }
            }
            proxy.wait_for_line(&path);
        }
    }
    assert_eq!(origin.requests().len(), 0);
}

/// Answers every request, but closes its first connection on the second request.
fn forgetful() -> Origin {
    Origin::serve(|peer| {
        peer.request();
        peer.send(OK);
        while peer.request().is_some() && peer.index() > 0 {
            peer.send(OK);
        }
    })
}

fn methods(origin: &Origin) -> Vec<String> {
    let requests = origin.requests();
    requests
        .iter()
        .map(|each| each.method().to_owned())
        .collect()
}

#[test]
fn a_collected_body_is_sent_again_where_it_may_be() {
    let proxy = editors().start();
    for framed in [Framed::Length, Framed::Chunked] {
        let origin = forgetful();
        let mut client = proxy.client();
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
        let head = post(&origin, "/", &orders(&["whole append", "stream append"]));
        client.send(framed.message(&head.replacen("POST", "PUT", 1), b"body"));
        assert_eq!(client.response_to("PUT").text(), "origin-okAB");
        assert_eq!(methods(&origin), ["GET", "PUT", "PUT"]);
        let requests = origin.requests();
        assert!(requests[1..].iter().all(|put| put.text() == "bodyAB"));
        assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    }
}

#[test]
fn a_collected_body_is_never_posted_twice() {
    let proxy = editors().start();
    let origin = forgetful();
    let mut client = proxy.client();
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    let head = post(&origin, "/", &orders(&["whole append"]));
    client.send(Framed::Length.message(&head, b"body"));
    assert_eq!(client.response_to("POST").status(), 502);
    assert_eq!(methods(&origin), ["GET", "POST"]);
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
}

#[test]
fn a_body_that_plugins_see_pass_is_sent_again_as_it_went_out() {
    let proxy = editors().start();
    let origin = forgetful();
    let mut client = proxy.client();
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    let head = post(&origin, "/", &orders(&["whole limit=3 or_pass append"]));
    let put = Framed::Chunked.message(&head.replacen("POST", "PUT", 1), b"body");
    client.send([put, request("GET", &origin, "/next", "").into_bytes()].concat());
    assert_eq!(client.response_to("PUT").status(), 200);
    assert_eq!(client.response_to("GET").status(), 200);
    assert_eq!(methods(&origin), ["GET", "PUT", "PUT", "GET"]);
    assert_eq!(origin.requests()[1].text(), "bodyA");
    assert_eq!(origin.requests()[2].text(), "bodyA");
}

#[test]
fn a_connection_that_a_collected_response_has_ended_is_not_used_again() {
    let proxy = editors().args(["--log-level", "DEBUG"]).start();
    let origin = answering(Framed::UntilClose, OK_LINE, b"answer");
    for _ in 0..3 {
        let chain = orders(&["whole append"]);
        let answer = proxy.ask(request("GET", &origin, "/", &chain));
        assert_eq!(answer.text(), "answerA");
    }
    let again = |line: &String| line.contains("retrying on a new one");
    assert!(!proxy.lines().iter().any(again));
}
