//! How old the oldest waiting record is: marks of where the log ended at which moment, of a fixed number. When they
//! are full every other one goes, and what it covered counts as old as its beginning: an age is never told too small.
//! A core: moments are seconds, from any origin.

use crate::limits;
use crate::spool::position::Position;

/// The marks, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// What ends at the place was committed at this moment or later.
    marks: Vec<(Position, i64)>,
}

impl Ages {
    /// Notes that the log ends at `end` now.
    pub(crate) fn committed(&mut self, end: Position, now: i64) {
        if self.marks.last().is_some_and(|(last, _)| *last >= end) {
            return;
        }
        if self.marks.len() >= limits::STATUS_MARKS {
            // The later place with the earlier moment stands for both.
            let halved = self.marks.chunks(2).map(|pair| (pair[pair.len() - 1].0, pair[0].1)).collect();
            self.marks = halved;
        }
        self.marks.push((end, now));
    }

    /// The moment of the oldest record behind `reached`, which every output has acknowledged; forgets what is before.
    pub(crate) fn oldest(&mut self, reached: Position) -> Option<i64> {
        let done = self.marks.partition_point(|(end, _)| *end <= reached);
        self.marks.drain(..done);
        self.marks.first().map(|(_, moment)| *moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn the_oldest_is_what_the_slowest_output_has_yet_to_take() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(at(0)), None);
        for n in 1..=5 {
            ages.committed(at(n * 10), n as i64);
        }
        assert_eq!(ages.oldest(at(0)), Some(1));
        assert_eq!(ages.oldest(at(25)), Some(3));
        assert_eq!(ages.oldest(at(30)), Some(4));
        assert_eq!(ages.oldest(at(50)), None);
    }

    #[test]
    fn marks_are_bounded_and_an_age_is_never_told_too_small() {
        let mut ages = Ages::default();
        for n in 1..=100_000u64 {
            ages.committed(at(n), n as i64);
        }
        assert!(
            ages.marks.len() <= limits::STATUS_MARKS && ages.marks.capacity() <= 2 * limits::STATUS_MARKS
        );
        for reached in [0, 7, 5_000, 99_000] {
            let oldest = ages.oldest(at(reached)).unwrap();
            assert!(oldest <= reached as i64 + 1, "{reached}: {oldest}");
        }
        assert_eq!(ages.oldest(at(100_000)), None);
    }
}
