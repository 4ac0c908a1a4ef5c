//! Only listed requests leave, wherever redirects lead, and the audit log records every decision.

use std::fs;

use rustix::process::Signal;

use crate::support::tls::{Answer, Ask, Offer, Pki, Trust};
use crate::support::{Message, OK, Origin, Proxy, ProxyCommand, Scratch, get, request};

/// A proxy that allows requests to `origin`; `rule` completes the rule's table after host and port.
fn allowing(origin: &Origin, rule: &str) -> ProxyCommand {
    let (host, port) = (origin.address().ip(), origin.address().port());
    let allow = format!("EgressAllowlist.allow=[{{ host = '{host}', ports = [{port}] {rule} }}]");
    Proxy::command()
        .plugin("egress_allowlist", "EgressAllowlist")
        .plugin_config(&allow)
}

fn denied(answer: &Message) -> Option<String> {
    assert_eq!(answer.status(), 403, "{}", answer.start);
    answer.field("X-Egress-Denied")
}

#[test]
fn what_is_not_listed_is_denied_and_never_dialled() {
    let (allowed, other) = (Origin::answering(OK), Origin::answering(OK));
    let proxy = allowing(&allowed, ", methods = ['GET'], paths = ['/v1/*']").start();
    assert_eq!(proxy.get(&allowed, "/v1/x?y").status(), 200);

    assert_eq!(denied(&proxy.get(&other, "/v1/x")).as_deref(), Some("port"));
    let answer = proxy.ask("GET http://c.example/ HTTP/1.1\r\nHost: c.example\r\n\r\n");
    assert_eq!(denied(&answer).as_deref(), Some("host"));
    assert_eq!(answer.text(), "c.example is not an allowed host\n");
    let answer = proxy.ask(request("DELETE", &allowed, "/v1/x", ""));
    assert_eq!(denied(&answer).as_deref(), Some("method"));
    for path in ["/v2", "/v1/../v2", "/v1/%2e%2e/v2", "/v1/..%2fv2", "/v1//x"] {
        let answer = proxy.get(&allowed, path);
        assert_eq!(denied(&answer).as_deref(), Some("path"), "{path}");
    }
    assert_eq!(allowed.only_request().target(), "/v1/x?y");
    other.assert_untouched();
}

#[test]
fn a_tunnel_needs_a_rule_that_does_not_look_inside() {
    let origin = Origin::echoing();
    let authority = origin.authority();
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let proxy = allowing(&origin, ", paths = ['/v1/*']").start();
    let answer = proxy.ask(&connect);
    assert_eq!(denied(&answer).as_deref(), Some("tunnel"));
    origin.assert_untouched();

    let proxy = allowing(&origin, "").start();
    let mut tunnel = proxy.tunnel(&origin);
    tunnel.send("ping");
    tunnel.read_until(b"ping");
}

#[test]
fn a_redirect_to_somewhere_else_is_denied() {
    let (allowed, elsewhere) = (Origin::answering(OK), Origin::answering(OK));
    let redirect = format!("RedirectToCustomServer.server='{}'", elsewhere.authority());
    // After the allowlist in the chain, so it redirects requests that are already allowed.
    let proxy = allowing(&allowed, "")
        .plugin("redirect_to_custom_server", "RedirectToCustomServer")
        .plugin_config(&redirect)
        .start();
    assert_eq!(denied(&proxy.get(&allowed, "/")).as_deref(), Some("port"));
    allowed.assert_untouched();
    elsewhere.assert_untouched();
}

#[test]
fn the_audit_log_has_one_line_per_decision() {
    let scratch = Scratch::new();
    let file = scratch.path("audit.jsonl");
    let origin = Origin::answering(OK);
    let proxy = allowing(&origin, "")
        .plugin_config(&format!("EgressAllowlist.audit_log='{}'", file.display()))
        .start();
    assert_eq!(proxy.get(&origin, "/a?token=t").status(), 200);
    let denied = "GET http://c.example/b HTTP/1.1\r\nHost: c.example\r\n\r\n";
    assert_eq!(proxy.ask(denied).status(), 403);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));

    let written = fs::read_to_string(&file).expect("the audit log is there");
    let lines: Vec<_> = written.lines().collect();
    assert_eq!(lines.len(), 2, "{written}");
    let port = origin.address().port();
    let allowed = format!(
        "\"method\":\"GET\",\"host\":\"127.0.0.1\",\"port\":{port},\"path\":\"/a\",\"decision\":\"allowed\",\"rule\":1}}"
    );
    assert!(lines[0].ends_with(&allowed), "{written}");
    let denied = "\"method\":\"GET\",\"host\":\"c.example\",\"port\":80,\"path\":\"/b\",\"decision\":\"denied\",\"reason\":\"host\"}";
    assert!(lines[1].ends_with(denied), "{written}");
    assert!(!written.contains("token"), "{written}");
}

#[test]
fn report_only_denies_nothing_and_says_what_it_would() {
    let (listed, other) = (Origin::answering(OK), Origin::answering(OK));
    let proxy = allowing(&listed, "")
        .plugin_config("EgressAllowlist.report_only=true")
        .start();
    assert_eq!(proxy.ask(get(&other, "/")).status(), 200);
    proxy.wait_for_line("would deny: port ");
}

#[test]
fn a_client_that_refuses_our_certificate_does_not_get_past_the_paths() {
    let pki = Pki::new();
    let origin = pki.origin().answering(Answer::ok("ok"));
    let scratch = Scratch::new();
    let file = scratch.path("audit.jsonl");
    let port = origin.address().port();
    let rule = format!("host = 'localhost', ports = [{port}], paths = ['/v1/*'], tunnels = true");
    let proxy = pki
        .intercepting()
        .plugin("egress_allowlist", "EgressAllowlist")
        .plugin_config(&format!("EgressAllowlist.allow=[{{ {rule} }}]"))
        .plugin_config(&format!("EgressAllowlist.audit_log='{}'", file.display()))
        .config("[interception]\nexclude = [\"localhost\"]")
        .start();
    let authority = origin.authority();
    let client = pki.client(&proxy);
    for _ in 0..2 {
        let tunnel = client.tunnel(&authority);
        let refused = tunnel.secure(&pki, "localhost", Offer::Both, Trust::Origins);
        assert!(refused.is_err(), "the proxy insists on looking inside");
    }
    let mut session = client.https(&authority);
    assert_eq!(session.ask(Ask::get(&authority, "/v1/x")).status, 200);
    assert_eq!(session.ask(Ask::get(&authority, "/admin")).status, 403);
    assert_eq!(origin.only_request().path, "/v1/x");
    drop(session);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code, Some(0));
    let written = fs::read_to_string(&file).expect("the audit log is there");
    let decisions = written
        .lines()
        .filter_map(|line| line.split_once("\"method\":"))
        .map(|(_, decision)| decision.to_owned());
    let decisions: Vec<String> = decisions.collect();
    let of = |method: &str, rest: &str| {
        format!("\"{method}\",\"host\":\"localhost\",\"port\":{port},{rest}")
    };
    let tunnel = of("CONNECT", "\"decision\":\"allowed\",\"rule\":1}");
    let expected = [
        tunnel.clone(),
        tunnel.clone(),
        tunnel,
        of(
            "GET",
            "\"path\":\"/v1/x\",\"decision\":\"allowed\",\"rule\":1}",
        ),
        of(
            "GET",
            "\"path\":\"/admin\",\"decision\":\"denied\",\"reason\":\"path\"}",
        ),
    ];
    assert_eq!(decisions, expected, "{written}");
}
