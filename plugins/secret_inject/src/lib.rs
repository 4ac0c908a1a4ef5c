//! Replaces placeholders in requests with secrets, so that clients can use credentials without having them.
//!
//! ```toml
//! [[plugins]]
//! library = "libsecret_inject.so"
//! name = "SecretInject"
//! config = { secrets = [{ placeholder = "{{API_KEY}}", file = "/run/secrets/api_key", hosts = ["api.example.com"] }] }
//! ```
//!
//! ```text
//! client → proxy    Authorization: Bearer {{API_KEY}}
//! proxy → origin    Authorization: Bearer 4c9d…
//! ```
//!
//! A secret is sent only to its `hosts`: the requested host and, if a plugin has redirected the exchange, the host that
//! is connected to both have to be listed. Inside a tunnel to an address, the requested host is sufficient only if the
//! verified certificate of the upstream proves it; otherwise, as with `insecure_hosts`, the address has to be listed,
//! too. Secrets are not sent over plain HTTP unless `allow_plain_http` is set. Requests inside a tunnel are changed
//! only if the proxy intercepts it. List this plugin after all others: it works in `handle_client_request`, and a later
//! plugin would see the secrets and could redirect them.

mod config;
mod rule;
mod secret;

use config::{Config, OnOtherHost};
use plugin_api::prelude::*;
use plugin_api::{EditError, Request};
use rule::{Destination, Injection, SendPermission};
use secret::SecretWatcher;

struct SecretInject {
    injections: Vec<Injection>,
    on_other_host: OnOtherHost,
    _watch: Option<SecretWatcher>,
}

#[filter]
impl Filter for SecretInject {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let numbered = config.secrets.into_iter().zip(1..);
        let checked = numbered.map(|(secret, number)| {
            Injection::new(secret)
                .map_err(|reason| Error::new(format!("secrets: entry {number}: {reason}")))
        });
        let injections = checked.collect::<Result<Vec<_>, _>>()?;
        let files = injections
            .iter()
            .filter_map(|injection| Some((injection.file()?, injection.secret.clone())));
        Ok(Self {
            _watch: SecretWatcher::start(files.collect())?,
            injections,
            on_other_host: config.on_other_host,
        })
    }

    fn handle_client_request(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if exchange.request().method() == "CONNECT" {
            // Its fields are not forwarded.
            return proceed();
        }
        for injection in &self.injections {
            if !has_placeholder(injection, exchange.request()) {
                continue;
            }
            let destination = Destination {
                target_host: exchange.request().host(),
                upstream_host: exchange.proven_host(),
                scheme: exchange.upstream().scheme(),
                method: exchange.request().method(),
            };
            match (injection.permission(destination), self.on_other_host) {
                (SendPermission::Granted, _) => inject(injection, exchange)?,
                (SendPermission::PlainHttp, _) => {
                    return refuse("a secret is not sent over plain HTTP");
                }
                (SendPermission::OtherHost, OnOtherHost::Refuse) => {
                    return refuse("a secret is not for this host");
                }
                (SendPermission::OtherHost, OnOtherHost::Leave) => {}
            }
        }
        proceed()
    }
}

/// Whether the placeholder is at a position where it would be replaced.
fn has_placeholder(injection: &Injection, request: Request<'_>) -> bool {
    let in_fields = request
        .fields()
        .any(|(name, value)| injection.covers_field(name) && injection.is_in_value(value));
    in_fields || injection.is_in_path(request.path())
}

fn inject(injection: &Injection, exchange: &mut Exchange<'_, SecretInject>) -> Result<(), Error> {
    for name in names_to_change(injection, exchange.request()) {
        set_lines(injection, exchange, &name)?;
    }
    if injection.is_in_path(exchange.request().path()) {
        let path = injection.in_path(exchange.request().path());
        exchange.request_mut().set_path(&path)?;
    }
    Ok(())
}

/// The fields that contain the placeholder, each once.
fn names_to_change(injection: &Injection, request: Request<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, value) in request.fields() {
        let is_new = || !names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if injection.covers_field(name) && injection.is_in_value(value) && is_new() {
            names.push(name.to_owned());
        }
    }
    names
}

