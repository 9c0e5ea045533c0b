//! What could not be processed, with its raw bytes: objects, records, damaged parts of the spool.
//!
//! ```text
//! quarantine/<32 hex digits>.aside     SHA-256 of source, bucket, key, index and output, cut to 128 bits
//!  0  8  magic "TRLASIDE"
//!  8  4  version u32, 1
//! 12  4  index u32; 0xffffffff: a whole object
//! 16     source, bucket, key, output ("": none), reason, detail: each u16 length and UTF-8 bytes
//!        raw bytes
//!        given u64: raw bytes there were; more than are here when they were cut off
//!        crc32 of everything before
//! ```
//!
//! * An entry is durable when [`Quarantine::put`] or [`QuarantineWriter::finish`] returns `Ok`; a power cut before
//!   leaves the entry of before, or none.
//! * The name comes from what was set aside: to do it again after a crash replaces the entry. One that would keep fewer
//!   bytes than the entry that is there does not.
//! * Bounded: when `max_bytes` are reached, entries are kept without raw bytes; beyond
//!   [`limits::QUARANTINE_ENTRIES`] they are only counted. Nothing ever waits for room here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::atomic;
use super::disk::{Disk, DiskFile};
use super::frame;
use super::segment::read_full;
use crate::limits;
use crate::record::ObjectId;

/// The folder of the quarantine.
pub const DIR: &str = "quarantine";

const SUFFIX: &str = ".aside";
const MAGIC: &[u8; 8] = b"TRLASIDE";
const VERSION: u32 = 1;
const WHOLE_OBJECT: u32 = u32::MAX;
/// Most bytes of an output's name or a reason.
const WORD_BYTES: usize = 64;
/// Most bytes before the raw bytes.
const HEAD_MAX: usize =
    16 + 6 * 2 + 2 * frame::NAME_BYTES + limits::KEY_BYTES + 2 * WORD_BYTES + limits::QUARANTINE_DETAIL_BYTES;
const TRAILER: usize = 12;
/// Bytes read at a time.
const READ: usize = 8192;

/// What is set aside, and why.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The object it comes from.
    pub object: &'a ObjectId,
    /// Index of the record in the object; `None`: the whole object.
    pub index: Option<u32>,
    /// The output that refused it; `None`: it did not get that far.
    pub output: Option<&'a str>,
    /// A short stable word, e.g. `not-json`.
    pub reason: &'a str,
    /// For the person who looks into it. Cut to [`limits::QUARANTINE_DETAIL_BYTES`].
    pub detail: &'a str,
}

/// An [`Entry`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the quarantine.
    pub id: String,
    /// The object it comes from.
    pub object: ObjectId,
    /// Index of the record in the object; `None`: the whole object.
    pub index: Option<u32>,
    /// The output that refused it.
    pub output: Option<Box<str>>,
    /// Why, as a word.
    pub reason: Box<str>,
    /// Why, in words.
    pub detail: Box<str>,
    /// Raw bytes that are kept.
    pub kept: u64,
    /// Raw bytes there were.
    pub given: u64,
}

/// What was kept of the raw bytes of something that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of them.
    Whole,
    /// Some or none; its entry says how many there were.
    Cut,
    /// There is no entry: it was only counted.
    Counted,
}

/// What the quarantine holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Entries since the start that were only counted.
    pub only_counted: u64,
}

/// The quarantine. Clones share it.
pub struct Quarantine<D: Disk> {
    disk: D,
    shared: Arc<Shared>,
}

struct Shared {
    max_bytes: u64,
    max_entries: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    totals: Totals,
    /// Records that are to be sent again: the output, and the entry.
    offers: VecDeque<(Box<str>, String)>,
    /// For temporary names: two threads may set the same thing aside at once.
    writers: u64,
}

impl<D: Disk> Clone for Quarantine<D> {
    fn clone(&self) -> Quarantine<D> {
        Quarantine { disk: self.disk.clone(), shared: self.shared.clone() }
    }
}

