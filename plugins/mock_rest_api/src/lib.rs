//! Mocks a REST API, for developing clients before the API exists.
//!
//! ```toml
//! [[plugins]]
//! library = "libmock_rest_api.so"
//! name = "ProposedRestApi"
//! config = { host = "api.example.com", routes = { "/v1/users/" = { json = '{"count": 0}' } } }
//! ```
//!
//! ```text
//! > GET http://api.example.com/v1/users/?page=2 HTTP/1.1      > GET http://api.example.com/v1/ HTTP/1.1
//! < HTTP/1.1 200 OK                                           < HTTP/1.1 404 NOT FOUND
//! < Content-Type: application/json                            <
//! < {"count": 0}                                              < Not Found
//! ```
//!
//! All methods get the same answer. Requests for other hosts and tunnels (CONNECT) are not affected; requests inside a
//! tunnel are answered if the proxy intercepts it. The proxy connects to the host of a tunnel first, so over https that
//! host has to be reachable.

mod config;
mod rule;

use config::{Config, MockAnswer};
use plugin_api::prelude::*;
use rule::Api;

struct MockRestApi {
    api: Api,
}

#[filter]
impl Filter for MockRestApi {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let api = Api::new(&config.host, config.routes)?;
        Ok(Self { api })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let request = exchange.request();
        if request.scheme().is_empty() || !self.api.is_at(request.host()) {
            return proceed();
        }
        reply(self.api.route(request.path()).map_or_else(not_found, json))
    }
}

fn json(route: &MockAnswer) -> Reply {
    Reply::new(route.status)
        .field("Content-Type", "application/json")
        .body(route.json.as_str())
}

fn not_found() -> Reply {
    Reply::new(404)
        .reason("NOT FOUND")
        .field("Content-Type", "text/plain")
        .body("Not Found")
}

// The name that users of proxy.py know.
export_plugins!(MockRestApi as "ProposedRestApi");

#[cfg(test)]
mod tests {
    use super::MockRestApi;
    use plugin_api::testing::{configured, get, request};

    fn answer(filter: &MockRestApi, url: &str) -> Option<(u16, String)> {
        let run = get(url).run(filter);
        let reply = run.reply()?;
        Some((
            reply.status,
            String::from_utf8_lossy(&reply.body).into_owned(),
        ))
    }

    #[test]
    fn lists_its_two_users_by_default() {
        let filter: MockRestApi = configured("").unwrap();
        let (status, users) = answer(&filter, "http://api.example.com/v1/users/?x").unwrap();
        assert_eq!(status, 200);
        assert_eq!(
            users,
            "{\"count\": 2, \"next\": null, \"previous\": null, \"results\": [{\"email\": \"you@example.com\", \"groups\": [], \"url\": \"api.example.com/v1/users/1/\", \"username\": \"admin\"}, {\"email\": \"someone@example.com\", \"groups\": [], \"url\": \"api.example.com/v1/users/2/\", \"username\": \"admin\"}]}"
        );
    }

    #[test]
    fn other_paths_of_the_host_are_not_found() {
        let filter: MockRestApi = configured("").unwrap();
        let expected = Some((404, "Not Found".to_owned()));
        for url in [
            "http://api.example.com/",
            "http://api.example.com:8000/v1/users",
        ] {
            assert_eq!(answer(&filter, url), expected, "{url}");
        }
    }

    #[test]
    fn other_hosts_and_tunnels_are_not_affected() {
        let filter: MockRestApi = configured("").unwrap();
        assert_eq!(answer(&filter, "http://example.com/v1/users/"), None);
        let tunnel = request("CONNECT", "api.example.com:443").run(&filter);
        assert_eq!(tunnel.reply(), None);
    }

    #[test]
    fn answers_configured_routes() {
        let config = "host = 'a.example'\nroutes = { '/x' = { status = 201, json = '[1,2]' } }";
        let filter: MockRestApi = configured(config).unwrap();
        let created = Some((201, "[1,2]".to_owned()));
        assert_eq!(answer(&filter, "http://a.example/x"), created);
        assert_eq!(answer(&filter, "http://api.example.com/v1/users/"), None);
    }

    #[test]
    fn refuses_an_answer_that_is_not_json() {
        let refused = configured::<MockRestApi>("routes = { '/x' = { json = '{' } }").err();
        let message = refused.unwrap().message().to_owned();
        assert!(message.starts_with("routes./x: json: EOF"), "{message}");
        let misspelt = configured::<MockRestApi>("hosts = ''").err().unwrap();
        let reason = "unknown field `hosts`, expected `host` or `routes`";
        assert_eq!(misspelt.message(), reason);
    }
}
