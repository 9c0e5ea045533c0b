//! Encoded records on their way to a receiver: the bytes of a batch, and where each record ends in them.
//!
//! A sender gets a view of a batch ([`Lines`]), never a copy: cloning and cutting one allocates nothing, however many
//! records it has. [`Buffer`] is what a batch is written into; it is used again once every view of it is gone.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits;

// an end is kept in four bytes: a batch and one huge record, escaped, are far below
const _: () = assert!(limits::BATCH_BYTES_RANGE.1 + 6 * limits::RECORD_BYTES_RANGE.1 < u32::MAX as u64);

/// Some neighbouring records of a batch, as they go over the wire. There is at least one.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Of the whole batch.
    bytes: Bytes,
    /// Offset in `bytes` behind each record of the batch.
    ends: Arc<Vec<u32>>,
    records: Range<usize>,
    /// Where the spool's cursor stands behind the first and behind the last record.
    places: Option<(Place, Place)>,
    /// Names of lines that are not those of their bytes, by their number in the batch, ascending.
    names: Arc<Vec<(u32, Name)>>,
}

/// What a line is known by. Two lines of the same record have the same, whatever a directory says of its account: it is
/// that of the line without that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    crc: u32,
    len: u32,
}

impl Name {
    /// That of a line without anything that may change.
    pub fn of(line: &[u8]) -> Name {
        Name { crc: crc32fast::hash(line), len: line.len() as u32 }
    }
}

/// A place in the spool: segment, offset of a frame in it, records of that frame.
pub type Place = (u64, u64, u32);

impl Lines {
    /// A single record.
    pub fn one(bytes: Bytes) -> Lines {
        let end = bytes.len() as u32;
        Lines { bytes, ends: Arc::new(vec![end]), records: 0..1, places: None, names: Arc::default() }
    }

    /// How many records.
    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// All of them, one behind the other. Shares the batch's buffer.
    pub fn bytes(&self) -> Bytes {
        self.bytes.slice(self.span(0..self.count()))
    }

    /// Bytes of all.
    pub fn total(&self) -> usize {
        self.span(0..self.count()).len()
    }

    /// One record, with its line break if its encoding ends with one. Panics beyond [`Lines::count`].
    pub fn get(&self, record: usize) -> &[u8] {
        &self.bytes[self.span(record..record + 1)]
    }

    /// Each record in turn.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.count()).map(|record| self.get(record))
    }

    /// Some of these. Panics beyond [`Lines::count`].
    pub fn slice(&self, records: Range<usize>) -> Lines {
        assert!(
            records.start <= records.end && records.end <= self.count(),
            "{records:?} of {}",
            self.count()
        );
        let first = self.records.start;
        Lines {
            bytes: self.bytes.clone(),
            ends: self.ends.clone(),
            records: first + records.start..first + records.end,
            places: None,
            names: self.names.clone(),
        }
    }

    /// A copy of some of these alone, by their numbers, ascending. Their names are those of their bytes.
    pub fn only(&self, records: &[usize]) -> Lines {
        let mut buffer = Buffer::default();
        buffer.begin(records.iter().map(|&record| self.get(record).len()).sum());
        records.iter().for_each(|&record| buffer.push(None, |out| out.extend_from_slice(self.get(record))));
        buffer.take()
    }

    /// The same, known by where they stand in the spool.
    pub fn at(self, first: Place, last: Place) -> Lines {
        Lines { places: Some((first, last)), ..self }
    }

    /// What one record is known by. Panics beyond [`Lines::count`].
    pub fn name(&self, record: usize) -> Name {
        let number = (self.records.start + record) as u32;
        match self.names.binary_search_by_key(&number, |&(number, _)| number) {
            Ok(at) => self.names[at].1,
            Err(_) => Name::of(self.get(record)),
        }
    }

    /// A name of these records: the same whenever the same ones are sent, also by another process, and whatever a
    /// directory says of their accounts; and that of no others. `None` for what does not come straight from the spool.
    pub fn key(&self) -> Option<String> {
        let (first, last) = self.places?;
        let mut crc = crc32fast::Hasher::new();
        match self.names.is_empty() {
            true => crc.update(&self.bytes[self.span(0..self.count())]),
            false => (0..self.count()).for_each(|record| {
                let Name { crc: name, len } = self.name(record);
                crc.combine(&crc32fast::Hasher::new_with_initial_len(name, u64::from(len)));
            }),
        }
        let place = |(segment, offset, record): Place| format!("{segment:x}.{offset:x}.{record:x}");
        Some(format!("{}-{}-{:x}-{:08x}", place(first), place(last), self.count(), crc.finalize()))
    }

    /// Where the bytes of some of these stand in the batch's.
    fn span(&self, records: Range<usize>) -> Range<usize> {
        let end_of = |record: usize| record.checked_sub(1).map_or(0, |last| self.ends[last] as usize);
        end_of(self.records.start + records.start)..end_of(self.records.start + records.end)
    }
}

/// What a batch is written into.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    names: Vec<(u32, Name)>,
}

impl Buffer {
    /// Empties it and makes room for `bytes`.
    pub fn begin(&mut self, bytes: usize) {
        self.bytes.clear();
        self.ends.clear();
        self.names.clear();
        self.bytes.reserve_exact(bytes);
    }

