//! Clients that refuse our certificate, requests that do not belong in their tunnel, and what is logged.

use super::Scene;
use crate::support::Origin;
use crate::support::tls::{Answer, Ask, Identity, Offer, Pki, Trust, client_hello};

#[test]
fn a_host_whose_client_refuses_our_certificate_is_relayed_unseen_from_then_on() {
    let scene = Scene::answering(Answer::ok("ok"));
    let authority = scene.authority();
    let wary = scene.client().trusting(Trust::Origins);
    let tunnel = wary.tunnel(&authority);
    let client = tunnel.local.to_string();
    let refused = tunnel.secure(&scene.pki, "localhost", Offer::Both, Trust::Origins);
    assert!(refused.is_err(), "the client does not know our authority");
    scene.proxy.wait_for_line_where("client and cause", |line| {
        let cause = line.to_lowercase();
        let is_told = cause.contains("certificate") || cause.contains("unknown");
        line.contains(&client) && line.contains("localhost") && is_told
    });

    let mut unseen = wary.https(&authority);
    assert_eq!(
        unseen.ask(Ask::get(&authority, "/unseen")).told(),
        (200, "ok".into())
    );
    // Other hosts are still intercepted.
    let by_address = scene.origin.address().to_string();
    assert_eq!(scene.client().get(&by_address, "/seen").status, 200);
    scene.proxy.wait_for_line("/seen");
    assert!(
        !scene
            .proxy
            .lines()
            .iter()
            .any(|line| line.contains("/unseen"))
    );
}

#[test]
fn without_patience_every_client_is_tried_again() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .config("[interception]\nrejected_for = 0")
        .start();
    let client = pki.client(&proxy);
    for _ in 0..2 {
        let tunnel = client.tunnel(&origin.authority());
        let refused = tunnel.secure(&pki, "localhost", Offer::Both, Trust::Origins);
        assert!(refused.is_err());
    }
    assert_eq!(client.get(&origin.authority(), "/").status, 200);
}

#[test]
fn a_request_for_another_host_is_misdirected() {
    for offer in [Offer::Http1, Offer::Http2] {
        let scene = Scene::of(offer, offer, Answer::ok("ok"));
        let authority = scene.authority();
        let port = scene.origin.address().port();
        let mut session = scene.client().https(&authority);
        for other in ["other.example".to_owned(), format!("127.0.0.1:{port}")] {
            let answer = session.try_ask(Ask::get(&other, "/"));
            let answer = answer.expect("an answer on an open connection");
            assert_eq!(answer.status, 421, "{offer:?}, {other}");
        }
        scene.origin.assert_unasked();
    }
}

#[test]
fn the_host_may_be_written_in_other_ways() {
    let scene = Scene::of(Offer::Http1, Offer::Http1, Answer::ok("ok"));
    let authority = scene.authority();
    let mut session = scene.client().https(&authority);
    let upper = authority.to_uppercase();
    assert_eq!(session.ask(Ask::get(&upper, "/")).status, 200);
}

#[test]
fn requests_inside_are_in_the_log_with_their_host() {
    for offer in [Offer::Http1, Offer::Http2] {
        let scene = Scene::of(offer, offer, Answer::ok("origin-ok"));
        let authority = scene.authority();
        let mut session = scene.client().https(&authority);
        let client = session.local.to_string();
        session.ask(Ask::get(&authority, "/inner?q=1"));
        session.ask(Ask::post(&authority, "/posted", "x"));
        let line = scene
            .proxy
            .wait_for_line(&format!("GET {authority}/inner?q=1 - 200"));
        assert!(line.contains(&client), "{line}");
        scene
            .proxy
            .wait_for_line(&format!("POST {authority}/posted - 200"));
    }
}

#[test]
fn credentials_are_asked_for_once_and_stay_here() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .args(["--basic-auth", "user:password"])
        .start();
    let authority = origin.authority();
    let client = pki.client(&proxy);
    let answer = client.connect(&authority).err().expect("no credentials");
    assert_eq!(answer.status, 407);
    assert!(origin.connections().is_empty(), "nothing was dialled");

    let mut pipe = client.pipe();
    pipe.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n\r\n"
    ));
    pipe.read_until(b"\r\n\r\n");
    let secure = pipe.secure(&pki, "localhost", Offer::Both, Trust::Proxy);
    let form = crate::support::tls::Form::Origin("https");
    let mut session = secure.expect("a handshake").session(form);
    assert_eq!(
        session.ask(Ask::get(&authority, "/")).told(),
        (200, "ok".into())
    );
    assert_eq!(origin.only_request().field("Proxy-Authorization"), None);
}

#[test]
fn without_an_authority_tls_is_relayed_unseen() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = pki.relaying().start();
    let client = pki.client(&proxy).trusting(Trust::Origins);
    for offer in [Offer::Http1, Offer::Http2] {
        let received = client.offering(offer).get(&origin.authority(), "/unseen");
        assert_eq!(received.told(), (200, "ok".into()));
    }
    assert!(!proxy.lines().iter().any(|line| line.contains("/unseen")));
}

#[test]
fn invented_names_leave_no_certificates() {
    let pki = Pki::new();
    let proxy = pki.intercepting().start();
    let kept = || {
        std::fs::read_dir(pki.certificate_directory())
            .map(Iterator::count)
            .unwrap_or_default()
    };
    // No TLS at that address: the client gets an alert.
    let deaf = Origin::serve(|peer| {
        peer.read_more();
    });
    let mut tunnel = pki.client(&proxy).tunnel(&deaf.address().to_string());
    tunnel.send(client_hello(&pki, "h1.invented.example"));
    let alert = tunnel.read_exact(7);
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 40]);
    proxy.wait_for_line("closed, TLS with the upstream failed");
    assert_eq!(kept(), 0);
    // TLS with the wrong certificate: the error is sent inside the tunnel, and no certificate is stored.
    let other = pki
        .origin()
        .identity(Identity::WrongHost)
        .answering(Answer::ok("never"));
    let address = other.address().to_string();
    assert_eq!(pki.client(&proxy).get(&address, "/").status, 502);
    assert_eq!(kept(), 0);
}
