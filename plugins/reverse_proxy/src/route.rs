//! A configured route, and how its requests are forwarded.

use crate::balance::Upstreams;
use crate::config::{Host, RouteConfig};
use crate::forwarded::{ForwardedClient, ForwardedPolicy};
use crate::health::HealthLimits;
use crate::pattern::Pattern;
use crate::template::Template;
use plugin_api::{Error, ForwardFault, ForwardTo, Reply, Request, WebExchange, debug};

/// A configured route.
pub(crate) struct Route {
    /// The requests that it matches.
    pub(crate) declared: plugin_api::Route,
    upstreams: Upstreams,
    host: Host,
    tries: usize,
    forwarded: ForwardedPolicy,
    takes_upgrades: bool,
}

impl Route {
    /// # Errors
    /// An invalid setting, with its key.
    pub(crate) fn new(config: RouteConfig) -> Result<Self, Error> {
        config.check()?;
        let keyed = |key, reason| Error::new(format!("{key}: `{reason}"));
        let (declared, pattern) = match (config.path, config.regex) {
            (Some(path), None) => {
                let pattern = Pattern::of_path(&path);
                let pattern = pattern.map_err(|why| keyed("path", format!("{path}` {why}")))?;
                (plugin_api::Route::new(path), pattern)
            }
            (None, Some(regex)) => {
                let pattern = Pattern::of_regex(&regex);
                let pattern = pattern.map_err(|why| keyed("regex", format!("{regex}` {why}")))?;
                (plugin_api::Route::regex(regex), pattern)
            }
            _ => {
                return Err(Error::new("path, regex: exactly one is required"));
            }
        };
        if config.upstreams.is_empty() {
            return Err(Error::new("upstreams: is empty"));
        }
        let template = |(index, url): (usize, &String)| {
            Template::new(url, &pattern)
                .map_err(|why| Error::new(format!("upstreams: number {} {why}", index + 1)))
        };
        let templates = config.upstreams.iter().enumerate().map(template);
        let limits = HealthLimits {
            max_fails: config.max_fails,
            fail_timeout: u64::from(config.fail_timeout) * 1000,
        };
        Ok(Self {
            declared: declared
                .methods(config.methods.unwrap_or_default())
                .captures_as_sent(),
            upstreams: Upstreams::new(templates.collect::<Result<_, _>>()?, config.balance, limits),
            host: config.host,
            tries: config.tries,
            forwarded: ForwardedPolicy {
                writes: config.forwarded,
                trusts: config.trust_forwarded,
            },
            takes_upgrades: config.websocket,
        })
    }

    /// Forwards a request, to another upstream if one is unreachable.
    ///
    /// # Errors
    /// No upstream has answered it.
    pub(crate) async fn serve(&self, exchange: &mut WebExchange) -> Result<(), Error> {
        let switches = requests_switch(values(exchange.request(), "Upgrade"));
        if switches && !self.takes_upgrades {
            return exchange.reply(refusal(
                403,
                "403 Forbidden: this route does not allow WebSockets\n",
            ));
        }
        self.tell_upstreams(exchange)?;
        let mut tried = Vec::new();
        let mut failure = None;
        while tried.len() < self.tries
            && let Some(lease) = self.upstreams.choose(&tried)
        {
            let capture = |name: &str| exchange.capture(name);
            let Ok(url) = lease.template().url(exchange.request().path(), capture) else {
                lease.forgo();
                return exchange.reply(refusal(
                    400,
                    "400 Bad Request: the path contains a . or .. segment\n",
                ));
            };
            let to = match self.host {
                Host::Rewrite => ForwardTo::new(&url),
                Host::Keep => ForwardTo::new(&url).keeping_host(),
            };
            if switches {
                // Then the task is dropped here, with its lease: it reports nothing while it succeeds.
                lease.trust();
            }
            match exchange.forward(&to).await {
                Ok(_) => {
                    lease.note_success();
                    return Ok(());
                }
                Err(error) => {
                    let fault = error.fault();
                    if matches!(fault, ForwardFault::Unreached | ForwardFault::Upstream) {
                        lease.note_failure(&error);
                    }
                    let method = exchange.request().method();
                    if !error.may_try_again() || !may_be_repeated(fault, method) {
                        return Err(error.into());
                    }
                    debug!("{}: {error}", lease.template().origin());
                    tried.push(lease.place);
                    failure = Some(error);
                }
            }
        }
        Err(failure.map_or_else(|| Error::new("there is no upstream"), Error::from))
    }

    fn tell_upstreams(&self, exchange: &mut WebExchange) -> Result<(), Error> {
        let request = exchange.request();
        let client = ForwardedClient {
            ip: exchange.client().map(|client| client.ip()),
            scheme: request.scheme(),
            host: request.field("Host"),
        };
        let sent: Vec<(&str, &[u8])> = request.fields().collect();
        for (name, value) in self.forwarded.edits(&client, &sent) {
            match value {
                Some(value) => exchange.set_request_field(&name, value)?,
                None => exchange.remove_request_field(&name)?,
            }
        }
        Ok(())
    }
}

/// Whether a request with this method may be sent to another upstream after this failure (RFC 9110 §9.2.2).
fn may_be_repeated(fault: ForwardFault, method: &str) -> bool {
    const IDEMPOTENT: [&str; 7] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"];
    match fault {
        ForwardFault::Unreached => true,
        ForwardFault::Upstream => IDEMPOTENT.contains(&method),
        _ => false,
    }
}

/// Whether the lines of Upgrade name a protocol to switch to. Other versions of HTTP are for the next hop only, which
/// ignores them.
fn requests_switch<'r>(mut lines: impl Iterator<Item = &'r [u8]>) -> bool {
    let may_pass = |protocol: &[u8]| {
        let protocol = protocol.trim_ascii().to_ascii_lowercase();
        !protocol.is_empty()
            && ![&b"h2"[..], b"http/", b"tls/"]
                .iter()
                .any(|own| protocol.starts_with(own))
    };
    lines.any(|line| line.split(|&byte| byte == b',').any(may_pass))
}

/// The values of a field, line by line.
fn values<'r>(request: Request<'r>, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let named = move |(each, _): &(&str, &[u8])| each.eq_ignore_ascii_case(name);
    request.fields().filter(named).map(|(_, value)| value)
}

fn refusal(status: u16, text: &str) -> Reply {
    Reply::new(status)
        .field("Content-Type", "text/plain; charset=utf-8")
        .body(text)
}

#[cfg(test)]
mod tests {
    use super::requests_switch;

    #[test]
    fn other_versions_of_http_are_not_upgrades() {
        for (lines, expected) in [
            (&[][..], false),
            (&[&b""[..]], false),
            (&[b"h2c"], false),
            (&[b"TLS/1.0, HTTP/2.0"], false),
            (&[b"websocket"], true),
            (&[b"h2c, WebSocket"], true),
            (&[b"h2c", b"websocket"], true),
            (&[b"\xff, websocket"], true),
            (&[b"derp"], true),
        ] {
            assert_eq!(
                requests_switch(lines.iter().copied()),
                expected,
                "{lines:?}"
            );
        }
    }
}
