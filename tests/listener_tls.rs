//! Clients that connect to the proxy over TLS: HTTP/1.1 and HTTP/2, requests and tunnels, and input that is not TLS.

use std::time::Instant;
use std::{fs, thread};

use rustix::process::Signal;

use crate::support::tls::{Answer, Ask, Identity, Offer, Pki, Trust, Version, Way};
use crate::support::{End, HANG, OK, Origin, Proxy, ProxyCommand, pattern};

/// The exit code for an invalid configuration.
const CONFIG: i32 = 78;

fn listening(pki: &Pki) -> ProxyCommand {
    pki.relaying().args(pki.listener())
}

#[test]
fn requests_are_forwarded_in_either_version() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    for (way, version) in [(Way::Tls, Version::Http1), (Way::Http2, Version::Http2)] {
        let mut session = pki.client(&proxy).over(way).session();
        for path in ["/one", "/two"] {
            let received = session.ask(Ask::get(&origin.authority(), path));
            assert_eq!(received.told(), (200, "origin-ok".into()));
            assert_eq!(received.version, version);
            proxy.wait_for_line(&format!("GET {}{path} - 200", origin.authority()));
        }
        let received = session.ask(Ask::post(&origin.authority(), "/", "content"));
        assert_eq!(received.status, 200);
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        assert_eq!(request.all("Host"), [origin.authority()]);
        assert!(request.is_sound(), "{:?}", request.fault);
    }
    assert_eq!(requests[5].text(), "content");
}

#[test]
fn the_received_version_is_in_via() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    for way in [Way::Tls, Way::Http2] {
        let mut session = pki.client(&proxy).over(way).session();
        session.ask(Ask::get(&origin.authority(), "/"));
    }
    let via: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.field("Via").unwrap_or_default())
        .collect();
    assert!(
        via[0].starts_with("1.1 ") && via[1].starts_with('2'),
        "{via:?}"
    );
}

#[test]
fn a_mebibyte_passes_both_ways() {
    let pki = Pki::new();
    let content = pattern(1 << 20);
    let origin = pki.origin().serve_clear(|_| Answer::echo());
    let proxy = listening(&pki).start();
    for way in [Way::Tls, Way::Http2] {
        let mut session = pki.client(&proxy).over(way).session();
        let ask = Ask::post(&origin.authority(), "/", content.clone());
        assert!(session.ask(ask).body == content, "{way:?}");
    }
}

#[test]
fn tunnels_are_opened_in_either_version() {
    let pki = Pki::new();
    let origin = Origin::echoing();
    let proxy = listening(&pki).start();
    for way in [Way::Tls, Way::Http2] {
        let mut tunnel = pki.client(&proxy).over(way).tunnel(&origin.authority());
        tunnel.send("through the tunnel");
        assert_eq!(tunnel.read_exact(18), b"through the tunnel");
        tunnel.finish();
        assert_eq!(tunnel.read_to_end(), (Vec::new(), End::Closed), "{way:?}");
    }
}

#[test]
fn many_tunnels_are_streams_of_one_connection() {
    let pki = Pki::new();
    let origin = Origin::echoing();
    let proxy = listening(&pki).start();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let mut tunnels: Vec<_> = (0..20)
        .map(|_| {
            let tunnel = session.connect_stream(&origin.authority());
            tunnel.unwrap_or_else(|answer| panic!("no tunnel: {answer:?}"))
        })
        .collect();
    for round in 0..3 {
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            tunnel.send(format!("tunnel {number:02}, round {round};"));
        }
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            let expected = format!("tunnel {number:02}, round {round};");
            assert_eq!(tunnel.read_exact(expected.len()), expected.as_bytes());
        }
    }
    // Closing one tunnel does not affect the others.
    drop(tunnels.remove(7));
    tunnels[0].finish();
    assert_eq!(tunnels[0].read_to_end(), (Vec::new(), End::Closed));
    tunnels[1].send("still here");
    assert_eq!(tunnels[1].read_exact(10), b"still here");
    assert_eq!(origin.connections().len(), 20);
    drop(tunnels);
    drop(session);
    origin.wait_for_end();
}

#[test]
fn bulk_passes_a_tunnel_that_is_a_stream() {
    const LEN: usize = 4 << 20;
    let pki = Pki::new();
    let origin = Origin::serve(|peer| {
        peer.send(pattern(LEN));
        peer.discard(LEN);
        peer.send("done");
    });
    let proxy = listening(&pki).start();
    let mut tunnel = pki
        .client(&proxy)
        .over(Way::Http2)
        .tunnel(&origin.authority());
    assert!(tunnel.read_exact(LEN) == pattern(LEN));
    tunnel.send(pattern(LEN));
    assert_eq!(tunnel.read_exact(4), b"done");
}