/// Rewrites all lines of a field, in their order.
fn set_lines(
    injection: &Injection,
    exchange: &mut Exchange<'_, SecretInject>,
    name: &str,
) -> Result<(), EditError> {
    let lines = exchange.request().fields();
    let values: Vec<Vec<u8>> = lines
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| injection.in_value(value))
        .collect();
    for (position, value) in values.iter().enumerate() {
        let edited = match position {
            0 => exchange.request_mut().set(name, value),
            _ => exchange.request_mut().append(name, value),
        };
        match edited {
            // A placeholder in framing or Host cannot be replaced, and nothing was changed.
            Err(EditError::HostOwned) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn refuse(text: &'static str) -> Outcome {
    reply(
        Reply::new(403)
            .field("Content-Type", "text/plain; charset=utf-8")
            .body(format!("{text}\n")),
    )
}

export_plugins!(SecretInject);

#[cfg(test)]
mod tests {
    use super::SecretInject;
    use plugin_api::testing::{Run, configured, get, request};

    /// A filter whose secret is this package's name, for api.example; `more` are further keys of the secret.
    fn filter(more: &str, on_other_host: &str) -> SecretInject {
        let secret = "placeholder = '{{KEY}}', env = 'CARGO_PKG_NAME', hosts = ['api.example']";
        configured(&format!(
            "secrets = [{{ {secret} {more} }}]\non_other_host = '{on_other_host}'"
        ))
        .unwrap()
    }

    fn status(run: &Run<'_, SecretInject>) -> Option<u16> {
        run.reply().map(|reply| reply.status)
    }

    #[test]
    fn the_listed_host_gets_the_secret() {
        let filter = filter("", "leave");
        let run = get("https://api.example/?k={{KEY}}")
            .field("Authorization", "Bearer {{KEY}}")
            .field("X-Other", "{{OTHER}}")
            .run(&filter);
        assert_eq!(
            run.request_field("authorization"),
            Some("Bearer secret_inject")
        );
        assert_eq!(run.request_field("x-other"), Some("{{OTHER}}"));
        assert_eq!(run.path(), "/?k={{KEY}}");
    }

    #[test]
    fn other_hosts_get_the_placeholder_or_nothing() {
        let ask = |filter: &SecretInject| {
            let run = get("https://evil.example/")
                .field("X", "{{KEY}}")
                .run(filter);
            (status(&run), run.request_field("x").map(str::to_owned))
        };
        let placeholder = Some("{{KEY}}".to_owned());
        assert_eq!(ask(&filter("", "leave")), (None, placeholder.clone()));
        assert_eq!(ask(&filter("", "refuse")), (Some(403), placeholder));
        let refusing = filter("", "refuse");
        assert_eq!(status(&get("https://evil.example/").run(&refusing)), None);
    }

    #[test]
    fn plain_http_is_refused_unless_allowed() {
        let run = |filter: &SecretInject| {
            let run = get("http://api.example/").field("X", "{{KEY}}").run(filter);
            (status(&run), run.request_field("x").map(str::to_owned))
        };
        assert_eq!(run(&filter("", "leave")).0, Some(403));
        let allowed = run(&filter(", allow_plain_http = true", "leave"));
        assert_eq!(allowed, (None, Some("secret_inject".to_owned())));
        assert_eq!(
            status(&get("http://api.example/").run(&filter("", "leave"))),
            None
        );
    }

    #[test]
    fn replaces_in_named_fields_and_in_the_path_if_enabled() {
        let filter = filter(", fields = ['Authorization'], path = true", "leave");
        let run = get("https://api.example/a?k=%7B%7BKEY%7D%7D")
            .field("authorization", "{{KEY}}")
            .field("X", "{{KEY}}")
            .run(&filter);
        assert_eq!(run.request_field("Authorization"), Some("secret_inject"));
        assert_eq!(run.request_field("X"), Some("{{KEY}}"));
        assert_eq!(run.path(), "/a?k=secret_inject");
    }

    #[test]
    fn trace_would_show_the_secret_to_the_client() {
        let filter = filter("", "leave");
        let run = request("TRACE", "https://api.example/")
            .field("X", "{{KEY}}")
            .run(&filter);
        assert_eq!(run.request_field("X"), Some("{{KEY}}"));
    }

    #[test]
    fn a_start_without_the_secret_is_refused() {
        let refused = |text: &str| {
            configured::<SecretInject>(text)
                .err()
                .unwrap()
                .message()
                .to_owned()
        };
        assert_eq!(
            refused(
                "secrets = [{ placeholder = '{{KEY}}', env = 'NO_SUCH_VARIABLE', hosts = ['a'] }]"
            ),
            "secrets: entry 1: env: NO_SUCH_VARIABLE: is not set"
        );
        assert!(
            refused(
                "secrets = [{ placeholder = '{{KEY}}', file = '/no/such/file', hosts = ['a'] }]"
            )
            .starts_with("secrets: entry 1: file: /no/such/file: ")
        );
        assert!(refused("secret = []").starts_with("unknown field `secret`"));
    }
}
