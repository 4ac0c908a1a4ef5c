//! Allows only requests that match a rule, and can write an audit log of every decision.
//!
//! ```toml
//! [[plugins]]
//! library = "libegress_allowlist.so"
//! name = "EgressAllowlist"
//! config = { allow = [{ host = "api.example.com", methods = ["GET"], paths = ["/v1/*"] }], audit_log = "egress.jsonl" }
//! ```
//!
//! ```text
//! > GET http://evil.example/ HTTP/1.1      > CONNECT api.example.com:443 HTTP/1.1
//! < HTTP/1.1 403 Forbidden                 < HTTP/1.1 403 Forbidden
//! < X-Egress-Denied: host                  < X-Egress-Denied: tunnel
//! ```
//!
//! The rules apply to the requested host and, after a redirect or in a tunnel to an address, also to the host that is
//! connected to: both have to be allowed. They are checked when a request arrives, and again after all plugins have
//! accepted the upstream; only a plugin that redirects later, in its `handle_client_request`, has to be listed before
//! this one. Requests in tunnels and upgraded connections are not visible, so a rule with methods or paths allows
//! neither unless it has `tunnels = true`. If the proxy has a CA, it then intercepts that tunnel, and the requests
//! inside are checked like all others.

mod audit;
mod config;
mod host;
mod path;
mod rule;

use audit::{AuditEntry, AuditLog};
use config::Config;
use plugin_api::Request;
use plugin_api::prelude::*;
use rule::{Access, AccessKind, Allowlist, Decision, Denial};

struct EgressAllowlist {
    allowed: Allowlist,
    mode: Mode,
    audit: Option<AuditLog>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Enforce,
    Report,
}

/// A decision and its subject.
struct Judgement<'x> {
    access: Access<'x>,
    decision: Decision,
}

#[filter]
impl Filter for EgressAllowlist {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let queue_len = config.queue_len()?;
        let audit = config
            .audit_log
            .map(|path| AuditLog::start(path, queue_len));
        Ok(Self {
            allowed: Allowlist::new(config.allow)?,
            mode: match config.report_only {
                true => Mode::Report,
                false => Mode::Enforce,
            },
            audit: audit.transpose()?,
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let judgement = self.judge(exchange);
        match judgement.decision {
            Decision::Denied(denial) if self.mode == Mode::Enforce => {
                self.note(exchange, &judgement);
                reply(forbidden(denial, judgement.access))
            }
            // Not decided yet: another plugin may redirect or answer it.
            _ => proceed(),
        }
    }

    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let judgement = self.judge(exchange);
        self.note(exchange, &judgement);
        let Decision::Denied(denial) = judgement.decision else {
            return proceed();
        };
        if self.mode == Mode::Enforce {
            return reply(forbidden(denial, judgement.access));
        }
        exchange.add_log_field("egress", format!("would_deny:{}", denial.as_str()));
        proceed()
    }

    fn do_intercept(&self, exchange: &mut Exchange<'_, Self>) -> Interception {
        let (request, upstream) = (exchange.request(), exchange.upstream());
        let is_in_part = |host, port| {
            let form = AccessKind::Tunnel;
            self.allowed.is_in_part(Access { host, port, form })
        };
        let is_judged_inside = is_in_part(request.host(), request.port())
            || is_in_part(upstream.host(), upstream.port());
        match self.mode {
            Mode::Enforce if is_judged_inside => Interception::Intercept,
            _ => Interception::Default,
        }
    }
}

impl EgressAllowlist {
    /// Checks the requested host and, if it differs, the upstream.
    fn judge<'x>(&self, exchange: &'x Exchange<'_, Self>) -> Judgement<'x> {
        let (request, upstream) = (exchange.request(), exchange.upstream());
        let target = Access {
            host: request.host(),
            port: request.port(),
            form: form(request),
        };
        let decision = self.allowed.judge(target);
        let is_direct = (target.host, target.port) == (upstream.host(), upstream.port());
        if is_direct || matches!(decision, Decision::Denied(_)) {
            return Judgement {
                access: target,
                decision,
            };
        }
        let access = Access {
            host: upstream.host(),
            port: upstream.port(),
            ..target
        };
        Judgement {
            access,
            decision: self.allowed.judge(access),
        }
    }