#[test]
fn tls_passes_a_tunnel_inside_of_tls() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let relaying = listening(&pki).start();
    let intercepting = pki.intercepting().args(pki.listener()).start();
    for way in [Way::Tls, Way::Http2] {
        for offer in [Offer::Http1, Offer::Http2] {
            let client = pki.client(&relaying).over(way).offering(offer);
            let received = client
                .trusting(Trust::Origins)
                .get(&origin.authority(), "/");
            assert_eq!(received.told(), (200, "ok".into()), "{way:?}, {offer:?}");
            let client = pki.client(&intercepting).over(way).offering(offer);
            let received = client.get(&origin.authority(), "/");
            assert_eq!(received.told(), (200, "ok".into()), "{way:?}, {offer:?}");
        }
    }
}

#[test]
fn a_refused_connect_leaves_the_other_streams_alone() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    let answer = session
        .connect_stream("127.0.0.1:1")
        .err()
        .expect("nobody listens");
    assert_eq!(answer.status, 502);
    assert!(answer.field("Proxy-Status").is_some());
    let received = session.ask(Ask::get(&origin.authority(), "/"));
    assert_eq!(received.told(), (200, "origin-ok".into()));
}

#[test]
fn credentials_are_asked_for_on_every_stream() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki)
        .args(["--basic-auth", "user:password"])
        .start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    let authority = origin.authority();
    let denied = session.ask(Ask::get(&authority, "/"));
    assert_eq!(denied.status, 407);
    assert!(denied.field("Proxy-Authenticate").is_some());
    let ask = Ask::get(&authority, "/").field("proxy-authorization", "Basic dXNlcjpwYXNzd29yZA==");
    assert_eq!(session.ask(ask).status, 200);
    assert_eq!(session.ask(Ask::get(&authority, "/")).status, 407);
    assert_eq!(origin.only_request().field("Proxy-Authorization"), None);
}

#[test]
fn http_in_clear_text_is_told_that_tls_is_expected() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    for request in [
        format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
    ] {
        let mut client = proxy.client();
        let answer = client.ask(&request);
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains("TLS"), "{}", answer.text());
        client.read_to_end();
    }
    origin.assert_untouched();
    let said = " - answered 400 - this port speaks TLS; the client sent";
    let line = proxy.wait_for_line(" - CONNECT ");
    assert!(
        line.contains(&format!(
            "{said} plain HTTP: set the proxy URL to https://, not http:// - for {authority}"
        )),
        "{line}"
    );
    let mut client = proxy.client();
    client.send(b"\x05\x01\x00");
    client.read_to_end();
    proxy.wait_for_line(&format!("{said} SOCKS5: "));
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    for nonsense in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x00\x02",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        b"SSH-2.0-client\r\n",
    ] {
        let mut client = proxy.client();
        client.send(nonsense);
        client.finish();
        client.read_to_end();
    }
    let mut session = pki.client(&proxy).over(Way::Tls).session();
    assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 200);
}

#[test]
fn a_handshake_that_does_not_end_is_cut_off() {
    let pki = Pki::new();
    let proxy = listening(&pki)
        .config("[timeouts]\nheader_read = 1\nidle = 1")
        .start();
    let mut silent = proxy.client();
    let mut slow = proxy.client();
    slow.send(b"\x16\x03\x01\x02\x00\x01");
    slow.read_to_end();
    silent.read_to_end();
}

#[test]
fn a_client_that_offers_something_else_is_refused() {
    let pki = Pki::new();
    let proxy = listening(&pki).start();
    // Without ALPN, the protocol is HTTP/1.1.
    let pipe = pki
        .client(&proxy)
        .try_pipe(Offer::Nothing)
        .expect("a handshake");
    assert_eq!(
        (pipe.protocol.as_deref(), pipe.version()),
        (None, Version::Http1)
    );
    let both = pki
        .client(&proxy)
        .try_pipe(Offer::Both)
        .expect("a handshake");
    assert_eq!(both.version(), Version::Http2);
}

#[test]
fn http2_without_tls_is_not_spoken_on_a_port_without_tls() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    client.read_to_end();
    let answered = String::from_utf8_lossy(client.received()).into_owned();
    assert!(
        ["", "HTTP/1.1 400", "HTTP/1.1 505"]
            .iter()
            .any(|start| answered.get(..12).unwrap_or("") == *start),
        "{answered}"
    );
    assert_eq!(proxy.get(&origin, "/").status(), 200);
}

