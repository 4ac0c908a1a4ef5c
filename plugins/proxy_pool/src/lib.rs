//! Sends requests through one of several parent proxies, skipping those that are down.
//!
//! ```toml
//! [[plugins]]
//! library = "libproxy_pool.so"
//! name = "ProxyPool"
//! config = { parents = ["http://one:3128", "socks5://user:password@two:1080"], policy = "round_robin" }
//! ```
//!
//! ```text
//! > GET http://a.example/ HTTP/1.1        > CONNECT a.example:443 HTTP/1.1
//! to one:3128, unchanged                  through one:3128, with a separate CONNECT
//! ```
//!
//! In an intercepted tunnel, the requests inside use the parent of the tunnel as long as it is up, so that the source
//! address does not change.
//!
//! If connecting to a parent fails, it is skipped for a while, and the exchange continues through another parent without
//! an error for the client. The `bypass` list is matched against the destination at the time of the call, so list this
//! plugin last. Do not list the proxy itself as a parent: such requests are answered with 508.

mod check;
mod config;
mod hosts;
mod parent;
mod pool;
mod rule;

use check::Checks;
use config::Config;
use parent::HealthLimits;
use plugin_api::Request;
use plugin_api::prelude::*;
use pool::{Choice, Lease, Pool};
use rule::{Routes, is_fault_of_parent};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

struct ProxyPool {
    pool: Arc<Pool>,
    routes: Routes,
    _checks: Option<Checks>,
}

/// The state of an exchange.
#[derive(Default)]
struct ParentAttempts {
    /// The parent that it uses, or that failed.
    lease: Option<Lease>,
    /// The parents that could not be connected to.
    tried: Vec<usize>,
}

/// The parents of a connection's tunnels, and of hosts to which its client has begun to authenticate a connection:
/// host, port, index in the pool.
#[derive(Default)]
struct ConnectionParents {
    parents: RefCell<Vec<(Box<str>, u16, usize)>>,
}

/// The maximum number of such entries per connection.
const MAX_REMEMBERED: usize = 128;

impl ConnectionParents {
    fn note(&self, host: &str, port: u16, place: usize) {
        let mut parents = self.parents.borrow_mut();
        let known = parents.iter().position(|known| is_to(known, host, port));
        match known {
            Some(at) => parents[at].2 = place,
            None if parents.len() < MAX_REMEMBERED => parents.push((host.into(), port, place)),
            None => {}
        }
    }

    fn place(&self, host: &str, port: u16) -> Option<usize> {
        let parents = self.parents.borrow();
        let known = parents.iter().find(|known| is_to(known, host, port));
        known.map(|(_, _, place)| *place)
    }
}

fn is_to((host, port, _): &(Box<str>, u16, usize), to: &str, to_port: u16) -> bool {
    **host == *to && *port == to_port
}

#[filter]
impl Filter for ProxyPool {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;
    type State = ParentAttempts;
    type Connection = ConnectionParents;

