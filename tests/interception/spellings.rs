//! HTTP inside tunnels, in every spelling that some server accepts: filters see each request, or it is refused; no
//! request reaches the origin without inspection.

use crate::support::tls::{Offer, Pki, Trust, client_hello};
use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch, contains, shown};

/// The path that all plugins below deny.
const MARK: &[u8] = b"/blocked";

/// Plaintext requests for `/blocked`; `AUTHORITY` stands for the authority of the tunnel.
const SPELLINGS: &[&str] = &[
    "GET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\nX: {{KEY}}\r\n\r\n",
    "GET /blocked HTTP/1.0\r\nHost: AUTHORITY\r\nX: {{KEY}}\r\n\r\n",
    "GET http://AUTHORITY/blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "POST /blocked HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: 0\r\n\r\n",
    "\r\n\r\nGET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    // Methods.
    "get /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "FOO /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "0FOO /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "CONNECT AUTHORITY HTTP/1.1\r\nHost: AUTHORITY\r\n\r\nGET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    // Versions.
    "GET /blocked\r\n",
    "GET /blocked",
    "GET /blocked\n",
    "get /blocked\r\n",
    "GET /blocked HTTP/0.9\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/1.2\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/1.9\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/1.10\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/2.0\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/3.0\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked http/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked FOO/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "FOO /blocked BAR\r\nHost: AUTHORITY\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n/blocked",
    "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n/blocked",
    // White space and line endings.
    " GET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "\tGET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "\r\n \r\nGET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET  /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET\t/blocked\tHTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET\u{b}/blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/1.1\nHost: AUTHORITY\n\n",
    "GET /blocked HTTP/1.1 \r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked HTTP/1.1\rHost: AUTHORITY\r\r",
    // Invalid bytes.
    "GET\0/blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "GET /blocked\0 HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "FOO /blocked\u{1} HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
    "\u{feff}GET /blocked HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
];

/// An origin that treats any bytes as a request.
fn lenient() -> Origin {
    Origin::serve(|peer| {
        while peer.read_more() {
            peer.send(OK);
        }
    })
}

/// Sends `bytes` through a new tunnel, at once or byte by byte, and waits until the tunnel closes.
fn send(proxy: &Proxy, origin: &Origin, bytes: &[u8], in_single_bytes: bool) -> Vec<u8> {
    let authority = origin.authority();
    let mut client = proxy.client();
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    if client.response_to("CONNECT").status() != 200 {
        return Vec::new();
    }
    match in_single_bytes {
        true => client.dribble(bytes),
        false => drop(client.try_send(bytes)),
    }
    client.finish();
    client.read_to_end();
    client.rest().to_vec()
}

/// Sends every spelling; `is_filtered` must accept every marked request that reaches the origin.
fn assert_filters(proxy: ProxyCommand, origin: &Origin, is_filtered: impl Fn(&[u8]) -> bool) {
    let proxy = proxy.start();
    let authority = origin.authority();
    let mut sent: Vec<_> = SPELLINGS.iter().map(|text| text.to_string()).collect();
    sent.push(format!(
        "GET /blocked?{} HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n",
        "a".repeat(17_000)
    ));
    sent.push(format!("FOO /blocked?{}", "a".repeat(70_000)));
    for text in sent {
        let bytes = text.replace("AUTHORITY", &authority).into_bytes();
        for in_single_bytes in [false, true] {
            // Sending long requests byte by byte takes too long.
            if in_single_bytes && bytes.len() > 1000 {
                continue;
            }
            let seen = origin.connections().len();
            let answer = send(&proxy, origin, &bytes, in_single_bytes);
            for received in origin.connections().iter().skip(seen) {
                let is_unseen = contains(received, MARK) && !is_filtered(received);
                assert!(
                    !is_unseen,
                    "{} came as {}, answered {}",
                    shown(&bytes),
                    shown(received),
                    shown(&answer)
                );
            }
        }
    }
}

#[test]
fn filter_by_url_regex_sees_every_spelling() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki
        .intercepting()
        .plugin("filter_by_url_regex", "FilterByUrlRegex")
        .plugin_config("FilterByUrlRegex.rules=[{ regex = '/blocked' }]");
    assert_filters(proxy, &origin, |_| false);
}

#[test]
fn egress_allowlist_sees_every_spelling() {
    let (pki, origin) = (Pki::new(), lenient());
    let port = origin.address().port();
    let allow = format!(
        "EgressAllowlist.allow=[{{ host = '127.0.0.1', ports = [{port}], paths = ['/ok/*'], tunnels = true }}]"
    );
    let proxy = pki
        .intercepting()
        .plugin("egress_allowlist", "EgressAllowlist")
        .plugin_config(&allow);
    assert_filters(proxy, &origin, |_| false);
}

#[test]
fn filter_by_upstream_host_sees_every_spelling() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki
        .intercepting()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin_config("FilterByUpstreamHost.hosts=['127.0.0.1']");
    assert_filters(proxy, &origin, |_| false);
}

#[test]
fn modify_request_header_sees_every_spelling() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki
        .intercepting()
        .plugin("modify_request_header", "ModifyRequestHeader")
        .plugin_config("ModifyRequestHeader.append={ x-seen = 'yes' }");
    assert_filters(proxy, &origin, |received| {
        let has_field = |name: &[u8]| contains(&received.to_ascii_lowercase(), name);
        has_field(b"\r\nx-seen: yes\r\n") && has_field(b"\r\nvia: ")
    });
}

