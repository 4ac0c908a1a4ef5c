//! Chooses the upstream of a request.
//!
//! Chooses according to the state of each upstream; changes only counters. A [`Lease`] counts as one request in
//! progress while it exists.

use crate::config::Balance;
use crate::health::{Availability, Health, HealthLimits};
use crate::template::Template;
use plugin_api::{info, warn};
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// The upstreams of a route, at least one.
pub(crate) struct Upstreams {
    all: Vec<Upstream>,
    balance: Balance,
    limits: HealthLimits,
    next: AtomicU64,
    seed: u64,
    started_at: Instant,
}

struct Upstream {
    template: Template,
    health: Health,
    /// The number of requests in progress.
    load: AtomicUsize,
}

impl Upstreams {
    pub(crate) fn new(templates: Vec<Template>, balance: Balance, limits: HealthLimits) -> Self {
        let upstream = |template| Upstream {
            template,
            health: Health::default(),
            load: AtomicUsize::new(0),
        };
        Self {
            all: templates.into_iter().map(upstream).collect(),
            balance,
            limits,
            next: AtomicU64::new(0),
            seed: RandomState::new().hash_one(0),
            started_at: Instant::now(),
        }
    }

    /// Chooses an upstream for a request that has tried those in `tried`: one that is up, else the one whose failure is
    /// the oldest; none if all were tried.
    pub(crate) fn choose(&self, tried: &[usize]) -> Option<Lease<'_>> {
        let now = self.now();
        let is_new = |place: &usize| !tried.contains(place);
        let state = |place: usize| self.all[place].health.state(now);
        let is_open = |place: &usize| is_new(place) && state(*place) != Availability::Down;
        while let Some(place) = self.pick(|| (0..self.all.len()).filter(is_open)) {
            let health = &self.all[place].health;
            if health.state(now) == Availability::Up {
                return Some(Lease::new(self, place));
            }
            // If another thread is faster, it is down in the next round.
            if health.claim(now, self.limits) {
                let mut lease = Lease::new(self, place);
                lease.is_claim = true;
                return Some(lease);
            }
        }
        let failed_at = |place: &usize| self.all[*place].health.failed_at();
        let place = (0..self.all.len()).filter(is_new).min_by_key(failed_at)?;
        Some(Lease::new(self, place))
    }

    fn pick<I: Iterator<Item = usize>>(&self, open: impl Fn() -> I) -> Option<usize> {
        let load = |place: usize| self.all[place].load.load(Relaxed);
        match self.balance {
            Balance::RoundRobin => nth(open, self.ticket()),
            Balance::Random => nth(open, mix(self.ticket() ^ self.seed)),
            Balance::LeastConnections => {
                // Upstreams with equal load are used in turn.
                let least = open().map(load).min()?;
                let idle = || open().filter(|&place| load(place) <= least);
                nth(idle, self.ticket()).or_else(|| open().next())
            }
        }
    }

    fn ticket(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The one whose turn it is.
fn nth<I: Iterator<Item = usize>>(open: impl Fn() -> I, ticket: u64) -> Option<usize> {
    let turn = ticket.checked_rem(open().count() as u64)?;
    // Another thread may have taken one down since the count.
    open().nth(turn as usize).or_else(|| open().next())
}

/// The finalizer of SplitMix64: distributes any number over all bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A request that is sent to an upstream.
pub(crate) struct Lease<'u> {
    upstreams: &'u Upstreams,
    /// The index of the upstream.
    pub(crate) place: usize,
    /// It is the single request that tests whether the upstream is up again.
    is_claim: bool,
}

impl<'u> Lease<'u> {
    fn new(upstreams: &'u Upstreams, place: usize) -> Self {
        let lease = Self {
            upstreams,
            place,
            is_claim: false,
        };
        lease.upstream().load.fetch_add(1, Relaxed);
        lease
    }

