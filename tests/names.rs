//! Host names: which are resolved, by which server, the errors for failed lookups, and changes to the machine's hosts
//! file and name server configuration.

use crate::support::{Manner, NameServer, OK, Origin, Proxy, has_ipv6};

/// Machines whose resolver files change (Linux only: uses namespaces).
#[cfg(target_os = "linux")]
mod machines;

/// Names that getaddrinfo looks up and stricter resolvers reject.
const UNUSUAL: [&str; 8] = [
    "my_service",
    "_x.test",
    "x_.test",
    "-app.test",
    "app-.test",
    "a--b.test",
    "xn--0.test",
    "xn--zzzzzzzz.test",
];

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

fn get(host: &str, port: u16) -> String {
    format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
}

#[test]
fn unusual_names_are_asked_for_as_they_are_written() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let server = NameServer::start(Manner::Knows);
    let proxy = Proxy::command().config(&server.config()).start();
    let label = "l".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", "n".repeat(61));
    for name in UNUSUAL.into_iter().chain([&*label, &*long]) {
        assert_eq!(proxy.ask(get(name, port)).status(), 200, "{name}");
        assert!(server.was_asked(name), "{name}");
        let mut client = proxy.client();
        client.send(format!(
            "CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n"
        ));
        assert_eq!(client.response_to("CONNECT").status(), 200, "{name}");
    }
}

#[test]
fn unusual_names_are_upstreams_of_the_reverse_proxy() {
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let server = NameServer::start(Manner::Knows);
    for name in UNUSUAL {
        let proxy = Proxy::command()
            .config(&server.config())
            .plugin("reverse_proxy", "ReverseProxyPlugin")
            .plugin_config(&format!(
                "ReverseProxyPlugin.routes=[{{ path = '/', upstreams = ['http://{name}:{port}/'] }}]"
            ))
            .start();
        let answer = proxy.ask("GET / HTTP/1.1\r\nHost: site.example\r\n\r\n");
        assert_eq!(answer.status(), 200, "{name}");
        assert!(server.was_asked(name), "{name}");
    }
}

#[test]
fn names_that_dns_cannot_hold_have_an_error_of_their_own() {
    let server = NameServer::start(Manner::Knows);
    let proxy = Proxy::command().config(&server.config()).start();
    let label = "l".repeat(64);
    let long = format!("{0}.{0}.{0}.{0}", "l".repeat(63));
    for (name, reason) in [(&label, "63 bytes"), (&long, "253 bytes")] {
        let answer = proxy.ask(get(name, 80));
        assert_eq!(answer.status(), 502, "{name}");
        assert!(answer.text().contains(reason), "{}", answer.text());
    }
}

#[test]
fn localhost_is_both_loopbacks() {
    let server = NameServer::start(Manner::Knows);
    let proxy = Proxy::command().config(&server.config()).start();
    for address in ["127.0.0.1", "::1"] {
        if address == "::1" && !has_ipv6() {
            continue;
        }
        let origin = Origin::serve_at(address.parse().expect("an address"), |peer| {
            while peer.request().is_some() {
                peer.send(OK);
            }
        });
        let port = origin.address().port();
        for name in ["localhost", "x.localhost", "localhost."] {
            assert_eq!(proxy.ask(get(name, port)).status(), 200, "{name} {address}");
            assert!(!server.was_asked(name));
        }
    }
}

#[test]
fn says_which_name_server_failed_and_how() {
    let server = NameServer::start(Manner::Silent);
    let config = format!("{}\nnegative_ttl = 0", server.config());
    let proxy = Proxy::command()
        .config(&format!("{config}\n[timeouts]\nconnect = 1"))
        .start();
    let at = server.address();
    for (manner, status, token, text) in [
        (
            Manner::Silent,
            504,
            "dns_timeout",
            format!("DNS failed: name server {at} did not answer within 0.9 s"),
        ),
        (
            Manner::Code(SERVFAIL),
            502,
            "dns_error",
            format!("DNS failed: name server {at} answered SERVFAIL"),
        ),
        (
            Manner::Code(NXDOMAIN),
            502,
            "dns_error",
            "no such host".to_owned(),
        ),
    ] {
        server.treat(manner);
        let answer = proxy.ask(get("a.test", 80));
        let text = format!("cannot resolve a.test: {text}");
        assert_eq!(answer.status(), status, "{manner:?}");
        assert!(answer.text().contains(&text), "{}", answer.text());
        let proxy_status = answer.field("Proxy-Status").unwrap_or_default();
        assert!(proxy_status.contains(token), "{proxy_status}");
        proxy.wait_for_line(&text);
    }
    let lines = proxy.lines();
    let claim = lines.iter().find(|line| line.contains("cannot connect"));
    assert_eq!(claim, None);
}

#[test]
fn a_name_of_mdns_has_a_hint() {
    let server = NameServer::start(Manner::Code(NXDOMAIN));
    let proxy = Proxy::command().config(&server.config()).start();
    for (name, has_hint) in [
        ("printer.local", true),
        ("intranet", true),
        ("a.test", false),
    ] {
        let answer = proxy.ask(get(name, 80));
        assert_eq!(answer.text().contains("dns.resolver"), has_hint, "{name}");
    }
}

#[test]
fn a_server_that_refuses_ipv6_questions_by_silence_delays_nobody() {
    let origin = Origin::answering(OK);
    let server = NameServer::start(Manner::KnowsOnlyV4);
    let proxy = Proxy::command().config(&server.config()).start();
    let answer = proxy.ask(get("a.test", origin.address().port()));
    assert_eq!(answer.status(), 200);
}
