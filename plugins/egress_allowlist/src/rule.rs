//! The rules: the first one that matches decides; a request that matches none is denied.

use crate::config::RuleConfig;
use crate::host::HostPattern;
use crate::path::{PathPattern, has_one_reading};
use plugin_api::Error;

/// All rules, in order.
pub(crate) struct Allowlist {
    rules: Vec<Rule>,
}

struct Rule {
    host: HostPattern,
    ports: Vec<u16>,
    methods: Option<Vec<String>>,
    paths: Option<Vec<PathPattern>>,
    may_tunnel: bool,
}

/// A request or tunnel, for one host.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) form: AccessKind<'a>,
}

/// What is visible of it.
#[derive(Clone, Copy)]
pub(crate) enum AccessKind<'a> {
    /// A request; the path is without its query.
    Request { method: &'a str, path: &'a str },
    /// A request after which the connection may carry any protocol.
    Upgrade { method: &'a str, path: &'a str },
    /// CONNECT: only host and port are visible.
    Tunnel,
}

/// The decision about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This rule, counted from 1, allows it.
    Allowed { rule: usize },
    /// No rule allows it; this is what the closest rules did not allow.
    Denied(Denial),
}

/// What is not allowed, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Denial {
    Host,
    Port,
    Tunnel,
    Method,
    Path,
}

impl Denial {
    /// The word for logs and for the field `X-Egress-Denied`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
            Self::Tunnel => "tunnel",
            Self::Method => "method",
            Self::Path => "path",
        }
    }
}

impl Allowlist {
    /// The rules of a configuration.
    ///
    /// # Errors
    /// A rule that cannot match anything.
    pub(crate) fn new(rules: Vec<RuleConfig>) -> Result<Self, Error> {
        let numbered = rules.into_iter().zip(1..);
        let checked = numbered.map(|(rule, number)| {
            Rule::new(rule).map_err(|reason| Error::new(format!("allow: rule {number}: {reason}")))
        });
        Ok(Self {
            rules: checked.collect::<Result<_, _>>()?,
        })
    }

    /// Whether some rule allows it.
    pub(crate) fn judge(&self, access: Access<'_>) -> Decision {
        let mut closest = Denial::Host;
        for (rule, number) in self.rules.iter().zip(1..) {
            match rule.check(access) {
                Ok(()) => return Decision::Allowed { rule: number },
                Err(denial) => closest = closest.max(denial),
            }
        }
        Decision::Denied(closest)
    }

    /// Whether this tunnel is allowed only in part, because the matching rule has methods or paths.
    pub(crate) fn is_in_part(&self, access: Access<'_>) -> bool {
        let Decision::Allowed { rule } = self.judge(access) else {
            return false;
        };
        let rule = rule.checked_sub(1).and_then(|index| self.rules.get(index));
        rule.is_some_and(|rule| rule.methods.is_some() || rule.paths.is_some())
    }
}

impl Rule {
    fn new(config: RuleConfig) -> Result<Self, String> {
        let host = HostPattern::parse(&config.host).ok_or_else(|| {
            let host = &config.host;
            format!("host: `{host}` is neither a name, nor `*.` and a name, nor an address")
        })?;
        if config.ports.is_empty() || config.ports.contains(&0) {
            return Err("ports: must be numbers from 1 to 65535".to_owned());
        }
        let may_tunnel = config
            .tunnels
            .unwrap_or(config.methods.is_none() && config.paths.is_none());
        Ok(Self {
            host,
            ports: config.ports,
            methods: config.methods.map(checked_methods).transpose()?,
            paths: config.paths.as_deref().map(checked_paths).transpose()?,
            may_tunnel,
        })
    }

    fn check(&self, access: Access<'_>) -> Result<(), Denial> {
        let unless = |holds, denial| if holds { Ok(()) } else { Err(denial) };
        unless(self.host.matches(access.host), Denial::Host)?;
        unless(self.ports.contains(&access.port), Denial::Port)?;
        let (method, path) = match access.form {
            AccessKind::Tunnel => return unless(self.may_tunnel, Denial::Tunnel),
            AccessKind::Upgrade { method, path } => {
                unless(self.may_tunnel, Denial::Tunnel)?;
                (method, path)
            }
            AccessKind::Request { method, path } => (method, path),
        };
        unless(self.has_method(method), Denial::Method)?;
        unless(self.has_path(path), Denial::Path)
    }

    fn has_method(&self, method: &str) -> bool {
        let Some(methods) = &self.methods else {
            return true;
        };
        methods.iter().any(|allowed| allowed == method)
    }

    fn has_path(&self, path: &str) -> bool {
        let Some(paths) = &self.paths else {
            return true;
        };
        has_one_reading(path) && paths.iter().any(|allowed| allowed.matches(path))
    }
}

fn checked_methods(methods: Vec<String>) -> Result<Vec<String>, String> {
    let is_method = |method: &String| {
        !method.is_empty()
            && method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
    };
    if methods.is_empty() {
        return Err("methods: is empty, so it would allow nothing".to_owned());
    }
    if methods.iter().any(|method| method == "CONNECT") {
        return Err("methods: CONNECT is allowed by `tunnels = true`".to_owned());
    }
    match methods.iter().find(|method| !is_method(method)) {
        Some(other) => Err(format!("methods: `{other}` is not a method such as GET")),
        None => Ok(methods),
    }
}

