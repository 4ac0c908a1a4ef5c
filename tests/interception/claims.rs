//! Inside a tunnel to an address, the Host of a request is only the client's claim. Host rules apply to both, and only
//! the upstream's certificate proves a name.

use std::fs;

use crate::support::tls::{Answer, Ask, Form, Identity, Offer, Pki, Trust};
use crate::support::{OK, Origin, Proxy, ProxyCommand, contains};

/// Sends a plaintext `GET` for `host` inside a tunnel to `origin` and returns the response head.
fn ask_in_clear(pki: &Pki, proxy: &Proxy, origin: &Origin, host: &str, more: &str) -> String {
    let mut pipe = pki.client(proxy).tunnel(&origin.authority());
    let port = origin.address().port();
    pipe.send(format!(
        "GET /x HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n"
    ));
    String::from_utf8_lossy(&pipe.read_until(b"\r\n\r\n")).into_owned()
}

/// Configures a secret for `host`.
fn with_secret(pki: &Pki, command: ProxyCommand, host: &str) -> ProxyCommand {
    let file = pki.scratch().write("secret", "s3cret");
    let secrets = format!(
        "SecretInject.secrets=[{{ placeholder = '{{{{KEY}}}}', file = '{}', hosts = ['{host}'], allow_plain_http = true }}]",
        file.display()
    );
    command
        .plugin("secret_inject", "SecretInject")
        .plugin_config(&secrets)
}

#[test]
fn a_secret_does_not_go_to_whoever_a_client_claims_to_be_its_host() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = with_secret(&pki, pki.intercepting(), "api.test").start();
    let answer = ask_in_clear(&pki, &proxy, &origin, "api.test", "X: {{KEY}}\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.only_request().field("X").as_deref(), Some("{{KEY}}"));
    let port = origin.address().port();
    let line = proxy.wait_for_line(" GET ");
    assert!(
        line.contains(&format!(" GET 127.0.0.1:{port}/x "))
            && line.ends_with(&format!(" - for api.test:{port}")),
        "{line}"
    );
}

#[test]
fn a_secret_does_not_go_where_nobody_verifies() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .identity(Identity::Untrusted)
        .answering(Answer::ok("ok"));
    let command = pki
        .intercepting()
        .config("[interception]\ninsecure_hosts = ['localhost']\n");
    let proxy = with_secret(&pki, command, "localhost").start();
    let client = pki.client(&proxy);
    let pipe = client.tunnel(&origin.address().to_string());
    let mut session = pipe
        .secure(&pki, "localhost", Offer::Both, Trust::Proxy)
        .expect("the proxy's certificate is good")
        .session(Form::Origin("https"));
    let named = format!("localhost:{}", origin.address().port());
    let answer = session.ask(Ask::get(&named, "/").field("X", "{{KEY}}"));
    assert_eq!(answer.status, 200);
    assert_eq!(origin.only_request().field("X").as_deref(), Some("{{KEY}}"));
}

#[test]
fn a_secret_goes_to_an_address_whose_certificate_proves_the_host() {
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let origin = pki.origin().offering(offer).answering(Answer::ok("ok"));
        let proxy = with_secret(&pki, pki.intercepting(), "localhost").start();
        let pipe = pki.client(&proxy).tunnel(&origin.address().to_string());
        let mut session = pipe
            .secure(&pki, "localhost", offer, Trust::Proxy)
            .expect("the proxy's certificate is good")
            .session(Form::Origin("https"));
        let named = format!("localhost:{}", origin.address().port());
        let answer = session.ask(Ask::get(&named, "/").field("X", "{{KEY}}"));
        assert_eq!(answer.status, 200);
        assert_eq!(origin.only_request().field("X").as_deref(), Some("s3cret"));
    }
}

#[test]
fn without_a_server_name_the_certificate_has_to_be_for_the_host_that_is_asked() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http1)
        .answering(Answer::ok("ok"));
    let proxy = pki.intercepting().start();
    let port = origin.address().port();
    let ask = |host: &str| {
        let pipe = pki.client(&proxy).tunnel(&origin.address().to_string());
        let secured = pipe.secure(&pki, "127.0.0.1", Offer::Http1, Trust::Proxy);
        let mut session = secured
            .expect("the proxy's certificate is good")
            .session(Form::Origin("https"));
        session.ask(Ask::get(&format!("{host}:{port}"), "/")).status
    };
    assert_eq!(
        [ask("localhost"), ask("other.test"), ask("127.0.0.1")],
        [200, 502, 200]
    );
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_denied_host_is_denied_by_what_is_claimed_and_by_where_it_is() {
    let pki = Pki::new();
    for (denied, host) in [("api.test", "api.test"), ("127.0.0.1", "api.test")] {
        let origin = Origin::answering(OK);
        let proxy = pki
            .intercepting()
            // The rule matches no CONNECT, so the filter gets the requests inside.
            .plugin("filter_by_url_regex", "FilterByUrlRegex")
            .plugin_config(&format!(
                "FilterByUrlRegex.rules=[{{ regex = '^{denied}/x' }}]"
            ))
            .start();
        let answer = ask_in_clear(&pki, &proxy, &origin, host, "");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{denied}: {answer}");
        assert!(origin.requests().is_empty());
    }
    let origin = Origin::answering(OK);
    let proxy = pki
        .intercepting()
        .plugin("filter_by_upstream_host", "FilterByUpstreamHost")
        .plugin_config("FilterByUpstreamHost.hosts=['api.test']")
        .start();
    let answer = ask_in_clear(&pki, &proxy, &origin, "api.test", "");
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
}

