//! Chooses the parent of an exchange.
//!
//! Chooses among the parents of a group by the policy, according to the state of each parent; changes only counters. A
//! [`Lease`] counts as one exchange in progress while it exists.

use crate::config::{OnAllDown, Policy};
use crate::parent::{HealthLimits, Parent, hash};
use plugin_api::{Error, info, warn};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// All parents, each once, regardless of the number of its groups.
pub(crate) struct Pool {
    parents: Vec<Parent>,
    policy: Policy,
    on_all_down: OnAllDown,
    limits: HealthLimits,
    next: AtomicU64,
    seed: u64,
    started_at: Instant,
}

/// The parents to choose among, by index in the pool; never empty.
pub(crate) struct Group(Vec<usize>);

/// The choice for an exchange.
pub(crate) enum Choice {
    /// Use this parent.
    Through(Lease),
    /// Connect without a parent, because all are down.
    Direct,
    /// Fail: all are down, or have been tried.
    Nowhere,
}

impl Pool {
    /// A pool without parents.
    pub(crate) fn new(policy: Policy, on_all_down: OnAllDown, limits: HealthLimits) -> Self {
        Self {
            parents: Vec::new(),
            policy,
            on_all_down,
            limits,
            next: AtomicU64::new(0),
            seed: RandomState::new().hash_one(0),
            started_at: Instant::now(),
        }
    }

    /// Adds the parents at `urls`; `key` is their key in the configuration. None if there are none.
    ///
    /// # Errors
    /// One of them is not the URL of a proxy.
    pub(crate) fn add(&mut self, key: &str, urls: &[String]) -> Result<Option<Group>, Error> {
        let mut group = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let known = self.parents.iter().position(|parent| parent.url() == url);
            let place = match known {
                Some(place) => place,
                None => {
                    let parent = Parent::new(url).map_err(|error| {
                        Error::new(format!("{key}: number {} {error}", index + 1))
                    })?;
                    self.parents.push(parent);
                    self.parents.len() - 1
                }
            };
            if !group.contains(&place) {
                group.push(place);
            }
        }
        Ok(Some(Group(group)).filter(|group| !group.0.is_empty()))
    }

    /// All parents.
    pub(crate) fn parents(&self) -> &[Parent] {
        &self.parents
    }

    /// Chooses a parent of `group` for an exchange with `host` that has tried those in `tried`.
    pub(crate) fn choose(self: &Arc<Self>, group: &Group, host: &str, tried: &[usize]) -> Choice {
        let now = self.now();
        let is_new = |place: usize| !tried.contains(&place);
        let is_up = |place: usize| is_new(place) && self.parents[place].is_up(now);
        let place = match (self.pick(group, host, is_up), self.on_all_down) {
            (Some(place), _) => place,
            (None, OnAllDown::Direct) => return Choice::Direct,
            (None, OnAllDown::Fail) => return Choice::Nowhere,
            (None, OnAllDown::TryAnyway) => match self.pick(group, host, is_new) {
                Some(place) => place,
                None => return Choice::Nowhere,
            },
        };
        Choice::Through(Lease::new(self, place))
    }

    /// The parent with this index, unless it is down.
    pub(crate) fn again(self: &Arc<Self>, place: usize) -> Option<Lease> {
        let is_up = self.parents.get(place)?.is_up(self.now());
        is_up.then(|| Lease::new(self, place))
    }

    fn pick(&self, group: &Group, host: &str, may: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = || group.0.iter().copied().filter(|&place| may(place));
        let load = |place: usize| self.parents[place].load.load(Relaxed);
        match self.policy {
            Policy::Random => nth(candidates, mix(self.ticket() ^ self.seed)),
            Policy::RoundRobin => nth(candidates, self.ticket()),
            Policy::LeastConnections => {
                // Parents with equal load are used in turn.
                let least = candidates().map(load).min()?;
                nth(
                    || candidates().filter(|&place| load(place) <= least),
                    self.ticket(),
                )
                .or_else(|| candidates().next())
            }
            // Rendezvous hashing: if a parent goes down, only its own hosts move.
            Policy::Host => {
                let host = hash(host);
                candidates().max_by_key(|&place| mix(host ^ self.parents[place].seed))
            }
        }
    }

    fn ticket(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records a failure to connect to `parent`, with its reason.
    pub(crate) fn note_failure(&self, parent: &Parent, reason: &str) {
        if parent.note_failure(self.now(), self.limits) {
            let seconds = self.limits.fail_timeout / 1000;
            warn!("parent {parent} is down for {seconds} s: {reason}");
        }
    }

    /// Records a successful connection to `parent`.
    pub(crate) fn note_success(&self, parent: &Parent) {
        if parent.note_success() {
            info!("parent {parent} is up again");
        }
    }
}

/// The candidate whose turn it is.
fn nth<I: Iterator<Item = usize>>(candidates: impl Fn() -> I, ticket: u64) -> Option<usize> {
    let count = candidates().count() as u64;
    let turn = ticket.checked_rem(count)?;
    // Another thread may have taken one down since the count.
    candidates()
        .nth(turn as usize)
        .or_else(|| candidates().next())
}

