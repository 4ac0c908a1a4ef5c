//! What is relayed without decryption, why, and that relaying does not bypass the filters.

use crate::support::tls::{Answer, Ask, Form, Offer, Pki, Trust, client_hello};
use crate::support::{End, Origin, Proxy, ProxyCommand, contains};

/// The access log line of the tunnel to `authority`.
fn tunnel_line(proxy: &Proxy, authority: &str) -> String {
    proxy.wait_for_line(&format!("CONNECT {authority} "))
}

/// An origin that sends a greeting, then treats any bytes as a request.
fn greeting() -> Origin {
    Origin::serve(|peer| {
        peer.send("220 hello\r\n");
        while peer.read_more() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

#[test]
fn each_relay_has_its_reason_in_the_log() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let authority = origin.authority();
    let other = Origin::echoing();

    let proxy = pki
        .intercepting()
        .config("[interception]\nexclude = ['localhost']")
        .start();
    let client = pki.client(&proxy).trusting(Trust::Origins);
    assert_eq!(client.get(&authority, "/").status, 200);
    let line = tunnel_line(&proxy, &authority);
    assert!(line.contains("relayed, the host is excluded"), "{line}");

    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy).trusting(Trust::Origins);
    assert!(client.try_secure(&authority).is_err());
    assert_eq!(client.get(&authority, "/").status, 200);
    proxy.wait_for_line("relayed, the client rejected our certificate");

    let mut tunnel = pki.client(&proxy).tunnel(&other.authority());
    tunnel.send("SSH-2.0-client\r\n");
    tunnel.read_until(b"client\r\n");
    drop(tunnel);
    let line = tunnel_line(&proxy, &other.authority());
    assert!(line.contains("relayed, not HTTP or TLS"), "{line}");
}

#[test]
fn tls_of_protocols_that_are_named_is_relayed() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Nothing)
        .answering(Answer::ok("ok"));
    let proxy = pki
        .intercepting()
        .config("[interception]\nrelay_protocols = ['imap', 'foo']")
        .start();
    let client = pki.client(&proxy).trusting(Trust::Origins);
    for names in [&["imap"][..], &["foo", "imap"]] {
        let client = client.offering(Offer::Names(names));
        assert!(client.try_secure(&origin.authority()).is_ok());
        proxy.wait_for_line("relayed, the client offers only relay_protocols");
    }
    let mixed = client.offering(Offer::Names(&["imap", "pop3"]));
    assert!(mixed.try_secure(&origin.authority()).is_err());
}

#[test]
fn a_greeting_opens_no_way_for_http_or_tls() {
    let pki = Pki::new();
    let proxy = pki.intercepting().start();
    for first in [
        &b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET /secret\r\n",
        b"x y HTTP/1.0\r\n\r\n",
        b"\r\n\r\nfoo /secret",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\0\xff\x01",
        b"\x80\x1c\x01\x03\x01",
    ] {
        for in_single_bytes in [false, true] {
            let origin = greeting();
            let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
            tunnel.read_until(b"220 hello\r\n");
            let mut tunnel = match in_single_bytes {
                true => tunnel.dribbling(),
                false => tunnel,
            };
            tunnel.send(first);
            tunnel.finish();
            let (answer, _) = tunnel.read_to_end();
            assert_eq!(answer, b"");
            origin.wait_for_end();
            assert_eq!(origin.received(), b"", "{}", first.escape_ascii());
            let line = tunnel_line(&proxy, &origin.authority());
            let reason = "closed, HTTP or TLS after the upstream spoke first";
            assert!(line.contains(reason), "{line}");
        }
    }
}

#[test]
fn what_follows_a_greeting_arrives_whole() {
    let pki = Pki::new();
    let proxy = pki.intercepting().start();
    for first in ["EHLO a.example\r\nmore", "no line at all", "\0binary"] {
        let origin = greeting();
        let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
        tunnel.read_until(b"220 hello\r\n");
        let mut tunnel = tunnel.dribbling();
        tunnel.send(first);
        tunnel.finish();
        let (_, end) = tunnel.read_to_end();
        assert_eq!(end, End::Closed);
        assert_eq!(origin.received(), first.as_bytes());
        let line = tunnel_line(&proxy, &origin.authority());
        assert!(line.contains("relayed, not HTTP or TLS"), "{line}");
    }
}

