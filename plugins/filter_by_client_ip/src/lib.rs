//! Denies requests by client address.
//!
//! ```toml
//! [[plugins]]
//! library = "libfilter_by_client_ip.so"
//! name = "FilterByClientIp"
//! config = { allow = ["127.0.0.0/8", "::1"], deny = ["127.0.0.66"] }   # both empty by default
//! ```
//!
//! ```text
//! > GET http://example.com/ HTTP/1.1       from 127.0.0.66, or from 192.0.2.1
//! < HTTP/1.1 418 I'm a tea pot
//! ```
//!
//! The address is that of the client connection. Behind another proxy or a load balancer, it is the address of that
//! proxy; fields such as X-Forwarded-For are ignored, because any client can send them.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::ClientRule;

struct FilterByClientIp {
    rule: ClientRule,
    status: u16,
    reason: String,
}

#[filter]
impl Filter for FilterByClientIp {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        config.check_answer()?;
        let rule = ClientRule::new(&config.allow, &config.deny)?;
        if rule.is_empty() {
            warn!("`allow` and `deny` are empty: every client is served");
        }
        Ok(Self {
            rule,
            status: config.status,
            reason: config.reason,
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let client = exchange.client().map(|client| client.ip());
        match self.rule.serves(client) {
            true => proceed(),
            false => reject(self.status, self.reason.clone()),
        }
    }
}

export_plugins!(FilterByClientIp);

#[cfg(test)]
mod tests {
    use super::FilterByClientIp;
    use plugin_api::testing::{configured, request};

    #[test]
    fn denies_requests_and_tunnels_of_a_listed_client() {
        let filter: FilterByClientIp = configured("deny = ['192.0.2.0/24']").unwrap();
        for (method, url) in [("GET", "http://a.example/"), ("CONNECT", "a.example:443")] {
            let from = |client: &str| request(method, url).client(client.parse().unwrap());
            let denied = from("192.0.2.9:1234").run(&filter);
            let reply = denied.reply().unwrap();
            assert_eq!((reply.status, &*reply.reason), (418, "I'm a tea pot"));
            assert_eq!(from("192.0.3.9:1234").run(&filter).reply(), None);
        }
    }

    #[test]
    fn answers_with_the_configured_status() {
        let filter: FilterByClientIp =
            configured("allow = ['::1']\nstatus = 403\nreason = 'Not you'").unwrap();
        let denied = request("GET", "http://a.example/").run(&filter);
        let reply = denied.reply().unwrap();
        assert_eq!((reply.status, &*reply.reason), (403, "Not you"));
    }

    #[test]
    fn refuses_misspelt_settings() {
        for (config, reason) in [
            ("status = 200", "status: 200 is not from 400 to 599"),
            ("reason = \"a\\nb\"", "reason: contains a control character"),
            (
                "deny = ['x']",
                "deny: `x` is neither an address nor a prefix such as 192.0.2.0/24",
            ),
            (
                "denied = []",
                "unknown field `denied`, expected one of `allow`, `deny`, `status`, `reason`",
            ),
        ] {
            let refused = configured::<FilterByClientIp>(config).err().unwrap();
            assert_eq!(refused.message(), reason);
        }
    }
}
