//! Records that went into a connection whose receiver acknowledges nothing (syslog over TCP and TLS, plain TCP).
//!
//! The kernel takes bytes long before the receiver does, so the cursor must not follow at once. Settled records wait
//! here, and the cursor behind them, until they count as arrived:
//!
//! * [`WINDOW`] has passed since they were written, *and*
//! * [`WINDOW_BYTES`] were written after them (more than the buffers in between hold, so the receiver has read them),
//!   or nothing was written for a [`WINDOW`];
//! * and the connection still stands.
//!
//! When it breaks before, the cursor has not moved: the spool is read again from there. So nothing is kept in memory
//! but the places of the cursor, a few dozen at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::Settled;

/// How long a connection has to stand after records were written.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Bytes that have to follow them, unless there are none to follow.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// What is written within this time is one entry.
const GRAIN: Duration = Duration::from_millis(250);

/// The waiting records of one output.
#[derive(Debug)]
pub struct Unconfirmed<C> {
    /// Oldest first.
    marks: VecDeque<Mark<C>>,
    /// Bytes written over all connections.
    written: u64,
}

#[derive(Debug)]
struct Mark<C> {
    begun: Instant,
    /// When the last of its records was written.
    at: Instant,
    /// What was written up to and with them.
    through: u64,
    settled: Settled<C>,
}

impl<C: Copy> Default for Unconfirmed<C> {
    fn default() -> Unconfirmed<C> {
        Unconfirmed { marks: VecDeque::new(), written: 0 }
    }
}

impl<C: Copy> Unconfirmed<C> {
    /// These records were settled now; `bytes` of them were written.
    pub fn push(&mut self, settled: Settled<C>, bytes: usize, now: Instant) {
        self.written += bytes as u64;
        match self.marks.back_mut().filter(|last| now.saturating_duration_since(last.begun) < GRAIN) {
            Some(last) => {
                last.at = now;
                last.through = self.written;
                last.settled = Settled {
                    cursor: settled.cursor,
                    accepted: last.settled.accepted + settled.accepted,
                    set_aside: last.settled.set_aside + settled.set_aside,
                };
            }
            None => self.marks.push_back(Mark { begun: now, at: now, through: self.written, settled }),
        }
    }

    /// The next records that count as arrived, if the connection stands.
    pub fn arrived(&mut self, now: Instant) -> Option<Settled<C>> {
        let due = self.due()? <= now;
        due.then(|| self.marks.pop_front()).flatten().map(|mark| mark.settled)
    }

    /// When [`Unconfirmed::arrived`] has something, unless more is written meanwhile.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let followed = self.written - first.through >= WINDOW_BYTES;
        Some(if followed { first.at } else { last.at } + WINDOW)
    }

    /// All of them arrived: the receiver read to the end and closed in turn.
    pub fn all_arrived(&mut self) -> impl Iterator<Item = Settled<C>> {
        self.marks.drain(..).map(|mark| mark.settled)
    }

    /// Forgets them: they are sent again. How many there were.
    pub fn lost(&mut self) -> u64 {
        self.marks.drain(..).map(|mark| mark.settled.accepted).sum()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(cursor: u32, accepted: u64) -> Settled<u32> {
        Settled { cursor, accepted, set_aside: 0 }
    }

    #[allow(clippy::disallowed_methods)] // any time will do
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_nothing_follows_arrives_after_the_window() {
        let (mut all, start) = (Unconfirmed::default(), start());
        all.push(settled(7, 7), 700, start);
        assert_eq!(all.arrived(start + WINDOW - Duration::from_millis(1)), None);
        assert_eq!(all.due(), Some(start + WINDOW));
        assert_eq!(all.arrived(start + WINDOW), Some(settled(7, 7)));
        assert_eq!((all.arrived(start + WINDOW), all.due(), all.is_empty()), (None, None, true));
    }

    #[test]
    fn under_way_the_receiver_must_have_read_on() {
        let (mut all, start) = (Unconfirmed::default(), start());
        let second = Duration::from_secs(1);
        for n in 0..30 {
            all.push(settled(n + 1, 1), 1000, start + n * second);
        }
        // a slow trickle: none is followed by enough bytes, so all wait for the last
        assert_eq!(all.arrived(start + 38 * second), None);
        all.push(settled(31, 1), WINDOW_BYTES as usize, start + 30 * second);
        for n in 0..21 {
            assert_eq!(all.arrived(start + 30 * second), Some(settled(n + 1, 1)), "{n}");
        }
        assert_eq!(all.arrived(start + 30 * second), None);
        assert_eq!(all.lost(), 10);
        assert!(all.is_empty());
    }

    #[test]
    fn a_fast_stream_takes_a_few_dozen_entries() {
        let (mut all, start) = (Unconfirmed::default(), start());
        let (mut arrived, mut most) = (0, 0);
        for n in 0..60_000 {
            let now = start + n * Duration::from_millis(1);
            all.push(settled(n, 10), 50_000, now);
            while let Some(settled) = all.arrived(now) {
                arrived += settled.accepted;
            }
            most = most.max(all.marks.len());
        }
        assert!(most <= 45, "{most}");
        assert_eq!(arrived + all.all_arrived().map(|settled| settled.accepted).sum::<u64>(), 600_000);
    }
}