    fn note(&self, exchange: &Exchange<'_, Self>, judgement: &Judgement<'_>) {
        if let (Decision::Denied(denial), Mode::Report) = (judgement.decision, self.mode) {
            let text = explanation(denial, judgement.access);
            info!("would deny: {text}");
        }
        if let Some(audit) = &self.audit {
            audit.put(&self.entry(exchange, judgement.decision));
        }
    }

    fn entry<'x>(&self, exchange: &'x Exchange<'_, Self>, decision: Decision) -> AuditEntry<'x> {
        let (request, upstream) = (exchange.request(), exchange.upstream());
        let is_direct = (request.host(), request.port()) == (upstream.host(), upstream.port());
        let (word, rule, reason) = match (decision, self.mode) {
            (Decision::Allowed { rule }, _) => ("allowed", Some(rule), None),
            (Decision::Denied(denial), Mode::Enforce) => ("denied", None, Some(denial.as_str())),
            (Decision::Denied(denial), Mode::Report) => ("would_deny", None, Some(denial.as_str())),
        };
        AuditEntry {
            time: audit::now(),
            client: exchange.client().map(|client| client.to_string()),
            method: request.method(),
            host: request.host(),
            port: request.port(),
            path: match form(request) {
                AccessKind::Request { path, .. } | AccessKind::Upgrade { path, .. } => Some(path),
                AccessKind::Tunnel => None,
            },
            upstream: (!is_direct).then(|| format!("{}:{}", upstream.host(), upstream.port())),
            decision: word,
            rule,
            reason,
        }
    }
}