impl<D: Disk> Quarantine<D> {
    /// Opens the quarantine of a state directory, and removes what a crash left half written.
    pub fn open(disk: D, max_bytes: u64) -> io::Result<Quarantine<D>> {
        Quarantine::bounded(disk, max_bytes, limits::QUARANTINE_ENTRIES)
    }

    fn bounded(disk: D, max_bytes: u64, max_entries: u64) -> io::Result<Quarantine<D>> {
        disk.create_dir(DIR)?;
        atomic::sweep(&disk, DIR)?;
        let mut totals = Totals::default();
        for (_, len) in disk.list(DIR)?.iter().filter(|(name, _)| name.ends_with(SUFFIX)) {
            totals.entries += 1;
            totals.bytes += len;
        }
        let state = Mutex::new(State { totals, ..State::default() });
        Ok(Quarantine { disk, shared: Arc::new(Shared { max_bytes, max_entries, state }) })
    }

    /// For looking at it only, beside a running agent: nothing is made or removed, and there are no totals.
    pub fn view(disk: D) -> Quarantine<D> {
        let state = Mutex::new(State::default());
        Quarantine { disk, shared: Arc::new(Shared { max_bytes: 0, max_entries: 0, state }) }
    }

    /// The file of an entry, within the state directory.
    pub fn path(id: &str) -> String {
        path(id)
    }

    /// Sets something aside. Durable on return, as far as there was room.
    pub fn put(&self, entry: &Entry<'_>, raw: &[u8]) -> io::Result<Kept> {
        let mut writer = self.writer(entry)?;
        writer.append(raw)?;
        writer.finish()
    }

    /// Sets something aside whose raw bytes come in parts.
    pub fn writer(&self, entry: &Entry<'_>) -> io::Result<QuarantineWriter<D>> {
        let id = id(entry);
        let before = self.length(&id)?;
        let mut state = self.shared.lock();
        let mut writer = QuarantineWriter {
            quarantine: self.clone(),
            temp: format!("{DIR}/{id}.{}{}", state.writers, atomic::TEMP),
            id,
            file: None,
            before: before.unwrap_or(0),
            len: 0,
            kept: 0,
            given: 0,
            crc: 0,
        };
        if before.is_none() && state.totals.entries >= self.shared.max_entries {
            state.totals.only_counted += 1;
            return Ok(writer);
        }
        state.writers += 1;
        drop(state);
        writer.file = Some(self.disk.create(&writer.temp)?);
        writer.write(&head(entry))?;
        Ok(writer)
    }

    /// So many more were set aside that are only counted.
    pub fn count_only(&self, more: u64) {
        self.shared.lock().totals.only_counted += more;
    }

