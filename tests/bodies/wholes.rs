//! What else a hook may do once it has a whole body: answer, change the head, change the upstream, wait.

use super::{Framed, answering, editors, orders, post, text};
use crate::support::{OK, Origin, get};

const OK_LINE: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn a_request_may_be_answered_and_the_connection_goes_on() {
    let origin = Origin::answering(OK);
    let proxy = editors().start();
    let mut client = proxy.client();
    for framed in [Framed::Length, Framed::Chunked] {
        let head = post(&origin, "/", &orders(&["whole reply", "whole append"]));
        client.send(framed.message(&head, b"body"));
        let answer = client.response_to("POST");
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (299, "A says so")
        );
    }
    origin.assert_untouched();
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
}

#[test]
fn a_response_may_be_replaced_and_the_connection_goes_on() {
    let proxy = editors().start();
    let mut client = proxy.client();
    for framed in [Framed::Length, Framed::Chunked, Framed::UntilClose] {
        let origin = answering(framed, OK_LINE, b"secret");
        let chain = orders(&["only=upstream whole reply"]);
        let answer = client.ask(post(&origin, "/", &chain) + "\r\n");
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (299, "A says so")
        );
    }
    assert_eq!(client.ask(get(&Origin::answering(OK), "/")).status(), 200);
}

#[test]
fn either_may_be_closed_without_an_answer() {
    let proxy = editors().start();
    for (chain, path) in [
        ("only=client whole close", "/c"),
        ("only=upstream whole close", "/u"),
    ] {
        let origin = Origin::answering(OK);
        let mut client = proxy.client();
        client.send(Framed::Length.message(&post(&origin, path, &orders(&[chain])), b"body"));
        client.read_to_end();
        assert_eq!(client.received(), b"", "{chain}");
        let line = proxy.wait_for_line(path);
        assert!(line.contains("closed by Edit"), "{line}");
        assert_no_errors(&proxy.lines());
    }
}

fn assert_no_errors(lines: &[String]) {
    let errors: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn a_failure_costs_one_exchange() {
    let proxy = editors().start();
    for what in ["fail", "panic"] {
        for which in ["client", "upstream"] {
            let origin = Origin::answering(OK);
            let mut client = proxy.client();
            let chain = format!("only={which} whole {what}");
            let head = post(&origin, "/", &orders(&[&chain]));
            let content: &[u8] = match which {
                "client" => b"body",
                _ => b"",
            };
            client.send(Framed::Length.message(&head, content));
            let answer = client.response_to("POST");
            assert_eq!(answer.status(), 500, "{chain}");
            assert!(answer.is_sound(), "{chain}: {:?}", answer.fault);
            proxy.wait_for_line(&format!("handle_{which}_body"));
            assert_eq!(client.ask(get(&origin, "/")).status(), 200, "{chain}");
        }
    }
}

#[test]
fn the_head_may_be_changed_with_the_body() {
    let origin = answering(Framed::Chunked, OK_LINE, b"answer");
    let proxy = editors().start();
    for how in ["whole", "wait=1 whole"] {
        let chain = [
            format!("only=client {how} field path=/there append"),
            format!("only=upstream {how} field status=203 append"),
        ];
        let head = post(&origin, "/here", &orders(&[&chain[0], &chain[1]]));
        let answer = proxy.ask(Framed::Chunked.message(&head, b"body"));
        assert_eq!((answer.status(), answer.text().as_str()), (203, "answerB"));
        assert_eq!(answer.field("X-Did").as_deref(), Some("B"));
        let request = origin.requests().pop().expect("a request came");
        assert_eq!(
            (request.target(), request.text().as_str()),
            ("/there", "bodyA")
        );
        assert_eq!(request.field("X-Did").as_deref(), Some("A"));
    }
}

#[test]
fn the_body_may_say_where_a_request_goes() {
    let (named, meant) = (Origin::answering(OK), Origin::answering(OK));
    let proxy = editors().start();
    let chain = format!("only=client whole upstream={}", meant.authority());
    let head = post(&named, "/", &orders(&[&chain]));
    assert_eq!(
        proxy.ask(Framed::Chunked.message(&head, b"body")).status(),
        200
    );
    named.assert_untouched();
    assert_eq!(meant.only_request().text(), "body");
}

#[test]
fn plugins_may_wait_one_after_the_other() {
    let proxy = editors().start();
    let chain = ["wait=5 whole append", "whole append", "wait=5 whole append"];
    for framed in [Framed::Length, Framed::Chunked] {
        let origin = answering(framed, OK_LINE, &text(5000));
        let head = post(&origin, "/", &orders(&chain));
        let answer = proxy.ask(framed.message(&head, &text(5000)));
        let wanted = [&text(5000)[..], b"ABC"].concat();
        assert!(answer.is_sound() && answer.body == wanted);
        assert!(origin.only_request().body == wanted);
    }
}

#[test]
fn a_wait_ends_when_the_client_has_gone() {
    let proxy = editors().start();
    let origin = Origin::answering(OK);
    let mut client = proxy.client();
    let chain = orders(&["only=client wait=4000 whole"]);
    client.send(Framed::Length.message(&post(&origin, "/gone", &chain), b"body"));
    // The same worker has served a later request, so the hook is waiting by now.
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    client.reset();
    let line = proxy.wait_for_line("/gone");
    assert!(line.contains("the client disconnected"), "{line}");
    assert_eq!(
        origin.requests().len(),
        1,
        "only what the other client asked for"
    );
    let answering = Origin::answering(OK);
    let mut client = proxy.client();
    let chain = orders(&["only=upstream wait=4000 whole"]);
    client.send(Framed::Length.message(&post(&answering, "/left", &chain), b"body"));
    answering.wait_for(b"body");
    client.reset();
    answering.wait_for_end();
    proxy.wait_for_line("/left");
}

#[test]
fn an_upload_does_not_disturb_a_response_that_waits_for_its_plugin() {
    let origin = Origin::serve(|peer| {
        peer.wait_for(b"FIRST");
        peer.send(OK);
        peer.park();
    });
    let proxy = editors().start();
    let chain = orders(&[
        "only=client stream upper",
        "only=upstream wait=300 whole field append",
    ]);
    let mut client = proxy.client();
    client.send(post(&origin, "/", &chain) + "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    origin.wait_for(b"FIRST");
    for _ in 0..20 {
        client.try_send("4\r\nmore\r\n");
    }
    client.try_send("0\r\nX-Change: no\r\n\r\n");
    let answer = client.response_to("POST");
    assert_eq!(answer.text(), "origin-okB");
    assert_eq!(answer.field("X-Did").as_deref(), Some("B"));
}
