//! The time of a log line, as text.
//!
//! Looking up the time zone is too expensive for every line, so the text is cached and only its milliseconds change
//! within a second. Each thread has its own clock. Changes of daylight saving time take effect within a second.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::direct::OFFSET;

/// Local time as text.
#[derive(Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    /// The second that the texts show, since 1970.
    second: i64,
    /// Since 1970.
    now: Duration,
    offset: Offset,
    local: DateTime,
    text: String,
}

/// Length of `2019-09-27 12:44:02,`.
const UP_TO_SECOND: usize = 20;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Clock {
    pub(super) fn local() -> Self {
        Clock::in_zone(TimeZone::system())
    }

    fn in_zone(zone: TimeZone) -> Self {
        Clock {
            zone,
            second: i64::MIN,
            now: Duration::ZERO,
            offset: Offset::UTC,
            local: DateTime::default(),
            text: String::with_capacity(24),
        }
    }

    /// Sets the time that the functions below show.
    pub(super) fn set(&mut self, now: SystemTime) {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since_1970.as_secs()).unwrap_or(0);
        if second != self.second {
            self.turn_to(second);
        }
        self.now = since_1970;
        self.text.truncate(UP_TO_SECOND);
        let millis = since_1970.subsec_millis();
        self.text
            .extend([millis / 100, millis / 10 % 10, millis % 10].map(digit));
    }

    fn turn_to(&mut self, second: i64) {
        let utc = Timestamp::from_second(second).unwrap_or_default();
        let offset = self.zone.to_offset(utc);
        OFFSET.store(offset.seconds(), Ordering::Relaxed);
        let local = offset.to_datetime(utc);
        (self.second, self.offset, self.local) = (second, offset, local);
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

    /// The time, such as `2019-09-27 12:44:02,212`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Since 1970.
    pub(super) fn since_1970(&self) -> Duration {
        self.now
    }

    /// Appends the time as `2019-09-27T12:44:02.212+02:00` (RFC 3339).
    pub(super) fn push_rfc3339(&self, out: &mut Vec<u8>) {
        let (date, time) = self.text.split_at_checked(10).unwrap_or_default();
        out.extend_from_slice(date.as_bytes());
        out.push(b'T');
        let time = time.bytes().skip(1);
        out.extend(time.map(|byte| if byte == b',' { b'.' } else { byte }));
        self.push_offset(":", out);
    }

    /// Appends the time as `27/Sep/2019:12:44:02 +0200`, as web servers do.
    pub(super) fn push_common(&self, out: &mut Vec<u8>) {
        let local = self.local;
        let month = usize::from(local.month().unsigned_abs()).wrapping_sub(1);
        let month = MONTHS.get(month).unwrap_or(&"?");
        let time = self.text.get(11..19).unwrap_or_default();
        // Writing to a Vec cannot fail.
        let _ = write!(
            Bytes(out),
            "{:02}/{month}/{:04}:{time} ",
            local.day(),
            local.year()
        );
        self.push_offset("", out);
    }

    fn push_offset(&self, between: &str, out: &mut Vec<u8>) {
        let seconds = self.offset.seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.unsigned_abs() / 60;
        // Writing to a Vec cannot fail.
        let _ = write!(
            Bytes(out),
            "{sign}{:02}{between}{:02}",
            minutes / 60,
            minutes % 60
        );
    }
}

/// Writes text to bytes.
struct Bytes<'a>(&'a mut Vec<u8>);

impl Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
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

    #[test]
    fn shows_local_time_with_milliseconds() {
        let mut clock = Clock::in_zone(TimeZone::fixed(offset(2)));
        let noon = UNIX_EPOCH + Duration::from_millis(1_569_581_042_212);
        for (later, text) in [
            (0, "2019-09-27 12:44:02,212"),
            (5, "2019-09-27 12:44:02,217"),
            (1000, "2019-09-27 12:44:03,212"),
            (0, "2019-09-27 12:44:02,212"),
        ] {
            clock.set(noon + Duration::from_millis(later));
            assert_eq!(clock.text(), text);
        }
    }

    #[test]
    fn shows_the_zone_where_the_form_has_one() {
        let half_an_hour = Offset::from_seconds(-(3 * 3600 + 1800)).unwrap();
        for (zone, rfc3339, common) in [
            (
                offset(2),
                "2019-09-27T12:44:02.212+02:00",
                "27/Sep/2019:12:44:02 +0200",
            ),
            (
                half_an_hour,
                "2019-09-27T07:14:02.212-03:30",
                "27/Sep/2019:07:14:02 -0330",
            ),
        ] {
            let mut clock = Clock::in_zone(TimeZone::fixed(zone));
            clock.set(UNIX_EPOCH + Duration::from_millis(1_569_581_042_212));
            let mut out = Vec::new();
            clock.push_rfc3339(&mut out);
            out.push(b'|');
            clock.push_common(&mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("{rfc3339}|{common}")
            );
        }
    }
}