    /// What it holds.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals
    }

    /// Visits all entries, in no order: the name of each, and what it is or why it cannot be read.
    pub fn list(&self, visit: &mut dyn FnMut(&str, io::Result<Stored>)) -> io::Result<()> {
        for (name, _) in self.disk.list(DIR)? {
            if let Some(id) = name.strip_suffix(SUFFIX) {
                visit(id, self.stored(id).map(|(stored, _)| stored));
            }
        }
        Ok(())
    }

    /// Reads an entry: passes its raw bytes to `visit` in parts, then returns the rest. The checksum is known to be
    /// good only at the end. [`io::ErrorKind::InvalidData`]: the file is damaged.
    pub fn read(&self, id: &str, visit: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Stored> {
        let (stored, start) = self.stored(id)?;
        let file = self.disk.open(&path(id))?;
        let mut buf = vec![0; READ.max(HEAD_MAX)];
        read_full(&file, 0, &mut buf[..start])?;
        let mut crc = frame::checksum(0, &[&buf[..start]]);
        let mut done = 0;
        while done < stored.kept {
            let part = (stored.kept - done).min(READ as u64) as usize;
            if read_full(&file, start as u64 + done, &mut buf[..part])? < part {
                return Err(damaged(id));
            }
            crc = frame::checksum(crc, &[&buf[..part]]);
            visit(&buf[..part])?;
            done += part as u64;
        }
        let mut trailer = [0; TRAILER];
        read_full(&file, start as u64 + done, &mut trailer)?;
        match frame::checksum(crc, &[&trailer[..8]]).to_le_bytes() == trailer[8..] {
            true => Ok(stored),
            false => Err(damaged(id)),
        }
    }

    /// An entry without its raw bytes.
    pub fn entry(&self, id: &str) -> io::Result<Stored> {
        self.stored(id).map(|(stored, _)| stored)
    }

    /// Offers a refused record to its output once more. There are no more offers than entries.
    pub fn offer(&self, output: &str, id: String) {
        let mut state = self.shared.lock();
        if !state.offers.iter().any(|(_, offered)| *offered == id) {
            state.offers.push_back((output.into(), id));
        }
    }

    /// The first entry that an output is offered.
    pub fn offered(&self, output: &str) -> Option<String> {
        let state = self.shared.lock();
        state.offers.iter().find(|(to, _)| **to == *output).map(|(_, id)| id.clone())
    }

    /// The request for an entry is settled, durably, and the offer of it with it.
    pub fn settle(&self, id: &str) -> io::Result<()> {
        super::retry::settle(&self.disk, id)?;
        self.shared.lock().offers.retain(|(_, offered)| offered != id);
        Ok(())
    }

    /// Whether some output has an offer before it.
    pub fn has_offers(&self) -> bool {
        !self.shared.lock().offers.is_empty()
    }

    /// Removes an entry, durably: it was dealt with.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        let Some(len) = self.length(id)? else { return Err(io::ErrorKind::NotFound.into()) };
        self.disk.remove(&path(id))?;
        state.totals.entries -= 1;
        state.totals.bytes -= len;
        self.disk.sync_dir(DIR)
    }

    fn length(&self, id: &str) -> io::Result<Option<u64>> {
        match self.disk.open(&path(id)) {
            Ok(file) => file.len().map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An entry without its raw bytes, and where these begin.
    fn stored(&self, id: &str) -> io::Result<(Stored, usize)> {
        let file = self.disk.open(&path(id))?;
        let len = file.len()?;
        let mut head = vec![0; HEAD_MAX];
        let read = read_full(&file, 0, &mut head)?;
        let (mut stored, start) = parse_head(id, &head[..read]).ok_or_else(|| damaged(id))?;
        let raw_end =
            len.checked_sub(TRAILER as u64).filter(|end| *end >= start as u64).ok_or_else(|| damaged(id))?;
        let mut given = [0; 8];
        read_full(&file, raw_end, &mut given)?;
        stored.kept = raw_end - start as u64;
        stored.given = u64::from_le_bytes(given);
        Ok((stored, start))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry that is being written. Dropped before [`QuarantineWriter::finish`]: nothing is set aside.
#[must_use]
pub struct QuarantineWriter<D: Disk> {
    quarantine: Quarantine<D>,
    id: String,
    temp: String,
    /// `None`: only counted.
    file: Option<D::File>,
    /// Bytes of the entry that will be replaced.
    before: u64,
    /// Bytes written, and in the totals.
    len: u64,
    kept: u64,
    given: u64,
    crc: u32,
}

impl<D: Disk> QuarantineWriter<D> {
    /// Adds raw bytes, as far as there is room.
    pub fn append(&mut self, raw: &[u8]) -> io::Result<()> {
        // Once something was cut off, what follows would not belong behind what is there.
        let whole = self.kept == self.given;
        self.given += raw.len() as u64;
        let room = if whole && self.file.is_some() { self.room() } else { 0 };
        let part = usize::try_from(room).unwrap_or(usize::MAX).min(raw.len());
        self.kept += part as u64;
        if part > 0 { self.write(&raw[..part]) } else { Ok(()) }
    }

    /// Makes the entry durable.
    pub fn finish(mut self) -> io::Result<Kept> {
        if self.file.is_none() {
            return Ok(Kept::Counted);
        }
        self.write(&self.given.to_le_bytes())?;
        self.write(&self.crc.to_le_bytes())?;
        if let Some(file) = &mut self.file {
            let _proof = file.sync()?;
        }
        let disk = &self.quarantine.disk;
        let mut state = self.quarantine.shared.lock();
        let before = self.quarantine.length(&self.id)?;
        if self.kept < self.given && before.is_some_and(|before| before >= self.len) {
            // Dropped: the entry that is there keeps more.
            drop(state);
            let there = self.quarantine.entry(&self.id)?;
            return Ok(kept(there.kept, self.given));
        }
        disk.rename(&self.temp, &path(&self.id))?;
        state.totals.bytes -= before.unwrap_or(0);
        state.totals.entries += u64::from(before.is_none());
        self.file = None;
        disk.sync_dir(DIR)?;
        Ok(kept(self.kept, self.given))
    }

    fn room(&self) -> u64 {
        let max = self.quarantine.shared.max_bytes;
        let used = (self.quarantine.totals().bytes + TRAILER as u64).saturating_sub(self.before);
        max.saturating_sub(used).min((max / limits::QUARANTINE_ENTRY_FRACTION).saturating_sub(self.kept))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.quarantine.shared.lock().totals.bytes += bytes.len() as u64;
        let at = self.len;
        self.len += bytes.len() as u64;
        self.crc = frame::checksum(self.crc, &[bytes]);
        file.write_at(at, bytes)
    }
}

impl<D: Disk> Drop for QuarantineWriter<D> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            self.quarantine.shared.lock().totals.bytes -= self.len;
            if let Err(error) = self.quarantine.disk.remove(&self.temp) {
                log::warn!("cannot remove {}, which the next start will: {error}", self.temp);
            }
        }
    }
}