#[test]
fn a_client_that_rejected_our_certificate_is_still_filtered_in_clear() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let authority = origin.authority();
    let proxy = pki
        .intercepting()
        .plugin("filter_by_url_regex", "FilterByUrlRegex")
        .plugin_config("FilterByUrlRegex.rules=[{ regex = '/blocked' }]")
        .start();
    let client = pki.client(&proxy).trusting(Trust::Origins);
    assert!(client.try_secure(&authority).is_err());
    // From now on the client's TLS is relayed, but not its plain HTTP.
    assert_eq!(client.get(&authority, "/blocked").status, 200);
    let mut session = client.tunnel(&authority).session(Form::Origin("http"));
    let answer = session.ask(Ask::get(&authority, "/blocked"));
    assert_eq!(answer.status, 404);
}

#[test]
fn unknown_protocols_are_closed_where_that_is_configured() {
    let pki = Pki::new();
    let closing = || {
        pki.intercepting()
            .config("[interception]\nunknown = 'close'")
    };
    let proxy = closing().start();
    for first in ["SSH-2.0-client\r\n", "\0\x01", "EHLO a\r\n"] {
        let origin = Origin::echoing();
        let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
        tunnel.send(first);
        let (answer, _) = tunnel.read_to_end();
        assert_eq!((answer, origin.received()), (Vec::new(), Vec::new()));
        let line = tunnel_line(&proxy, &origin.authority());
        assert!(line.contains("closed, not HTTP or TLS"), "{line}");
    }
    let origin = greeting();
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    let (answer, _) = tunnel.read_to_end();
    assert!(!contains(&answer, b"220"));

    // HTTP is still served, and excluded hosts are still relayed.
    let origin = pki.origin().answering(Answer::ok("ok"));
    assert_eq!(pki.client(&proxy).get(&origin.authority(), "/").status, 200);
    let excluding = "[interception]\nunknown = 'close'\nexclude = ['127.0.0.1']";
    let proxy = pki.intercepting().config(excluding).start();
    let origin = Origin::echoing();
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    tunnel.send("SSH-2.0-client\r\n");
    tunnel.read_until(b"client\r\n");
}

/// A proxy that resolves every name to this machine.
fn resolving(pki: &Pki) -> ProxyCommand {
    pki.intercepting()
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config("CustomDnsResolver.hosts={ '*' = ['127.0.0.1'] }")
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_relayed() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let proxy = resolving(&pki).start();
    for host in ["me-.wild.test", "-me.wild.test"] {
        let authority = format!("{host}:{}", origin.address().port());
        let tunnel = pki.client(&proxy).tunnel(&authority);
        // Without a server name.
        let secure = tunnel.secure(&pki, "127.0.0.1", Offer::Both, Trust::Origins);
        let mut session = secure
            .expect("the origin's TLS")
            .session(Form::Origin("https"));
        assert_eq!(session.ask(Ask::get(&authority, "/")).status, 200);
        drop(session);
        let line = tunnel_line(&proxy, &authority);
        let reason = "relayed, no certificate can be issued for this host name";
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn the_server_name_of_such_a_host_arrives_as_it_was_sent() {
    let pki = Pki::new();
    let mut hello = client_hello(&pki, "meX.wild.test");
    let place = hello.windows(4).position(|bytes| bytes == b"meX.");
    hello[place.expect("a server name") + 2] = b'-';
    let proxy = resolving(&pki).start();
    let origin = Origin::echoing();
    let port = origin.address().port();
    let mut tunnel = pki.client(&proxy).tunnel(&format!("me-.wild.test:{port}"));
    tunnel.send(&hello);
    assert_eq!(tunnel.read_exact(hello.len()), hello);
    // Refused for any other host, and where unknown protocols are closed.
    let closing = "[interception]\nunknown = 'close'";
    for (proxy, host) in [
        (resolving(&pki).start(), "other.test"),
        (resolving(&pki).start(), "127.0.0.1"),
        (resolving(&pki).start(), "me--.wild.test"),
        (resolving(&pki).config(closing).start(), "me-.wild.test"),
    ] {
        let origin = Origin::echoing();
        let port = origin.address().port();
        let tunnel = pki.client(&proxy).connect(&format!("{host}:{port}"));
        if let Ok(mut tunnel) = tunnel {
            tunnel.send(&hello);
            tunnel.read_to_end();
        }
        let seen = origin.received();
        assert!(!contains(&seen, b"me-.wild.test"), "{host}");
    }
}