fn form(request: Request<'_>) -> AccessKind<'_> {
    let method = request.method();
    if method == "CONNECT" {
        return AccessKind::Tunnel;
    }
    let path = request.path().split('?').next().unwrap_or_default();
    match request.field("Upgrade") {
        Some(_) => AccessKind::Upgrade { method, path },
        None => AccessKind::Request { method, path },
    }
}

fn forbidden(denial: Denial, access: Access<'_>) -> Reply {
    Reply::new(403)
        .field("Content-Type", "text/plain; charset=utf-8")
        .field("X-Egress-Denied", denial.as_str())
        .body(format!("{}\n", explanation(denial, access)))
}

/// Does not contain the path, which is text from the client.
fn explanation(denial: Denial, access: Access<'_>) -> String {
    let Access { host, port, form } = access;
    match (denial, form) {
        (Denial::Host, _) => format!("{host} is not an allowed host"),
        (Denial::Port, _) => format!("port {port} of {host} is not allowed"),
        (Denial::Tunnel, _) => format!("a tunnel to {host} is not allowed"),
        (
            Denial::Method,
            AccessKind::Request { method, .. } | AccessKind::Upgrade { method, .. },
        ) => {
            format!("{method} to {host} is not allowed")
        }
        (Denial::Method, AccessKind::Tunnel) => format!("CONNECT to {host} is not allowed"),
        (Denial::Path, _) => format!("this path of {host} is not allowed"),
    }
}

export_plugins!(EgressAllowlist);

#[cfg(test)]
mod tests {
    use super::EgressAllowlist;
    use plugin_api::Interception;
    use plugin_api::testing::{Run, configured, get, request};

    const RULES: &str = "allow = [{ host = 'a.example' }, { host = 'b.example', methods = ['GET'], paths = ['/v1/*'] }]";

    fn filter(config: &str) -> EgressAllowlist {
        configured(config).unwrap()
    }

    /// Status, reason field and text of the reply, if there is one.
    fn denial(run: &Run<'_, EgressAllowlist>) -> Option<(u16, String, String)> {
        let reply = run.reply()?;
        let (_, why) = reply
            .fields
            .iter()
            .find(|field| field.0 == "X-Egress-Denied")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((reply.status, text(why), text(&reply.body)))
    }

    #[test]
    fn denies_everything_without_a_rule() {
        let filter = filter("");
        for (method, url) in [("GET", "http://a.example/"), ("CONNECT", "a.example:443")] {
            let run = request(method, url).run(&filter);
            let text = "a.example is not an allowed host\n".to_owned();
            assert_eq!(
                denial(&run),
                Some((403, "host".to_owned(), text)),
                "{method}"
            );
        }
    }

    #[test]
    fn allows_listed_requests() {
        let filter = filter(RULES);
        for (method, url) in [
            ("POST", "http://a.example/x"),
            ("CONNECT", "a.example:443"),
            ("GET", "http://b.example/v1/x?y=../z"),
        ] {
            assert_eq!(
                request(method, url).run(&filter).reply(),
                None,
                "{method} {url}"
            );
        }
    }

    #[test]
    fn denials_name_the_reason() {
        let filter = filter(RULES);
        for (method, url, why, text) in [
            (
                "GET",
                "http://192.0.2.1/",
                "host",
                "192.0.2.1 is not an allowed host\n",
            ),
            (
                "GET",
                "http://a.example:81/",
                "port",
                "port 81 of a.example is not allowed\n",
            ),
            (
                "CONNECT",
                "b.example:443",
                "tunnel",
                "a tunnel to b.example is not allowed\n",
            ),
            (
                "PUT",
                "http://b.example/v1/x",
                "method",
                "PUT to b.example is not allowed\n",
            ),
            (
                "GET",
                "http://b.example/v1/%2e%2e/x",
                "path",
                "this path of b.example is not allowed\n",
            ),
        ] {
            let run = request(method, url).run(&filter);
            let expected = (403, why.to_owned(), text.to_owned());
            assert_eq!(denial(&run), Some(expected), "{method} {url}");
        }
    }

    #[test]
    fn an_upgrade_is_not_allowed_by_a_path() {
        let filter = filter(RULES);
        let run = get("http://b.example/v1/x")
            .field("Upgrade", "websocket")
            .run(&filter);
        assert_eq!(
            denial(&run).map(|denial| denial.1).as_deref(),
            Some("tunnel")
        );
        let run = get("http://a.example/")
            .field("Upgrade", "websocket")
            .run(&filter);
        assert_eq!(run.reply(), None);
    }

    #[test]
    fn report_only_denies_nothing() {
        let filter = filter(&format!("{RULES}\nreport_only = true"));
        let run = get("http://c.example/").run(&filter);
        assert_eq!(run.reply(), None);
        assert_eq!(
            run.log_fields(),
            [("egress".to_owned(), "would_deny:host".to_owned())]
        );
    }

    #[test]
    fn refuses_ambiguous_settings() {
        let refused = |text: &str| {
            configured::<EgressAllowlist>(text)
                .err()
                .unwrap()
                .message()
                .to_owned()
        };
        assert!(
            refused("allow = [{ host = '*' }]").starts_with("allow: rule 1: host: `*` is neither")
        );
        assert!(
            refused("allow = [{ host = 'a', port = 1 }]")
                .starts_with("allow: unknown field `port`")
        );
        assert!(
            refused("audit_log = '/no/such/directory/x'").starts_with("audit_log: cannot open")
        );
    }

    #[test]
    fn partly_allowed_tunnels_are_intercepted() {
        let rules = "allow = [{ host = 'a.example' }, \
                     { host = 'b.example', paths = ['/v1/*'], tunnels = true }, \
                     { host = 'c.example', methods = ['GET'], tunnels = true }]";
        for (host, report_only, expected) in [
            ("a.example", false, Interception::Default),
            ("b.example", false, Interception::Intercept),
            ("c.example", false, Interception::Intercept),
            ("b.example", true, Interception::Default),
        ] {
            let filter = filter(&format!("{rules}\nreport_only = {report_only}"));
            let mut run = request("CONNECT", &format!("{host}:443")).run(&filter);
            assert_eq!(run.tls_hello(host, "h2"), Ok(expected), "{host}");
        }
    }
}