    /// Adds the record that `append` writes; `name`: its name, if that is not the one of its bytes.
    pub fn push(&mut self, name: Option<Name>, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.bytes);
        self.names.extend(name.map(|name| (self.ends.len() as u32, name)));
        self.ends.push(self.bytes.len() as u32);
    }

    /// Everything in it; an empty one stays behind.
    pub fn take(&mut self) -> Lines {
        let Buffer { bytes, ends, names } = std::mem::take(self);
        let records = 0..ends.len();
        Lines { bytes: bytes.into(), ends: Arc::new(ends), records, places: None, names: Arc::new(names) }
    }

    /// Takes memory back, unless a single huge record made it grow beyond `most` bytes or somebody still has a part.
    pub fn take_back(&mut self, lines: Lines, most: usize) {
        if let Ok(bytes) = lines.bytes.try_into_mut() {
            let bytes = Vec::from(bytes);
            if bytes.capacity() <= most {
                self.bytes = bytes;
            }
        }
        if let Ok(ends) = Arc::try_unwrap(lines.ends) {
            self.ends = ends;
        }
    }
}

/// For tests: one record for each line.
#[cfg(test)]
impl From<&[u8]> for Lines {
    fn from(text: &[u8]) -> Lines {
        let mut buffer = Buffer::default();
        text.split_inclusive(|&byte| byte == b'\n')
            .for_each(|line| buffer.push(None, |out| out.extend_from_slice(line)));
        buffer.take()
    }
}

#[cfg(test)]
impl From<&str> for Lines {
    fn from(text: &str) -> Lines {
        text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_knows_its_records_and_a_view_of_a_view_too() {
        let all = Lines::from("a\nbb\n\nccc\n");
        assert_eq!((all.count(), all.total(), all.bytes().as_ref()), (4, 10, &b"a\nbb\n\nccc\n"[..]));
        let some = all.slice(1..4);
        assert_eq!(some.iter().collect::<Vec<_>>(), [&b"bb\n"[..], b"\n", b"ccc\n"]);
        let last = some.slice(2..3);
        assert_eq!((last.get(0), last.bytes().as_ref(), last.total()), (&b"ccc\n"[..], &b"ccc\n"[..], 4));
        assert_eq!(Lines::one(Bytes::from_static(b"x")).get(0), b"x");
    }

    #[test]
    fn some_of_them_alone_are_a_copy_without_the_others() {
        let some = Lines::from("a\nbb\n\nccc\n").slice(1..4).only(&[0, 2]);
        assert_eq!((some.count(), some.bytes().as_ref()), (2, &b"bb\nccc\n"[..]));
    }

    #[test]
    fn a_key_is_that_of_the_same_records_at_the_same_place_alone() {
        let lines = Lines::from("a\nbb\n\nccc\n");
        assert_eq!(lines.key(), None);
        let key = |lines: Lines| lines.at((1, 0x20, 3), (1, 0x40, 7)).key().unwrap();
        let whole = key(lines.clone());
        assert!(whole.starts_with("1.20.3-1.40.7-4-"), "{whole}");
        assert_eq!(whole, key(Lines::from("a\nbb\n\nccc\n")));
        assert_ne!(whole, key(Lines::from("a\nbb\n\ncce\n")));
        assert_ne!(key(lines.slice(0..2)), key(lines.slice(0..3)));
    }

    #[test]
    fn what_a_directory_says_changes_no_key() {
        let derived = ["a\n", "bb\n", "ccc\n"];
        let sent = |lines: [&str; 3]| {
            let mut buffer = Buffer::default();
            for (line, derived) in lines.into_iter().zip(derived) {
                let name = (line != derived).then(|| Name::of(derived.as_bytes()));
                buffer.push(name, |out| out.extend_from_slice(line.as_bytes()));
            }
            buffer.take()
        };
        let key = |lines: Lines| lines.at((1, 0x20, 3), (1, 0x40, 7)).key().unwrap();
        let plain = sent(derived);
        let said = sent(["a\n", "bb, who is Bob\n", "ccc\n"]);
        assert_ne!(plain.bytes(), said.bytes());
        assert_eq!(key(plain.clone()), key(said.clone()));
        assert_eq!(key(plain.slice(1..3)), key(said.slice(1..3)));
        assert_eq!(said.slice(1..3).name(0), Name::of(b"bb\n"));
        assert_eq!(said.slice(1..3).name(1), Name::of(b"ccc\n"));
        assert_ne!(key(Lines::from("a\nbc\nccc\n")), key(plain));
    }

    #[test]
    fn the_buffer_is_used_again_unless_a_huge_record_made_it_grow_or_a_part_is_still_held() {
        let mut buffer = Buffer::default();
        buffer.begin(100);
        (0..3).for_each(|_| buffer.push(None, |out| out.extend_from_slice(b"record\n")));
        let place = buffer.bytes.as_ptr();
        let lines = buffer.take();
        drop(lines.slice(0..2));
        buffer.take_back(lines, 100);
        assert_eq!((buffer.bytes.as_ptr(), buffer.bytes.capacity()), (place, 100));
        buffer.begin(100);
        buffer.push(None, |out| out.extend_from_slice(&[0; 5000]));
        let lines = buffer.take();
        buffer.take_back(lines, 100);
        buffer.begin(100);
        assert_eq!(buffer.bytes.capacity(), 100);
        let lines = buffer.take();
        let held = lines.clone();
        buffer.take_back(lines, 100);
        assert_eq!(buffer.bytes.capacity(), 0);
        drop(held);
    }
}
