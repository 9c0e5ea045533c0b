//! What is known of accounts, and which of them are to be looked up: bounded in entries and in bytes, whatever records
//! bring. A core: `now` is an argument.
//!
//! An answer is fresh for a time. One that names an entry is used for as long again while it is asked for anew, so that
//! busy accounts have no gaps. That nobody is there is believed for a shorter time: people join.
//!
//! Answers are kept in two halves. What is used moves to the young one; when that is full the old one is forgotten and
//! the young one becomes old: so what was not used for the longest time goes first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use crate::limits;

/// Longest time that an account is believed not to be in the directory.
pub const ABSENT: Duration = Duration::from_secs(300);
/// Bytes of an answer besides its texts: of the maps, the allocations, the entry itself.
const OVERHEAD: usize = 176;

/// Bounds and times.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Answers kept.
    pub entries: usize,
    /// Bytes that they take, about.
    pub bytes: usize,
    /// How long an answer is fresh.
    pub fresh: Duration,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing is to be asked.
    No,
    /// It waits to be asked.
    Waits,
    /// It waits now, and did not before.
    Queued,
    /// Too many wait.
    Dropped,
}

/// Answers, and questions that wait.
#[derive(Debug)]
pub struct Cache {
    bounds: Bounds,
    young: Half,
    old: Half,
    waiting: VecDeque<Arc<str>>,
    /// Those that wait, and those that are being asked.
    asked: HashSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Half {
    slots: HashMap<Box<str>, Slot>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Slot {
    /// `None`: nobody is there, or it is not clear who.
    entry: Option<Arc<Entry>>,
    since: Instant,
}

impl Cache {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Cache {
        Cache {
            bounds,
            young: Half::default(),
            old: Half::default(),
            waiting: VecDeque::new(),
            asked: HashSet::new(),
        }
    }

    /// What is known; what is not known, or not surely any more, is queued to be asked.
    pub fn find(&mut self, key: &str, now: Instant) -> (Option<Arc<Entry>>, Ask) {
        let Bounds { fresh, .. } = self.bounds;
        let Some(Slot { entry, since }) = self.slot(key) else { return (None, self.ask(key)) };
        let age = now.saturating_duration_since(since);
        match entry {
            Some(entry) if age < fresh => (Some(entry), Ask::No),
            Some(entry) if age < fresh * 2 => (Some(entry), self.ask(key)),
            None if age < fresh.min(ABSENT) => (None, Ask::No),
            _ => (None, self.ask(key)),
        }
    }

    /// The next question, if one waits. Until [`Cache::answer`] or [`Cache::give_up`] it is not queued again.
    pub fn next_question(&mut self) -> Option<Arc<str>> {
        self.waiting.pop_front()
    }

    /// The answer to a question.
    pub fn answer(&mut self, key: &str, entry: Option<Arc<Entry>>, now: Instant) {
        self.asked.remove(key);
        self.old.remove(key);
        self.young.remove(key);
        self.keep(key.into(), Slot { entry, since: now });
    }

    /// A question that has no answer: the next record asks it again.
    pub fn give_up(&mut self, key: &str) {
        self.asked.remove(key);
    }

    /// A question that could not be asked: it is the next one again.
    pub fn put_back(&mut self, key: Arc<str>) {
        self.waiting.push_front(key);
    }

    /// Whether any waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Answers kept.
    pub fn len(&self) -> usize {
        self.young.slots.len() + self.old.slots.len()
    }

    /// None is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ask(&mut self, key: &str) -> Ask {
        if self.asked.contains(key) {
            return Ask::Waits;
        }
        if self.asked.len() >= limits::DIRECTORY_WAITING {
            return Ask::Dropped;
        }
        let key: Arc<str> = key.into();
        self.asked.insert(key.clone());
        self.waiting.push_back(key);
        Ask::Queued
    }

    fn slot(&mut self, key: &str) -> Option<Slot> {
        if let Some(slot) = self.young.slots.get(key) {
            return Some(slot.clone());
        }
        let (key, slot) = self.old.remove(key)?;
        self.keep(key, slot.clone());
        Some(slot)
    }

    fn keep(&mut self, key: Box<str>, slot: Slot) {
        let Bounds { entries, bytes, .. } = self.bounds;
        let more = size(&key, &slot);
        let half = &self.young;
        if half.slots.len() >= (entries / 2).max(1) || half.bytes + more > bytes / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += more;
        self.young.slots.insert(key, slot);
    }
}

impl Half {
    fn remove(&mut self, key: &str) -> Option<(Box<str>, Slot)> {
        let (key, slot) = self.slots.remove_entry(key)?;
        self.bytes -= size(&key, &slot);
        Some((key, slot))
    }
}

fn size(key: &str, slot: &Slot) -> usize {
    OVERHEAD + key.len() + slot.entry.as_ref().map_or(0, |entry| entry.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRESH: Duration = Duration::from_secs(3600);

    fn cache(entries: usize, bytes: usize) -> Cache {
        Cache::new(Bounds { entries, bytes, fresh: FRESH })
    }

    fn entry(value: &str) -> Option<Arc<Entry>> {
        Entry::new(Arc::new(["mail".into()]), &[Some(value.to_owned())]).map(Arc::new)
    }

    #[allow(clippy::disallowed_methods, reason = "somewhere to begin")]
    fn begin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_question_is_asked_once_until_it_is_answered() {
        let (mut cache, now) = (cache(16, 1 << 20), begin());
        assert_eq!(cache.find("njsmith", now), (None, Ask::Queued));
        assert_eq!(cache.find("njsmith", now), (None, Ask::Waits));
        assert_eq!(cache.next_question().as_deref(), Some("njsmith"));
        assert_eq!(cache.find("njsmith", now), (None, Ask::Waits), "it is being asked");
        assert_eq!(cache.next_question(), None);
        cache.answer("njsmith", entry("j@x"), now);
        assert_eq!(cache.find("njsmith", now), (entry("j@x"), Ask::No));
        assert_eq!(cache.next_question(), None);
    }

    #[test]
    fn an_old_answer_is_used_while_it_is_asked_anew_and_a_very_old_one_is_not() {
        let (mut cache, now) = (cache(16, 1 << 20), begin());
        cache.answer("n", entry("a@x"), now);
        let late = now + FRESH;
        assert_eq!(cache.find("n", late - Duration::from_secs(1)), (entry("a@x"), Ask::No));
        assert_eq!(cache.find("n", late), (entry("a@x"), Ask::Queued));
        assert_eq!(cache.find("n", now + 2 * FRESH), (None, Ask::Waits));
        let key = cache.next_question().unwrap();
        cache.answer(&key, entry("b@x"), late);
        assert_eq!(cache.find("n", late), (entry("b@x"), Ask::No));
    }

    #[test]
    fn that_nobody_is_there_is_believed_for_a_shorter_time() {
        let (mut cache, now) = (cache(16, 1 << 20), begin());
        cache.answer("n", None, now);
        assert_eq!(cache.find("n", now + ABSENT - Duration::from_secs(1)), (None, Ask::No));
        assert_eq!(cache.find("n", now + ABSENT), (None, Ask::Queued));
        assert!(ABSENT < FRESH);
    }

    #[test]
    fn questions_that_find_no_room_are_dropped_and_asked_again_later() {
        let (mut cache, now) = (cache(16, 1 << 20), begin());
        for n in 0..limits::DIRECTORY_WAITING {
            assert_eq!(cache.find(&format!("n{n}"), now).1, Ask::Queued);
        }
        assert_eq!(cache.find("nlate", now), (None, Ask::Dropped));
        let first = cache.next_question().unwrap();
        cache.put_back(first.clone());
        assert_eq!(cache.next_question(), Some(first.clone()));
        assert_eq!(cache.find("nlate", now).1, Ask::Dropped, "the first is still being asked");
        cache.give_up(&first);
        assert_eq!(cache.find("nlate", now).1, Ask::Queued);
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let (mut cache, now) = (cache(64, 1 << 20), begin());
        cache.answer("busy", entry("b@x"), now);
        for n in 0..1000 {
            cache.answer(&format!("n{n}"), None, now);
            assert_eq!(cache.find("busy", now), (entry("b@x"), Ask::No), "{n}");
        }
        assert!(cache.len() <= 64);
        assert_eq!(cache.find("n0", now).1, Ask::Queued, "forgotten");
    }

    proptest! {
        #[test]
        fn entries_and_bytes_stay_within_their_bounds_and_are_counted_right(
            steps in proptest::collection::vec((0..40u32, 0..300usize, any::<bool>()), 0..300),
        ) {
            let (mut cache, now) = (cache(20, 8 * 1024), begin());
            for (key, len, found) in steps {
                let key = format!("n{key}");
                if found {
                    cache.answer(&key, entry(&"x".repeat(len)), now);
                } else {
                    cache.find(&key, now);
                }
                let count = |half: &Half| half.slots.iter().map(|(key, slot)| size(key, slot)).sum::<usize>();
                prop_assert_eq!((cache.young.bytes, cache.old.bytes), (count(&cache.young), count(&cache.old)));
                prop_assert!(cache.young.bytes + cache.old.bytes <= 8 * 1024);
                prop_assert!(cache.len() <= 20);
                prop_assert!(cache.young.slots.keys().all(|key| !cache.old.slots.contains_key(key)));
            }
        }
    }
}
