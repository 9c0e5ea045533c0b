//! How many requests may be in flight to one service: a core. Additive increase, multiplicative decrease, as TCP does
//! it, by what the service says (503, 429) and by what it takes.
//!
//! * It begins with [`BEGIN`] and, until something is in the way, lets in one more for each good answer, which doubles it
//!   in each round trip.
//! * An answer that asks to slow down halves it, once for each burst: what was sent before does not count again. From
//!   then on it grows by one in a round trip.
//! * When answers take more than [`CROWDED`] times as long as the fastest ones, more in flight only wait for each other:
//!   it grows no further, and gives back one in a round trip.
//! * It grows only while it is used to the full, so what it allows has been tried.
//!
//! Source: D.-M. Chiu and R. Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
//! computer networks", 1989; S3 User Guide, "Best practices design patterns: optimizing Amazon S3 performance".

use std::time::{Duration, Instant};

/// Requests in flight at the beginning, and that waiting alone never goes below.
pub const BEGIN: usize = 4;
/// Times the fastest answers that answers may take on the average.
const CROWDED: u32 = 3;
/// What is never called crowded: short answers vary by more than they take.
const SHORT: Duration = Duration::from_millis(30);
/// Answers of which an average is.
const AVERAGE: u32 = 16;
/// Answers after which most of a fastest one is forgotten, some minutes: a way that has become longer is no crowd.
const FORGET: u32 = 65_536;

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Window {
    most: usize,
    size: usize,
    /// Good answers since it last grew or shrank.
    credit: usize,
    /// Nothing has been in the way yet.
    doubling: bool,
    /// What was sent before this belongs to a burst that was answered for.
    cut: Option<Instant>,
    fastest: Option<Duration>,
    average: Duration,
}

impl Window {
    /// A window that never allows more than `most`.
    pub fn new(most: usize) -> Window {
        Window {
            most: most.max(1),
            size: most.clamp(1, BEGIN),
            credit: 0,
            doubling: true,
            cut: None,
            fastest: None,
            average: Duration::ZERO,
        }
    }

    /// Requests that may be in flight; at least one.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A good answer, which took so long; `in_flight`: requests that were, with this one.
    pub fn answered(&mut self, latency: Duration, in_flight: usize) {
        let fastest = match self.fastest {
            Some(fastest) if fastest < latency => fastest + (latency - fastest) / FORGET,
            _ => latency,
        };
        self.average = match self.fastest {
            Some(_) => (self.average * (AVERAGE - 1) + latency) / AVERAGE,
            None => latency,
        };
        self.fastest = Some(fastest);
        let crowded = self.average > fastest * CROWDED && self.average > fastest + SHORT;
        self.credit += 1;
        if crowded {
            self.doubling = false;
            if self.credit >= self.size && self.size > BEGIN {
                self.credit = 0;
                self.size -= 1;
            }
        } else if in_flight >= self.size && (self.doubling || self.credit >= self.size) {
            self.credit = 0;
            self.size = (self.size + 1).min(self.most);
        }
    }

    /// An answer that asks to slow down, to a request that was sent then.
    pub fn slowed(&mut self, sent: Instant, now: Instant) {
        if self.cut.is_some_and(|cut| sent < cut) {
            return;
        }
        self.cut = Some(now);
        self.doubling = false;
        self.credit = 0;
        self.size = (self.size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Duration = Duration::from_millis(20);

    /// A round trip of good answers with the window full.
    fn round(window: &mut Window, latency: Duration) {
        for _ in 0..window.size() {
            window.answered(latency, window.size());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_doubles_until_something_is_in_the_way_and_never_passes_its_bound() {
        let mut window = Window::new(16);
        let sizes: Vec<_> = (0..4)
            .map(|_| {
                round(&mut window, QUICK);
                window.size()
            })
            .collect();
        assert_eq!(sizes, [8, 16, 16, 16]);
        assert_eq!(Window::new(0).size(), 1);
        assert_eq!(Window::new(2).size(), 2);
    }

    #[test]
    fn a_burst_of_slow_downs_halves_it_once_and_then_it_grows_by_one_in_a_round_trip() {
        let mut window = Window::new(64);
        (0..4).for_each(|_| round(&mut window, QUICK));
        assert_eq!(window.size(), 64);
        let sent = some_moment();
        let now = sent + QUICK;
        for _ in 0..64 {
            window.slowed(sent, now);
        }
        assert_eq!(window.size(), 32);
        round(&mut window, QUICK);
        assert_eq!(window.size(), 33);
        for n in 1..9 {
            window.slowed(now + QUICK * n, now + QUICK * n);
        }
        assert_eq!(window.size(), 1, "it never stops altogether");
        round(&mut window, QUICK);
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut window = Window::new(64);
        for _ in 0..1000 {
            window.answered(QUICK, 2);
        }
        assert_eq!(window.size(), BEGIN);
    }

    #[test]
    fn answers_that_wait_for_each_other_make_it_smaller_but_a_longer_way_does_not() {
        let mut window = Window::new(64);
        (0..4).for_each(|_| round(&mut window, QUICK));
        (0..200).for_each(|_| round(&mut window, QUICK * 10));
        assert!(window.size() < 16, "{}", window.size());
        assert!(window.size() >= BEGIN);
        // The same for good: that is how long it takes now.
        (0..20_000).for_each(|_| round(&mut window, QUICK * 10));
        assert_eq!(window.size(), 64);
    }

    /// A service that takes so many requests in a round trip and refuses the rest: what gets through is most of it, and
    /// little is refused.
    #[test]
    fn it_finds_what_a_service_takes() {
        for capacity in [1, 3, 10, 40] {
            let mut window = Window::new(256);
            let (mut now, mut good, mut refused) = (some_moment(), 0, 0);
            for _ in 0..400 {
                let sent = now;
                now += QUICK;
                for n in 0..window.size() {
                    if n < capacity {
                        window.answered(QUICK, window.size());
                        good += 1;
                    } else {
                        window.slowed(sent, now);
                        refused += 1;
                    }
                }
            }
            assert!(good * 10 >= 400 * capacity * 6, "{good} of {}", 400 * capacity);
            assert!(refused * 2 <= good + 200, "{refused} refused, {good} good");
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_it_stays_within_its_bounds(
            most in 1usize..300,
            events in proptest::collection::vec((any::<bool>(), 0u64..100_000, 0usize..400), 0..500),
        ) {
            let mut window = Window::new(most);
            let mut now = some_moment();
            for (good, millis, in_flight) in events {
                now += Duration::from_millis(millis);
                match good {
                    true => window.answered(Duration::from_millis(millis), in_flight),
                    false => window.slowed(now - Duration::from_millis(millis / 2), now),
                }
                prop_assert!((1..=most).contains(&window.size()));
            }
        }
    }
}
