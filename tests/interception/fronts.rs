//! Tunnels in which the client's requests name another target than its CONNECT: another port in Host, and with
//! `allow_fronting` another server name or Host. Rules about hosts apply to both names.

use crate::support::Proxy;
use crate::support::tls::{Answer, Ask, Form, Identity, Offer, Pki, Session, TlsOrigin, Trust};

const ALLOWED: &str = "[interception]\nallow_fronting = ['localhost']\n";

/// An HTTP session over TLS with the server name `name`, in a tunnel to `authority`.
fn session(pki: &Pki, proxy: &Proxy, authority: &str, name: &str, offer: Offer) -> Session {
    let tunnel = pki.client(proxy).tunnel(authority);
    let secured = tunnel.secure(pki, name, offer, Trust::Proxy);
    secured
        .expect("the proxy's certificate is good")
        .session(Form::Origin("https"))
}

/// The status of `GET /x` for `host`, at the origin's port.
fn status(session: &mut Session, origin: &TlsOrigin, host: &str) -> u16 {
    let authority = format!("{host}:{}", origin.address().port());
    session.ask(Ask::get(&authority, "/x")).status
}

fn named(pki: &Pki, names: &[&str], offer: Offer) -> TlsOrigin {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    pki.origin()
        .offering(offer)
        .identity(Identity::Named(names))
        .answering(Answer::ok("ok"))
}

#[test]
fn host_may_name_another_port_and_arrives_as_it_was_sent() {
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let origin = pki.origin().offering(offer).answering(Answer::ok("ok"));
        let proxy = pki.intercepting().start();
        let authority = origin.authority();
        let mut session = session(&pki, &proxy, &authority, "localhost", offer);
        for named in ["localhost:8443", "localhost:443", "localhost"] {
            let path = format!("/{}", named.replace(':', "-"));
            assert_eq!(session.ask(Ask::get(named, &path)).status, 200, "{named}");
            // The request went to the port of the tunnel.
            proxy.wait_for_line(&format!("GET {authority}{path} - 200"));
        }
        let seen = origin.requests();
        let hosts: Vec<_> = seen.iter().map(|seen| &seen.authority[..]).collect();
        assert_eq!(
            hosts,
            ["localhost:8443", "localhost", "localhost"],
            "{offer:?}"
        );
    }
}

#[test]
fn another_server_name_is_served_where_that_is_allowed() {
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let origin = named(&pki, &["app.test"], offer);
        let proxy = pki.intercepting().config(ALLOWED).start();
        let authority = origin.authority();
        let mut session = session(&pki, &proxy, &authority, "app.test", offer);
        assert_eq!(session.certificate().names, ["app.test"]);
        // As with curl --connect-to, or kubectl with tls-server-name.
        assert_eq!(status(&mut session, &origin, "app.test"), 200, "{offer:?}");
        assert_eq!(status(&mut session, &origin, "localhost"), 200);
        assert_eq!(status(&mut session, &origin, "other.test"), 421);
        let connections = origin.connections();
        assert!(
            connections.iter().all(|each| each.fault.is_some()
                || each.server_name.as_deref() == Some("app.test")),
            "{connections:?}"
        );
    }
}

#[test]
fn the_certificate_has_to_be_for_the_server_name() {
    let pki = Pki::new();
    let origin = named(&pki, &["localhost"], Offer::Http1);
    let proxy = pki.intercepting().config(ALLOWED).start();
    let mut session = session(&pki, &proxy, &origin.authority(), "app.test", Offer::Http1);
    assert_eq!(status(&mut session, &origin, "app.test"), 502);
    assert_eq!(status(&mut session, &origin, "localhost"), 502);
    origin.assert_unasked();
}

#[test]
fn another_host_is_served_where_that_is_allowed() {
    let pki = Pki::new();
    let origin = named(&pki, &["localhost"], Offer::Http1);
    let authority = origin.authority();
    let proxy = pki.intercepting().config(ALLOWED).start();
    let mut allowed = session(&pki, &proxy, &authority, "localhost", Offer::Http1);
    assert_eq!(status(&mut allowed, &origin, "app.test"), 200);
    assert_eq!(status(&mut allowed, &origin, "localhost"), 200);
    proxy.wait_for_line(&format!("GET {authority}/x - 200"));
    proxy.wait_for_line(&format!("for app.test:{}", origin.address().port()));
    let proxy = pki.intercepting().start();
    let mut refused = session(&pki, &proxy, &authority, "localhost", Offer::Http1);
    assert_eq!(status(&mut refused, &origin, "app.test"), 421);
}

