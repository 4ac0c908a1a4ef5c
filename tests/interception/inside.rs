//! Intercepted TLS without ALPN: protocols other than HTTP are relayed; filters see HTTP in any spelling.

use std::fs;

use crate::support::tls::{Answer, Ask, EchoOrigin, Identity, Offer, Pipe, Pki, Trust};
use crate::support::{Proxy, contains};

const GREETING: &str = "* OK IMAP4rev1 ready\r\n";

/// Opens a tunnel to `origin` and TLS with the proxy inside it, without ALPN.
fn inside(pki: &Pki, proxy: &Proxy, origin: &EchoOrigin) -> Pipe {
    let client = pki.client(proxy).offering(Offer::Nothing);
    client
        .try_secure(&origin.authority())
        .expect("the proxy's certificate is good")
}

fn tunnel_line(proxy: &Proxy, origin: &EchoOrigin) -> String {
    proxy.wait_for_line(&format!("CONNECT {} ", origin.authority()))
}

#[test]
fn a_server_that_speaks_first_is_relayed() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Nothing).echoing(GREETING);
    let proxy = pki.intercepting().start();
    let mut client = inside(&pki, &proxy, &origin);
    assert_eq!(client.read_until(b"\r\n"), GREETING.as_bytes());
    client.send("a LOGIN x y\r\n");
    assert_eq!(client.read_until(b"\r\n"), b"a LOGIN x y\r\n");
    client.finish();
    client.read_to_end();
    let line = tunnel_line(&proxy, &origin);
    assert!(line.contains("relayed decrypted, not HTTP"), "{line}");
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn a_client_that_speaks_no_http_is_relayed() {
    for first in [
        // MQTT, LDAP, AMQP, STUN, DNS, Redis, IRC, XMPP, syslog.
        &b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05probe"[..],
        b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
        b"AMQP\0\0\x09\x01",
        b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl",
        b"\0\x1d\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01",
        b"*1\r\n$4\r\nPING\r\n",
        b"CAP LS 302\r\n",
        b"<?xml version='1.0'?><stream:stream to='a.example' version='1.0'>",
        b"<stream:stream to='a.example' version='1.0'>",
        b"27 <34>1 - a.example - - - - x",
    ] {
        let pki = Pki::new();
        let origin = pki.origin().offering(Offer::Nothing).echoing("");
        let proxy = pki.intercepting().start();
        let mut client = inside(&pki, &proxy, &origin).dribbling();
        client.send(first);
        assert_eq!(client.read_exact(first.len()), first);
        drop(client);
        let line = tunnel_line(&proxy, &origin);
        assert!(line.contains("relayed decrypted, not HTTP"), "{line}");
    }
}

#[test]
fn a_tunnel_to_an_address_is_relayed_as_well() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Nothing).echoing(GREETING);
    let proxy = pki.intercepting().start();
    for name in ["localhost", "127.0.0.1"] {
        let tunnel = pki.client(&proxy).tunnel(&origin.address().to_string());
        let client = tunnel.secure(&pki, name, Offer::Nothing, Trust::Proxy);
        let mut client = client.expect("the proxy's certificate is good");
        assert_eq!(client.read_until(b"\r\n"), GREETING.as_bytes());
    }
}

#[test]
fn a_server_that_takes_its_own_protocol_only_is_relayed() {
    // The origin refuses a handshake that offers HTTP.
    let pki = Pki::new();
    let offer = Offer::Names(&["imap"]);
    let origin = pki.origin().offering(offer).echoing(GREETING);
    let proxy = pki.intercepting().start();
    let mut client = inside(&pki, &proxy, &origin);
    assert_eq!(client.read_until(b"\r\n"), GREETING.as_bytes());
    assert_eq!(origin.connections()[0].protocol, None);
}

#[test]
fn a_server_that_chooses_by_protocol_is_asked_without_one() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Http1).echoing("");
    let proxy = pki.intercepting().start();
    let mut client = inside(&pki, &proxy, &origin);
    client.send("\x10\x02MQTT");
    assert_eq!(client.read_exact(6), b"\x10\x02MQTT");
    let connections = origin.connections();
    let last = connections.last().expect("a connection");
    assert_eq!(
        (last.protocol.as_deref(), &last.received[..]),
        (None, &b"\x10\x02MQTT"[..])
    );
}

#[test]
fn a_certificate_that_is_not_valid_relays_nothing() {
    for identity in [Identity::Untrusted, Identity::WrongHost] {
        let pki = Pki::new();
        let plan = pki.origin().identity(identity).offering(Offer::Nothing);
        let origin = plan.echoing(GREETING);
        let proxy = pki.intercepting().start();
        let answer = pki.client(&proxy).connect(&origin.authority());
        assert_eq!(answer.err().expect("no tunnel").status, 502);
        // For an address, verification fails only inside the tunnel.
        let tunnel = pki.client(&proxy).tunnel(&origin.address().to_string());
        let client = tunnel.secure(&pki, "localhost", Offer::Nothing, Trust::Proxy);
        if let Ok(mut client) = client {
            client.send("\0\x01binary");
            let (answer, _) = client.read_to_end();
            assert_eq!(answer, b"");
        }
        assert_eq!(origin.received(), b"");
    }
}