#[test]
fn a_certificate_that_cannot_be_shown_refuses_the_start() {
    let pki = Pki::new();
    let (certificate, key) = pki.listener_files();
    let other = pki.other_key_file();
    let empty = pki.scratch().write("empty.pem", "");
    let missing = pki.scratch().path("missing.pem");
    for (certificate, key, named) in [
        (&certificate, &other, &other),
        (&certificate, &missing, &missing),
        (&missing, &key, &missing),
        (&empty, &key, &empty),
        (&certificate, &empty, &empty),
    ] {
        let exit = Proxy::command()
            .args(["--cert-file".as_ref(), certificate.as_os_str()])
            .args(["--key-file".as_ref(), key.as_os_str()])
            .run();
        assert_eq!(exit.code, Some(CONFIG), "{exit:?}");
        let name = named.display().to_string();
        assert!(exit.stderr.contains(&name), "no {name} in {}", exit.stderr);
    }
}

#[test]
fn a_new_certificate_is_shown_after_sighup_and_old_connections_go_on() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let client = pki.client(&proxy).over(Way::Http2);
    let mut old = client.session();
    let first = old.der().to_vec();
    pki.listener_files();
    proxy.signal(Signal::HUP);
    let deadline = Instant::now() + HANG;
    while client.pipe().chain[0] == first {
        assert!(
            Instant::now() < deadline,
            "the old certificate is still shown"
        );
        thread::yield_now();
    }
    assert_eq!(old.ask(Ask::get(&origin.authority(), "/")).status, 200);
}

#[test]
fn a_new_certificate_that_cannot_be_shown_leaves_the_old_one() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let client = pki.client(&proxy).over(Way::Tls);
    let first = client.session().der().to_vec();
    let (certificate, _) = pki.listener_files();
    fs::write(&certificate, "nothing").expect("a scratch file is ours");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line(&certificate.display().to_string());
    let mut session = client.session();
    assert_eq!(session.der(), first);
    assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 200);
}

#[test]
fn a_certificate_that_is_not_in_date_is_warned_of() {
    for (identity, words) in [
        (Identity::Expired, "expired on 2020-"),
        (Identity::NotYetValid, "is not yet valid (valid from 2100-"),
    ] {
        let pki = Pki::new();
        let (certificate, key) = pki.listener_files_of(&identity);
        let proxy = pki
            .relaying()
            .args(["--cert-file".as_ref(), certificate.as_os_str()])
            .args(["--key-file".as_ref(), key.as_os_str()])
            .start();
        let file = certificate.display().to_string();
        proxy.wait_for_line_where("a warning", |line| {
            line.contains(" - WARNING - ") && line.contains(&file) && line.contains(words)
        });
        // A reload logs the same warning.
        proxy.signal(Signal::HUP);
        proxy.wait_for_lines(words, 2);
    }
}

#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let (certificate, key) = pki.listener_files();
    let interception = pki.interception();
    let files = [
        key.clone(),
        pki.scratch().path("ca-key.pem"),
        pki.scratch().path("ca-signing-key.pem"),
    ];
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))
            .expect("a scratch file is ours");
    }
    let proxy = pki
        .relaying()
        .args(interception)
        .args(["--cert-file".as_ref(), certificate.as_os_str()])
        .args(["--key-file".as_ref(), key.as_os_str()])
        .start();
    for file in &files {
        let remedy = format!("(mode 644); run chmod 600 {}", file.display());
        let line = proxy.wait_for_line(&remedy);
        assert!(line.contains(" - WARNING - "), "{line}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a scratch file is ours");
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("generation 2 is active");
    let warnings = proxy
        .lines()
        .iter()
        .filter(|line| line.contains("chmod 600"))
        .count();
    assert_eq!(warnings, files.len());
}

#[test]
fn plugins_are_told_what_was_agreed_on_by_tls() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).plugin("kinds", "SeesEnd").start();
    for (way, protocol) in [(Way::Tls, "http/1.1"), (Way::Http2, "h2")] {
        let mut session = pki.client(&proxy).over(way).session();
        let path = format!("/over-{protocol}");
        assert_eq!(
            session.ask(Ask::get(&origin.authority(), &path)).status,
            200
        );
        let line = proxy.wait_for_line(&path);
        assert!(line.contains(" - tls=TLSv1.3 true "), "{line}");
        assert!(line.contains(&format!(" {protocol} false")), "{line}");
    }
}

#[test]
fn a_certificate_of_version_1_is_shown() {
    let pki = Pki::new();
    let (certificate, key) = pki.version_1_files();
    let proxy = Proxy::command()
        .args(["--cert-file".as_ref(), certificate.as_os_str()])
        .args(["--key-file".as_ref(), key.as_os_str()])
        .start();
    let connected = pki.client(&proxy).pipe();
    let pipe = connected.secure(&pki, "localhost", Offer::Http1, Trust::Anyone);
    // rustls clients reject version 1 certificates; other clients accept them.
    let fault = pipe.err().expect("no handshake");
    assert!(fault.contains("UnsupportedCertVersion"), "{fault}");
}
