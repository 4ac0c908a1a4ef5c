//! NTLM and Negotiate: an upstream connection that a client has authenticated belongs to that client alone.

use std::sync::mpsc;
use std::thread;

use crate::support::logins::{LoginResult, Logins, log_in, proof, with};
use crate::support::tls::{Answer, Ask, Offer, Pki, TlsOrigin};
use crate::support::{Client, End, Origin, Proxy, get, request, response};

const SCHEMES: [&str; 2] = ["NTLM", "Negotiate"];

#[test]
fn a_login_of_three_messages_completes() {
    for scheme in SCHEMES {
        let origin = Logins::origin(scheme);
        let proxy = Proxy::start();
        let mut client = proxy.client();
        let answer = log_in(&mut client, &origin, scheme, "anna");
        assert_eq!(answer, (200, "anna".into()), "{scheme}");
        let post = request("POST", &origin, "/", "Content-Length: 3\r\n");
        client.send(post);
        client.send("abc");
        assert_eq!(client.response_to("POST").text(), "anna");
        assert_eq!(client.ask(get(&origin, "/")).text(), "anna");
    }
}

#[test]
fn what_a_client_has_logged_in_to_is_nobody_elses() {
    let origin = Logins::origin("NTLM");
    let proxy = Proxy::start();
    let mut client = proxy.client();
    log_in(&mut client, &origin, "NTLM", "anna");
    let before = origin.connections().len();
    assert_eq!(proxy.get(&origin, "/").status(), 401);
    assert_eq!(client.ask(get(&origin, "/")).text(), "anna");
    drop(client);
    // The other client's connection stays open.
    origin.wait_for_open(1);
    assert_eq!(proxy.get(&origin, "/").status(), 401);
    assert_eq!(origin.connections().len(), before + 1);
}

#[test]
fn a_connection_is_closed_with_the_client_that_left_its_login_unfinished() {
    let origin = Logins::origin("Negotiate");
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let challenged = client.ask(with(&origin, "Negotiate HELLO"));
    assert_eq!(challenged.status(), 401);
    origin.wait_for_open(1);
    client.reset();
    origin.wait_for_end();
}

#[test]
fn a_client_is_logged_in_to_several_hosts_at_once() {
    let origins: Vec<Origin> = (0..4).map(|_| Logins::origin("NTLM")).collect();
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for (number, origin) in origins.iter().enumerate() {
        let user = format!("user-{number}");
        log_in(&mut client, origin, "NTLM", &user);
    }
    for turn in 0..2 {
        for (number, origin) in origins.iter().enumerate() {
            let told = client.ask(get(origin, "/")).text();
            assert_eq!(told, format!("user-{number}"), "turn {turn}");
        }
    }
}

#[test]
fn a_client_owns_only_so_many_connections() {
    let origins: Vec<Origin> = (0..9).map(|_| Logins::origin("NTLM")).collect();
    let proxy = Proxy::start();
    let mut client = proxy.client();
    for origin in &origins {
        log_in(&mut client, origin, "NTLM", "anna");
    }
    // The pooled connection of the first request is open as well.
    origins[0].wait_for_open(1);
    assert_eq!(client.ask(get(&origins[0], "/")).status(), 401);
    assert_eq!(client.ask(get(&origins[8], "/")).text(), "anna");
}

#[test]
fn no_client_of_many_gets_anothers_name() {
    let origin = Logins::origin("NTLM");
    let proxy = Proxy::command().args(["--num-workers", "2"]).start();
    let address = proxy.address();
    thread::scope(|scope| {
        for number in 0..50 {
            let origin = &origin;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let user = format!("user-{number}");
                let answer = log_in(&mut client, origin, "NTLM", &user);
                assert_eq!(answer, (200, user.clone()));
                for _ in 0..5 {
                    assert_eq!(client.ask(get(origin, "/")).text(), user);
                }
            });
        }
    });
    assert_eq!(proxy.get(&origin, "/").status(), 401);
}

