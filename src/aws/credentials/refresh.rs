//! When keys are used, renewed or waited for. A core: the time and chance are inputs.
//!
//! What holds: usable keys are never withheld because newer ones could not be had (vectordotdev/vector#20314);
//! renewal is tried well before the end, and after a failure not again before a back-off has passed; keys that the
//! server refused are not used again.

use std::time::{Duration, Instant};

use crate::net::Backoff;

/// Keys are renewed this long before their end, or in the last quarter of a shorter life. The metadata service has new
/// ones at least 5 minutes before. Source: Amazon EC2 User Guide, "Retrieve security credentials from instance metadata".
const AHEAD: Duration = Duration::from_secs(15 * 60);
/// Life that is believed. Keys are asked for anew at least so often.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Keys that seem to have ended when they come are tried for this long: it may be our clock that is wrong.
const LIFE_MIN: Duration = Duration::from_secs(60);
/// Keys that came so lately are not asked for again because a server does not know them: each refused request would.
const FRESH: Duration = Duration::from_secs(60);
/// Between a failure and the next try: this, and up to the back-off's first and longest wait.
const PAUSE: Duration = Duration::from_millis(500);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// What to do for a request that needs keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The keys are good.
    Use,
    /// The keys are good, but try to get newer ones.
    Renew,
    /// There are no good keys: get some.
    Get,
    /// There are none, and getting some failed a moment ago.
    Wait,
}

/// The state of one provider's keys.
#[derive(Debug)]
pub(super) struct Refresh {
    life: Life,
    /// When the present keys came.
    since: Option<Instant>,
    not_before: Option<Instant>,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    None,
    Refused,
    Endless,
    Until { end: Instant, renew: Instant },
}

impl Refresh {
    pub(super) fn new() -> Refresh {
        Refresh { life: Life::None, since: None, not_before: None, backoff: BACKOFF }
    }

    pub(super) fn step(&self, now: Instant) -> Step {
        let waiting = self.not_before.is_some_and(|then| now < then);
        match self.life {
            Life::Endless => Step::Use,
            Life::Until { renew, .. } if now < renew => Step::Use,
            Life::Until { end, .. } if now < end => {
                if waiting {
                    Step::Use
                } else {
                    Step::Renew
                }
            }
            _ if waiting => Step::Wait,
            _ => Step::Get,
        }
    }

    /// New keys came. `life` is what is left of theirs; `None`: they do not end. `random` spreads the renewals of many
    /// agents, evenly over a quarter of the time ahead.
    pub(super) fn renewed(&mut self, life: Option<Duration>, now: Instant, random: u64) {
        self.backoff.reset();
        self.since = Some(now);
        self.not_before = None;
        self.life = match life {
            None => Life::Endless,
            Some(life) => {
                let life = life.clamp(LIFE_MIN, LIFE_MAX);
                let ahead = AHEAD.min(life / 4);
                let earlier = (ahead / 4).mul_f64(random as f64 / u64::MAX as f64);
                let end = now + life;
                Life::Until { end, renew: end - ahead - earlier }
            }
        };
    }

    /// No new keys came.
    pub(super) fn failed(&mut self, now: Instant, random: u64, retry_after: Option<Duration>) {
        self.not_before = Some(now + PAUSE + self.backoff.next(random, retry_after));
    }

    /// The server says that the keys have ended. Asks for new ones at once, unless that failed a moment ago.
    pub(super) fn refused(&mut self) {
        self.life = Life::Refused;
    }