fn kept(kept: u64, given: u64) -> Kept {
    if kept < given { Kept::Cut } else { Kept::Whole }
}

fn path(id: &str) -> String {
    format!("{DIR}/{id}{SUFFIX}")
}

fn id(entry: &Entry<'_>) -> String {
    let index = entry.index.unwrap_or(WHOLE_OBJECT).to_le_bytes();
    let mut hash = Sha256::new();
    for text in [&*entry.object.source, &*entry.object.bucket, &*entry.object.key, entry.output.unwrap_or("")]
    {
        hash.update(text);
        hash.update([0]);
    }
    hash.update(index);
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(entry: &Entry<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_MAX);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&entry.index.unwrap_or(WHOLE_OBJECT).to_le_bytes());
    for (text, max) in [
        (&*entry.object.source, frame::NAME_BYTES),
        (&*entry.object.bucket, frame::NAME_BYTES),
        (&*entry.object.key, limits::KEY_BYTES),
        (entry.output.unwrap_or(""), WORD_BYTES),
        (entry.reason, WORD_BYTES),
        (entry.detail, limits::QUARANTINE_DETAIL_BYTES),
    ] {
        let text = &text[..text.floor_char_boundary(max)];
        head.extend_from_slice(&(text.len() as u16).to_le_bytes());
        head.extend_from_slice(text.as_bytes());
    }
    head
}

/// The inverse of [`head`]; the sizes are not known from it.
fn parse_head(id: &str, bytes: &[u8]) -> Option<(Stored, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = frame::take_u32(rest)?;
    let (index, rest) = frame::take_u32(rest)?;
    let (source, rest) = frame::take_text(rest)?;
    let (bucket, rest) = frame::take_text(rest)?;
    let (key, rest) = frame::take_text(rest)?;
    let (output, rest) = frame::take_text(rest)?;
    let (reason, rest) = frame::take_text(rest)?;
    let (detail, rest) = frame::take_text(rest)?;
    let stored = Stored {
        id: id.to_owned(),
        object: ObjectId { source: source.into(), bucket: bucket.into(), key: key.into() },
        index: (index != WHOLE_OBJECT).then_some(index),
        output: (!output.is_empty()).then(|| output.into()),
        reason: reason.into(),
        detail: detail.into(),
        kept: 0,
        given: 0,
    };
    (version == VERSION).then_some((stored, bytes.len() - rest.len()))
}

