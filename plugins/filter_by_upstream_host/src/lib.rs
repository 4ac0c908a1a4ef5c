//! Denies requests by upstream host.
//!
//! ```toml
//! [[plugins]]
//! library = "libfilter_by_upstream_host.so"
//! name = "FilterByUpstreamHost"
//! config = { hosts = ["google.com", "www.google.com"] }   # the default
//! ```
//!
//! ```text
//! > GET http://google.com/ HTTP/1.1        > CONNECT google.com:443 HTTP/1.1
//! < HTTP/1.1 418 I'm a tea pot             < HTTP/1.1 418 I'm a tea pot
//! ```
//!
//! The plugin checks the destination of the exchange at the time of the call: if an earlier plugin redirects the
//! exchange, that is the new destination. To filter by the requested host, list this plugin first. Inside an intercepted
//! tunnel to an address, both the address and the host of the request are checked, and the request is denied if either
//! is listed. A host may be listed in any spelling.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::HostList;

struct FilterByUpstreamHost {
    denied: HostList,
}

#[filter]
impl Filter for FilterByUpstreamHost {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let denied = HostList::new(&config.hosts)?;
        Ok(Self { denied })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let upstream = exchange.upstream();
        let is_denied = match upstream.is_redirected() {
            true => self.denied.contains(upstream.host()),
            false => exchange.hosts().any(|host| self.denied.contains(host)),
        };
        if is_denied {
            return reject(418, "I'm a tea pot");
        }
        proceed()
    }
}

export_plugins!(FilterByUpstreamHost);

#[cfg(test)]
mod tests {
    use super::FilterByUpstreamHost;
    use plugin_api::testing::{configured, get, request};

    #[test]
    fn denies_listed_hosts_to_requests_and_tunnels() {
        let filter: FilterByUpstreamHost = configured("").unwrap();
        for (method, url) in [
            ("GET", "http://google.com/a"),
            ("CONNECT", "www.google.com:443"),
        ] {
            let denied = request(method, url).run(&filter);
            let reply = denied.reply().unwrap();
            assert_eq!((reply.status, &*reply.reason), (418, "I'm a tea pot"));
        }
    }

    #[test]
    fn checks_the_requested_host_and_the_upstream() {
        for hosts in ["hosts = ['a.example']", "hosts = ['192.0.2.1']"] {
            let filter: FilterByUpstreamHost = configured(hosts).unwrap();
            let inside = get("https://a.example/").inside_tunnel_to("192.0.2.1");
            assert!(inside.run(&filter).reply().is_some(), "{hosts}");
        }
    }

    #[test]
    fn other_hosts_are_not_affected() {
        let filter: FilterByUpstreamHost = configured("hosts = ['a.example']").unwrap();
        for url in [
            "http://google.com/",
            "http://b.a.example/",
            "http://a.example.org/",
        ] {
            assert_eq!(get(url).run(&filter).reply(), None, "{url}");
        }
    }

    #[test]
    fn refuses_invalid_lists() {
        let refused = configured::<FilterByUpstreamHost>("hosts = ['http://a/']")
            .err()
            .unwrap();
        assert_eq!(refused.message(), "hosts: `http://a/` is not a host name");
        let misspelt = configured::<FilterByUpstreamHost>("host = ['a']")
            .err()
            .unwrap();
        assert_eq!(misspelt.message(), "unknown field `host`, expected `hosts`");
    }
}
