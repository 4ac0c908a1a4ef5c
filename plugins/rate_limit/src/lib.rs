//! Limits the rate of requests.
//!
//! ```toml
//! [[plugins]]
//! library = "librate_limit.so"
//! name = "RateLimit"
//! config = { per = "client", requests = 100, window_seconds = 60 }   # the default
//! ```
//!
//! ```text
//! > GET http://example.com/ HTTP/1.1          the 101st at once
//! < HTTP/1.1 429 Too Many Requests
//! < Retry-After: 1                            access log: … - rate_limit=denied 192.0.2.7
//! ```
//!
//! The limit applies to all workers together. A tunnel (CONNECT) counts as one request; if it is intercepted, it counts
//! as the first request inside, and further requests count separately. Denied requests do not count: a client that keeps
//! sending requests is served at the configured rate. With `report_only` all requests are allowed, and the access log
//! has `rate_limit=over` for those that would be denied. Inside a tunnel to an address, the host of a request is used
//! only if the certificate of the upstream proves it; otherwise the address is used.

mod config;
mod key;
mod rule;

use config::{Config, Per};
use key::BucketKey;
use plugin_api::prelude::*;
use rule::{Buckets, Exceeded};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

struct RateLimit {
    per: Per,
    report_only: bool,
    /// The point in time from which times are counted.
    started_at: Instant,
    // Held for some hundred nanoseconds.
    buckets: Mutex<Buckets>,
}

/// Counted tunnels of a connection in which no request has been seen yet, by key. At most one on HTTP/1.1, and one per
/// stream on HTTP/2.
#[derive(Default)]
struct PaidTunnels {
    keys: RefCell<Vec<BucketKey>>,
}

/// The maximum number of such tunnels per connection; beyond it, the first request inside counts separately.
const MAX_PAID: usize = 128;

#[filter]
impl Filter for RateLimit {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;
    type Connection = PaidTunnels;

    fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let window = Duration::from_secs(config.window_seconds.into());
        let max_keys = NonZeroUsize::new(config.max_keys).unwrap_or(NonZeroUsize::MIN);
        let buckets = Buckets::new(config.requests, window, config.burst(), max_keys);
        Ok(Self {
            per: config.per,
            report_only: config.report_only,
            started_at: Instant::now(),
            buckets: Mutex::new(buckets),
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let client = exchange.client().map(|client| client.ip());
        let key = BucketKey::new(self.per, client, exchange.proven_host());
        let request = exchange.request();
        let is_tunnel = request.method() == "CONNECT";
        // Only requests inside tunnels have https or begin with a path.
        let is_inside = request.scheme() == "https" || request.target().starts_with('/');
        if is_inside && exchange.connection.spend(&key) {
            return proceed();
        }
        let Err(exceeded) = self.take(key.clone()) else {
            if is_tunnel {
                exchange.connection.add(key);
            }
            return proceed();
        };
        if self.report_only {
            exchange.add_log_field("rate_limit", format!("over {key}"));
            return proceed();
        }
        exchange.add_log_field("rate_limit", format!("denied {key}"));
        reply(too_many(&exceeded))
    }
}

impl PaidTunnels {
    fn add(&self, key: BucketKey) {
        let mut keys = self.keys.borrow_mut();
        if keys.len() < MAX_PAID {
            keys.push(key);
        }
    }

    /// Whether a request for `key` has been counted already.
    fn spend(&self, key: &BucketKey) -> bool {
        let mut keys = self.keys.borrow_mut();
        let paid = keys.iter().position(|paid| paid == key);
        paid.map(|at| keys.swap_remove(at)).is_some()
    }
}

impl RateLimit {
    fn take(&self, key: BucketKey) -> Result<(), Exceeded> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that time never goes backwards.
        let now = self.started_at.elapsed();
        buckets.take(key, now)
    }
}

fn too_many(exceeded: &Exceeded) -> Reply {
    Reply::new(429)
        .reason("Too Many Requests")
        .field("Retry-After", exceeded.seconds().to_string())
        .field("Content-Type", "text/plain; charset=utf-8")
        .body("Too Many Requests\n")
}

export_plugins!(RateLimit);

#[cfg(test)]
mod tests {
    use super::RateLimit;
    use plugin_api::testing::{Connection, Run, configured, get, request};