#[test]
fn plugins_that_listen_to_tunnels_see_what_is_inside() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Nothing).echoing(GREETING);
    let directory = pki.scratch().path("tunnels");
    fs::create_dir_all(&directory).expect("a scratch directory can be made");
    let proxy = pki
        .intercepting()
        .plugin("cache_responses", "CacheTunnels")
        .plugin_config(&format!("CacheTunnels.directory={directory:?}"))
        .start();
    let mut client = inside(&pki, &proxy, &origin);
    client.read_until(b"\r\n");
    client.send("a LOGIN x y\r\n");
    client.read_until(b"\r\n");
    client.finish();
    client.read_to_end();
    tunnel_line(&proxy, &origin);
    drop(proxy);
    let files = fs::read_dir(&directory).expect("the directory is there");
    let kept: Vec<u8> = files
        .flat_map(|file| fs::read(file.expect("a file").path()).expect("it can be read"))
        .collect();
    assert!(
        contains(&kept, GREETING.as_bytes()),
        "{}",
        kept.escape_ascii()
    );
}

#[test]
fn http_is_served_and_filtered() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Nothing)
        .answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .plugin("filter_by_url_regex", "FilterByUrlRegex")
        .plugin_config("FilterByUrlRegex.rules=[{ regex = '/blocked' }]")
        .start();
    let client = pki.client(&proxy).offering(Offer::Nothing);
    let authority = origin.authority();
    let mut session = client.https(&authority);
    assert_eq!(
        session.ask(Ask::get(&authority, "/")).told(),
        (200, "ok".into())
    );
    assert_eq!(session.ask(Ask::get(&authority, "/blocked")).status, 404);
    // The request used the connection that was opened before it.
    assert_eq!(origin.connections().len(), 1);
    drop(session);
    let line = proxy.wait_for_line(&format!("CONNECT {authority} "));
    assert!(line.ends_with(" - intercepted"), "{line}");
}

#[test]
fn http_in_no_spelling_reaches_a_server_unseen() {
    for first in [
        "GET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
        "GET /blocked\r\n",
        "get /blocked HTTP/1.0\r\n\r\n",
        "FOO /blocked BAR\r\n\r\n",
        "\r\n\r\n GET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
        "x y HTTP/1.1\r\n/blocked: 1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n/blocked",
        "\u{16}\u{3}\u{1}/blocked",
    ] {
        for (greeting, in_single_bytes) in [("", false), ("", true), (GREETING, false)] {
            let pki = Pki::new();
            let origin = pki.origin().offering(Offer::Nothing).echoing(greeting);
            let proxy = pki
                .intercepting()
                .plugin("filter_by_url_regex", "FilterByUrlRegex")
                .plugin_config("FilterByUrlRegex.rules=[{ regex = '/blocked' }]")
                .start();
            let mut client = inside(&pki, &proxy, &origin);
            if !greeting.is_empty() {
                client.read_until(greeting.as_bytes());
            }
            if in_single_bytes {
                client = client.dribbling();
            }
            client.send(first.replace("AUTHORITY", &origin.authority()));
            client.finish();
            client.read_to_end();
            let seen = origin.received();
            assert!(
                !contains(&seen, b"/blocked"),
                "{first:?} {}",
                seen.escape_ascii()
            );
        }
    }
}

#[test]
fn other_protocols_are_closed_where_that_is_configured() {
    let pki = Pki::new();
    for greeting in ["", GREETING] {
        let origin = pki.origin().offering(Offer::Nothing).echoing(greeting);
        let closing = "[interception]\nunknown = 'close'";
        let proxy = pki.intercepting().config(closing).start();
        let mut client = inside(&pki, &proxy, &origin);
        client.send("\0\x01binary");
        let (answer, _) = client.read_to_end();
        assert_eq!((answer, origin.received()), (Vec::new(), Vec::new()));
        let line = tunnel_line(&proxy, &origin);
        assert!(line.contains("closed, not HTTP inside TLS"), "{line}");
    }
}

#[test]
fn a_server_of_http_that_is_tired_of_waiting_is_not_relayed() {
    let pki = Pki::new();
    let tired = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let origin = pki.origin().offering(Offer::Nothing).echoing(tired);
    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy).offering(Offer::Nothing);
    let mut session = client.https(&origin.authority());
    let answer = session.ask(Ask::get(&origin.authority(), "/"));
    assert!(answer.status >= 400, "{answer:?}");
    drop(session);
    let line = tunnel_line(&proxy, &origin);
    assert!(line.ends_with(" - intercepted"), "{line}");
}

#[test]
fn a_client_that_leaves_without_a_word_is_forgotten() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Nothing).echoing("");
    let proxy = pki.intercepting().start();
    let mut client = inside(&pki, &proxy, &origin);
    client.finish();
    client.read_to_end();
    let line = tunnel_line(&proxy, &origin);
    assert!(line.ends_with(" - intercepted"), "{line}");
    assert_eq!(origin.received(), b"");
}

#[test]
fn a_protocol_that_is_named_is_refused_as_ever() {
    let pki = Pki::new();
    let origin = pki.origin().offering(Offer::Nothing).echoing(GREETING);
    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy).offering(Offer::Names(&["imap"]));
    assert!(client.try_secure(&origin.authority()).is_err());
    // With HTTP in ALPN, the tunnel is handled as HTTP.
    let client = pki.client(&proxy).offering(Offer::Http1);
    let mut session = client.https(&origin.authority());
    let answer = session.ask(Ask::get(&origin.authority(), "/"));
    assert_eq!(answer.status, 502);
}