#[test]
fn secret_inject_sees_every_spelling() {
    let (pki, origin, scratch) = (Pki::new(), lenient(), Scratch::new());
    let file = scratch.write("key", "s3cret");
    let secrets = format!(
        "SecretInject.secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{}', hosts = ['127.0.0.1'], allow_plain_http = true }}]",
        file.display()
    );
    let proxy = pki
        .intercepting()
        .plugin("secret_inject", "SecretInject")
        .plugin_config(&secrets);
    assert_filters(proxy, &origin, |received| {
        !contains(received, b"{{KEY}}") && contains(received, b"\r\nVia: ")
    });
}

#[test]
fn rate_limit_sees_every_spelling() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki
        .intercepting()
        .plugin("rate_limit", "RateLimit")
        .plugin_config("RateLimit.requests=40")
        .plugin_config("RateLimit.window_seconds=86400");
    assert_filters(proxy, &origin, |received| contains(received, b"\r\nVia: "));
    assert!(origin.connections().len() <= 40);
}

#[test]
fn what_is_no_http_1_is_refused_with_a_status() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki.intercepting().start();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(17_000));
    for (request, status) in [
        ("GET /blocked\r\n", "400"),
        ("GET /blocked HTTP/1.2\r\nHost: a\r\n\r\n", "505"),
        ("GET /blocked HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("GET /blocked HTTP/1.10\r\nHost: a\r\n\r\n", "400"),
        (" GET /blocked HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /blocked HTTP/1.1\nHost: a\n\n", "400"),
        (&long, "414"),
    ] {
        let answer = send(&proxy, &origin, request.as_bytes(), false);
        let expected = format!("HTTP/1.1 {status} ");
        let is_refused = answer.starts_with(expected.as_bytes());
        assert!(
            is_refused,
            "{}: {}",
            shown(request.as_bytes()),
            shown(&answer)
        );
    }
    assert_eq!(origin.received(), b"");
}

#[test]
fn tls_in_odd_forms_is_closed_and_never_relayed() {
    let (pki, origin) = (Pki::new(), lenient());
    let proxy = pki.intercepting().start();
    let hello = client_hello(&pki, "localhost");
    let of_version = |major: u8| {
        let mut hello = hello.clone();
        hello[1] = major;
        hello
    };
    let behind = |record: &[u8]| [record, &hello].concat();
    for bytes in [
        of_version(4),
        of_version(0),
        of_version(0x7f),
        // Records other than handshakes, and empty records.
        behind(b"\x15\x03\x01\0\x02\x01\x5a"),
        behind(b"\x14\x03\x03\0\x01\x01"),
        behind(b"\x17\x03\x03\0\0"),
        behind(b"\x16\x03\x01\0\0"),
        // SSL 2.
        b"\x80\x1c\x01\x03\x01\0\x03\0\0\0\x10\0\0\x05abcdefghijklmnop".to_vec(),
    ] {
        for in_single_bytes in [false, true] {
            let answer = send(&proxy, &origin, &bytes, in_single_bytes);
            // Nothing but an alert is sent.
            assert!(
                answer.first().is_none_or(|kind| *kind == 0x15),
                "{}: {}",
                shown(&bytes),
                shown(&answer)
            );
            assert_eq!(origin.received(), b"", "{}", shown(&bytes));
        }
    }
    proxy.wait_for_line("closed, SSL 2 ClientHello");
}

#[test]
fn a_hello_in_several_records_is_a_hello() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .answering(crate::support::tls::Answer::ok("ok"));
    let proxy = pki.intercepting().start();
    let hello = client_hello(&pki, "localhost");
    let (first, rest) = hello[5..].split_at(7);
    let record = |content: &[u8]| {
        let len = u16::try_from(content.len()).expect("a short hello");
        [&[0x16, 3, 1][..], &len.to_be_bytes(), content].concat()
    };
    let mut tunnel = pki.client(&proxy).tunnel(&origin.authority());
    tunnel.send([record(first), record(rest)].concat());
    assert_eq!(tunnel.read_exact(1), [0x16]);
}

#[test]
fn tls_that_offers_no_http_that_is_spoken_here_is_refused() {
    let pki = Pki::new();
    // An origin without ALPN.
    let origin = pki
        .origin()
        .offering(Offer::Nothing)
        .answering(crate::support::tls::Answer::ok("ok"));
    let proxy = pki.intercepting().start();
    for names in [
        &["http/1.0"][..],
        &["http/0.9"],
        &["http/1.0", "http/0.9"],
        &["h2c"],
        &["HTTP/1.1"],
        &["H2", "Http/1.0"],
        &["http/1.2"],
        &["foo"],
        &["imap", "http/1.0"],
    ] {
        for trust in [Trust::Anyone, Trust::Origins] {
            let tunnel = pki.client(&proxy).tunnel(&origin.authority());
            let secure = tunnel.secure(&pki, "localhost", Offer::Names(names), trust);
            let fault = secure.err().expect("nobody may answer");
            let is_told = fault.to_lowercase().contains("noapplicationprotocol");
            assert!(is_told, "{names:?}: {fault}");
        }
    }
    origin.assert_unasked();
    proxy.wait_for_line("closed, the client offers no h2 or http/1.1 (ALPN)");
    for names in [&["http/1.0", "http/1.1"][..], &["foo", "h2"], &["h2"]] {
        let client = pki.client(&proxy).offering(Offer::Names(names));
        let answer = client.get(&origin.authority(), "/seen");
        assert_eq!(answer.told(), (200, "ok".into()), "{names:?}");
    }
    proxy.wait_for_lines("/seen", 3);
}
