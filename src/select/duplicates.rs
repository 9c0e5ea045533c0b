//! Finds records that were kept before: the same event, delivered twice or written by two trails of one source.
//!
//! A record is a duplicate when its `eventID` and all its bytes are those of a record that was kept from the same
//! source, within a window of the last [`limits::MARKS`] kept ones. Two records of one `eventID` whose bytes differ are
//! both kept: one of them was rewritten, and who looks into that wants to see both. A record without `eventID` is
//! never a duplicate.
//!
//! What is remembered of a record is a [`Mark`]: the 128 bits of the eventID, mixed with a hash of source and bytes
//! that is keyed with a random seed. So nobody who can write to a bucket can make up a record that hides another.
//!
//! # When a record counts as kept
//! A mark shares the fate of its object, exactly:
//!
//! ```text
//! insert ─► open ── end_object(true) ─► ended ── commit ─► committed, and may be saved
//!             └──── end_object(false), rollback ─┴──────► forgotten, as if never seen
//! ```
//!
//! A record may be a duplicate of one that is open or ended but not committed: it stands before it in the spool's log,
//! of which a crash keeps a beginning, so the later one is never durable without the earlier one.
//!
//! A full window forgets the oldest marks, also when newer ones are taken back later. That lets duplicates through,
//! never removes what was not kept.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::quality::FixedState;

use crate::limits;

/// The field that identifies an event.
pub(super) const FIELD: &str = "eventID";

/// Bytes of the longest eventID that is looked at; AWS's have 36.
const ID_BYTES: usize = 256;

/// What is remembered of a kept record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u128);

impl Mark {
    /// Bytes of a mark on disk, little-endian.
    pub const BYTES: usize = 16;

    /// As it stands on disk.
    pub fn to_bytes(self) -> [u8; Mark::BYTES] {
        self.0.to_le_bytes()
    }

    /// The inverse of [`Mark::to_bytes`].
    pub fn from_bytes(bytes: [u8; Mark::BYTES]) -> Mark {
        Mark(u128::from_le_bytes(bytes))
    }
}

/// The marks of the records kept last, oldest first.
pub struct Window {
    seed: u64,
    /// The mark of number n stands at n modulo the capacity.
    ring: Box<[Mark]>,
    /// Open addressing over the ring: 0 is empty, else a place in the ring and 1.
    index: Box<[u32]>,
    /// Numbers of marks: of the oldest that is remembered, and of the next ones to be saved, committed, ended and
    /// inserted. `oldest <= next` and `saved <= committed <= ended <= next`.
    oldest: u64,
    saved: u64,
    committed: u64,
    ended: u64,
    next: u64,
}

impl Window {
    /// An empty window of the usual size; `seed` is random, and goes with the marks.
    pub fn new(seed: u64) -> Window {
        Window::with_capacity(seed, limits::MARKS)
    }

    fn with_capacity(seed: u64, capacity: usize) -> Window {
        Window {
            seed,
            ring: vec![Mark(0); capacity].into(),
            index: vec![0; (2 * capacity).next_power_of_two()].into(),
            oldest: 0,
            saved: 0,
            committed: 0,
            ended: 0,
            next: 0,
        }
    }

    /// What the marks are keyed with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The mark of a record of a source; `id` is what stands between the quotes of its eventID. `None`: it has none
    /// that could identify it.
    pub fn mark(&self, source: &str, id: &[u8], record: &[u8]) -> Option<Mark> {
        if id.is_empty() || id.len() > ID_BYTES {
            return None;
        }
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        hasher.write(source.as_bytes());
        // No source's name holds a zero.
        hasher.write_u8(0);
        hasher.write(record);
        let hash = u128::from(hasher.finish());
        Some(Mark(self.id(id) ^ (hash << 64 | hash)))
    }

    fn id(&self, id: &[u8]) -> u128 {
        uuid(id).unwrap_or_else(|| {
            let half = |salt: u64| {
                let mut hasher = FixedState::with_seed(self.seed ^ salt).build_hasher();
                hasher.write(id);
                u128::from(hasher.finish())
            };
            half(1) << 64 | half(2)
        })
    }

    /// Remembers a mark for the object in work. `false`: it is remembered already.
    pub fn insert(&mut self, mark: Mark) -> bool {
        if self.slot_of(mark).is_ok() {
            return false;
        }
        if self.next - self.oldest == self.ring.len() as u64 {
            self.unlink(self.oldest);
            self.oldest += 1;
        }
        // Making room may have moved what stood on the way.
        let Err(slot) = self.slot_of(mark) else { return false };
        let place = self.place(self.next);
        self.ring[place] = mark;
        self.index[slot] = place as u32 + 1;
        self.next += 1;
        true
    }

