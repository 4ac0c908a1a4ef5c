//! Short links: redirects hosts of one word, such as `http://g/`, to their destinations.
//!
//! ```toml
//! [[plugins]]
//! library = "libshortlink.so"
//! name = "ShortLink"
//! config = { links = { g = "google.com", w = "web.whatsapp.com" }, unknown = "not_found" }
//! ```
//!
//! ```text
//! > GET http://g/maps?q=x HTTP/1.1
//! < HTTP/1.1 303 See Other
//! < Location: http://google.com/maps?q=x
//! ```
//!
//! The proxy does not connect to any server for a short link. Hosts with a dot, addresses and `localhost` are not short
//! links, and tunnels (CONNECT) are not affected, because browsers do not follow redirects there. Requests inside an
//! intercepted tunnel are answered, but the host of the tunnel has to be reachable.

mod config;
mod rule;

use config::{Config, Unknown};
use plugin_api::prelude::*;
use rule::{ShortLinks, is_short};

struct ShortLink {
    links: ShortLinks,
    unknown: Unknown,
}

#[filter]
impl Filter for ShortLink {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let links = ShortLinks::new(config.links)?;
        Ok(Self {
            links,
            unknown: config.unknown,
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let request = exchange.request();
        if request.scheme().is_empty() || !is_short(request.host()) {
            return proceed();
        }
        match (self.links.destination(request.host()), self.unknown) {
            (Some(destination), _) => reply(see_other(destination, request.path())),
            (None, Unknown::NotFound) => reject(404, "NOT FOUND"),
            (None, Unknown::Forward) => proceed(),
        }
    }
}

fn see_other(destination: &str, path: &str) -> Reply {
    let location = format!("http://{destination}{path}");
    Reply::new(303)
        .reason("See Other")
        .field("Location", location)
}

export_plugins!(ShortLink);

#[cfg(test)]
mod tests {
    use super::ShortLink;
    use plugin_api::Reply;
    use plugin_api::testing::{configured, get, request};

    #[test]
    fn redirects_a_short_link_with_its_path() {
        let filter: ShortLink = configured("").unwrap();
        for (url, location) in [
            ("http://a/", "http://amazon.com/"),
            ("http://G", "http://google.com/"),
            ("http://w/x?y=z", "http://web.whatsapp.com/x?y=z"),
            ("http://proxy/", "http://localhost:8899/"),
        ] {
            let expected = Reply::new(303)
                .reason("See Other")
                .field("Location", location);
            assert_eq!(get(url).run(&filter).reply(), Some(&expected), "{url}");
        }
    }

    #[test]
    fn answers_an_unknown_link_or_forwards_it() {
        let filter: ShortLink = configured("").unwrap();
        let unknown = get("http://nothing/").run(&filter);
        assert_eq!(unknown.reply().map(|reply| reply.status), Some(404));
        let filter: ShortLink = configured("unknown = 'forward'").unwrap();
        assert_eq!(get("http://intranet/").run(&filter).reply(), None);
    }

    #[test]
    fn other_hosts_and_tunnels_are_not_affected() {
        let filter: ShortLink = configured("").unwrap();
        for url in [
            "http://a.example/",
            "http://localhost/",
            "http://[::1]/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(get(url).run(&filter).reply(), None, "{url}");
        }
        assert_eq!(request("CONNECT", "g:443").run(&filter).reply(), None);
    }

    #[test]
    fn refuses_links_that_never_match() {
        let dotted = configured::<ShortLink>("links = { 'a.b' = 'c' }")
            .err()
            .unwrap();
        assert_eq!(dotted.message(), "links: `a.b` is not a single word");
        let spaced = configured::<ShortLink>("links = { a = 'b c' }")
            .err()
            .unwrap();
        assert_eq!(spaced.message(), "links: `b c` is not a host");
    }
}
