//! Blocks requests whose URL matches a regular expression.
//!
//! ```toml
//! [[plugins]]
//! library = "libfilter_by_url_regex.so"
//! name = "FilterByUrlRegex"
//! config = { rules = [{ regex = '^ads\.', notes = "advertisements" }], file = "adblock.json" }
//! ```
//!
//! ```text
//! > GET http://ads.example/banner.js HTTP/1.1
//! < HTTP/1.1 404 Blocked                           access log: … - blocked=advertisements
//! ```
//!
//! The expressions are matched against host, path and query, such as `ads.example/banner.js?x=1`: without scheme and
//! port, and with the host in its canonical form (lower case, no final dot, IPv4 inside IPv6 as IPv4). For a tunnel
//! (CONNECT) only the host is visible, so an expression for a whole host should end in `(/|$)`; if the proxy intercepts
//! the tunnel, the requests inside are checked. If a request is sent to a different host than it names, inside a tunnel
//! to an address or after a redirect, both URLs are checked.

mod config;
mod rule;

use config::Config;
use plugin_api::prelude::*;
use rule::UrlRules;

struct FilterByUrlRegex {
    rules: UrlRules,
}

#[filter]
impl Filter for FilterByUrlRegex {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let rules = UrlRules::new(config.into_rules()?)?;
        match rules.len() {
            0 => warn!("no rules are configured: every URL is allowed"),
            count => debug!("{count} rules"),
        }
        Ok(Self { rules })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let request = exchange.request();
        let block = exchange.hosts().find_map(|host| match request.scheme() {
            "" => self.rules.block(host),
            _ => self.rules.block(&[host, request.path()].concat()),
        });
        let Some(block) = block else {
            return proceed();
        };
        exchange.add_log_field("blocked", block.notes);
        reject(block.status, block.reason.to_owned())
    }
}

export_plugins!(FilterByUrlRegex);

#[cfg(test)]
mod tests {
    use super::FilterByUrlRegex;
    use plugin_api::testing::{configured, get, request};
    use std::{env, fs, process};

    #[test]
    fn matches_the_requested_url_and_that_of_the_upstream() {
        for regex in ["^a\\.example/", "^192\\.0\\.2\\.1/"] {
            let filter: FilterByUrlRegex =
                configured(&format!("rules = [{{ regex = '{regex}' }}]")).unwrap();
            let inside = get("https://a.example/").inside_tunnel_to("192.0.2.1");
            assert!(inside.run(&filter).reply().is_some(), "{regex}");
        }
    }

    #[test]
    fn blocks_by_host_and_path_and_notes_the_rule() {
        let filter: FilterByUrlRegex = configured("").unwrap();
        for url in [
            "http://doubleclick.net/",
            "http://ad.Doubleclick.net:8080/x?y",
            "http://tpc.googlesyndication.com/simgad/1",
            "http://www.google-analytics.com/g/collect?v=2",
        ] {
            let blocked = get(url).run(&filter);
            let reply = blocked.reply().unwrap();
            assert_eq!((reply.status, &*reply.reason), (404, "Blocked"), "{url}");
            assert_eq!(blocked.log_fields()[0].0, "blocked");
        }
        for url in [
            "http://notdoubleclick.net/",
            "http://a.example/?u=doubleclick.net/",
            "http://tpc.googlesyndication.com/other",
        ] {
            let passed = get(url).run(&filter);
            assert_eq!(passed.reply(), None, "{url}");
            assert!(passed.log_fields().is_empty());
        }
    }

    #[test]
    fn blocks_tunnels_by_their_host_alone() {
        let filter: FilterByUrlRegex = configured("").unwrap();
        let status = |target| {
            let run = request("CONNECT", target).run(&filter);
            run.reply().map(|reply| reply.status)
        };
        assert_eq!(status("stats.doubleclick.net:443"), Some(404));
        assert_eq!(status("tpc.googlesyndication.com:443"), None);
    }

    #[test]
    fn rules_of_the_table_come_before_those_of_the_file() {
        let path = env::temp_dir().join(format!("filter_by_url_regex.{}.json", process::id()));
        let list = r#"[{"regex": "bb", "notes": "B", "status_code": 451, "reason_phrase": "No"}, {"regex": "aa"}]"#;
        fs::write(&path, list).unwrap();
        let config = format!("rules = [{{ regex = 'cc' }}]\nfile = '{}'", path.display());
        let filter: FilterByUrlRegex = configured(&config).unwrap();
        fs::remove_file(&path).unwrap();
        let status = |url| {
            let run = get(url).run(&filter);
            run.reply().map(|reply| reply.status)
        };
        assert_eq!(status("http://bb/"), Some(451));
        assert_eq!(status("http://aa/"), Some(404));
        assert_eq!(status("http://bb/cc"), Some(404));
        let in_the_sample = "http://doubleclick.net/";
        assert_eq!(status(in_the_sample), None);
    }

    #[test]
    fn refuses_an_invalid_rules_file() {
        let missing = configured::<FilterByUrlRegex>("file = '/nowhere/list.json'").err();
        let message = missing.unwrap().message().to_owned();
        assert!(
            message.starts_with("file: /nowhere/list.json: "),
            "{message}"
        );
        let path = env::temp_dir().join(format!("filter_by_url_regex.{}.bad", process::id()));
        fs::write(&path, r#"[{"regx": "b"}]"#).unwrap();
        let refused = configured::<FilterByUrlRegex>(&format!("file = '{}'", path.display())).err();
        fs::remove_file(&path).unwrap();
        let message = refused.unwrap().message().to_owned();
        assert!(message.contains("unknown field `regx`"), "{message}");
        assert!(message.contains("line 1 column"), "{message}");
    }

    #[test]
    fn refuses_a_misspelt_key() {
        let refused = configured::<FilterByUrlRegex>("rule = []").err().unwrap();
        let message = refused.message();
        assert_eq!(message, "unknown field `rule`, expected `rules` or `file`");
    }
}
