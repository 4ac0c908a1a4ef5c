//! Lines that bypass the writer: the last ones of a crashing process.
//!
//! Everything here may be called in a signal handler: it allocates nothing, takes no lock and does not look up the time
//! zone. Lines are written to the log file and to standard error, after the lines that the writer had queued before, or
//! after a moment if the writer is stuck.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::output::Output;

/// The number of messages queued for the writer.
pub(super) static QUEUED: AtomicU64 = AtomicU64::new(0);
pub(super) static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Seconds east of Greenwich, set whenever a clock is read.
pub(super) static OFFSET: AtomicI32 = AtomicI32::new(0);

/// The descriptor of the log; negative until it is known.
static DESTINATION: AtomicI32 = AtomicI32::new(-1);

/// From now on, lines also go here. It has to stay open until the next one is set.
#[cfg(unix)]
pub(super) fn set_output(output: &Output) {
    if let Some(descriptor) = output.descriptor() {
        DESTINATION.store(descriptor, Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
pub(super) fn set_output(_output: &Output) {}

/// A line of fixed size; longer text is cut.
pub(crate) struct Line {
    text: [u8; Self::ROOM],
    len: usize,
}

impl Line {
    const ROOM: usize = 3072;

    pub(crate) const EMPTY: Self = Self {
        text: [0; Self::ROOM],
        len: 0,
    };

    /// Appends text; control characters become spaces.
    pub(crate) fn push(&mut self, text: &str) {
        self.push_bytes(text.as_bytes());
    }

    pub(crate) fn push_bytes(&mut self, text: &[u8]) {
        for byte in text {
            // One byte is reserved for the line end.
            if self.len < Self::ROOM - 1 {
                self.text[self.len] = match byte {
                    0..0x20 | 0x7f => b' ',
                    byte => *byte,
                };
                self.len += 1;
            }
        }
    }

    /// Appends a decimal number, padded with zeros to `width` digits.
    pub(crate) fn push_number(&mut self, number: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let (mut at, mut rest) = (digits.len(), number);
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let width = width.clamp(1, digits.len());
        self.push_bytes(&digits[at.min(digits.len() - width)..]);
    }

    /// Appends an address as `0x` and digits.
    pub(crate) fn push_address(&mut self, address: usize) {
        self.push("0x");
        let mut has_begun = false;
        for shift in (0..usize::BITS / 4).rev() {
            let digit = address >> (shift * 4) & 0xf;
            has_begun |= digit != 0 || shift == 0;
            if has_begun {
                self.push_bytes(&b"0123456789abcdef"[digit..=digit]);
            }
        }
    }

    /// Starts a log line: time, level, process and place. `since_1970` is in milliseconds.
    pub(crate) fn begin(&mut self, since_1970: u64, level: &str, process: u32, place: &str) {
        let offset = i64::from(OFFSET.load(Ordering::Relaxed));
        let millis = since_1970 % 1000;
        let seconds = i64::try_from(since_1970 / 1000).unwrap_or(0) + offset;
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        self.push_number(number(year), 4);
        self.push("-");
        self.push_number(number(month), 2);
        self.push("-");
        self.push_number(number(day), 2);
        self.push(" ");
        self.push_number(number(second / 3600), 2);
        self.push(":");
        self.push_number(number(second / 60 % 60), 2);
        self.push(":");
        self.push_number(number(second % 60), 2);
        self.push(",");
        self.push_number(millis, 3);
        self.push(" - ");
        self.push(level);
        self.push(" - pid:");
        self.push_number(u64::from(process), 1);
        self.push(" - ");
        self.push(place);
        self.push(" - ");
    }

    /// The line with its line end.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.text[self.len] = b'\n';
        &self.text[..=self.len]
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Counts years from March, in eras of 400 years, so that the leap day is the last day of a year.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Whether the writer has written the first `queued` messages.
pub(crate) fn is_written(queued: u64) -> bool {
    WRITTEN.load(Ordering::Acquire) >= queued
}

/// The number of messages queued so far.
pub(crate) fn queued() -> u64 {
    QUEUED.load(Ordering::Acquire)
}

/// The descriptors that last lines are written to.
pub(crate) fn destinations() -> impl Iterator<Item = i32> {
    const STDERR: i32 = 2;
    let log = DESTINATION.load(Ordering::Relaxed);
    [STDERR, log]
        .into_iter()
        .filter(|descriptor| *descriptor >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::EMPTY;
        write(&mut line);
        String::from_utf8(line.finish().to_vec()).unwrap()
    }

    #[test]
    fn begins_like_every_line() {
        // No other test sets the offset, and this one does not test it.
        let offset = OFFSET.load(Ordering::Relaxed);
        let noon = 1_569_581_042_212 - i64::from(offset) * 1000;
        let begun = line(|line| {
            line.begin(noon as u64, "CRITICAL", 7077, "plugins");
            line.push("two\nlines");
        });
        assert_eq!(
            begun,
            "2019-09-27 10:44:02,212 - CRITICAL - pid:7077 - plugins - two lines\n"
        );
    }

    #[test]
    fn days_become_dates() {
        for (days, wanted) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_785, (2026, 11, 28)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (-1, (1969, 12, 31)),
        ] {
            assert_eq!(date(days), wanted, "{days}");
        }
    }

    #[test]
    fn numbers_and_addresses_are_formatted() {
        let written = line(|line| {
            for (number, width) in [(0, 1), (7, 3), (1234, 2), (u64::MAX, 1)] {
                line.push_number(number, width);
                line.push(" ");
            }
            line.push_address(0);
            line.push(" ");
            line.push_address(0xdead_b0e0);
        });
        assert_eq!(written, "0 007 1234 18446744073709551615 0x0 0xdeadb0e0\n");
    }

    #[test]
    fn long_text_is_cut() {
        let written = line(|line| (0..2000).for_each(|_| line.push("four")));
        assert_eq!(written.len(), Line::ROOM);
        assert!(written.ends_with('\n'));
    }
}