    fn new(config: Config) -> Result<Self, Error> {
        // A parent that fails a check stays down at least until the next check.
        let down = config
            .fail_timeout
            .max(config.check_interval.saturating_mul(2));
        let limits = HealthLimits {
            max_fails: config.max_fails,
            fail_timeout: down.saturating_mul(1000),
        };
        let mut pool = Pool::new(config.policy, config.on_all_down, limits);
        let routes = Routes::new(&mut pool, &config.bypass, &config.rules, &config.parents)?;
        let pool = Arc::new(pool);
        let checks = match config.check_interval {
            0 => None,
            seconds => Some(Checks::start(
                Arc::clone(&pool),
                Duration::from_secs(seconds),
            )?),
        };
        Ok(Self {
            pool,
            routes,
            _checks: checks,
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        match self.choose(exchange) {
            None => proceed(),
            Some(Choice::Through(lease)) => {
                exchange.set_parent(lease.parent().url())?;
                exchange.state.lease = Some(lease);
                proceed()
            }
            Some(Choice::Direct) => proceed(),
            Some(Choice::Nowhere) => reject(503, "No parent proxy is up"),
        }
    }

    fn on_upstream_failed(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let Some(lease) = &exchange.state.lease else {
            return proceed();
        };
        let failure = exchange.failure();
        if !is_fault_of_parent(failure, exchange.upstream().host()) {
            return proceed();
        }
        self.pool.note_failure(lease.parent(), failure);
        let place = lease.place;
        exchange.state.tried.push(place);
        match self.choose(exchange) {
            Some(Choice::Through(lease)) => {
                exchange.set_parent(lease.parent().url())?;
                exchange.state.lease = Some(lease);
                retry()
            }
            Some(Choice::Direct) => {
                exchange.set_parent("")?;
                exchange.state.lease = None;
                retry()
            }
            None | Some(Choice::Nowhere) => proceed(),
        }
    }

    fn on_upstream_connected(&self, exchange: &mut Exchange<'_, Self>) {
        let Some(lease) = &exchange.state.lease else {
            return;
        };
        self.pool.note_success(lease.parent());
        if keeps_parent(exchange.request()) {
            let upstream = exchange.upstream();
            let (host, port) = (upstream.host(), upstream.port());
            exchange.connection.note(host, port, lease.place);
        }
    }

    fn on_access_log(&self, exchange: &mut Exchange<'_, Self>) -> LogLine {
        // The exchange is over and no longer counts for its parent.
        if let Some(lease) = exchange.state.lease.take() {
            exchange.add_log_field("parent", lease.parent().to_string());
        }
        LogLine::Write
    }
}

impl ProxyPool {
    fn choose(&self, exchange: &Exchange<'_, Self>) -> Option<Choice> {
        let upstream = exchange.upstream();
        let (host, port) = (upstream.host(), upstream.port());
        let group = self.routes.group(&self.pool, host, port)?;
        if exchange.request().method() != "CONNECT"
            && let Some(place) = exchange.connection.place(host, port)
            && !exchange.state.tried.contains(&place)
            && let Some(lease) = self.pool.again(place)
        {
            return Some(Choice::Through(lease));
        }
        Some(self.pool.choose(group, host, &exchange.state.tried))
    }
}

/// Whether later requests of the client connection must use the same parent: through a tunnel, or on an upstream
/// connection that is being authenticated.
fn keeps_parent(request: Request<'_>) -> bool {
    let begins_with = |scheme: &str| {
        let value = request.field("authorization").unwrap_or_default();
        let begin = value.get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    request.method() == "CONNECT" || begins_with("NTLM ") || begins_with("Negotiate ")
}

export_plugins!(ProxyPool);

#[cfg(test)]
mod tests {
    use super::ProxyPool;
    use plugin_api::testing::{Connection, configured, get, request};
    use plugin_api::{Flow, LogLine};

    const TWO: &str = "parents = ['http://u:p@one:1', 'socks5://two:2']\npolicy = 'round_robin'\n";

    fn pool(more: &str) -> ProxyPool {
        configured(&format!("{TWO}{more}")).unwrap()
    }

    #[test]
    fn sends_requests_and_tunnels_through_a_parent() {
        let filter = pool("");
        let plain = get("http://a.example/").run(&filter);
        assert_eq!(plain.parent(), Some("http://u:p@one:1"));
        let tunnel = request("CONNECT", "a.example:443").run(&filter);
        assert_eq!(tunnel.parent(), Some("socks5://two:2"));
    }

    #[test]
    fn private_hosts_and_parents_are_connected_to_directly() {
        let filter = pool("");
        for url in [
            "http://localhost/",
            "http://printer.local/",
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://10.1.2.3/",
            "http://one:1/",
        ] {
            assert_eq!(get(url).run(&filter).parent(), None, "{url}");
        }
        assert!(get("http://one:2/").run(&filter).parent().is_some());
    }

    #[test]
    fn a_rule_chooses_by_host() {
        let filter = pool("rules = [{ hosts = ['*.onion'], parents = ['socks5://tor:9050'] }]");
        let parent = |url: &str| get(url).run(&filter).parent().map(str::to_owned);
        assert_eq!(
            parent("http://x.onion/").as_deref(),
            Some("socks5://tor:9050")
        );
        assert_ne!(
            parent("http://x.example/").as_deref(),
            Some("socks5://tor:9050")
        );
        let only: ProxyPool = configured(
            "parents = []\nrules = [{ hosts = ['*.onion'], parents = ['socks5://tor:9050'] }]",
        )
        .unwrap();
        assert_eq!(get("http://x.example/").run(&only).parent(), None);
    }

    #[test]
    fn requests_inside_a_tunnel_use_its_parent_while_it_is_open() {
        let filter = pool("");
        let client = Connection::open(&filter, ([192, 0, 2, 1], 1234).into());
        let inside = || get("https://a.example/").run_on(&client);
        let mut tunnel = request("CONNECT", "a.example:443").run_on(&client);
        tunnel.upstream_connected().unwrap();
        for _ in 0..4 {
            assert_eq!(inside().parent(), Some("http://u:p@one:1"));
        }
        let mut failed = inside();
        assert_eq!(failed.upstream_failed("refused"), &Ok(Flow::Retry));
        assert_eq!(failed.parent(), Some("socks5://two:2"));
        assert_eq!(inside().parent(), Some("socks5://two:2"));
    }

    #[test]
    fn requests_on_an_authenticated_connection_keep_the_parent() {
        let filter = pool("");
        let client = Connection::open(&filter, ([192, 0, 2, 1], 1234).into());
        let inside = || get("http://a.example/").run_on(&client);
        for scheme in ["Basic", "Bearer"] {
            let value = format!("{scheme} x");
            let mut other = get("http://a.example/")
                .field("Authorization", &value)
                .run_on(&client);
            other.upstream_connected().unwrap();
        }
        assert_ne!(inside().parent(), inside().parent());
        let begin = get("http://a.example/").field("Authorization", "ntlm x");
        let mut begun = begin.run_on(&client);
        begun.upstream_connected().unwrap();
        let parent = begun.parent().map(str::to_owned);
        for _ in 0..4 {
            assert_eq!(inside().parent().map(str::to_owned), parent);
        }
    }

    #[test]
    fn uses_another_parent_if_one_is_down() {
        let filter = pool("");
        let mut run = get("http://a.example/").run(&filter);
        assert_eq!(run.upstream_failed("refused"), &Ok(Flow::Retry));
        assert_eq!(run.parent(), Some("socks5://two:2"));
        run.upstream_connected().unwrap();
        for _ in 0..3 {
            let next = get("http://a.example/").run(&filter);
            assert_eq!(next.parent(), Some("socks5://two:2"));
        }
        assert_eq!(
            run.upstream_failed("refused"),
            &Ok(Flow::Proceed),
            "all tried"
        );
    }

    #[test]
    fn if_all_are_down_the_setting_decides() {
        let fail_both = |filter: &ProxyPool| {
            let mut run = get("http://a.example/").run(filter);
            run.upstream_failed("refused");
            let outcome = run.upstream_failed("refused").clone();
            (outcome, run.parent().map(str::to_owned))
        };
        let filter = pool("");
        assert_eq!(fail_both(&filter).0, Ok(Flow::Proceed));
        assert!(get("http://a.example/").run(&filter).parent().is_some());
        let filter = pool("on_all_down = 'direct'");
        assert_eq!(fail_both(&filter), (Ok(Flow::Retry), None));
        let direct = get("http://a.example/").run(&filter);
        assert_eq!((direct.parent(), direct.reply()), (None, None));
        let filter = pool("on_all_down = 'fail'");
        assert_eq!(fail_both(&filter).0, Ok(Flow::Proceed));
        let failed = get("http://a.example/").run(&filter);
        assert_eq!(failed.reply().map(|reply| reply.status), Some(503));
    }

    #[test]
    fn a_parent_that_refuses_a_destination_stays_up() {
        let filter = pool("");
        let mut run = request("CONNECT", "a.example:443").run(&filter);
        let failure = "the parent proxy answered 403";
        assert_eq!(run.upstream_failed(failure), &Ok(Flow::Proceed));
        assert_eq!(
            get("http://a.example/").run(&filter).parent(),
            Some("socks5://two:2")
        );
        assert_eq!(
            get("http://a.example/").run(&filter).parent(),
            Some("http://u:p@one:1")
        );
    }

    #[test]
    fn the_parent_is_logged_without_its_credentials() {
        let filter = pool("");
        let mut run = get("http://a.example/").run(&filter);
        assert_eq!(run.access_log(), Ok(LogLine::Write));
        assert_eq!(
            run.log_fields(),
            [("parent".to_owned(), "one:1".to_owned())]
        );
    }

    #[test]
    fn an_exchange_counts_for_its_parent_until_it_is_over() {
        let filter: ProxyPool =
            configured("parents = ['http://one:1']\npolicy = 'least_connections'").unwrap();
        let load = || {
            let load = &filter.pool.parents()[0].load;
            load.load(std::sync::atomic::Ordering::Relaxed)
        };
        let mut logged = get("http://a.example/").run(&filter);
        let dropped = get("http://a.example/").run(&filter);
        assert_eq!(load(), 2);
        logged.access_log().unwrap();
        logged.upstream_connection_close().unwrap();
        assert_eq!(load(), 1);
        drop((logged, dropped));
        assert_eq!(load(), 0);
    }

    #[test]
    fn refuses_invalid_parent_lists() {
        for (config, reason) in [
            ("parents = []", "parents: is empty"),
            (
                "parents = ['http://a', 'ftp://secret@b']",
                "parents: number 2 does not begin with http://, https://, socks5:// or socks5h://",
            ),
            (
                "bypass = ['10.0.0.0/40']",
                "bypass: `10.0.0.0/40` is not a name, `*.domain`, address or network",
            ),
            (
                "rules = [{ hosts = ['a'], parents = [] }]",
                "rules.parents: is empty; list hosts to connect to directly in `bypass`",
            ),
        ] {
            let error = configured::<ProxyPool>(config).err().unwrap();
            assert_eq!(error.message(), reason);
        }
    }
}
