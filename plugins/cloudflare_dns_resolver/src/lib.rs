//! Resolves names by DNS over HTTPS (RFC 8484), so that nobody on the network path sees them.
//!
//! ```toml
//! [[plugins]]
//! library = "libcloudflare_dns_resolver.so"
//! name = "CloudflareDnsResolver"
//! config = { url = "https://family.cloudflare-dns.com/dns-query", on_failure = "fail" }
//! ```
//!
//! ```text
//! > GET http://a.example/ HTTP/1.1
//! queries the resolver for A and AAAA of a.example, connects to these addresses
//! ```
//!
//! Answers are cached for their time to live. The name of the resolver itself is resolved by the proxy without plugins;
//! a URL with an address needs no resolution. Names that a filtering resolver blocks are denied with 403, even if
//! failures fall back to the system resolver.

mod cache;
mod config;
mod flights;
mod message;
mod rule;

use cache::Cache;
use config::{Config, Family, OnFailure};
use flights::{Flights, Joined};
use futures_util::future::join_all;
use message::DnsAnswer;
use plugin_api::prelude::*;
use plugin_api::{Call, CallResponse};
use rule::{LocalNames, Resolution, TtlLimits, resolution};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The media type of queries and responses (RFC 8484 §6).
const MEDIA_TYPE: &str = "application/dns-message";
/// The maximum length of a response, in bytes: that of a DNS message.
const MAX_ANSWER: u64 = 65_535;

struct CloudflareDnsResolver {
    url: String,
    families: Vec<Family>,
    timeout: Duration,
    on_failure: OnFailure,
    local: LocalNames,
    life: TtlLimits,
    cache: Cache<Resolution>,
    flights: Flights<Resolution>,
}

#[filter]
impl Filter for CloudflareDnsResolver {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        check(&config)?;
        Ok(Self {
            url: config.url,
            families: config.families,
            timeout: Duration::from_secs(config.timeout),
            on_failure: config.on_failure,
            local: LocalNames::new(&config.local),
            life: TtlLimits {
                min: Duration::from_secs(config.min_ttl),
                max: Duration::from_secs(config.max_ttl),
            },
            cache: Cache::new(config.cache_entries),
            flights: Flights::new(),
        })
    }

    fn resolve_dns(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let name = without_dot(exchange.upstream().host());
        if self.local.contains(name) {
            return proceed();
        }
        match self.cache.find(name, Instant::now()) {
            Some(resolution) => self.answer(exchange, &resolution),
            None => Ok(Flow::Async),
        }
    }

    async fn resolve_dns_async(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        let name = Arc::from(without_dot(exchange.upstream().host()));
        let resolution = self.resolution(&name).await;
        self.answer(exchange, &resolution)
    }
}

impl CloudflareDnsResolver {
    fn answer(&self, exchange: &mut Exchange<'_, Self>, resolution: &Resolution) -> Outcome {
        match (resolution, self.on_failure) {
            (Resolution::Addresses(addresses), _) => {
                exchange.set_addresses(addresses.iter().copied())?;
                proceed()
            }
            (Resolution::Blocked, _) => reject(403, "Blocked by the resolver"),
            (Resolution::Nothing, OnFailure::Fail) => reject(502, "No address found for this host"),
            (Resolution::Nothing, OnFailure::System) => proceed(),
        }
    }

    /// The addresses of `name`, from the cache or from a lookup, which all waiting exchanges share.
    async fn resolution(&self, name: &Arc<str>) -> Resolution {
        loop {
            if let Some(resolution) = self.cache.find(name, Instant::now()) {
                return resolution;
            }
            match self.flights.join(name) {
                Joined::Lead(leader) => {
                    let (resolution, life) = self.look_up(name).await;
                    self.cache
                        .keep(name, resolution.clone(), Instant::now(), life);
                    leader.complete(resolution.clone());
                    return resolution;
                }
                Joined::Wait(flight) => {
                    if let Some(resolution) = flight.end().await {
                        return resolution;
                    }
                }
            }
        }
    }

    async fn look_up(&self, name: &str) -> (Resolution, Duration) {
        let ask = |&family: &Family| async move {
            let asked = self.ask(name, family).await;
            let report = |error: &Error| warn!("looking up {family:?} of {name} failed: {error}");
            asked.inspect_err(report).ok()
        };
        let answers = join_all(self.families.iter().map(ask)).await;
        resolution(&answers, self.life)
    }

