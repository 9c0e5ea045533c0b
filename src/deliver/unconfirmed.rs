//! Records that went into a connection whose receiver acknowledges nothing (syslog over TCP and TLS, plain TCP).
//!
//! The kernel takes bytes long before the receiver does, so the cursor must not follow at once. Settled records wait
//! here, and the cursor behind them, until they count as arrived:
//!
//! * [`WINDOW`] has passed since they were written, *and*
//! * [`WINDOW_BYTES`] were written after them (more than the buffers in between hold, so the receiver has read them),
//!   or nothing was written for a [`WINDOW`], or [`LONGEST`] has passed;
//! * and the connection still stands.
//!
//! When it breaks before, the cursor has not moved: the spool is read again from there. So nothing is kept in memory
//! but the places of the cursor, a few hundred at most, and the names of records of the quarantine that were wanted
//! again, which leave it no sooner either ([`AGAIN_MOST`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::Settled;

/// How long a connection has to stand after records were written.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Bytes that have to follow them, unless there are none to follow.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// How long records wait at most, where they trickle in and too few bytes follow.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Most records of the quarantine that wait at once.
pub const AGAIN_MOST: usize = 256;
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
    arrives: Arrived<C>,
}

/// What arrived together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived<C> {
    /// Records of the spool.
    pub settled: Option<Settled<C>>,
    /// Records of the quarantine, by their names.
    pub again: Vec<String>,
}

impl<C: Copy> Default for Unconfirmed<C> {
    fn default() -> Unconfirmed<C> {
        Unconfirmed { marks: VecDeque::new(), written: 0 }
    }
}

impl<C: Copy> Unconfirmed<C> {
    /// These records were settled now; `bytes` of them were written.
    pub fn push(&mut self, settled: Settled<C>, bytes: usize, now: Instant) {
        let before = &mut self.mark(bytes, now).settled;
        let (accepted, set_aside) = before.map_or((0, 0), |before| (before.accepted, before.set_aside));
        *before = Some(Settled {
            cursor: settled.cursor,
            accepted: accepted + settled.accepted,
            set_aside: set_aside + settled.set_aside,
        });
    }

    /// A record of the quarantine was written now.
    pub fn push_again(&mut self, id: String, bytes: usize, now: Instant) {
        self.mark(bytes, now).again.push(id);
    }

    /// Whether this record of the quarantine waits.
    pub fn has_again(&self, id: &str) -> bool {
        self.marks.iter().any(|mark| mark.arrives.again.iter().any(|waits| waits == id))
    }

    /// Whether one more record of the quarantine may wait.
    pub fn has_room_for_again(&self) -> bool {
        self.marks.iter().map(|mark| mark.arrives.again.len()).sum::<usize>() < AGAIN_MOST
    }

    /// Where what is written now is noted.
    fn mark(&mut self, bytes: usize, now: Instant) -> &mut Arrived<C> {
        self.written += bytes as u64;
        if self.marks.back().is_none_or(|last| now.saturating_duration_since(last.begun) >= GRAIN) {
            let arrives = Arrived { settled: None, again: Vec::new() };
            self.marks.push_back(Mark { begun: now, at: now, through: 0, arrives });
        }
        let last = self.marks.len() - 1;
        let mark = &mut self.marks[last];
        (mark.at, mark.through) = (now, self.written);
        &mut mark.arrives
    }

    /// What arrived next, if the connection stands.
    pub fn arrived(&mut self, now: Instant) -> Option<Arrived<C>> {
        let due = self.due()? <= now;
        due.then(|| self.marks.pop_front()).flatten().map(|mark| mark.arrives)
    }

