//! This machine's clock, held against what the world says of the time. A core: `now` is an input.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// A clock that is further off than this is reported. S3 takes signatures up to 15 minutes off.
pub const LARGE_SKEW: Duration = Duration::from_secs(300);
/// No clock that is right shows an earlier time, in seconds since 1970: 2026-11-01, before the first release.
const EARLIEST: u64 = 1_793_491_200;
/// Nothing is known yet.
const UNKNOWN: i64 = i64::MIN;

/// What the servers' clocks say, by the `Date` of their last answer.
#[derive(Debug)]
pub struct Clock {
    /// Seconds that they are ahead of ours.
    ahead: AtomicI64,
    /// Seconds since 1970.
    told: AtomicI64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { ahead: AtomicI64::new(UNKNOWN), told: AtomicI64::new(UNKNOWN) }
    }
}

impl Clock {
    /// An answer that came at `now` says that it was made at `date`.
    pub fn observe(&self, date: SystemTime, now: SystemTime) {
        self.ahead.store(seconds_from(now, date), Ordering::Relaxed);
        self.told.store(seconds_from(SystemTime::UNIX_EPOCH, date), Ordering::Relaxed);
    }

    /// Seconds that the servers are ahead of this machine, if any has said the time.
    pub fn ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|&seconds| seconds != UNKNOWN)
    }

    /// When the last answer was made, in seconds since 1970, if any has said so. However this machine's clock has moved
    /// since, that time is past.
    pub fn told(&self) -> Option<i64> {
        Some(self.told.load(Ordering::Relaxed)).filter(|&seconds| seconds != UNKNOWN)
    }

    /// How wrong this machine's clock is, in words, when it is too far off.
    pub fn skew(&self) -> Option<String> {
        self.ahead().filter(|ahead| ahead.unsigned_abs() > LARGE_SKEW.as_secs()).map(in_words)
    }

    /// Why this machine's clock cannot be right at `now`, if that is known.
    pub fn fault(&self, now: SystemTime) -> Option<String> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match since.as_secs() < EARLIEST {
            true => {
                Some(format!("this machine's clock was never set: it says {}", httpdate::fmt_http_date(now)))
            }
            false => self.skew(),
        }
    }
}

fn in_words(ahead: i64) -> String {
    let direction = if ahead > 0 { "behind" } else { "ahead of" };
    let by = match ahead.unsigned_abs() {
        seconds if seconds < 2 * 3600 => format!("{} minutes", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    };
    format!("this machine's clock is {by} {direction} the server's")
}

/// Whole seconds from one time to another, negative when that is earlier. Dates on the wire have no fractions, so
/// those of this machine's clock do not count either.
pub(crate) fn seconds_from(from: SystemTime, to: SystemTime) -> i64 {
    let whole = |time: SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(error) => -i64::try_from(error.duration().as_secs()).unwrap_or(i64::MAX),
    };
    whole(to).saturating_sub(whole(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn five_minutes_are_tolerated_and_more_is_said_in_words() {
        let now = at(EARLIEST + 1_000_000);
        let clock = Clock::default();
        assert_eq!((clock.ahead(), clock.skew(), clock.fault(now)), (None, None, None));
        for (ahead, words) in [
            (0, None),
            (300, None),
            (-300, None),
            (301, Some("5 minutes behind the server's")),
            (-600, Some("10 minutes ahead of the server's")),
            (3 * 3600 + 1, Some("3 hours behind")),
            (-400 * 86_400, Some("400 days ahead")),
        ] {
            let date = if ahead < 0 {
                now - Duration::from_secs(-ahead as u64)
            } else {
                now + Duration::from_secs(ahead as u64)
            };
            clock.observe(date, now);
            assert_eq!(clock.ahead(), Some(ahead));
            assert_eq!(clock.told(), Some(EARLIEST as i64 + 1_000_000 + ahead));
            match (clock.skew(), words) {
                (None, None) => {}
                (Some(text), Some(words)) => assert!(text.contains(words), "{text}"),
                (text, _) => panic!("{ahead}: {text:?}"),
            }
            assert_eq!(clock.fault(now), clock.skew());
        }
    }

    #[test]
    fn a_clock_from_before_the_first_release_was_never_set() {
        let text = Clock::default().fault(at(86_400)).unwrap();
        assert!(text.contains("never set") && text.contains("1970"), "{text}");
        assert_eq!(Clock::default().fault(at(EARLIEST)), None);
    }
}
