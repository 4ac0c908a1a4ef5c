//! Excludes tunnels to selected hosts from interception.
//!
//! ```toml
//! [[plugins]]
//! library = "libtls_intercept_conditionally.so"
//! name = "TlsInterceptConditionally"
//! config = { exclude = ["httpbin.org"], include = [] }   # the default
//! ```
//!
//! ```text
//! > CONNECT httpbin.org:443     not intercepted: the client verifies the certificate of the origin
//! > CONNECT a.example:443       as the proxy is configured
//! ```
//!
//! In a tunnel to an address, the server name (SNI) of the client is matched as well; to exclude a tunnel, the
//! certificate of the upstream has to prove that name. Otherwise a client could prevent interception of any tunnel by
//! sending such a name.
//!
//! The plugin only prevents interception: for other tunnels, a later plugin or the configuration decides. Without
//! interception, it has no effect.

mod config;
mod rule;

use config::Config;
use plugin_api::canonical_host;
use plugin_api::prelude::*;
use rule::Exclusions;

struct TlsInterceptConditionally {
    exclusions: Exclusions,
}

#[filter]
impl Filter for TlsInterceptConditionally {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let exclusions = Exclusions::new(&config)?;
        Ok(Self { exclusions })
    }

    fn do_intercept(&self, exchange: &mut Exchange<'_, Self>) -> Interception {
        let is_proven = exchange.is_server_name_proven();
        let hello = exchange.tls_hello();
        let server_name = hello.and_then(|hello| hello.server_name());
        let server_name = server_name.and_then(|name| canonical_host(name).ok());
        let host = exchange.upstream().host();
        let server_name = server_name.as_deref();
        if self.exclusions.keeps_closed(host, server_name, is_proven) {
            return Interception::Tunnel;
        }
        Interception::Default
    }
}

export_plugins!(TlsInterceptConditionally);

#[cfg(test)]
mod tests {
    use super::TlsInterceptConditionally;
    use plugin_api::Interception;
    use plugin_api::testing::{configured, request};

    fn decision(table: &str, to: &str, server_name: &str) -> Interception {
        let filter: TlsInterceptConditionally = configured(table).unwrap();
        let mut run = request("CONNECT", to).certified().run(&filter);
        run.tls_hello(server_name, "h2,http/1.1").unwrap()
    }

    #[test]
    fn excludes_httpbin_by_either_of_its_names() {
        for (to, server_name) in [
            ("httpbin.org:443", "httpbin.org"),
            ("httpbin.org:443", ""),
            ("192.0.2.1:443", "httpbin.org"),
        ] {
            assert_eq!(decision("", to, server_name), Interception::Tunnel, "{to}");
        }
    }

    #[test]
    fn a_claimed_server_name_excludes_nothing() {
        let filter: TlsInterceptConditionally = configured("").unwrap();
        for to in ["192.0.2.1:443", "a.example:443"] {
            let mut run = request("CONNECT", to).run(&filter);
            let decision = run.tls_hello("httpbin.org", "h2").unwrap();
            assert_eq!(decision, Interception::Default, "{to}");
        }
    }

    #[test]
    fn other_tunnels_are_left_to_the_configuration() {
        let decided = decision("", "a.example:443", "a.example");
        assert_eq!(decided, Interception::Default);
    }

    #[test]
    fn tunnels_that_are_not_included_are_excluded() {
        let table = "include = ['*.corp.example', 'httpbin.org']";
        for (host, expected) in [
            ("a.corp.example", Interception::Default),
            ("b.example", Interception::Tunnel),
            ("httpbin.org", Interception::Tunnel),
        ] {
            let decided = decision(table, &format!("{host}:443"), host);
            assert_eq!(decided, expected, "{host}");
        }
    }

    #[test]
    fn refuses_a_pattern_that_matches_nothing() {
        for (table, reason) in [
            (
                "exclude = ['https://a/']",
                "exclude: `https://a/` is neither a host nor `*.domain`",
            ),
            (
                "include = ['*']",
                "include: `*` is neither a host nor `*.domain`",
            ),
            (
                "hosts = []",
                "unknown field `hosts`, expected `exclude` or `include`",
            ),
        ] {
            let refused = configured::<TlsInterceptConditionally>(table)
                .err()
                .unwrap();
            assert_eq!(refused.message(), reason);
        }
    }
}