    /// When [`Unconfirmed::arrived`] has something, unless more is written meanwhile.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let followed = self.written - first.through >= WINDOW_BYTES;
        let quiet = if followed { first.at } else { last.at } + WINDOW;
        Some(quiet.min(first.at + LONGEST))
    }

    /// All of them arrived: the receiver read to the end and closed in turn.
    pub fn all_arrived(&mut self) -> Vec<Arrived<C>> {
        self.marks.drain(..).map(|mark| mark.arrives).collect()
    }

    /// Forgets them: they are sent again. How many there were.
    pub fn lost(&mut self) -> u64 {
        let count = |arrives: Arrived<C>| {
            arrives.settled.map_or(0, |settled| settled.accepted) + arrives.again.len() as u64
        };
        self.marks.drain(..).map(|mark| count(mark.arrives)).sum()
    }

    /// Forgets those of the spool, which are read again though the connection stands.
    pub fn unsettle(&mut self) {
        self.marks.retain_mut(|mark| {
            mark.arrives.settled = None;
            !mark.arrives.again.is_empty()
        });
    }

    /// When something was written last, of what waits.
    pub fn last(&self) -> Option<Instant> {
        self.marks.back().map(|mark| mark.at)
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

    fn arrived(cursor: u32, accepted: u64) -> Option<Arrived<u32>> {
        Some(Arrived { settled: Some(settled(cursor, accepted)), again: Vec::new() })
    }

    fn accepted(arrived: &Arrived<u32>) -> u64 {
        arrived.settled.map_or(0, |settled| settled.accepted)
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
        assert_eq!(all.arrived(start + WINDOW), arrived(7, 7));
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
            assert_eq!(all.arrived(start + 30 * second), arrived(n + 1, 1), "{n}");
        }
        assert_eq!(all.arrived(start + 30 * second), None);
        assert_eq!(all.lost(), 10);
        assert!(all.is_empty());
    }

    #[test]
    fn a_trickle_without_end_waits_for_a_minute_and_stays_small() {
        let (mut all, start) = (Unconfirmed::default(), start());
        let mut most = 0;
        for n in 0..10_000 {
            let now = start + n * GRAIN;
            all.push(settled(n, 1), 100, now);
            while all.arrived(now).is_some() {}
            most = most.max(all.marks.len());
        }
        assert_eq!(most, (LONGEST.as_millis() / GRAIN.as_millis()) as usize);
    }

    #[test]
    fn a_fast_stream_takes_a_few_dozen_entries() {
        let (mut all, start) = (Unconfirmed::default(), start());
        let (mut count, mut most) = (0, 0);
        for n in 0..60_000 {
            let now = start + n * Duration::from_millis(1);
            all.push(settled(n, 10), 50_000, now);
            while let Some(arrived) = all.arrived(now) {
                count += accepted(&arrived);
            }
            most = most.max(all.marks.len());
        }
        assert!(most <= 45, "{most}");
        assert_eq!(count + all.all_arrived().iter().map(accepted).sum::<u64>(), 600_000);
    }

    #[test]
    fn records_of_the_quarantine_wait_with_the_others_and_are_not_many() {
        let (mut all, start) = (Unconfirmed::default(), start());
        all.push(settled(3, 3), 300, start);
        all.push_again("a".into(), 100, start);
        all.push(settled(5, 2), 200, start);
        all.push_again("b".into(), 100, start + 2 * GRAIN);
        assert!(all.has_again("a") && all.has_again("b") && !all.has_again("c"));
        assert_eq!(all.arrived(start + WINDOW), None, "the last was written later");
        let first = Arrived { settled: Some(settled(5, 5)), again: vec!["a".to_owned()] };
        assert_eq!(all.arrived(start + 2 * GRAIN + WINDOW), Some(first));
        all.push(settled(6, 1), 100, start + 3 * GRAIN);
        all.unsettle();
        assert!(all.has_again("b"));
        assert_eq!((all.lost(), all.is_empty()), (1, true));
        let mut room = 0u32;
        while all.has_room_for_again() {
            all.push_again(room.to_string(), 1, start + room * GRAIN);
            room += 1;
        }
        assert_eq!(room as usize, AGAIN_MOST);
    }
}
