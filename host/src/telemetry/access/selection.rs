//! Which exchanges have a line in the access log.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::record::{AccessDetails, AccessRecord};
use crate::config::{AccessCondition, AccessLogConfig};

/// Which exchanges have a line.
#[derive(Debug)]
pub(super) struct Selection {
    /// Of 2^64; `None`: all.
    share: Option<u64>,
    /// One of them has to hold. Empty: none has to.
    conditions: Vec<AccessCondition>,
    slow_after: Duration,
}

impl Selection {
    pub(super) fn new(config: &AccessLogConfig) -> Self {
        Self {
            // A share below 1 is below 2^64.
            share: (config.sample < 1.0).then(|| (config.sample * 2_f64.powi(64)) as u64),
            conditions: config.when.clone(),
            slow_after: config.slow_after,
        }
    }

    /// Whether every exchange has a line.
    pub(super) fn is_everything(&self) -> bool {
        self.share.is_none() && self.conditions.is_empty()
    }

    /// Whether this exchange has a line. Failures are not sampled.
    pub(super) fn has_line(&self, record: &AccessRecord<'_>, random: &Random) -> bool {
        let none = AccessDetails::default();
        let details = record.details.unwrap_or(&none);
        let has_failed = has_failed(details);
        let holds = |condition: &AccessCondition| match condition {
            AccessCondition::Errors => has_failed,
            AccessCondition::Refused => is_refused(details),
            AccessCondition::Slow => record.elapsed >= self.slow_after,
        };
        let is_meant = self.conditions.is_empty() || self.conditions.iter().any(holds);
        is_meant && (has_failed || self.share.is_none_or(|share| random.next() < share))
    }
}

/// No response, an incomplete one, or a status of 500 or more.
fn has_failed(details: &AccessDetails<'_>) -> bool {
    let is_refused = is_refused(details);
    details.status >= 500 || !is_refused && (details.status == 0 || !details.error.is_empty())
}

/// The proxy or a plugin has answered with 4xx, or a plugin has closed the connection.
fn is_refused(details: &AccessDetails<'_>) -> bool {
    let is_own = details.answered_by != "upstream";
    let is_closed = matches!(details.verdict, Some((_, "closed")));
    is_closed || is_own && (400..500).contains(&details.status)
}

/// Random numbers for sampling, xorshift64*. Nothing secret depends on them.
#[derive(Debug)]
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0_u8) | 1))
    }

    fn next(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(
        status: u16,
        answered_by: &'static str,
        error: &'static str,
    ) -> AccessDetails<'static> {
        AccessDetails {
            status,
            answered_by,
            error,
            ..AccessDetails::default()
        }
    }

    fn has_line(config: &AccessLogConfig, details: &AccessDetails<'_>, millis: u64) -> bool {
        let record = AccessRecord {
            client: "127.0.0.1:1".parse().unwrap(),
            method: "GET",
            is_web: false,
            upstream: None,
            path: b"/",
            status: None,
            reason: b"",
            response_bytes: 0,
            elapsed: Duration::from_millis(millis),
            note: None,
            asked: None,
            user: "",
            fields: &[],
            details: Some(details),
        };
        Selection::new(config).has_line(&record, &Random::new())
    }

    #[test]
    fn each_condition_selects_its_exchanges() {
        let fine = details(200, "upstream", "");
        let not_found = details(404, "upstream", "");
        let failed = details(502, "proxy", "connection_refused");
        let cut = details(200, "upstream", "client_disconnected");
        let nothing = details(0, "", "");
        let denied = details(407, "proxy", "http_request_denied");
        let closed = AccessDetails {
            verdict: Some(("P", "closed")),
            ..details(0, "", "")
        };
        let all = [&fine, &not_found, &failed, &cut, &nothing, &denied, &closed];
        for (condition, millis, selected) in [
            (
                AccessCondition::Errors,
                1,
                [false, false, true, true, true, false, false],
            ),
            (
                AccessCondition::Refused,
                1,
                [false, false, false, false, false, true, true],
            ),
            (AccessCondition::Slow, 999, [false; 7]),
            (AccessCondition::Slow, 1000, [true; 7]),
        ] {
            let config = AccessLogConfig {
                when: vec![condition],
                ..AccessLogConfig::default()
            };
            let shown = all.map(|details| has_line(&config, details, millis));
            assert_eq!(shown, selected, "{condition:?}");
        }
    }

    #[test]
    fn a_sample_is_a_share_of_what_did_not_fail() {
        let config = AccessLogConfig {
            sample: 0.25,
            ..AccessLogConfig::default()
        };
        let selection = Selection::new(&config);
        assert!(!selection.is_everything());
        let random = Random::new();
        let share = selection.share.unwrap();
        let chosen = (0..100_000).filter(|_| random.next() < share).count();
        assert!((24_000..26_000).contains(&chosen), "{chosen}");
        let failed = details(502, "proxy", "connection_refused");
        assert!((0..100).all(|_| has_line(&config, &failed, 1)));
        assert!(Selection::new(&AccessLogConfig::default()).is_everything());
    }
}