#[test]
fn an_address_is_asked_for_by_itself_where_that_is_allowed() {
    let pki = Pki::new();
    let origin = named(&pki, &["app.test"], Offer::Http1);
    let address = origin.address().to_string();
    for (config, expected) in [
        ("", 421),
        ("[interception]\nallow_fronting = ['127.0.0.1']", 200),
    ] {
        let proxy = pki.intercepting().config(config).start();
        let mut session = session(&pki, &proxy, &address, "app.test", Offer::Http1);
        assert_eq!(status(&mut session, &origin, "127.0.0.1"), expected);
        assert_eq!(status(&mut session, &origin, "app.test"), 200);
        assert_eq!(status(&mut session, &origin, "other.test"), 421);
    }
}

#[test]
fn rules_hold_for_the_front_and_for_who_is_asked_for() {
    let pki = Pki::new();
    for (denied, host, expected) in [
        ("app.test", "app.test", 404),
        ("localhost", "app.test", 404),
        ("app.test", "localhost", 404),
        ("localhost", "localhost", 404),
        ("other.test", "localhost", 200),
    ] {
        let origin = named(&pki, &["app.test"], Offer::Http1);
        let proxy = pki
            .intercepting()
            .config(ALLOWED)
            .plugin("filter_by_url_regex", "FilterByUrlRegex")
            .plugin_config(&format!(
                "FilterByUrlRegex.rules=[{{ regex = '^{denied}/x' }}]"
            ))
            .start();
        let mut session = session(&pki, &proxy, &origin.authority(), "app.test", Offer::Http1);
        assert_eq!(
            status(&mut session, &origin, host),
            expected,
            "{denied} {host}"
        );
    }
}

#[test]
fn a_secret_goes_only_to_whom_the_certificate_proves() {
    for (host, name, secret_for, is_sent) in [
        ("app.test", "app.test", "app.test", true),
        ("localhost", "app.test", "localhost", false),
        ("app.test", "localhost", "app.test", false),
    ] {
        let pki = Pki::new();
        let origin = named(&pki, &[name], Offer::Http1);
        let file = pki.scratch().write("secret", "s3cret");
        let secrets = format!(
            "SecretInject.secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{}', hosts = ['{secret_for}'] }}]",
            file.display()
        );
        let proxy = pki
            .intercepting()
            .config(ALLOWED)
            .plugin("secret_inject", "SecretInject")
            .plugin_config(&secrets)
            .start();
        let mut session = session(&pki, &proxy, &origin.authority(), name, Offer::Http1);
        let authority = format!("{host}:{}", origin.address().port());
        let answer = session.ask(Ask::get(&authority, "/").field("X", "{{KEY}}"));
        assert_eq!(answer.status, 200);
        let sent = origin.only_request().field("X");
        let expected = if is_sent { "s3cret" } else { "{{KEY}}" };
        assert_eq!(sent.as_deref(), Some(expected), "{host} {name}");
    }
}

#[test]
fn the_front_is_resolved_by_plugins_and_not_who_is_asked_for() {
    let pki = Pki::new();
    let origin = named(&pki, &["app.test"], Offer::Http1);
    let proxy = pki
        .intercepting()
        .config("[interception]\nallow_fronting = ['*.front.test']")
        .plugin("custom_dns_resolver", "CustomDnsResolver")
        .plugin_config(
            "CustomDnsResolver.hosts={ '*.front.test' = ['127.0.0.1'], '*' = ['127.0.0.9'] }",
        )
        .start();
    let authority = format!("a.front.test:{}", origin.address().port());
    let mut session = session(&pki, &proxy, &authority, "app.test", Offer::Http1);
    assert_eq!(status(&mut session, &origin, "app.test"), 200);
    assert_eq!(status(&mut session, &origin, "a.front.test"), 200);
}