    /// The object in work ended. Its marks stay if it is `collected`.
    pub fn end_object(&mut self, collected: bool) {
        if !collected {
            self.truncate(self.ended);
        }
        self.ended = self.next;
    }

    /// Every object that has ended is durable.
    pub fn commit(&mut self) {
        self.committed = self.ended;
    }

    /// Everything since the last commit is taken back, the object in work too.
    pub fn rollback(&mut self) {
        self.truncate(self.committed);
        self.ended = self.committed;
    }

    /// Committed marks that are not saved yet, oldest first.
    pub fn unsaved(&self) -> impl ExactSizeIterator<Item = Mark> {
        self.between(self.saved, self.committed)
    }

    /// All committed marks, oldest first.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Mark> {
        self.between(self.oldest, self.committed)
    }

    /// What is committed is saved.
    pub fn saved(&mut self) {
        self.saved = self.committed;
    }

    fn between(&self, from: u64, to: u64) -> impl ExactSizeIterator<Item = Mark> {
        let from = from.max(self.oldest).min(to);
        (0..(to - from) as usize).map(move |n| self.ring[self.place(from + n as u64)])
    }

    fn truncate(&mut self, to: u64) {
        for number in to.max(self.oldest)..self.next {
            self.unlink(number);
        }
        self.next = to;
        // All that was there before may have been pushed out by what is now taken back.
        self.oldest = self.oldest.min(to);
    }

    fn place(&self, number: u64) -> usize {
        (number % self.ring.len() as u64) as usize
    }

    /// The index's slot that holds the mark, or where it would go.
    fn slot_of(&self, mark: Mark) -> Result<usize, usize> {
        let mut slot = self.home(mark);
        loop {
            match self.index[slot] {
                0 => return Err(slot),
                place if self.ring[place as usize - 1] == mark => return Ok(slot),
                _ => slot = (slot + 1) & (self.index.len() - 1),
            }
        }
    }

    fn home(&self, mark: Mark) -> usize {
        // Keyed, as the mark is: nobody can make records whose marks crowd together.
        mark.0 as usize & (self.index.len() - 1)
    }

    /// Takes the mark of a number out of the index, and closes the gap.
    fn unlink(&mut self, number: u64) {
        let Ok(mut gap) = self.slot_of(self.ring[self.place(number)]) else { return };
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let place = self.index[slot];
            if place == 0 {
                break;
            }
            // An entry moves into the gap unless that lies before its home.
            let home = self.home(self.ring[place as usize - 1]);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(gap) & mask {
                self.index[gap] = place;
                gap = slot;
            }
        }
        self.index[gap] = 0;
    }
}