    fn from<'f>(client: &str, url: &str, filter: &'f RateLimit) -> Run<'f, RateLimit> {
        let client = format!("{client}:1234").parse().unwrap();
        get(url).client(client).run(filter)
    }

    fn is_denied(client: &str, url: &str, filter: &RateLimit) -> bool {
        from(client, url, filter).reply().is_some()
    }

    #[test]
    fn denies_above_the_limit_with_retry_after() {
        let filter: RateLimit = configured("requests = 2\nwindow_seconds = 86400").unwrap();
        for _ in 0..2 {
            assert!(!is_denied("192.0.2.1", "http://a/", &filter));
        }
        let denied = from("192.0.2.1", "http://b/", &filter);
        let reply = denied.reply().unwrap();
        assert_eq!((reply.status, &*reply.reason), (429, "Too Many Requests"));
        let (name, value) = &reply.fields[0];
        assert_eq!(name, "Retry-After");
        let seconds: u32 = String::from_utf8_lossy(value).parse().unwrap();
        assert!((43_190..=43_200).contains(&seconds), "{seconds}");
        let noted = ("rate_limit".to_owned(), "denied 192.0.2.1".to_owned());
        assert_eq!(denied.log_fields(), [noted]);
        assert!(!is_denied("192.0.2.2", "http://a/", &filter));
    }

    #[test]
    fn counts_by_host_or_by_client_and_host() {
        let once = "requests = 1\nwindow_seconds = 86400";
        let host: RateLimit = configured(&format!("per = 'host'\n{once}")).unwrap();
        assert!(!is_denied("192.0.2.1", "http://a/", &host));
        assert!(is_denied("192.0.2.2", "http://a:81/", &host));
        assert!(!is_denied("192.0.2.2", "http://b/", &host));
        let pair: RateLimit = configured(&format!("per = 'client_and_host'\n{once}")).unwrap();
        assert!(!is_denied("192.0.2.1", "http://a/", &pair));
        assert!(!is_denied("192.0.2.2", "http://a/", &pair));
        assert!(!is_denied("192.0.2.1", "http://b/", &pair));
        assert!(is_denied("192.0.2.1", "http://a/x", &pair));
    }

    #[test]
    fn a_tunnel_is_one_request() {
        let filter: RateLimit = configured("requests = 1").unwrap();
        let connect = || request("CONNECT", "a.example:443").run(&filter);
        assert_eq!(connect().reply(), None);
        assert_eq!(connect().reply().map(|reply| reply.status), Some(429));
    }

    #[test]
    fn the_first_request_inside_a_tunnel_counts_as_the_tunnel() {
        let filter: RateLimit = configured("requests = 3\nwindow_seconds = 86400").unwrap();
        let client = Connection::open(&filter, ([192, 0, 2, 1], 1234).into());
        let ask = |method: &str, url: &str| {
            let run = request(method, url).run_on(&client);
            run.reply().map(|reply| reply.status)
        };
        assert_eq!(ask("CONNECT", "a.example:443"), None, "one");
        for number in ["one", "two", "three"] {
            assert_eq!(ask("GET", "https://a.example/"), None, "{number}");
        }
        assert_eq!(ask("GET", "https://a.example/"), Some(429));
        assert_eq!(ask("CONNECT", "a.example:443"), Some(429));
        // A denied tunnel was not counted.
        assert_eq!(ask("GET", "https://a.example/"), Some(429));
    }

    #[test]
    fn a_tunnel_covers_one_host_and_one_connection() {
        let table = "per = 'host'\nrequests = 1\nwindow_seconds = 86400";
        let filter: RateLimit = configured(table).unwrap();
        let client = ([192, 0, 2, 1], 1234).into();
        let first = Connection::open(&filter, client);
        let second = Connection::open(&filter, client);
        let is_served = |connection: &Connection<'_, RateLimit>, method: &str, url: &str| {
            let run = request(method, url).run_on(connection);
            run.reply().is_none()
        };
        assert!(is_served(&first, "CONNECT", "a.example:443"));
        assert!(!is_served(&second, "GET", "https://a.example/"));
        assert!(is_served(&first, "GET", "https://b.example/"));
        assert!(!is_served(&first, "GET", "https://b.example/"));
        assert!(!is_served(&first, "GET", "http://a.example/"));
        assert!(is_served(&first, "GET", "https://a.example/"));
        assert!(!is_served(&first, "GET", "https://a.example/"));
    }

    #[test]
    fn report_only_limits_nothing() {
        let filter: RateLimit = configured("requests = 1\nreport_only = true").unwrap();
        assert!(
            from("192.0.2.1", "http://a/", &filter)
                .log_fields()
                .is_empty()
        );
        let over = from("192.0.2.1", "http://a/", &filter);
        assert_eq!(over.reply(), None);
        assert_eq!(over.log_fields()[0].1, "over 192.0.2.1");
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        for (config, reason) in [
            ("requests = 0", "requests: 0 is not from 1 to 1000000"),
            (
                "window_seconds = 0",
                "window_seconds: 0 is not from 1 to 86400",
            ),
            ("burst = 0", "burst: 0 is not from 1 to 1000000"),
            ("max_keys = 0", "max_keys: 0 is not from 1 to 16777216"),
        ] {
            let refused = configured::<RateLimit>(config).err().unwrap();
            assert_eq!(refused.message(), reason);
        }
        let unknown = configured::<RateLimit>("per = 'user'").err().unwrap();
        let reason =
            "per: unknown variant `user`, expected one of `client`, `host`, `client_and_host`";
        assert_eq!(unknown.message(), reason);
    }
}