    /// The server does not know the keys. Asks for new ones, but not again while these are fresh; until others come they
    /// stay good.
    pub(super) fn doubted(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now < since + FRESH) {
            return;
        }
        let end = match self.life {
            Life::Until { end, .. } => end,
            Life::Endless => now + LIFE_MAX,
            Life::None | Life::Refused => return,
        };
        self.life = Life::Until { end, renew: now };
    }

    pub(super) fn is_refused(&self) -> bool {
        self.life == Life::Refused
    }

    /// How long the present keys are good for; `None`: they do not end, or there are none.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        match self.life {
            Life::Until { end, .. } => Some(end.saturating_duration_since(now)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn keys_are_renewed_ahead_of_their_end_and_used_to_it() {
        let (mut refresh, t0) = (Refresh::new(), start());
        assert_eq!(refresh.step(t0), Step::Get);
        refresh.renewed(Some(6 * HOUR), t0, 0);
        assert_eq!(refresh.step(t0 + 6 * HOUR - 16 * MINUTE), Step::Use);
        assert_eq!(refresh.step(t0 + 6 * HOUR - 15 * MINUTE), Step::Renew);
        assert_eq!(refresh.step(t0 + 6 * HOUR), Step::Get);
        refresh.renewed(Some(6 * HOUR), t0, u64::MAX);
        assert_eq!(refresh.step(t0 + 6 * HOUR - 18 * MINUTE), Step::Renew);
        refresh.renewed(None, t0, 0);
        assert_eq!(refresh.step(t0 + 100_000 * HOUR), Step::Use);
    }

    /// vectordotdev/vector#20314: one failed renewal ended the collection although the keys still held.
    #[test]
    fn a_failed_renewal_leaves_the_keys_in_use_and_is_tried_again() {
        let (mut refresh, t0) = (Refresh::new(), start());
        refresh.renewed(Some(HOUR), t0, 0);
        let due = t0 + 50 * MINUTE;
        assert_eq!(refresh.step(due), Step::Renew);
        refresh.failed(due, 0, None);
        assert_eq!(refresh.step(due), Step::Use);
        assert_eq!(refresh.step(due + PAUSE), Step::Renew);
        refresh.failed(due, 0, Some(MINUTE));
        assert_eq!(refresh.step(due + MINUTE), Step::Use);
        assert_eq!(refresh.step(due + 2 * MINUTE), Step::Renew);
        assert_eq!(refresh.step(t0 + HOUR), Step::Get);
        refresh.failed(t0 + HOUR, 0, None);
        assert_eq!(refresh.step(t0 + HOUR), Step::Wait);
    }

    #[test]
    fn refused_keys_are_not_used_again() {
        let (mut refresh, t0) = (Refresh::new(), start());
        for life in [None, Some(HOUR)] {
            refresh.renewed(life, t0, 0);
            refresh.refused();
            assert_eq!(refresh.step(t0), Step::Get);
            refresh.failed(t0, 0, None);
            assert_eq!(refresh.step(t0), Step::Wait);
            refresh.renewed(life, t0, 0);
            assert_eq!(refresh.step(t0), Step::Use);
        }
    }

    /// Somebody put others in their place, or they are too new to be known everywhere.
    #[test]
    fn keys_that_a_server_does_not_know_are_asked_for_once_a_minute_and_stay_in_use() {
        for life in [None, Some(HOUR)] {
            let (mut refresh, t0) = (Refresh::new(), start());
            refresh.renewed(life, t0, 0);
            refresh.doubted(t0 + MINUTE / 2);
            assert_eq!(refresh.step(t0 + MINUTE / 2), Step::Use);
            let now = t0 + MINUTE;
            refresh.doubted(now);
            assert_eq!(refresh.step(now), Step::Renew);
            refresh.failed(now, 0, None);
            assert_eq!(refresh.step(now), Step::Use);
            assert_eq!(refresh.step(now + PAUSE), Step::Renew);
            refresh.renewed(life, now + PAUSE, 0);
            refresh.doubted(now + PAUSE);
            assert_eq!(refresh.step(now + PAUSE), Step::Use);
        }
    }

    #[test]
    fn keys_that_seem_to_have_ended_are_tried() {
        let (mut refresh, t0) = (Refresh::new(), start());
        refresh.renewed(Some(Duration::ZERO), t0, 0);
        assert_eq!(refresh.step(t0), Step::Use);
        assert_eq!(refresh.step(t0 + MINUTE), Step::Get);
    }

    proptest! {
        /// Any life, any chance, any pattern of failures: good keys are never withheld, tries are spaced, and while the
        /// issuer answers nobody ever has to wait.
        #[test]
        fn over_a_day_of_requests(
            life in 0u64..40_000,
            every in 1u64..600,
            answers in proptest::collection::vec((any::<bool>(), any::<u64>()), 1..50),
        ) {
            let (mut refresh, t0) = (Refresh::new(), start());
            let life = Duration::from_secs(life);
            let (mut end, mut last_failure, mut tries) = (None, None, 0usize);
            for second in (0..86_400).step_by(every as usize) {
                let now = t0 + Duration::from_secs(second);
                let step = refresh.step(now);
                let good = end.is_some_and(|end| now < end);
                match step {
                    Step::Use => prop_assert!(good),
                    Step::Wait => prop_assert!(!good && last_failure.is_some()),
                    Step::Renew | Step::Get => {
                        prop_assert_eq!(step == Step::Renew, good);
                        prop_assert!(last_failure.is_none_or(|then| now >= then + PAUSE));
                        let (works, random) = answers[tries % answers.len()];
                        tries += 1;
                        if works {
                            refresh.renewed(Some(life), now, random);
                            end = Some(now + life.max(LIFE_MIN));
                            last_failure = None;
                            prop_assert_eq!(refresh.step(now), Step::Use);
                        } else {
                            refresh.failed(now, random, None);
                            last_failure = Some(now);
                            prop_assert!(matches!(refresh.step(now), Step::Use | Step::Wait));
                        }
                    }
                }
            }
        }
    }
}