#[test]
fn a_client_is_told_that_its_connection_is_kept_for_it() {
    let origin = Logins::origin("NTLM");
    let proxy = Proxy::start();
    let told = |response: &crate::support::Message| response.field("proxy-support");
    assert_eq!(
        told(&proxy.get(&origin, "/")).as_deref(),
        Some("Session-Based-Authentication")
    );
    let basic = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"";
    let other = Origin::answering(response(basic, ""));
    assert_eq!(told(&proxy.get(&other, "/")), None);
}

#[test]
fn credentials_of_a_request_leave_its_connection_to_everybody() {
    for credentials in ["Basic YTpi", "Bearer x", "Digest username=\"a\""] {
        let origin = Origin::answering(crate::support::OK);
        let proxy = Proxy::start();
        assert_eq!(proxy.ask(with(&origin, credentials)).status(), 200);
        assert_eq!(proxy.get(&origin, "/").status(), 200);
        assert_eq!(origin.connections().len(), 1, "{credentials}");
    }
}

/// An origin that stops after `responses` responses to requests with credentials. A message on the channel makes it
/// close the connection.
fn closing_after(responses: usize) -> (Origin, mpsc::Sender<()>) {
    let logins = Logins::new("NTLM");
    let (close, closes) = mpsc::channel();
    let closes = std::sync::Mutex::new(closes);
    let origin = Origin::serve(move |peer| {
        let mut sent = 0;
        while sent < responses
            && let Some(request) = peer.request()
        {
            let answer = logins.answer(peer.index(), &request);
            peer.send(answer);
            sent += usize::from(request.field("authorization").is_some());
        }
        drop(closes.lock().map(|closes| closes.recv()));
    });
    (origin, close)
}

