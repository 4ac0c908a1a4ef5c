//! Names are resolved with DNS over HTTP, here by a stand-in on the loopback interface.

use crate::support::{Message, OK, Origin, Proxy, ProxyCommand, contains};

/// A resolver that knows one name, at 127.0.0.1 or 0.0.0.0, without IPv6 addresses.
pub(super) fn resolver(name: &'static [u8], last: u8) -> Origin {
    Origin::replying(move |request| {
        let mut message = request.body.clone();
        let asks_ipv4 = message.ends_with(&[0, 1, 0, 1]);
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        if !contains(&message, name) {
            message[3] = 0x83;
        } else if asks_ipv4 {
            message[7] = 1;
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend([127 * last, 0, 0, last]);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: {}\r\n\r\n",
            message.len()
        );
        [head.into_bytes(), message].concat()
    })
}

fn asking(resolver: &Origin) -> ProxyCommand {
    let url = format!("http://{}/dns-query", resolver.authority());
    Proxy::command()
        .plugin("cloudflare_dns_resolver", "CloudflareDnsResolver")
        .plugin_config(&format!("CloudflareDnsResolver.url={url:?}"))
}

fn get(proxy: &Proxy, host: &str, port: u16) -> Message {
    proxy.ask(format!(
        "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    ))
}

#[test]
fn a_name_leads_where_the_resolver_says() {
    let origin = Origin::answering(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let resolver = resolver(b"\x04shop\x07example", 1);
    let proxy = asking(&resolver).start();
    for _ in 0..2 {
        let answer = get(&proxy, "shop.example", origin.address().port());
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "origin-ok")
        );
    }
    let questions = resolver.requests();
    assert_eq!(questions.len(), 2, "one for each family, and none again");
    for question in questions {
        assert_eq!(
            (question.method(), question.target()),
            ("POST", "/dns-query")
        );
        let kind = question.field("Content-Type");
        assert_eq!(kind.as_deref(), Some("application/dns-message"));
    }
}

#[test]
fn names_that_the_resolver_blocks_are_denied() {
    let resolver = resolver(b"\x03bad\x07example", 0);
    let proxy = asking(&resolver).start();
    assert_eq!(get(&proxy, "bad.example", 80).status(), 403);
}

#[test]
fn a_name_that_the_resolver_does_not_know_is_answered_or_left_to_others() {
    let origin = Origin::answering(OK);
    let unknowing = resolver(b"\x05other\x07example", 1);
    let broken = Origin::answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    for resolver in [unknowing, broken] {
        let strict = asking(&resolver)
            .plugin_config("CloudflareDnsResolver.on_failure=\"fail\"")
            .start();
        assert_eq!(get(&strict, "shop.example", 80).status(), 502);
        // Another plugin stands in for the system's resolver, which may have no network here.
        let lenient = asking(&resolver)
            .plugin("custom_dns_resolver", "CustomDnsResolver")
            .plugin_config("CustomDnsResolver.hosts={ \"shop.example\" = [\"127.0.0.1\"] }")
            .start();
        let answer = get(&lenient, "shop.example", origin.address().port());
        assert_eq!(answer.status(), 200);
    }
}
