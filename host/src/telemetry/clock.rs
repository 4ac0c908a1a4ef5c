//! The time stamp of a log line.
//!
//! Looking up the time zone is too expensive for every line, so the text is cached and only its milliseconds change
//! within a second. Each thread has its own clock. Changes of daylight saving time take effect within a second.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::direct::OFFSET;

/// Local time as text, such as `2019-09-27 12:44:02,212`.
#[derive(Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    /// The second that `text` shows, since 1970.
    second: i64,
    text: String,
}

/// Length of `2019-09-27 12:44:02,`.
const UP_TO_SECOND: usize = 20;

impl Clock {
    pub(super) fn local() -> Self {
        Clock::in_zone(TimeZone::system())
    }

    fn in_zone(zone: TimeZone) -> Self {
        Clock {
            zone,
            second: i64::MIN,
            text: String::with_capacity(24),
        }
    }

    /// The time stamp of `now`.
    pub(super) fn stamp(&mut self, now: SystemTime) -> &str {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since_1970.as_secs()).unwrap_or(0);
        if second != self.second {
            self.turn_to(second);
        }
        self.text.truncate(UP_TO_SECOND);
        let millis = since_1970.subsec_millis();
        self.text
            .extend([millis / 100, millis / 10 % 10, millis % 10].map(digit));
        &self.text
    }

    fn turn_to(&mut self, second: i64) {
        let utc = Timestamp::from_second(second).unwrap_or_default();
        let offset = self.zone.to_offset(utc);
        OFFSET.store(offset.seconds(), Ordering::Relaxed);
        let local = offset.to_datetime(utc);
        self.second = second;
        self.text.clear();
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02},",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        );
    }
}

/// The digit of a number below 10.
fn digit(number: u32) -> char {
    char::from_digit(number, 10).unwrap_or('?')
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::offset;
    use std::time::Duration;

    #[test]
    fn shows_local_time_with_milliseconds() {
        let mut clock = Clock::in_zone(TimeZone::fixed(offset(2)));
        let noon = UNIX_EPOCH + Duration::from_millis(1_569_581_042_212);
        assert_eq!(clock.stamp(noon), "2019-09-27 12:44:02,212");
        assert_eq!(
            clock.stamp(noon + Duration::from_millis(5)),
            "2019-09-27 12:44:02,217"
        );
        assert_eq!(
            clock.stamp(noon + Duration::from_secs(1)),
            "2019-09-27 12:44:03,212"
        );
        assert_eq!(clock.stamp(noon), "2019-09-27 12:44:02,212");
    }
}