    async fn ask(&self, name: &str, family: Family) -> Result<DnsAnswer, Error> {
        let query =
            message::query(name, family).ok_or_else(|| Error::new("it is not a valid DNS name"))?;
        let response = Call::post(self.url.as_str(), query)
            .field("Content-Type", MEDIA_TYPE)
            .field("Accept", MEDIA_TYPE)
            .timeout(self.timeout)
            .max_body(MAX_ANSWER)
            .send()
            .await?;
        if response.status != 200 {
            let status = response.status;
            return Err(Error::new(format!("the resolver answered {status}")));
        }
        if !is_dns(&response) {
            return Err(Error::new(
                "the answer of the resolver is not a DNS message",
            ));
        }
        let answer = message::read(&response.body, name, family)
            .map_err(|error| Error::new(format!("invalid answer of the resolver: {error}")))?;
        Ok(answer.aged(age(&response)))
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let url = &config.url;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let is_url = |rest: &str| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !rest.is_some_and(is_url) {
        return Err(Error::new(format!(
            "url: `{url}` is not an http or https URL"
        )));
    }
    if url.contains(['{', '#']) {
        return Err(Error::new(format!(
            "url: `{url}` is a template; end it before the `{{`"
        )));
    }
    if config.families.is_empty() {
        return Err(Error::new("families: is empty"));
    }
    if config.timeout == 0 {
        return Err(Error::new("timeout: must be greater than 0 s"));
    }
    if config.min_ttl > config.max_ttl {
        return Err(Error::new("min_ttl: is more than max_ttl"));
    }
    Ok(())
}

fn is_dns(response: &CallResponse) -> bool {
    let written = response.field("Content-Type").unwrap_or_default();
    let media_type = written.split(|&byte| byte == b';').next();
    media_type.is_some_and(|kind| {
        kind.trim_ascii()
            .eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
    })
}

/// The age of the response in an HTTP cache, in seconds (RFC 8484 §5.1).
fn age(response: &CallResponse) -> u32 {
    let written = response.field("Age").unwrap_or_default();
    let text = std::str::from_utf8(written).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

export_plugins!(CloudflareDnsResolver);

#[cfg(test)]
mod tests {
    use super::CloudflareDnsResolver;
    use plugin_api::testing::{answer_calls, configured, get};
    use plugin_api::{Call, CallResponse, Flow, Outcome};
    use std::cell::Cell;
    use std::net::IpAddr;
    use std::rc::Rc;

    const A: [u8; 2] = [0, 1];

    /// The resolver's response to `call`: these addresses by family, with this time to live.
    fn answered(call: &Call, v4: [u8; 4], v6: [u8; 16], ttl: u32) -> CallResponse {
        let mut message = call.body.clone();
        let kind = message[message.len() - 4..message.len() - 2].to_vec();
        (message[2], message[3], message[7]) = (0x81, 0x80, 1);
        message.extend([0xc0, 12]);
        message.extend(&kind);
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        let octets: &[u8] = if kind == A { &v4 } else { &v6 };
        message.extend([0, octets.len() as u8]);
        message.extend(octets);
        CallResponse::new(200)
            .with_field("content-type", "application/dns-message")
            .body(message)
    }

    fn one(call: &Call, ttl: u32) -> CallResponse {
        answered(call, [192, 0, 2, 1], [1; 16], ttl)
    }

    /// Answers calls with `answer` and counts them.
    fn resolver(answer: impl Fn(&Call) -> CallResponse + 'static) -> Rc<Cell<usize>> {
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        answer_calls(move |call| {
            counter.set(counter.get() + 1);
            answer(call)
        });
        count
    }

    fn ask(filter: &CloudflareDnsResolver, host: &str) -> (Vec<String>, Outcome) {
        let mut run = get(&format!("http://{host}/")).run(filter);
        let addresses = run.resolve().iter().map(IpAddr::to_string).collect();
        (addresses, run.outcome().clone())
    }

    fn status(outcome: &Outcome) -> Option<u16> {
        match outcome {
            Ok(Flow::Reply(reply)) => Some(reply.status),
            _ => None,
        }
    }

    #[test]
    fn a_name_has_the_addresses_of_the_resolver() {
        let count = resolver(|call| {
            assert_eq!(call.method, "POST");
            assert_eq!(call.url, "https://cloudflare-dns.com/dns-query");
            assert!(
                call.fields
                    .contains(&("Accept".to_owned(), b"application/dns-message".to_vec()))
            );
            one(call, 60)
        });
        let filter: CloudflareDnsResolver = configured("").unwrap();
        let (addresses, outcome) = ask(&filter, "a.example");
        assert_eq!(addresses, ["192.0.2.1", "101:101:101:101:101:101:101:101"]);
        assert_eq!((outcome, count.get()), (Ok(Flow::Proceed), 2));
        assert_eq!(ask(&filter, "A.example.").0, addresses);
        assert_eq!(count.get(), 2, "known by then");
        assert_eq!(ask(&filter, "b.example").0, addresses);
        assert_eq!(count.get(), 4);
    }

    #[test]
    fn only_the_configured_families_are_queried() {
        let count = resolver(|call| one(call, 60));
        let filter: CloudflareDnsResolver = configured("families = ['ipv4']").unwrap();
        assert_eq!(ask(&filter, "a.example").0, ["192.0.2.1"]);
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn an_answer_is_not_cached_beyond_its_lifetime() {
        for (ttl, age) in [(0, "0"), (60, "60"), (60, "61")] {
            let count = resolver(move |call| one(call, ttl).with_field("Age", age));
            let filter: CloudflareDnsResolver = configured("families = ['ipv4']").unwrap();
            for times in 1..=2 {
                assert_eq!(ask(&filter, "a.example").0, ["192.0.2.1"]);
                assert_eq!(count.get(), times);
            }
        }
    }

    #[test]
    fn local_names_are_not_queried() {
        let count = resolver(|call| one(call, 60));
        let filter: CloudflareDnsResolver = configured("").unwrap();
        for host in ["localhost", "intranet", "printer.local", "db.internal."] {
            assert_eq!(ask(&filter, host), (vec![], Ok(Flow::Proceed)), "{host}");
        }
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn names_that_the_resolver_blocks_are_denied() {
        resolver(|call| answered(call, [0; 4], [0; 16], 60));
        let filter: CloudflareDnsResolver = configured("").unwrap();
        for _ in 0..2 {
            let (addresses, outcome) = ask(&filter, "bad.example");
            assert!(addresses.is_empty());
            assert_eq!(status(&outcome), Some(403));
        }
    }

    #[test]
    fn a_failure_falls_back_or_is_answered_and_cached() {
        let failures: [fn(&Call) -> CallResponse; 4] = [
            |_| CallResponse::new(503),
            |call| one(call, 60).with_field("x", "y").body("nonsense"),
            |_| CallResponse::new(200).with_field("Content-Type", "text/html"),
            |call| CallResponse::new(200).body(one(call, 60).body),
        ];
        for failure in failures {
            let count = resolver(failure);
            let filter: CloudflareDnsResolver = configured("").unwrap();
            assert_eq!(ask(&filter, "a.example"), (vec![], Ok(Flow::Proceed)));
            assert_eq!(ask(&filter, "a.example"), (vec![], Ok(Flow::Proceed)));
            assert_eq!(count.get(), 2, "asked once for each family");
            let strict: CloudflareDnsResolver = configured("on_failure = 'fail'").unwrap();
            assert_eq!(status(&ask(&strict, "a.example").1), Some(502));
        }
    }

    #[test]
    fn a_name_that_dns_cannot_hold_is_a_failure_without_a_call() {
        let count = resolver(|call| one(call, 60));
        let filter: CloudflareDnsResolver = configured("on_failure = 'fail'").unwrap();
        let host = format!("{}.example", "a".repeat(64));
        assert_eq!(status(&ask(&filter, &host).1), Some(502));
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn refuses_invalid_settings() {
        for (config, reason) in [
            (
                "url = 'dns.example'",
                "url: `dns.example` is not an http or https URL",
            ),
            (
                "url = 'https:///'",
                "url: `https:///` is not an http or https URL",
            ),
            (
                "url = 'https://a/q{?dns}'",
                "url: `https://a/q{?dns}` is a template; end it before the `{`",
            ),
            ("families = []", "families: is empty"),
            ("timeout = 0", "timeout: must be greater than 0 s"),
            ("min_ttl = 90000", "min_ttl: is more than max_ttl"),
        ] {
            let error = configured::<CloudflareDnsResolver>(config).err().unwrap();
            assert_eq!(error.message(), reason);
        }
    }
}
