//! The streams of a source in [`SLICES`] parts, by their names: what is swept, retried and remembered together. A core.
//!
//! A stream is in the same slice for ever, whoever asks, so what is remembered of a slice holds after a restart, and
//! nothing has to be remembered of a stream: a source with five thousand streams remembers as much as one with one.

use time::Date;

/// Parts that a source's streams are divided into. A sweep takes one after the other, over a day.
pub const SLICES: usize = 64;

/// One of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice(u8);

impl Slice {
    /// The slice of a stream: what stands in its keys before the day, up to and with the `/`.
    pub fn of(stream: &str) -> Slice {
        Slice((crc32fast::hash(stream.as_bytes()) % SLICES as u32) as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Slice> {
        (0..SLICES as u8).map(Slice)
    }

    /// Below [`SLICES`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of slices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceSet(u64);

impl SliceSet {
    /// All of them.
    pub const ALL: SliceSet = SliceSet(u64::MAX);

    /// Whether the slice is in the set.
    pub fn has(self, slice: Slice) -> bool {
        self.0 & (1 << slice.0) != 0
    }

    /// Adds a slice.
    pub fn add(&mut self, slice: Slice) {
        self.0 |= 1 << slice.0;
    }

    /// Adds those of another set.
    pub fn add_all(&mut self, other: SliceSet) {
        self.0 |= other.0;
    }

    /// Whether none is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }
}

/// Of each slice the oldest day that something is said of, if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days([Option<Date>; SLICES]);

impl Default for Days {
    fn default() -> Days {
        Days([None; SLICES])
    }
}

impl Days {
    /// Takes in a day of a slice.
    pub fn note(&mut self, slice: Slice, day: Date) {
        let oldest = &mut self.0[slice.index()];
        *oldest = Some(oldest.map_or(day, |old| old.min(day)));
    }

    /// Takes in all that another one has.
    pub fn merge(&mut self, other: &Days) {
        for slice in Slice::all() {
            if let Some(day) = other.of(slice) {
                self.note(slice, day);
            }
        }
    }

    /// The oldest day of a slice.
    pub fn of(&self, slice: Slice) -> Option<Date> {
        self.0[slice.index()]
    }

    /// The oldest day of all.
    pub fn oldest(&self) -> Option<Date> {
        self.0.iter().flatten().min().copied()
    }

    /// Whether no slice has a day.
    pub fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A restart of another version must find each stream where the one before left it.
    #[test]
    fn a_stream_stays_in_its_slice_and_streams_are_spread() {
        assert_eq!(Slice::of("AWSLogs/111122223333/CloudTrail/us-east-1/").index(), 20);
        let mut streams = [0u32; SLICES];
        for n in 0..6400 {
            streams[Slice::of(&format!("AWSLogs/{n:012}/CloudTrail/us-east-1/")).index()] += 1;
        }
        assert!(streams.iter().all(|&count| (50..150).contains(&count)), "{streams:?}");
    }

    #[test]
    fn sets_and_days_keep_the_slices_apart() {
        let [first, .., last] = Slice::all().collect::<Vec<_>>()[..] else { panic!() };
        let mut set = SliceSet::default();
        assert!(set.is_empty());
        set.add(last);
        assert!(set.has(last) && !set.has(first) && set.len() == 1);
        assert!(Slice::all().all(|slice| SliceSet::ALL.has(slice)));

        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        let (mut days, mut others) = (Days::default(), Days::default());
        assert!(days.is_empty());
        days.note(first, day(7));
        days.note(first, day(9));
        others.note(first, day(5));
        others.note(last, day(8));
        days.merge(&others);
        assert_eq!(
            (days.of(first), days.of(last), days.oldest()),
            (Some(day(5)), Some(day(8)), Some(day(5)))
        );
    }
}
