//! How a stage shows that it is alive: a counter and a word, for [`service::watchdog`](crate::service::watchdog).
//!
//! A stage says what it does and, while it works, that it comes on. Idle and waiting are states, however long they
//! last: nothing to do, a slow receiver, a pause after a failure, a full spool, an answer that another stage owes.
//! Work without a beat is what a watchdog is for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// One stage's pulse. The default is idle.
///
/// Bits 0 and 1: what it does, as [`Doing`]'s discriminant; the rest: beats.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

const DOING: u64 = 0b11;
const BEAT: u64 = DOING + 1;

/// A pulse at one moment. Two that are equal have nothing between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading(u64);

impl Pulse {
    /// There is no work.
    pub fn idle(&self) {
        self.enter(Doing::Idle);
    }

    /// There is work, and it comes on.
    pub fn working(&self) {
        self.enter(Doing::Working);
    }

    /// Something came on, whatever the stage does.
    pub fn beat(&self) {
        self.0.fetch_add(BEAT, Relaxed);
    }

    /// There is work, and it waits for somebody else.
    pub fn wait(&self) {
        self.enter(Doing::Waiting);
    }

    /// Waits for something that is somebody else's, and blocks; then works on.
    pub fn waiting_for<T>(&self, other: impl FnOnce() -> T) -> T {
        self.wait();
        let value = other();
        self.working();
        value
    }

    /// What it shows now.
    pub fn read(&self) -> Reading {
        Reading(self.0.load(Relaxed))
    }

    fn enter(&self, doing: Doing) {
        let enter = |raw: u64| Some((raw | DOING).wrapping_add(1) | doing as u64);
        // It always has a next value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, enter);
    }
}

impl Reading {
    /// What the stage does.
    pub fn doing(self) -> Doing {
        match self.0 & DOING {
            0 => Doing::Idle,
            1 => Doing::Waiting,
            _ => Doing::Working,
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
        assert_eq!(pulse.waiting_for(|| pulse.read().doing()), Doing::Waiting);
        assert_eq!(pulse.read().doing(), Doing::Working);
    }

    #[test]
    fn the_counter_may_wrap() {
        let pulse = Pulse(AtomicU64::new(u64::MAX));
        pulse.idle();
        assert_eq!(pulse.read(), Reading(0));
        let pulse = Pulse(AtomicU64::new(u64::MAX - 1));
        pulse.beat();
        assert_eq!(pulse.read().doing(), Doing::Working);
    }
}