#[test]
fn a_client_is_closed_with_the_connection_that_it_was_logging_in_to() {
    let (origin, close) = closing_after(1);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let challenged = client.ask(with(&origin, "NTLM HELLO"));
    assert_eq!(challenged.status(), 401);
    close.send(()).expect("the origin waits");
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_request_of_a_closed_login_goes_nowhere_else() {
    let logins = Logins::new("NTLM");
    // Closes a connection when its second request arrives.
    let origin = Origin::serve(move |peer| {
        while let Some(request) = peer.request() {
            let has_credentials = request.field("authorization");
            if has_credentials.is_some_and(|value| value.contains("PROOF")) {
                return;
            }
            let answer = logins.answer(peer.index(), &request);
            peer.send(answer);
        }
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    let challenged = client.ask(with(&origin, "NTLM HELLO"));
    let challenge = challenged.field("www-authenticate").unwrap_or_default();
    let proof = proof(&challenge, "anna");
    client.send(with(&origin, &proof));
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"", "no answer from another connection");
    let proofs = origin.requests().into_iter();
    let proofs = proofs.filter(|request| request.field("authorization") == Some(proof.clone()));
    assert_eq!(proofs.count(), 1);
}

#[test]
fn a_client_whose_login_the_origin_ends_is_told_so() {
    let logins = Logins::new("NTLM");
    let origin = Origin::serve(move |peer| {
        while let Some(request) = peer.request() {
            let answer = logins.answer(peer.index(), &request);
            if answer.contains("200 OK") {
                peer.send(answer.replacen("OK", "OK\r\nConnection: close", 1));
                return;
            }
            peer.send(answer);
        }
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.ask(get(&origin, "/"));
    let challenged = client.ask(with(&origin, "NTLM HELLO"));
    let challenge = challenged.field("www-authenticate").unwrap_or_default();
    let answer = client.ask(with(&origin, &proof(&challenge, "anna")));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "anna"));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn a_login_completes_through_parent_proxies() {
    let origin = Logins::origin("NTLM");
    let parents = [Proxy::start(), Proxy::start()];
    let urls = [0, 1].map(|at: usize| format!("http://{}", parents[at].address()));
    let proxy = Proxy::command()
        .plugin("proxy_pool", "ProxyPool")
        .plugin_config(&format!("ProxyPool.parents={urls:?}"))
        .plugin_config("ProxyPool.policy=\"round_robin\"")
        .plugin_config("ProxyPool.bypass=[]")
        .start();
    let mut clients = [proxy.client(), proxy.client()];
    for (client, user) in clients.iter_mut().zip(["anna", "bert"]) {
        let answer = log_in(client, &origin, "NTLM", user);
        assert_eq!(answer, (200, user.into()));
    }
    for _ in 0..2 {
        for (client, user) in clients.iter_mut().zip(["anna", "bert"]) {
            assert_eq!(client.ask(get(&origin, "/")).text(), user);
        }
    }
    assert_eq!(proxy.get(&origin, "/").status(), 401);
}

/// A TLS origin with connection-based logins.
fn secure_origin(pki: &Pki, offer: Offer) -> TlsOrigin {
    let logins = Logins::new("NTLM");
    let origin = pki.origin().offering(offer);
    origin.serve(move |seen| {
        let authorization = seen.field("authorization");
        match logins.judge(seen.connection, authorization.as_deref()) {
            LoginResult::User(user) => Answer::ok(user),
            LoginResult::Challenge(value) => Answer::status(401).field("WWW-Authenticate", &value),
        }
    })
}

#[test]
fn a_login_completes_inside_of_interception() {
    for (client, origin) in [
        (Offer::Http1, Offer::Http1),
        (Offer::Http1, Offer::Both),
        (Offer::Both, Offer::Both),
    ] {
        let pki = Pki::new();
        let served = secure_origin(&pki, origin);
        let proxy = pki.intercepting().start();
        let authority = served.authority();
        let connect = || pki.client(&proxy).offering(client).https(&authority);
        let mut sessions = [connect(), connect()];
        for (session, user) in sessions.iter_mut().zip(["anna", "bert"]) {
            let ask = || Ask::get(&authority, "/");
            assert_eq!(session.ask(ask()).status, 401);
            let challenged = session.ask(ask().field("Authorization", "NTLM HELLO"));
            let challenge = challenged.field("www-authenticate").unwrap_or_default();
            let proof = proof(&challenge, user);
            let answer = session.ask(ask().field("Authorization", &proof));
            assert_eq!(
                answer.told(),
                (200, user.to_owned()),
                "{client:?}, {origin:?}"
            );
        }
        for (session, user) in sessions.iter_mut().zip(["anna", "bert"]) {
            let answer = session.ask(Ask::get(&authority, "/"));
            assert_eq!(
                answer.told(),
                (200, user.to_owned()),
                "{client:?}, {origin:?}"
            );
        }
        assert_eq!(connect().ask(Ask::get(&authority, "/")).status, 401);
    }
}

#[test]
fn a_client_of_http2_gets_the_answer_that_ends_its_login() {
    let pki = Pki::new();
    let logins = Logins::new("NTLM");
    let origin = pki.origin().offering(Offer::Both).serve(move |seen| {
        let authorization = seen.field("authorization");
        match logins.judge(seen.connection, authorization.as_deref()) {
            LoginResult::User(user) => Answer::ok(user).field("Connection", "close"),
            LoginResult::Challenge(value) => Answer::status(401).field("WWW-Authenticate", &value),
        }
    });
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let mut session = pki.client(&proxy).offering(Offer::Both).https(&authority);
    let ask = |credentials: &str| Ask::get(&authority, "/").field("Authorization", credentials);
    let challenged = session.ask(ask("NTLM HELLO"));
    let challenge = challenged.field("www-authenticate").unwrap_or_default();
    let answer = session.ask(ask(&proof(&challenge, "anna")));
    assert_eq!(answer.told(), (200, "anna".to_owned()));
    // Other streams of the connection continue.
    assert_eq!(session.ask(Ask::get(&authority, "/")).status, 401);
}
