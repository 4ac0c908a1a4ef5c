//! Where a message ends must not depend on how its bytes arrive.
//!
//! Every message is sent in two pieces, split at every offset; the result must be the same each time.

use std::thread;
use std::time::Duration;

use crate::support::{Client, OK, Origin, Proxy, shown};

/// Sends `bytes` split at every offset, on a new connection each time, and passes the connection to `judge`.
fn at_every_split(proxy: &Proxy, bytes: &[u8], judge: impl Fn(&mut Client, usize)) {
    for cut in 1..bytes.len() {
        let mut client = proxy.client();
        client.try_send(&bytes[..cut]);
        // Part of the scenario: long enough for the proxy to act on the first piece.
        thread::sleep(Duration::from_millis(1));
        client.try_send(&bytes[cut..]);
        judge(&mut client, cut);
    }
}

fn refused_at_every_split(message: &str, status: u16) {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let message = message.replace("{H}", &origin.authority());
    at_every_split(&proxy, message.as_bytes(), |client, cut| {
        let answer = client.response_to("POST");
        assert_eq!(answer.status(), status, "cut at {cut}");
        client.read_to_end();
        assert_eq!(shown(client.rest()), "", "cut at {cut}");
    });
    origin.assert_untouched();
}

#[test]
fn refuses_length_with_chunked() {
    refused_at_every_split(
        "POST http://{H}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    );
}

#[test]
fn refuses_two_lengths() {
    refused_at_every_split(
        "POST http://{H}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        400,
    );
}

#[test]
fn refuses_an_unknown_coding() {
    refused_at_every_split(
        "POST http://{H}/ HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: frob\r\n\r\n",
        501,
    );
}

#[test]
fn refuses_a_folded_field() {
    refused_at_every_split(
        "POST http://{H}/ HTTP/1.1\r\nHost: {H}\r\nX-A: b\r\n c\r\n\r\n",
        400,
    );
}

#[test]
fn refuses_a_lone_line_feed() {
    refused_at_every_split(
        "POST http://{H}/ HTTP/1.1\r\nHost: {H}\r\nX-A: b\nX-B: c\r\n\r\n",
        400,
    );
}

#[test]
fn accepts_a_length_at_every_split() {
    accepted_at_every_split(
        "POST http://{H}/p HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n\r\nhello",
    );
}

#[test]
fn accepts_chunks_at_every_split() {
    accepted_at_every_split(
        "POST http://{H}/p HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
    );
}

fn accepted_at_every_split(message: &str) {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let message = message.replace("{H}", &origin.authority());
    at_every_split(&proxy, message.as_bytes(), |client, cut| {
        let answer = client.response_to("POST");
        assert_eq!(answer.status(), 200, "cut at {cut}");
        assert!(
            client.stays_quiet(Duration::from_millis(1)),
            "cut at {cut}: {}",
            shown(client.rest())
        );
    });
    let requests = origin.requests();
    assert_eq!(requests.len(), message.len() - 1);
    for request in requests {
        assert!(
            request.is_sound() && request.text() == "hello",
            "{:?} {:?}",
            request.fault,
            request.text()
        );
    }
}

#[test]
fn reads_chunked_answers_at_every_split() {
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nX-T: 1\r\n\r\n";
    answered_at_every_split(answer);
}

#[test]
fn reads_answers_of_known_length_at_every_split() {
    answered_at_every_split(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

fn answered_at_every_split(answer: &'static [u8]) {
    let origin = Origin::serve(move |peer| {
        while let Some(request) = peer.request() {
            let cut: usize = request
                .target()
                .trim_start_matches('/')
                .parse()
                .expect("the path is the cut");
            peer.send(&answer[..cut]);
            peer.pause(1);
            peer.send(&answer[cut..]);
        }
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for cut in 1..answer.len() {
        let response = client.ask(crate::support::get(&origin, &format!("/{cut}")));
        assert!(
            response.is_sound() && response.text() == "hello",
            "cut at {cut}: {:?}",
            response.text()
        );
    }
}

#[test]
fn a_body_never_becomes_a_request() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let hidden = format!(
        "GET http://{0}/hidden HTTP/1.1\r\nHost: {0}\r\n\r\n",
        origin.authority()
    );
    let length = format!(
        "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: {1}\r\n\r\n{hidden}",
        origin.authority(),
        hidden.len()
    );
    let chunked = format!(
        "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nTransfer-Encoding: chunked\r\n\r\n{1:x}\r\n{hidden}\r\n0\r\n\r\n",
        origin.authority(),
        hidden.len()
    );
    let mut client = proxy.client();
    client.send([length.clone(), chunked.clone(), length, chunked].concat());
    for _ in 0..4 {
        assert_eq!(client.response_to("POST").status(), 200);
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|request| request.method() == "POST" && request.text() == hidden)
    );
}
