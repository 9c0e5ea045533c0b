//! How long to wait before the next try: exponential with full jitter, so that many agents that failed
//! together do not come back together. A core: the random number is an input.
//!
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter".

use std::time::{Duration, SystemTime};

/// Longest wait that a `Retry-After` header can ask for; a server must not be able to park a source.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(300);

/// The waits of one series of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// The first wait is at most `base`, each later one at most twice the one before, none above `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff { base, cap, tries: 0 }
    }

    /// The wait before the next try: evenly spread between nothing and the current bound, after
    /// `retry_after` (at most [`RETRY_AFTER_CAP`]) when the server named one.
    pub fn next(&mut self, random: u64, retry_after: Option<Duration>) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX));
        let bound = doubled.min(self.cap);
        self.tries = self.tries.saturating_add(1);
        let share = random as f64 / u64::MAX as f64;
        retry_after.unwrap_or_default().min(RETRY_AFTER_CAP) + bound.mul_f64(share)
    }

    /// Waits given since the start or the last [`Backoff::reset`].
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Something went well: the next wait is short again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Reads a `Retry-After` header: seconds, or an HTTP date (RFC 9110, section 10.2.3). `now` is needed for a
/// date only; without it a date says nothing.
pub fn retry_after(value: &str, now: Option<SystemTime>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn the_bound_doubles_up_to_the_cap_and_never_overflows() {
        let mut backoff = Backoff::new(BASE, CAP);
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(u64::MAX, None).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(u64::MAX, None), CAP);
        }
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX, None), BASE);
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(Backoff::new(BASE, CAP).next(0, None), Duration::ZERO);
        let half = Backoff::new(BASE, CAP).next(u64::MAX / 2, None);
        assert!(half.abs_diff(BASE / 2) < Duration::from_millis(1), "{half:?}");
    }

    #[test]
    fn the_servers_wish_comes_first_but_is_capped() {
        let mut backoff = Backoff::new(BASE, CAP);
        assert_eq!(backoff.next(0, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(u64::MAX, Some(Duration::from_secs(7))), Duration::from_millis(7200));
        assert_eq!(backoff.next(0, Some(Duration::MAX)), RETRY_AFTER_CAP);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let date = "Wed, 21 Oct 2015 07:29:30 GMT";
        for (value, now, wait) in [
            ("120", None, Some(120)),
            (" 3 ", None, Some(3)),
            (date, Some(now), Some(90)),
            (date, None, None),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(now), Some(0)),
            ("soon", Some(now), None),
            ("-1", Some(now), None),
            ("", Some(now), None),
        ] {
            assert_eq!(retry_after(value, now), wait.map(Duration::from_secs), "{value:?}");
        }
    }
}