/// The finalizer of SplitMix64: distributes any number over all bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// An exchange that uses a parent.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    /// The index of the parent in the pool.
    pub(crate) place: usize,
}

impl Lease {
    fn new(pool: &Arc<Pool>, place: usize) -> Self {
        pool.parents[place].load.fetch_add(1, Relaxed);
        Self {
            pool: Arc::clone(pool),
            place,
        }
    }

    /// The parent.
    pub(crate) fn parent(&self) -> &Parent {
        &self.pool.parents[self.place]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.parent().load.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, Group, Lease, Pool};
    use crate::config::{OnAllDown, Policy};
    use crate::parent::HealthLimits;
    use std::collections::HashSet;
    use std::sync::Arc;

    fn pool(policy: Policy, on_all_down: OnAllDown) -> (Arc<Pool>, Group) {
        let limits = HealthLimits {
            max_fails: 1,
            fail_timeout: 3_600_000,
        };
        let mut pool = Pool::new(policy, on_all_down, limits);
        let urls = ["http://a", "http://b", "http://c"].map(str::to_owned);
        let group = pool.add("parents", &urls).unwrap().unwrap();
        (Arc::new(pool), group)
    }

    fn choose(pool: &Arc<Pool>, group: &Group, host: &str) -> Lease {
        match pool.choose(group, host, &[]) {
            Choice::Through(lease) => lease,
            _ => panic!("no parent"),
        }
    }

    fn take_down(pool: &Pool, place: usize) {
        pool.note_failure(&pool.parents()[place], "a test");
    }

    #[test]
    fn round_robin_takes_turns_and_skips_those_that_are_down() {
        let (pool, group) = pool(Policy::RoundRobin, OnAllDown::Fail);
        let turns = |count: usize| -> Vec<usize> {
            (0..count)
                .map(|_| choose(&pool, &group, "h").place)
                .collect()
        };
        assert_eq!(turns(6), [0, 1, 2, 0, 1, 2]);
        take_down(&pool, 1);
        assert_eq!(turns(4), [0, 2, 0, 2]);
    }

    #[test]
    fn random_finds_all_of_them() {
        let (pool, group) = pool(Policy::Random, OnAllDown::Fail);
        let places: HashSet<usize> = (0..200).map(|_| choose(&pool, &group, "h").place).collect();
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn least_connections_counts_the_exchanges_under_way() {
        let (pool, group) = pool(Policy::LeastConnections, OnAllDown::Fail);
        let mut leases: Vec<Lease> = (0..3).map(|_| choose(&pool, &group, "h")).collect();
        let places: HashSet<usize> = leases.iter().map(|lease| lease.place).collect();
        assert_eq!(places.len(), 3, "equal loads take turns");
        let freed = leases.remove(1).place;
        assert_eq!(choose(&pool, &group, "h").place, freed);
        assert_eq!(choose(&pool, &group, "h").place, freed, "its lease is over");
    }

    #[test]
    fn a_host_keeps_its_parent_unless_that_is_down() {
        let (pool, group) = pool(Policy::Host, OnAllDown::Fail);
        let hosts: Vec<String> = (0..300)
            .map(|number| format!("h{number}.example"))
            .collect();
        let places = || -> Vec<usize> {
            hosts
                .iter()
                .map(|host| choose(&pool, &group, host).place)
                .collect()
        };
        let before = places();
        assert_eq!(places(), before);
        for place in 0..3 {
            let count = before.iter().filter(|&&each| each == place).count();
            assert!((60..140).contains(&count), "{count} of 300 hosts");
        }
        take_down(&pool, 2);
        for (before, after) in before.iter().zip(places()) {
            assert!(*before == after || *before == 2 && after != 2);
        }
    }

    #[test]
    fn all_down_is_answered_as_configured() {
        for (on_all_down, expected) in [
            (OnAllDown::Fail, "nowhere"),
            (OnAllDown::Direct, "direct"),
            (OnAllDown::TryAnyway, "through"),
        ] {
            let (pool, group) = pool(Policy::Random, on_all_down);
            (0..3).for_each(|place| take_down(&pool, place));
            let choice = match pool.choose(&group, "h", &[]) {
                Choice::Through(_) => "through",
                Choice::Direct => "direct",
                Choice::Nowhere => "nowhere",
            };
            assert_eq!(choice, expected);
        }
    }

    #[test]
    fn tried_ones_are_not_tried_again() {
        let (pool, group) = pool(Policy::Host, OnAllDown::TryAnyway);
        let mut tried = Vec::new();
        while let Choice::Through(lease) = pool.choose(&group, "h", &tried) {
            take_down(&pool, lease.place);
            tried.push(lease.place);
        }
        tried.sort_unstable();
        assert_eq!(tried, [0, 1, 2]);
    }
}
