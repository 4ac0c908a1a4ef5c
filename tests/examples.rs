//! The configurations under `examples`, each started unchanged.
//!
//! Only addresses and files are overridden, with `--plugin-config`: stand-ins on loopback replace the named hosts.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::tls::{Answer, Ask, Form, Offer, Pki, Trust};
use crate::support::{OK, Origin, Proxy, Scratch, request};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name)
        .join("proxy.toml")
}

#[test]
fn filter_by_host_answers_for_the_hosts_of_its_list() {
    let proxy = Proxy::command()
        .args(["--config".as_ref(), example("filter-by-host").as_os_str()])
        .start();
    let answer = proxy.ask("GET http://ads.example/ HTTP/1.1\r\nHost: ads.example\r\n\r\n");
    assert_eq!(answer.status(), 418);
}

/// base64 of `tool:change-me`.
const CREDENTIAL: &str = "Proxy-Authorization: Basic dG9vbDpjaGFuZ2UtbWU=\r\n";
const PLACEHOLDER: &str = "Authorization: Bearer {{MODELS_KEY}}\r\n";

#[test]
fn egress_lets_a_tool_reach_what_is_listed_with_a_secret_it_does_not_have() {
    let scratch = Scratch::new();
    let audit_log = scratch.path("egress.jsonl");
    let key = scratch.write("models_key", "s3cret\n");
    let (models, elsewhere) = (Origin::answering(OK), Origin::answering(OK));
    let port = models.address().port();
    let proxy = Proxy::command()
        .args(["--config".as_ref(), example("egress").as_os_str()])
        .plugin_config(&format!(
            "EgressAllowlist.allow=[{{ host = '127.0.0.1', ports = [{port}], methods = ['GET', 'POST'], paths = ['/v1/*'] }}]"
        ))
        .plugin_config(&format!("EgressAllowlist.audit_log='{}'", audit_log.display()))
        .plugin_config(&format!(
            "SecretInject.secrets=[{{ placeholder = '{{{{MODELS_KEY}}}}', file = '{}', hosts = ['127.0.0.1'], \
             fields = ['Authorization'], allow_plain_http = true }}]",
            key.display()
        ))
        .start();
    let fields = format!("{CREDENTIAL}{PLACEHOLDER}");

    assert_eq!(proxy.get(&models, "/v1/models").status(), 407);
    let allowed = proxy.ask(request("GET", &models, "/v1/models", &fields));
    assert_eq!(allowed.status(), 200);
    for (method, origin, path, reason) in [
        ("GET", &elsewhere, "/v1/models", "port"),
        ("DELETE", &models, "/v1/models", "method"),
        ("GET", &models, "/admin", "path"),
    ] {
        let denied = proxy.ask(request(method, origin, path, &fields));
        assert_eq!(denied.status(), 403, "{method} {path}");
        let field = denied.field("X-Egress-Denied");
        assert_eq!(field.as_deref(), Some(reason), "{method} {path}");
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));

    let received = models.only_request();
    assert_eq!(received.all("Authorization"), ["Bearer s3cret"]);
    assert_eq!(received.all("Proxy-Authorization"), [""; 0]);
    elsewhere.assert_untouched();
    let audit = fs::read_to_string(&audit_log).expect("the audit log is there");
    let decisions: Vec<_> = audit
        .lines()
        .filter_map(|line| line.split_once("\"decision\":"))
        .map(|(_, decision)| decision)
        .collect();
    let expected = [
        "\"allowed\",\"rule\":1}",
        "\"denied\",\"reason\":\"port\"}",
        "\"denied\",\"reason\":\"method\"}",
        "\"denied\",\"reason\":\"path\"}",
    ];
    assert_eq!(decisions, expected, "{audit}");
    assert!(!audit.contains("s3cret"), "{audit}");
}

/// The same over HTTPS: with interception, and with the rule and the secret that the README shows for HTTPS.
#[test]
fn egress_sees_what_a_tool_asks_over_https() {
    let scratch = Scratch::new();
    let audit_log = scratch.path("egress.jsonl");
    let key = scratch.write("models_key", "s3cret\n");
    for offer in [Offer::Http1, Offer::Http2] {
        let pki = Pki::new();
        let models = pki.origin().offering(offer).answering(Answer::ok("models"));
        let port = models.address().port();
        let rule = format!(
            "{{ host = 'localhost', ports = [{port}], methods = ['GET', 'POST'], paths = ['/v1/*'], tunnels = true }}"
        );
        let secret = format!(
            "{{ placeholder = '{{{{MODELS_KEY}}}}', file = '{}', hosts = ['localhost'], fields = ['Authorization'] }}",
            key.display()
        );
        let proxy = pki
            .intercepting()
            .args(["--config".as_ref(), example("egress").as_os_str()])
            .plugin_config(&format!("EgressAllowlist.allow=[{rule}]"))
            .plugin_config(&format!(
                "EgressAllowlist.audit_log='{}'",
                audit_log.display()
            ))
            .plugin_config(&format!("SecretInject.secrets=[{secret}]"))
            .start();
        let authority = models.authority();
        let client = pki.client(&proxy).offering(offer);
        let answer = client.connect(&authority).err();
        assert_eq!(answer.map(|answer| answer.status), Some(407));

        let mut pipe = client.pipe();
        pipe.send(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{CREDENTIAL}\r\n"
        ));
        pipe.read_until(b"\r\n\r\n");
        let secure = pipe.secure(&pki, "localhost", offer, Trust::Proxy);
        let mut session = secure.expect("a handshake").session(Form::Origin("https"));
        let mut ask = |method: &str, path: &str| {
            let ask = Ask::new(method, &authority, path);
            session.ask(ask.field("authorization", "Bearer {{MODELS_KEY}}"))
        };
        let allowed = ask("GET", "/v1/models");
        assert_eq!(allowed.told(), (200, "models".into()));
        for (method, path, reason) in [
            ("DELETE", "/v1/models", "method"),
            ("GET", "/admin", "path"),
        ] {
            let denied = ask(method, path);
            assert_eq!(denied.status, 403, "{method} {path}");
            let field = denied.field("X-Egress-Denied");
            assert_eq!(field.as_deref(), Some(reason), "{method} {path}");
        }
        let received = models.only_request();
        assert_eq!(received.all("authorization"), ["Bearer s3cret"]);
        assert!(received.all("proxy-authorization").is_empty());
    }
}