/// The bits of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, which AWS writes in lower case.
fn uuid(id: &[u8]) -> Option<u128> {
    if id.len() != 36 {
        return None;
    }
    id.iter().enumerate().try_fold(0u128, |bits, (at, byte)| match (at, byte) {
        (8 | 13 | 18 | 23, b'-') => Some(bits),
        (8 | 13 | 18 | 23, _) => None,
        (_, b'0'..=b'9') => Some(bits << 4 | u128::from(byte - b'0')),
        (_, b'a'..=b'f') => Some(bits << 4 | u128::from(byte - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const ID: &[u8] = b"8a0d3c55-7c43-4e0b-9f51-0123456789ab";

    fn mark(source: &str, id: &[u8], record: &str) -> Option<Mark> {
        Window::with_capacity(7, 4).mark(source, id, record.as_bytes())
    }

    #[test]
    fn a_mark_tells_sources_ids_and_bytes_apart() {
        let one = mark("prod", ID, "{}").unwrap();
        assert_eq!(mark("prod", ID, "{}"), Some(one));
        let upper = ID.to_ascii_uppercase();
        let others = [
            mark("lab", ID, "{}"),
            mark("prod", b"8a0d3c55-7c43-4e0b-9f51-0123456789ac", "{}"),
            mark("prod", ID, "{ }"),
            mark("prod", &upper, "{}"),
            mark("prod", b"another", "{}"),
            mark("pro", ID, "d{}"),
        ];
        for other in others {
            assert!(other.is_some_and(|other| other != one));
        }
        assert_eq!(mark("prod", b"", "{}"), None);
        assert_eq!(mark("prod", &[b'x'; ID_BYTES + 1], "{}"), None);
        assert_ne!(Window::with_capacity(8, 4).mark("prod", ID, b"{}"), Some(one), "keyed with the seed");
        assert_eq!(Mark::from_bytes(one.to_bytes()), one);
    }

    #[test]
    fn an_event_id_of_another_shape_is_still_one() {
        assert_eq!(uuid(ID), Some(0x8a0d_3c55_7c43_4e0b_9f51_0123_4567_89ab));
        for other in ["8a0d3c55-7c43-4e0b-9f51-0123456789aB", "8a0d3c5517c43-4e0b-9f51-0123456789ab", "x"] {
            assert_eq!(uuid(other.as_bytes()), None, "{other}");
        }
        assert_eq!(mark("prod", b"EXAMPLE", "{}"), mark("prod", b"EXAMPLE", "{}"));
        assert_ne!(mark("prod", b"EXAMPLE", "{}"), mark("prod", b"EXAMPLF", "{}"));
    }

    /// The same, written as plainly as possible.
    #[derive(Default)]
    struct Plain {
        committed: VecDeque<u128>,
        ended: Vec<u128>,
        open: Vec<u128>,
    }

    impl Plain {
        fn knows(&self, mark: u128) -> bool {
            self.committed.contains(&mark) || self.ended.contains(&mark) || self.open.contains(&mark)
        }

        /// The same turn for the window and for this.
        fn follow(&mut self, window: &mut Window, turn: Turn) {
            match turn {
                Turn::End(collected) => {
                    window.end_object(collected);
                    let open = std::mem::take(&mut self.open);
                    self.ended.extend(open.into_iter().filter(|_| collected));
                }
                Turn::Commit => {
                    window.commit();
                    self.committed.extend(self.ended.drain(..));
                }
                Turn::Rollback => {
                    window.rollback();
                    self.open.clear();
                    self.ended.clear();
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u128),
        Turn(Turn),
    }

    #[derive(Debug, Clone)]
    enum Turn {
        End(bool),
        Commit,
        Rollback,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Homes crowd together, so that chains form, wrap around and close.
        let mark = (0u128..3, 0u128..12).prop_map(|(home, n)| home | n << 64);
        prop_oneof![
            8 => mark.prop_map(Step::Insert),
            2 => any::<bool>().prop_map(|collected| Step::Turn(Turn::End(collected))),
            1 => Just(Step::Turn(Turn::Commit)),
            1 => Just(Step::Turn(Turn::Rollback)),
        ]
    }

    proptest! {
        #[test]
        fn a_window_with_room_knows_exactly_what_was_not_taken_back(steps in prop::collection::vec(step(), 0..120)) {
            let mut window = Window::with_capacity(0, 64);
            let mut plain = Plain::default();
            for step in steps {
                match step {
                    Step::Insert(mark) => {
                        prop_assert_eq!(window.insert(Mark(mark)), !plain.knows(mark));
                        if !plain.knows(mark) {
                            plain.open.push(mark);
                        }
                    }
                    Step::Turn(turn) => plain.follow(&mut window, turn),
                }
                let all: Vec<u128> = window.all().map(|mark| mark.0).collect();
                prop_assert_eq!(all, Vec::from(plain.committed.clone()));
            }
        }

        #[test]
        fn a_small_window_never_takes_for_kept_what_was_taken_back(steps in prop::collection::vec(step(), 0..200)) {
            let mut window = Window::with_capacity(0, 5);
            let mut plain = Plain::default();
            for step in steps {
                match step {
                    Step::Insert(mark) => match window.insert(Mark(mark)) {
                        // forgotten and seen again: it is kept once more
                        true => plain.open.push(mark),
                        false => prop_assert!(plain.knows(mark)),
                    },
                    Step::Turn(turn) => plain.follow(&mut window, turn),
                }
                prop_assert!(window.all().len() <= 5);
                prop_assert!(window.all().all(|mark| plain.committed.contains(&mark.0)));
                let linked = window.index.iter().filter(|place| **place != 0).count() as u64;
                prop_assert_eq!(linked, window.next - window.oldest);
            }
        }
    }

    #[test]
    fn only_what_is_committed_is_saved_and_once() {
        let mut window = Window::with_capacity(0, 8);
        for n in 1..=3 {
            assert!(window.insert(Mark(n)));
        }
        window.end_object(true);
        assert_eq!(window.unsaved().len(), 0);
        window.commit();
        assert!(window.insert(Mark(4)));
        assert_eq!(window.unsaved().collect::<Vec<_>>(), [Mark(1), Mark(2), Mark(3)]);
        window.saved();
        assert_eq!((window.unsaved().len(), window.all().len()), (0, 3));
    }

    #[test]
    fn the_usual_window_takes_no_more_than_two_megabytes() {
        let window = Window::new(1);
        let bytes = size_of_val(&*window.ring) + size_of_val(&*window.index);
        assert!(bytes <= 2 * 1024 * 1024, "{bytes}");
    }
}
