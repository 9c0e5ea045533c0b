//! How a stage shows that it is alive: a counter and a word, for [`service::watchdog`](crate::service::watchdog).
//!
//! A stage says what it does and, while it works, that it comes on. Idle and waiting are states, however long they
//! last: nothing to do, a slow receiver, a pause after a failure, a full spool, an answer that another stage owes.
//! Work without a beat is what a watchdog is for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has no work.
    Idle,
    /// It has work, and waits for somebody else, who is watched or has time-outs of his own.
    Waiting,
    /// It has work, and nothing but itself to wait for.
    Working,
}

/// One stage's pulse, shared by all tasks and threads of the stage. The default is idle.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Bit 0: there is work; the rest: beats.
    raw: AtomicU64,
    /// Tasks of the stage that wait.
    waiting: AtomicU32,
}

const WORK: u64 = 1;
const BEAT: u64 = WORK + 1;

/// A pulse at one moment. Two that are equal have nothing between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    raw: u64,
    waits: bool,
}

/// Somebody of the stage waits, until this is dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Pulse);

impl Pulse {
    /// There is no work.
    pub fn idle(&self) {
        self.enter(0);
    }

    /// There is work, and it comes on.
    pub fn working(&self) {
        self.enter(WORK);
    }

    /// Something came on, whatever the stage does.
    pub fn beat(&self) {
        self.raw.fetch_add(BEAT, Relaxed);
    }

    /// Somebody of the stage waits for what is somebody else's; the others need not show that they come on meanwhile.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self)
    }

    /// [`Pulse::wait`] around something that blocks.
    pub fn waiting_for<T>(&self, other: impl FnOnce() -> T) -> T {
        let _waiting = self.wait();
        other()
    }

    /// What it shows now.
    pub fn read(&self) -> Reading {
        Reading { raw: self.raw.load(Relaxed), waits: self.waiting.load(Relaxed) > 0 }
    }

    /// How often it has beaten.
    #[cfg(test)]
    pub(crate) fn beats(&self) -> u64 {
        self.raw.load(Relaxed) / BEAT
    }

    fn enter(&self, work: u64) {
        let enter = |raw: u64| Some((raw | WORK).wrapping_add(1) | work);
        // It always has a next value.
        let _ = self.raw.fetch_update(Relaxed, Relaxed, enter);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.beat();
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Reading {
    /// What the stage does.
    pub fn doing(self) -> Doing {
        match (self.waits, self.raw & WORK) {
            (true, _) => Doing::Waiting,
            (false, 0) => Doing::Idle,
            (false, _) => Doing::Working,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_a_beat_and_a_beat_leaves_the_word() {
        let pulse = Pulse::default();
        assert_eq!(pulse.read().doing(), Doing::Idle);
        let mut before = pulse.read();
        for (say, doing) in [
            (Pulse::working as fn(&Pulse), Doing::Working),
            (Pulse::working, Doing::Working),
            (Pulse::beat, Doing::Working),
            (Pulse::idle, Doing::Idle),
            (Pulse::beat, Doing::Idle),
        ] {
            say(&pulse);
            assert_ne!(pulse.read(), before);
            assert_eq!(pulse.read().doing(), doing);
            before = pulse.read();
        }
    }

    #[test]
    fn a_stage_waits_as_long_as_somebody_of_it_does_and_what_follows_counts_as_a_beat() {
        let pulse = Pulse::default();
        pulse.working();
        let before = pulse.read();
        let first = pulse.wait();
        let second = pulse.wait();
        assert_eq!(pulse.read().doing(), Doing::Waiting);
        drop(first);
        pulse.working();
        assert_eq!(pulse.read().doing(), Doing::Waiting);
        drop(second);
        assert_eq!(pulse.read().doing(), Doing::Working);
        assert_ne!(pulse.read(), before);
    }

    #[test]
    fn the_counter_may_wrap() {
        let pulse = Pulse { raw: AtomicU64::new(u64::MAX), waiting: AtomicU32::new(0) };
        pulse.idle();
        assert_eq!(pulse.read().raw, 0);
        let pulse = Pulse { raw: AtomicU64::new(u64::MAX), waiting: AtomicU32::new(0) };
        pulse.beat();
        assert_eq!(pulse.read().doing(), Doing::Working);
    }
}
