//! Which stage stands still: the watchdog's decisions (invariant 9). A core.
//!
//! Every stage has a [`Pulse`] and a bound: how long it may work without a beat. [`Watchdog::look`] compares the
//! pulses with those of the look before. What holds:
//! * a stage that is idle or waits never stalls; one that works without a beat for its bound does, and is named
//!   once; if it beats again after all, that is said once too;
//! * time in which nobody looked (a machine that was suspended or starved) counts at most [`LATE`] looks: nobody is
//!   called stalled for what happened to the whole machine;
//! * a stage whose pulse is dropped has ended and is no longer watched.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::pulse::{Doing, Pulse, Reading};

/// What one gap between two looks counts at most, in looks.
const LATE: u32 = 2;

/// All stages of the process.
#[derive(Debug)]
pub struct Watchdog {
    stages: Vec<Stage>,
    every: Duration,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Stage {
    name: Box<str>,
    pulse: Weak<Pulse>,
    bound: Duration,
    seen: Reading,
    /// Time at work since the last beat.
    silent: Duration,
    stalled: bool,
}

/// A stage that works and does not come on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub stage: Box<str>,
    /// For how long, as far as looks can tell.
    pub silent: Duration,
}

/// What a look found. All empty: everything is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Stages that stall since this look.
    pub fresh: Vec<Stall>,
    /// Stages that came on after all.
    pub over: Vec<Box<str>>,
    /// The stage that has been silent for longest, of those that stall.
    pub worst: Option<Stall>,
}

impl Watchdog {
    /// A watchdog that will be asked to look `every` so often.
    pub fn new(every: Duration) -> Watchdog {
        Watchdog { stages: Vec::new(), every, looked: None }
    }

    /// One more stage, which may work for `bound` without a beat. It is watched until its pulse is dropped.
    pub fn watch(&mut self, name: &str, bound: Duration) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        self.stages.push(Stage {
            name: name.into(),
            pulse: Arc::downgrade(&pulse),
            bound,
            seen: pulse.read(),
            silent: Duration::ZERO,
            stalled: false,
        });
        pulse
    }

    /// Compares all stages with the look before.
    pub fn look(&mut self, now: Instant) -> Look {
        let gap = self.looked.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        let gap = gap.min(self.every.saturating_mul(LATE));
        self.looked = Some(now);
        let mut look = Look::default();
        self.stages.retain_mut(|stage| {
            let Some(pulse) = stage.pulse.upgrade() else { return false };
            stage.look(pulse.read(), gap, &mut look);
            true
        });
        look
    }
}

impl Stage {
    fn look(&mut self, reading: Reading, gap: Duration, look: &mut Look) {
        if reading != self.seen || reading.doing() != Doing::Working {
            self.seen = reading;
            self.silent = Duration::ZERO;
            if std::mem::take(&mut self.stalled) {
                look.over.push(self.name.clone());
            }
            return;
        }
        self.silent += gap;
        if self.silent < self.bound {
            return;
        }
        let stall = Stall { stage: self.name.clone(), silent: self.silent };
        if !std::mem::replace(&mut self.stalled, true) {
            look.fresh.push(stall.clone());
        }
        if look.worst.as_ref().is_none_or(|worst| worst.silent < stall.silent) {
            look.worst = Some(stall);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_secs(10);
    const BOUND: Duration = Duration::from_secs(60);

    /// A clock of the test's own: only differences count.
    #[allow(clippy::disallowed_methods, reason = "a begin to count from")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn stall(stage: &str, seconds: u64) -> Stall {
        Stall { stage: stage.into(), silent: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_stage_that_works_without_a_beat_for_its_bound_is_named_once() {
        let (mut dog, mut now) = (Watchdog::new(EVERY), begin());
        let (keeper, other) = (dog.watch("storekeeper", BOUND), dog.watch("source a", BOUND));
        keeper.working();
        for _ in 0..=5 {
            other.working();
            assert_eq!(dog.look(now), Look::default());
            now += EVERY;
        }
        other.working();
        assert_eq!(dog.look(now).fresh, [stall("storekeeper", 60)]);
        other.working();
        let look = dog.look(now + EVERY);
        assert_eq!((look.fresh, look.worst), (vec![], Some(stall("storekeeper", 70))));
        keeper.beat();
        let look = dog.look(now + EVERY * 2);
        assert_eq!((look.over, look.worst), (vec!["storekeeper".into()], None));
    }

    #[test]
    fn idle_and_waiting_are_states_however_long_they_last() {
        let (mut dog, mut now) = (Watchdog::new(EVERY), begin());
        let (idle, waiting) = (dog.watch("idle", BOUND), dog.watch("waiting", BOUND));
        idle.working();
        idle.idle();
        waiting.waiting_for(|| {
            for _ in 0..1000 {
                assert_eq!(dog.look(now), Look::default());
                now += EVERY;
            }
        });
        assert_eq!(dog.look(now), Look::default());
    }

    #[test]
    fn a_machine_that_was_suspended_makes_nobody_stall() {
        let (mut dog, now) = (Watchdog::new(EVERY), begin());
        let stage = dog.watch("fetch 1", BOUND);
        stage.working();
        dog.look(now);
        dog.look(now + EVERY);
        assert_eq!(dog.look(now + Duration::from_secs(86_400)), Look::default());
    }

    #[test]
    fn a_stage_that_has_ended_is_not_watched_even_if_it_was_cut_off_at_work() {
        let (mut dog, mut now) = (Watchdog::new(EVERY), begin());
        let stage = dog.watch("source a", BOUND);
        stage.working();
        for _ in 0..7 {
            dog.look(now);
            now += EVERY;
        }
        drop(stage);
        assert_eq!(dog.look(now), Look::default());
        assert!(dog.stages.is_empty());
    }

    #[test]
    fn the_worst_is_the_one_that_is_silent_for_longest() {
        let (mut dog, mut now) = (Watchdog::new(EVERY), begin());
        let (first, second) = (dog.watch("first", BOUND), dog.watch("second", EVERY));
        first.working();
        dog.look(now);
        second.working();
        for _ in 0..8 {
            now += EVERY;
            dog.look(now);
        }
        assert_eq!(dog.look(now).worst, Some(stall("first", 80)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Idle,
        Working,
        Beat,
        Look(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            1 => Just(Event::Idle),
            2 => Just(Event::Working),
            2 => Just(Event::Beat),
            8 => (0u64..40).prop_map(Event::Look),
        ]
    }

    proptest! {
        /// Against the definition: the looks since the last sign of life, each counted for what it may.
        #[test]
        fn a_stall_is_work_without_a_sign_of_life(events in prop::collection::vec(event(), 1..200)) {
            let (mut dog, mut now) = (Watchdog::new(EVERY), begin());
            let pulse = dog.watch("it", BOUND);
            let (mut working, mut alive, mut first, mut silent) = (false, true, true, 0);
            for event in events {
                match event {
                    Event::Idle => { pulse.idle(); (working, alive) = (false, true); }
                    Event::Working => { pulse.working(); (working, alive) = (true, true); }
                    Event::Beat => { pulse.beat(); alive = true; }
                    Event::Look(seconds) => {
                        now += Duration::from_secs(seconds);
                        let counted = if first { 0 } else { seconds.min(20) };
                        silent = if alive || !working { 0 } else { silent + counted };
                        (first, alive) = (false, false);
                        let expected = (working && silent >= 60).then(|| stall("it", silent));
                        prop_assert_eq!(dog.look(now).worst, expected);
                    }
                }
            }
        }
    }
}