    fn upstream(&self) -> &'u Upstream {
        &self.upstreams.all[self.place]
    }

    pub(crate) fn template(&self) -> &'u Template {
        &self.upstream().template
    }

    /// Marks an upstream that was down as up, if this request tests it. For requests that report nothing while they
    /// succeed.
    pub(crate) fn trust(&self) {
        if self.is_claim {
            self.upstream().health.trust(self.upstreams.limits);
        }
    }

    /// The upstream receives nothing of this request, so another one may test it.
    pub(crate) fn forgo(&self) {
        if self.is_claim {
            self.upstream().health.forgo(self.upstreams.now());
        }
    }

    /// Records that the upstream was unreachable, with the reason.
    pub(crate) fn note_failure(&self, reason: &dyn Display) {
        let (upstream, limits) = (self.upstream(), self.upstreams.limits);
        if upstream.health.note_failure(self.upstreams.now(), limits) {
            let (origin, seconds) = (upstream.template.origin(), limits.fail_timeout / 1000);
            warn!("upstream {origin} is down for {seconds} s: {reason}");
        }
    }

    /// Records a response of the upstream.
    pub(crate) fn note_success(&self) {
        let upstream = self.upstream();
        if upstream.health.note_success() {
            info!("upstream {} is up again", upstream.template.origin());
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.upstream().load.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lease, Upstreams};
    use crate::config::Balance;
    use crate::health::HealthLimits;
    use crate::pattern::Pattern;
    use crate::template::Template;
    use std::collections::HashSet;
    use std::thread;

    /// Three upstreams that are down after a failure: for longer than a test, or not at all.
    fn three(balance: Balance, fail_timeout: u64) -> Upstreams {
        let pattern = Pattern::of_path("/").unwrap();
        let template = |url: &str| Template::new(url, &pattern).unwrap();
        let templates = ["http://a", "http://b", "http://c"].map(template).into();
        let limits = HealthLimits {
            max_fails: 1,
            fail_timeout,
        };
        Upstreams::new(templates, balance, limits)
    }

    const LONG: u64 = 3_600_000;

    fn choose<'u>(upstreams: &'u Upstreams, tried: &[usize]) -> Lease<'u> {
        upstreams.choose(tried).unwrap()
    }

    fn turns(upstreams: &Upstreams, count: usize) -> Vec<usize> {
        let turn = |_| choose(upstreams, &[]).place;
        (0..count).map(turn).collect()
    }

    fn take_down(upstreams: &Upstreams, place: usize) {
        Lease::new(upstreams, place).note_failure(&"a test");
    }

    #[test]
    fn round_robin_takes_turns_and_skips_those_that_are_down() {
        let upstreams = three(Balance::RoundRobin, LONG);
        assert_eq!(turns(&upstreams, 6), [0, 1, 2, 0, 1, 2]);
        take_down(&upstreams, 1);
        assert_eq!(turns(&upstreams, 4), [0, 2, 0, 2]);
        Lease::new(&upstreams, 1).note_success();
        assert!(turns(&upstreams, 3).contains(&1));
    }

    #[test]
    fn random_finds_all_of_them() {
        let upstreams = three(Balance::Random, LONG);
        let places: HashSet<usize> = turns(&upstreams, 200).into_iter().collect();
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn least_connections_counts_the_requests_under_way() {
        let upstreams = three(Balance::LeastConnections, LONG);
        let mut leases: Vec<_> = (0..3).map(|_| choose(&upstreams, &[])).collect();
        let places: HashSet<usize> = leases.iter().map(|lease| lease.place).collect();
        assert_eq!(places.len(), 3, "equal loads take turns");
        let freed = leases.remove(1).place;
        assert_eq!(choose(&upstreams, &[]).place, freed);
        assert_eq!(choose(&upstreams, &[]).place, freed, "its lease is over");
    }

    #[test]
    fn tried_ones_are_not_tried_again() {
        let upstreams = three(Balance::RoundRobin, LONG);
        assert_eq!(choose(&upstreams, &[0, 2]).place, 1);
        assert!(upstreams.choose(&[0, 1, 2]).is_none());
    }

    #[test]
    fn if_all_are_down_the_oldest_failure_is_tried() {
        let upstreams = three(Balance::RoundRobin, LONG);
        for (place, failed_at) in [(0, 30), (1, 10), (2, 20)] {
            let health = &upstreams.all[place].health;
            health.note_failure(failed_at, upstreams.limits);
        }
        assert_eq!(turns(&upstreams, 3), [1, 1, 1]);
        assert_eq!(choose(&upstreams, &[1]).place, 2);
        assert_eq!(choose(&upstreams, &[1, 2]).place, 0);
    }

    #[test]
    fn a_due_upstream_gets_a_single_request() {
        let upstreams = one_due();
        let places = turns(&upstreams, 12);
        let tries = places.iter().filter(|&&place| place == 1).count();
        assert_eq!(tries, 1, "{places:?}");
    }

    /// The second one is due: it was down until the first millisecond.
    fn one_due() -> Upstreams {
        let upstreams = three(Balance::RoundRobin, LONG);
        let due = HealthLimits {
            max_fails: 1,
            fail_timeout: 0,
        };
        upstreams.all[1].health.note_failure(0, due);
        while upstreams.now() == 0 {
            thread::yield_now();
        }
        upstreams
    }

    /// How many of six requests the second one gets.
    fn gets(upstreams: &Upstreams, each: impl Fn(&Lease<'_>)) -> usize {
        let places = (0..6).map(|_| {
            let lease = choose(upstreams, &[]);
            each(&lease);
            lease.place
        });
        places.filter(|&place| place == 1).count()
    }

    #[test]
    fn a_tunnel_to_a_due_upstream_marks_it_up() {
        assert_eq!(gets(&one_due(), |lease| lease.trust()), 2);
    }

    #[test]
    fn an_unsent_request_leaves_the_test_to_the_next() {
        assert_eq!(gets(&one_due(), |lease| lease.forgo()), 2);
        assert_eq!(gets(&one_due(), |_| ()), 1);
    }
}