fn checked_paths(paths: &[String]) -> Result<Vec<PathPattern>, String> {
    if paths.is_empty() {
        return Err("paths: is empty, so it would allow nothing".to_owned());
    }
    let checked = paths.iter().map(|path| {
        PathPattern::parse(path)
            .ok_or_else(|| format!("paths: `{path}` is not a path such as /v1/models or /v1/*"))
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::{Access, AccessKind, Allowlist, Decision, Denial};
    use crate::config::RuleConfig;

    fn rule(host: &str) -> RuleConfig {
        RuleConfig {
            host: host.to_owned(),
            ports: vec![80, 443],
            methods: None,
            paths: None,
            tunnels: None,
        }
    }

    fn owned(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|&text| text.to_owned()).collect())
    }

    fn list() -> Allowlist {
        Allowlist::new(vec![
            rule("open.example"),
            RuleConfig {
                methods: owned(&["GET"]),
                paths: owned(&["/v1/*"]),
                ..rule("*.api.example")
            },
            RuleConfig {
                methods: owned(&["POST"]),
                paths: owned(&["/v1/jobs"]),
                ports: vec![8080],
                tunnels: Some(true),
                ..rule("eu.api.example")
            },
        ])
        .unwrap()
    }

    fn ask(host: &str, port: u16, method: &str, path: &str) -> Decision {
        let form = AccessKind::Request { method, path };
        list().judge(Access { host, port, form })
    }

    fn connect(host: &str, port: u16) -> Decision {
        let form = AccessKind::Tunnel;
        list().judge(Access { host, port, form })
    }

    #[test]
    fn allows_what_a_single_rule_matches() {
        use Decision::Allowed;
        assert_eq!(ask("open.example", 80, "X", "/a/../b"), Allowed { rule: 1 });
        assert_eq!(
            ask("eu.api.example", 443, "GET", "/v1/x"),
            Allowed { rule: 2 }
        );
        assert_eq!(
            ask("eu.api.example", 8080, "POST", "/v1/jobs"),
            Allowed { rule: 3 }
        );
    }

    #[test]
    fn denies_everything_else_with_the_closest_reason() {
        for (host, port, method, path, denial) in [
            ("other.example", 80, "GET", "/", Denial::Host),
            ("api.example", 80, "GET", "/v1/", Denial::Host),
            ("open.example", 22, "GET", "/", Denial::Port),
            ("us.api.example", 80, "POST", "/v1/jobs", Denial::Method),
            ("us.api.example", 80, "get", "/v1/x", Denial::Method),
            ("eu.api.example", 80, "GET", "/v2/x", Denial::Path),
            ("eu.api.example", 80, "GET", "/v1/../v2", Denial::Path),
            // The port of one rule does not combine with the method of another.
            ("eu.api.example", 8080, "GET", "/v1/x", Denial::Method),
        ] {
            let decision = ask(host, port, method, path);
            assert_eq!(
                decision,
                Decision::Denied(denial),
                "{host}:{port} {method} {path}"
            );
        }
        let nothing = Allowlist::new(Vec::new()).unwrap();
        let form = AccessKind::Tunnel;
        let access = Access {
            host: "a.example",
            port: 443,
            form,
        };
        assert_eq!(nothing.judge(access), Decision::Denied(Denial::Host));
    }

    #[test]
    fn a_rule_with_methods_or_paths_allows_tunnels_only_explicitly() {
        assert_eq!(connect("open.example", 443), Decision::Allowed { rule: 1 });
        assert_eq!(
            connect("eu.api.example", 443),
            Decision::Denied(Denial::Tunnel)
        );
        assert_eq!(
            connect("eu.api.example", 8080),
            Decision::Allowed { rule: 3 }
        );
        assert_eq!(connect("open.example", 22), Decision::Denied(Denial::Port));
    }

    #[test]
    fn an_upgrade_must_match_as_request_and_tunnel() {
        let upgrade = |port, method| {
            let form = AccessKind::Upgrade {
                method,
                path: "/v1/jobs",
            };
            list().judge(Access {
                host: "eu.api.example",
                port,
                form,
            })
        };
        assert_eq!(upgrade(443, "GET"), Decision::Denied(Denial::Tunnel));
        assert_eq!(upgrade(8080, "POST"), Decision::Allowed { rule: 3 });
        assert_eq!(upgrade(8080, "GET"), Decision::Denied(Denial::Method));
    }

    #[test]
    fn refuses_invalid_rules() {
        for (config, reason) in [
            (
                rule("http://a/"),
                "host: `http://a/` is neither a name, nor `*.` and a name, nor an address",
            ),
            (
                RuleConfig {
                    ports: vec![],
                    ..rule("a")
                },
                "ports: must be numbers from 1 to 65535",
            ),
            (
                RuleConfig {
                    methods: owned(&["get"]),
                    ..rule("a")
                },
                "methods: `get` is not a method such as GET",
            ),
            (
                RuleConfig {
                    methods: owned(&["CONNECT"]),
                    ..rule("a")
                },
                "methods: CONNECT is allowed by `tunnels = true`",
            ),
            (
                RuleConfig {
                    paths: owned(&["v1"]),
                    ..rule("a")
                },
                "paths: `v1` is not a path such as /v1/models or /v1/*",
            ),
        ] {
            let refused = Allowlist::new(vec![rule("a"), config]).err().unwrap();
            assert_eq!(refused.message(), format!("allow: rule 2: {reason}"));
        }
    }
}