#[test]
fn an_allowed_name_opens_no_address() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let port = origin.address().port();
    let proxy = pki
        .intercepting()
        .plugin("egress_allowlist", "EgressAllowlist")
        .plugin_config(&format!(
            "EgressAllowlist.allow=[{{ host = '127.0.0.1', ports = [{port}], paths = ['/ok'], tunnels = true }}, \
             {{ host = 'public.test', ports = [{port}] }}]"
        ))
        .start();
    let answer = ask_in_clear(&pki, &proxy, &origin, "public.test", "");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(origin.requests().is_empty());
}

#[test]
fn claimed_hosts_have_no_limits_of_their_own() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = pki
        .intercepting()
        .plugin("rate_limit", "RateLimit")
        .plugin_config("RateLimit.per='host'")
        .plugin_config("RateLimit.requests=3")
        .plugin_config("RateLimit.window_seconds=86400")
        .start();
    let mut pipe = pki.client(&proxy).tunnel(&origin.authority());
    let mut statuses = Vec::new();
    for host in ["a.test", "b.test", "c.test", "d.test"] {
        let port = origin.address().port();
        pipe.send(format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"));
        let head = String::from_utf8_lossy(&pipe.read_until(b"\r\n\r\n")).into_owned();
        statuses.push(head[9..12].to_owned());
        let rest = if statuses.last().is_some_and(|status| status == "200") {
            9
        } else {
            0
        };
        pipe.read_exact(rest);
    }
    // CONNECT and the first request inside count as one request.
    assert_eq!(statuses, ["200", "200", "200", "429"]);
}

#[test]
fn a_response_is_not_kept_as_that_of_a_claimed_host() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let directory = pki.scratch().path("kept");
    fs::create_dir(&directory).expect("a new directory");
    let proxy = pki
        .intercepting()
        .plugin("cache_responses", "CacheResponses")
        .plugin_config(&format!(
            "CacheResponses.directory={:?}",
            directory.display().to_string()
        ))
        .start();
    ask_in_clear(&pki, &proxy, &origin, "api.test", "");
    let line = proxy.wait_for_line("cache_file=");
    let (_, file) = line.split_once("cache_file=").unwrap_or_default();
    assert!(
        file.contains("127.0.0.1") && !file.contains("api.test"),
        "{line}"
    );
}

#[test]
fn an_excluded_name_keeps_a_tunnel_closed_only_if_it_is_proven() {
    for (identity, is_relayed) in [(Identity::Good, true), (Identity::WrongHost, false)] {
        for by_plugin in [false, true] {
            let pki = Pki::new();
            let origin = pki
                .origin()
                .identity(identity.clone())
                .answering(Answer::ok("ok"));
            let proxy = match by_plugin {
                false => pki
                    .intercepting()
                    .config("[interception]\nexclude = ['localhost']\n"),
                true => pki
                    .intercepting()
                    .plugin("tls_intercept_conditionally", "TlsInterceptConditionally")
                    .plugin_config("TlsInterceptConditionally.exclude=['Localhost.']"),
            };
            let proxy = proxy.start();
            let pipe = pki.client(&proxy).tunnel(&origin.address().to_string());
            let secured = pipe.secure(&pki, "localhost", Offer::Both, Trust::Anyone);
            let shown = secured.expect("any certificate will do").certificate();
            let by_proxy = contains(&shown.issuer, b"Proxy's CA");
            assert_eq!(by_proxy, !is_relayed, "{identity:?} {by_plugin}");
        }
    }
}

#[test]
fn a_claimed_host_that_nobody_verifies_is_shown_no_certificate() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .asking_for_certificate()
        .answering(Answer::ok("ok"));
    let (certificate, key) = pki.client_files();
    let proxy = pki
        .intercepting()
        .config(&format!(
            "[interception]\ninsecure_hosts = ['localhost']\n[[tls.upstream.client_certificates]]\n\
             hosts = ['localhost']\ncert_file = {certificate:?}\nkey_file = {key:?}\n"
        ))
        .start();
    let named = origin.authority();
    for tunnel in [named.clone(), origin.address().to_string()] {
        let pipe = pki.client(&proxy).tunnel(&tunnel);
        let secured = pipe.secure(&pki, "localhost", Offer::Both, Trust::Proxy);
        let mut session = secured
            .expect("the proxy's certificate is good")
            .session(Form::Origin("https"));
        assert_eq!(session.ask(Ask::get(&named, "/")).status, 200, "{tunnel}");
    }
    let requests = origin.requests();
    let shown: Vec<bool> = requests
        .iter()
        .map(|request| request.client_certificate.is_some())
        .collect();
    assert_eq!(shown, [true, false]);
}
