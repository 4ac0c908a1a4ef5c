//! Sends all http requests to one server, regardless of their host.
//!
//! ```toml
//! [[plugins]]
//! library = "libredirect_to_custom_server.so"
//! name = "RedirectToCustomServer"
//! config = { server = "localhost:8899" }   # the default
//! ```
//!
//! ```text
//! > GET http://example.com/a HTTP/1.1      localhost:8899 gets: GET /a HTTP/1.1
//! > Host: example.com                                           Host: example.com
//! ```
//!
//! The client does not see a redirect: only the connection goes to the other server. Path and Host are unchanged, so that
//! the server knows the requested URL. Tunnels (CONNECT) and requests for https are not affected.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::ServerAddress;

struct RedirectToCustomServer {
    server: ServerAddress,
}

#[filter]
impl Filter for RedirectToCustomServer {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let server = ServerAddress::parse(&config.server)?;
        Ok(Self { server })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if exchange.request().scheme() == "http" {
            exchange.set_upstream(&self.server.host, self.server.port)?;
        }
        proceed()
    }
}

export_plugins!(RedirectToCustomServer);

#[cfg(test)]
mod tests {
    use super::RedirectToCustomServer;
    use plugin_api::testing::{configured, get, request};

    #[test]
    fn changes_only_the_upstream() {
        let filter: RedirectToCustomServer = configured("server = '127.0.0.1:8000'").unwrap();
        let run = get("http://example.com/a?b").run(&filter);
        assert_eq!(run.upstream(), ("127.0.0.1", 8000));
        assert_eq!(
            (run.path(), run.request_field("host")),
            ("/a?b", Some("example.com"))
        );
    }

    #[test]
    fn goes_to_the_default_server() {
        let filter: RedirectToCustomServer = configured("").unwrap();
        assert_eq!(
            get("http://example.com/").run(&filter).upstream(),
            ("localhost", 8899)
        );
    }

    #[test]
    fn tunnels_are_not_affected() {
        let filter: RedirectToCustomServer = configured("").unwrap();
        let run = request("CONNECT", "example.com:443").run(&filter);
        assert_eq!(run.upstream(), ("example.com", 443));
    }
}