fn damaged(id: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::{EIO, ENOSPC, FaultDisk, Op, Survive};

    fn object(key: &str) -> ObjectId {
        ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() }
    }

    fn entry(object: &ObjectId) -> Entry<'_> {
        Entry { object, index: None, output: None, reason: "not-gzip", detail: "begins with <html>" }
    }

    fn contents<D: Disk>(quarantine: &Quarantine<D>, object: &ObjectId) -> io::Result<(Vec<u8>, Stored)> {
        let mut raw = Vec::new();
        let stored = quarantine.read(&id(&entry(object)), &mut |part| {
            raw.extend_from_slice(part);
            Ok(())
        })?;
        Ok((raw, stored))
    }

    /// The totals are what a new start would count.
    fn assert_books(disk: &FaultDisk, quarantine: &Quarantine<FaultDisk>) {
        let again = Quarantine::open(disk.preview(Survive::Everything), 0).unwrap();
        let Totals { entries, bytes, .. } = quarantine.totals();
        assert_eq!((entries, bytes), (again.totals().entries, again.totals().bytes));
    }

    #[test]
    fn what_is_set_aside_is_there_with_its_bytes_and_the_reason() {
        let disk = FaultDisk::new();
        let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
        let object = object("k");
        let mut writer = quarantine.writer(&entry(&object)).unwrap();
        writer.append(b"<html").unwrap();
        writer.append(b">").unwrap();
        writer.finish().unwrap();
        let record =
            Entry { index: Some(3), output: Some("siem"), reason: "refused", detail: "400", object: &object };
        quarantine.put(&record, b"{}").unwrap();

        let after = Quarantine::open(disk.reboot(Survive::Nothing), 1 << 20).unwrap();
        assert_eq!(after.totals(), Totals { only_counted: 0, ..quarantine.totals() });
        let (raw, stored) = contents(&after, &object).unwrap();
        assert_eq!(
            (&*raw, &*stored.reason, &*stored.detail),
            (&b"<html>"[..], "not-gzip", "begins with <html>")
        );
        let mut all = Vec::new();
        after.list(&mut |_, stored| all.push(stored.unwrap())).unwrap();
        all.sort_by_key(|stored| stored.index);
        assert_eq!(all[0], stored);
        assert_eq!((all[1].index, all[1].output.as_deref(), all[1].kept), (Some(3), Some("siem"), 2));
        after.remove(&all[1].id).unwrap();
        assert_eq!(after.totals().entries, 1);
    }

    #[test]
    fn to_set_aside_again_replaces() {
        let disk = FaultDisk::new();
        let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
        let object = object("k");
        for raw in [&b"first"[..], b"second, longer", b"third"] {
            quarantine.put(&entry(&object), raw).unwrap();
            assert_eq!(contents(&quarantine, &object).unwrap().0, raw);
            assert_eq!(quarantine.totals().entries, 1);
            assert_books(&disk, &quarantine);
        }
    }

    #[test]
    fn a_power_cut_leaves_the_entry_of_before_or_the_new_one() {
        let object = object("k");
        let run = |disk: &FaultDisk| -> io::Result<()> {
            let quarantine = Quarantine::open(disk.clone(), 1 << 20)?;
            quarantine.put(&entry(&object), b"old")?;
            quarantine.put(&entry(&object), b"new").map(drop)
        };
        let whole = FaultDisk::new();
        run(&whole).unwrap();
        for fuse in 0..whole.steps() {
            let disk = FaultDisk::new();
            disk.cut_after(fuse);
            run(&disk).unwrap_err();
            for survive in (0..8).map(Survive::Random).chain([Survive::Nothing, Survive::Everything]) {
                let after = disk.reboot(survive);
                let quarantine = Quarantine::open(after.clone(), 1 << 20).unwrap();
                let names = after.list(DIR).unwrap();
                assert!(
                    names.len() <= 1 && names.iter().all(|(name, _)| name.ends_with(SUFFIX)),
                    "{names:?}"
                );
                if let Some((name, _)) = names.first() {
                    assert_eq!(name, &format!("{}{SUFFIX}", id(&entry(&object))));
                    let raw = contents(&quarantine, &object).unwrap().0;
                    assert!(raw == b"old" || raw == b"new");
                }
                quarantine.put(&entry(&object), b"new").unwrap();
                assert_eq!(contents(&quarantine, &object).unwrap().0, b"new");
            }
        }
    }

    #[test]
    fn an_error_sets_nothing_aside_and_leaves_no_litter() {
        let object = object("k");
        for (op, errno) in [(Op::Create, EIO), (Op::Write, ENOSPC), (Op::Sync, EIO), (Op::Rename, EIO)] {
            let disk = FaultDisk::new();
            let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
            disk.fail_next(op, errno);
            assert_eq!(
                quarantine.put(&entry(&object), b"raw").unwrap_err().raw_os_error(),
                Some(errno),
                "{op:?}"
            );
            assert_eq!(disk.list(DIR).unwrap(), [], "{op:?}");
            assert_eq!(quarantine.totals(), Totals::default());
            quarantine.put(&entry(&object), b"raw").unwrap();
            assert_books(&disk, &quarantine);
        }
    }

    #[test]
    fn when_it_is_full_entries_are_kept_without_raw_bytes_and_then_only_counted() {
        let max = 4000;
        let disk = FaultDisk::new();
        let quarantine = Quarantine::bounded(disk.clone(), max, 100).unwrap();
        let big = object("big");
        assert_eq!(quarantine.put(&entry(&big), &[7; 3000]).unwrap(), Kept::Cut);
        let (raw, stored) = contents(&quarantine, &big).unwrap();
        assert_eq!((raw.len() as u64, stored.given), (max / limits::QUARANTINE_ENTRY_FRACTION, 3000));
        let put = |n: u64| quarantine.put(&entry(&object(&n.to_string())), &[1; 900]).unwrap();
        let became: Vec<Kept> = (0..105).map(put).collect();
        assert_eq!((became[0], became[98], became[99]), (Kept::Whole, Kept::Cut, Kept::Counted));
        let totals = quarantine.totals();
        assert_eq!((totals.entries, totals.only_counted), (100, 6));
        let head = HEAD_MAX as u64 + TRAILER as u64;
        assert!(totals.bytes <= max + totals.entries * head);
        let mut raw = 0;
        quarantine.list(&mut |_, stored| raw += stored.unwrap().kept).unwrap();
        assert!(raw <= max && raw > max / 2, "{raw}");
        assert_books(&disk, &quarantine);
        // An entry with raw bytes is not replaced by one without, and what it keeps is kept.
        assert_eq!(put(0), Kept::Whole);
        quarantine.put(&entry(&big), &[7; 3000]).unwrap();
        assert_eq!(
            contents(&quarantine, &big).unwrap().0.len() as u64,
            max / limits::QUARANTINE_ENTRY_FRACTION
        );
        assert_books(&disk, &quarantine);
    }

    #[test]
    fn damage_is_noticed() {
        let disk = FaultDisk::new();
        let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
        let object = object("k");
        quarantine.put(&entry(&object), b"raw bytes").unwrap();
        let path = path(&id(&entry(&object)));
        for offset in 0..disk.contents(&path).unwrap().len() {
            disk.flip(&path, offset, 0x20);
            assert_eq!(
                contents(&quarantine, &object).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{offset}"
            );
            disk.flip(&path, offset, 0x20);
        }
    }
}
