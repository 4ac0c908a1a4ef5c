//! The origin gets the secret; the client and everyone else see only the placeholder.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::support::tls::{Answer, Ask, Offer, Pki, Trust};
use crate::support::{OK, Origin, Proxy, ProxyCommand, Scratch, request};

const FIELD: &str = "Authorization: Bearer {{KEY}}\r\n";

/// A proxy with a secret for 127.0.0.1, read from `file`; `more` holds further keys of the secret.
fn with_secret(file: &Path, more: &str) -> ProxyCommand {
    let file = file.display();
    let secrets = format!(
        "SecretInject.secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{file}', hosts = ['127.0.0.1'] {more} }}]"
    );
    Proxy::command()
        .plugin("secret_inject", "SecretInject")
        .plugin_config(&secrets)
}

#[test]
fn only_the_named_host_gets_the_secret() {
    let scratch = Scratch::new();
    let file = scratch.write("key", "s3cret\n");
    let named = Origin::answering(OK);
    let other = Origin::serve_at(Ipv4Addr::new(127, 0, 0, 2).into(), |peer| {
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let proxy = with_secret(&file, ", allow_plain_http = true").start();
    let fields = format!("{FIELD}X: a\r\nX: {{{{KEY}}}}\r\n");
    assert_eq!(
        proxy.ask(request("GET", &named, "/", &fields)).status(),
        200
    );
    assert_eq!(
        proxy.ask(request("GET", &other, "/", &fields)).status(),
        200
    );

    let received = named.only_request();
    assert_eq!(received.all("Authorization"), ["Bearer s3cret"]);
    assert_eq!(received.all("X"), ["a", "s3cret"]);
    let received = other.only_request();
    assert_eq!(received.all("Authorization"), ["Bearer {{KEY}}"]);
    assert!(proxy.lines().iter().all(|line| !line.contains("s3cret")));
}

#[test]
fn plain_http_is_refused_unless_allowed() {
    let scratch = Scratch::new();
    let file = scratch.write("key", "s3cret\n");
    let origin = Origin::answering(OK);
    let proxy = with_secret(&file, "").start();
    let answer = proxy.ask(request("GET", &origin, "/", FIELD));
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.text(), "a secret is not sent over plain HTTP\n");
    origin.assert_untouched();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
}

#[test]
fn a_redirect_does_not_carry_the_secret_away() {
    let scratch = Scratch::new();
    let file = scratch.write("key", "s3cret\n");
    let thief = Origin::serve_at(Ipv4Addr::new(127, 0, 0, 2).into(), |peer| {
        while peer.request().is_some() {
            peer.send(OK);
        }
    });
    let asked = Origin::answering(OK);
    let proxy = with_secret(&file, ", allow_plain_http = true")
        .plugin("redirect_to_custom_server", "RedirectToCustomServer")
        .plugin_config(&format!(
            "RedirectToCustomServer.server='{}'",
            thief.authority()
        ))
        .start();
    assert_eq!(proxy.ask(request("GET", &asked, "/", FIELD)).status(), 200);
    let received = thief.only_request();
    assert_eq!(received.all("Authorization"), ["Bearer {{KEY}}"]);
}

#[test]
fn a_changed_file_is_read_again() {
    let scratch = Scratch::new();
    let file = scratch.write("key", "old\n");
    let origin = Origin::answering(OK);
    let proxy = with_secret(&file, ", allow_plain_http = true").start();
    fs::write(&file, "new-one\n").expect("a scratch file can be written");
    proxy.wait_for_line("reloaded");
    proxy.ask(request("GET", &origin, "/", FIELD));
    let received = origin.only_request();
    assert_eq!(received.all("Authorization"), ["Bearer new-one"]);
}

#[test]
fn a_secret_that_cannot_be_used_refuses_the_start_without_showing_it() {
    let scratch = Scratch::new();
    for (content, reason) in [
        ("", "is empty"),
        (
            "hush\r\nhush",
            "contains a line break or another control character",
        ),
    ] {
        let file = scratch.write("key", content);
        let exit = with_secret(&file, "").run();
        assert_eq!(exit.code, Some(78), "{exit:?}");
        let expected = format!("secrets: entry 1: file: {}: {reason}", file.display());
        assert!(exit.stderr.contains(&expected), "{}", exit.stderr);
        assert!(!exit.stderr.contains("hush"), "{}", exit.stderr);
    }
}

#[test]
fn over_https_only_an_intercepted_request_for_the_named_host_gets_the_secret() {
    let scratch = Scratch::new();
    let file = scratch.write("key", "s3cret\n");
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let origin = pki.origin().answering(Answer::echo());
        let secrets = format!(
            "SecretInject.secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{}', hosts = ['localhost'] }}]",
            file.display()
        );
        let with_secret = |command: ProxyCommand| {
            command
                .plugin("secret_inject", "SecretInject")
                .plugin_config(&secrets)
                .start()
        };
        let seeing = with_secret(pki.intercepting());
        let blind = with_secret(pki.relaying());
        let (named, other) = (origin.authority(), origin.address().to_string());
        for (proxy, trust, authority) in [
            (&seeing, Trust::Proxy, &named),
            (&seeing, Trust::Proxy, &other),
            (&blind, Trust::Origins, &named),
        ] {
            let client = pki.client(proxy).offering(offer).trusting(trust);
            let ask = Ask::get(authority, "/").field("authorization", "Bearer {{KEY}}");
            assert_eq!(client.https(authority).ask(ask).status, 200);
        }
        let seen: Vec<_> = origin
            .requests()
            .iter()
            .map(|seen| seen.all("authorization").concat())
            .collect();
        let expected = ["Bearer s3cret", "Bearer {{KEY}}", "Bearer {{KEY}}"];
        assert_eq!(seen, expected, "{offer:?}");
        for proxy in [&seeing, &blind] {
            assert!(proxy.lines().iter().all(|line| !line.contains("s3cret")));
        }
    }
}
