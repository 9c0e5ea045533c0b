//! The spool: one segmented log on disk, readers with cursors, and what stands beside it (quarantine).
//!
//! ```text
//! storekeeper thread ─► Writer ─► frames ─► segment files ◄─ Reader ◄─ one per output
//!                          │ commit: fsync, then publish        ▲
//!                          └──────────► Spool (shared) ─────────┘  committed position, cursors, segments
//! ```
//!
//! # What holds
//! * An object enters whole or not at all. Readers see only what lies before the committed position, and that
//!   position moves only behind an fsync ([`Writer::commit`]) or a recovery that synced ([`open`]).
//! * The log is the write-ahead log of the ledger: [`open`] tells every committed object behind a position.
//! * A segment is removed only when every output's *saved* cursor stands in a later one, and the ledger's
//!   checkpoint too ([`Writer::reclaim`]).
//! * One thread writes; readers run beside it in any thread. Nothing that a reader may see ever changes.
//!
//! # Room
//! `max_bytes` bounds the segment files. An object that finds no room ([`SpoolError::Full`]) waits until outputs
//! have drained; that this ends is a matter of arithmetic: once everything committed is acknowledged, saved and in
//! the ledger's checkpoint, what is left is the one segment with the committed position, and the waiting object. So
//! an object may take `max_bytes` less one segment, and one that wants more is refused with
//! [`SpoolError::TooLarge`] rather than waited for. Who waits must commit, checkpoint the ledger and reclaim.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub mod atomic;
pub mod disk;
pub mod frame;
pub mod pack;
pub mod position;
pub mod quarantine;
pub mod retry;
pub mod std_disk;
pub mod worker;

mod cursor;
mod reader;
mod recovery;
mod segment;
mod view;
mod writer;

pub use cursor::Cursor;
pub use position::{Committed, Position};
pub use quarantine::Quarantine;
pub use reader::{Reader, Visit};
pub use recovery::{Opened, Recovery, open};
pub use view::{Origin, Sight, View};
pub use writer::{Uncommitted, Writer};

use crate::limits;
use disk::{Disk, DiskFile};

/// Bytes of one write of a probe.
const PROBE_PART: usize = 16 * 1024;

/// What the configuration says of the spool.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of segment files at which writing waits.
    pub max_bytes: u64,
    /// Bytes at which the next segment file is begun; [`limits::SEGMENT_BYTES`] but in tests.
    pub segment_bytes: u64,
    /// Longest record, bytes.
    pub max_record_bytes: usize,
    /// How records are written from now on. What is there is read either way.
    pub compression: Compression,
    /// Names of the outputs.
    pub outputs: Vec<Box<str>>,
}

/// How records are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Each frame as one LZ4 block, where that is shorter.
    Lz4,
}

impl Options {
    /// Bytes of one segment file at most.
    fn segment_limit(&self) -> u64 {
        self.segment_bytes.max(segment::HEADER + (self.max_payload() + frame::OVERHEAD) as u64)
    }

    /// Bytes that one object may take.
    fn object_limit(&self) -> u64 {
        self.max_bytes.saturating_sub(self.segment_limit() + segment::HEADER)
    }

    /// Payload at which a records frame is closed: several fit into a segment.
    fn frame_payload(&self) -> usize {
        limits::FRAME_BYTES.min(usize::try_from(self.segment_bytes / 4).unwrap_or(usize::MAX)).max(256)
    }

    /// Largest payload that is written.
    fn max_payload(&self) -> usize {
        let lone = frame::RECORDS_HEAD + frame::RECORD_HEAD + self.max_record_bytes;
        lone.max(self.frame_payload()).max(frame::BEGIN_MAX)
    }

    /// Largest payload that is read: what is on disk may have been written under another configuration.
    fn max_readable(&self) -> usize {
        self.max_payload().max(limits::SEGMENT_BYTES as usize / 4 + frame::RECORDS_HEAD + frame::RECORD_HEAD)
    }

    fn validate(&self) -> Result<(), SpoolError> {
        let least = 4 * self.segment_limit();
        match self.max_bytes >= least {
            true => Ok(()),
            false => Err(SpoolError::Options(format!(
                "max_bytes is {}: with records of up to {} bytes the spool needs at least {least}",
                self.max_bytes, self.max_record_bytes
            ))),
        }
    }
}

/// What can go wrong, by what the caller does next.
#[derive(Debug)]
pub enum SpoolError {
    /// No room; nothing was written. Commit, checkpoint the ledger, reclaim, wait for room, call again.
    Full,
    /// The open object would never fit. Abort it, and set it aside.
    TooLarge {
        /// Bytes that an object may take in the spool.
        limit: u64,
    },
    /// Reading or writing failed. A writer refuses everything until [`Writer::rollback`]; a reader stands where it
    /// stood.
    Disk {
        /// What was tried.
        what: &'static str,
        /// The file or folder, within the state directory.
        path: Box<str>,
        /// Why it failed.
        error: io::Error,
    },
    /// Data of another version of trailspool: nothing was changed.
    Version {
        /// The file.
        path: Box<str>,
        /// Its version.
        version: u32,
    },
    /// The options contradict each other.
    Options(String),
    /// A mistake of the caller's.
    Misuse(&'static str),
}

impl SpoolError {
    pub(super) fn disk(
        what: &'static str,
        path: impl Into<Box<str>>,
    ) -> impl FnOnce(io::Error) -> SpoolError {
        let path = path.into();
        move |error| SpoolError::Disk { what, path, error }
    }

    /// Which error of the disk it was.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            SpoolError::Disk { error, .. } => Some(error.kind()),
            _ => None,
        }
    }

    /// Whether the file system, not the spool's own bound, has no room: after a rollback, wait and try again.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, SpoolError::Disk { error, .. }
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpoolError::Full => {
                f.write_str("the spool is full: it waits until outputs have acknowledged more")
            }
            SpoolError::TooLarge { limit } => {
                write!(f, "the object takes more than {limit} bytes in the spool: raise max_bytes of [spool]")
            }
            SpoolError::Disk { what, path, error } => write!(f, "cannot {what} {path}: {error}"),
            SpoolError::Version { path, version } => write!(
                f,
                "{path} has format version {version}, which this trailspool does not know: run the version that wrote it"
            ),
            SpoolError::Options(why) => f.write_str(why),
            SpoolError::Misuse(what) => write!(f, "a defect of trailspool, please report it: {what}"),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SpoolError::Disk { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The path of a segment within the state directory.
pub(crate) fn segment_path(segment: u64) -> String {
    segment::path(segment)
}

/// What writer, readers and outputs share.
pub struct Spool<D: Disk> {
    disk: D,
    options: Options,
    quarantine: Quarantine<D>,
    shared: Mutex<Shared>,
    /// Signalled when an output's need for old segments has changed.
    moved: Condvar,
    committed: watch::Sender<Position>,
    /// Changes when an output is asked to give up records.
    skips: watch::Sender<()>,
    /// One at a time saves an output's cursor, so that an older one never replaces a newer one.
    saving: Vec<Mutex<()>>,
}

#[derive(Debug)]
struct Shared {
    /// All segments of the log, oldest first. At most `max_bytes / segment_bytes` and a few.
    segments: Vec<Segment>,
    committed: Position,
    /// In the order of the options' outputs.
    outputs: Vec<Standing>,
    /// Counts how often an output has come to need fewer segments.
    moves: u64,
    /// Damaged spots that readers have come across.
    damaged: u64,
}

/// A segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    number: u64,
    /// Bytes in its file; what the file holds beyond is void. Final once a later segment holds committed frames.
    end: u64,
}

/// How far an output is.
#[derive(Debug, Clone, Copy)]
struct Standing {
    cursor: Cursor,
    saved: Cursor,
    /// Between these two there is no record: who acknowledged up to the first has acknowledged up to the second.
    empty: Option<((Position, u32), Position)>,
    /// It gives up its oldest records rather than hold a full spool.
    may_skip: bool,
    /// The segment that it is asked to give up.
    skip: Option<u64>,
}

impl<D: Disk> Spool<D> {
    /// Where the log ends for readers.
    pub fn committed(&self) -> Position {
        self.lock().committed
    }

    /// Wakes with every commit that ended an object.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.committed.subscribe()
    }

    /// Wakes whoever waits for commits, without one: there is something else to do.
    pub fn wake(&self) {
        self.committed.send_modify(|_| {});
    }

    /// Bytes of the segment files.
    pub fn used_bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.end).sum()
    }

    /// Damaged spots that readers have come across and set aside since the start.
    pub fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// Where damaged parts of the log are set aside.
    pub fn quarantine(&self) -> &Quarantine<D> {
        &self.quarantine
    }

    /// Finds out whether the disk takes new files, bytes and syncs again: writes [`limits::PROBE_BYTES`] to a file of
    /// their own, and removes it.
    pub fn probe(&self) -> io::Result<()> {
        let path = atomic::join(segment::DIR, &format!("probe{}", atomic::TEMP));
        let write = || -> io::Result<()> {
            let mut file = self.disk.create(&path)?;
            let part = [0; PROBE_PART];
            for offset in (0..limits::PROBE_BYTES).step_by(PROBE_PART) {
                file.write_at(offset as u64, &part)?;
            }
            file.sync().map(drop)
        };
        let written = write();
        let removed = self.disk.remove(&path);
        written.and(removed)
    }

    /// A reader that stands at the output's cursor.
    pub fn reader(self: &Arc<Self>, output: &str) -> Result<Reader<D>, SpoolError> {
        let index = self.index(output)?;
        let cursor = self.lock().outputs[index].cursor;
        Ok(Reader::new(self.clone(), Some(index), cursor))
    }

    /// A reader of everything that is committed behind a boundary of objects, and still there. No output moves by it.
    pub fn reader_of_log(self: &Arc<Self>, from: Position) -> Reader<D> {
        let first = Position { segment: from.segment, offset: from.offset.max(segment::HEADER) };
        Reader::new(self.clone(), None, Cursor::default().moved_to(first))
    }

    /// Everything before `cursor` is acknowledged. In memory; [`Spool::save`] makes it last. A cursor never goes
    /// back; its counts are taken as they are.
    pub fn advance(&self, output: &str, cursor: Cursor) {
        let Ok(index) = self.index(output) else { return };
        let mut shared = self.lock();
        let standing = &mut shared.outputs[index];
        let at = standing.empty.filter(|(from, _)| *from == cursor.place()).map(|(_, to)| to);
        let cursor = at.map_or(cursor, |to| cursor.moved_to(to));
        if cursor.place() >= standing.cursor.place() {
            self.stand(shared, index, cursor);
        }
    }

    /// Makes the output's cursor durable.
    pub fn save(&self, output: &str) -> io::Result<()> {
        let index = self.index(output).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        self.save_cursor(index)
    }

    /// Removes the cursors of outputs that the spool was not opened with, and returns whose they were. For when the
    /// configuration is at work: until then the one before it may come back. One that cannot be removed holds nothing.
    pub fn forget_other_outputs(&self) -> Result<Vec<String>, SpoolError> {
        let mut gone = Vec::new();
        for (name, _) in self.disk.list(cursor::DIR).map_err(SpoolError::disk("list", cursor::DIR))? {
            let Some(output) = cursor::output(&name).filter(|output| self.index(output).is_err()) else {
                continue;
            };
            let path = cursor::path(output);
            self.disk.remove(&path).map_err(SpoolError::disk("remove", path))?;
            gone.push(output.to_owned());
        }
        if !gone.is_empty() {
            self.disk.sync_dir(cursor::DIR).map_err(SpoolError::disk("sync", cursor::DIR))?;
        }
        Ok(gone)
    }

    /// How far an output has acknowledged.
    pub fn cursor(&self, output: &str) -> Result<Cursor, SpoolError> {
        let index = self.index(output)?;
        Ok(self.lock().outputs[index].cursor)
    }

    /// Whether an output has acknowledged everything that is committed. Its reader has to have come to the end.
    pub fn drained(&self, output: &str) -> bool {
        let Ok(index) = self.index(output) else { return true };
        let shared = self.lock();
        shared.outputs[index].cursor.place() >= (shared.committed, 0)
    }

    /// From now on the output gives up its oldest records when the spool is full because of it.
    pub fn let_skip(&self, output: &str) {
        if let Ok(index) = self.index(output) {
            self.lock().outputs[index].may_skip = true;
        }
    }

    /// The spool is full. When nothing but outputs that may give up records needs the oldest segment, they are asked to
    /// give it up; otherwise nothing happens. `true`: some were asked, now or before.
    pub fn ask_to_skip(&self) -> bool {
        let mut shared = self.lock();
        let committed = shared.committed.segment;
        let Some(oldest) = shared.outputs.iter().map(|output| output.cursor.begin.segment).min() else {
            return false;
        };
        // the segment that is written cannot go
        let mut needing: Vec<&mut Standing> =
            shared.outputs.iter_mut().filter(|output| output.cursor.begin.segment == oldest).collect();
        if oldest >= committed || !needing.iter().all(|output| output.may_skip) {
            return false;
        }
        let mut news = false;
        for output in &mut needing {
            news |= output.skip.replace(oldest) != Some(oldest);
        }
        drop(shared);
        if news {
            self.skips.send_replace(());
        }
        true
    }

    /// Wakes when outputs are asked to give up records.
    pub fn subscribe_skips(&self) -> watch::Receiver<()> {
        self.skips.subscribe()
    }

    /// The segment that the output is asked to give up, with everything before it.
    pub fn wants_skipped(&self, output: &str) -> Option<u64> {
        let index = self.index(output).ok()?;
        self.lock().outputs[index].skip
    }

    /// The output has done so.
    pub fn skipped(&self, output: &str) {
        if let Ok(index) = self.index(output) {
            self.lock().outputs[index].skip = None;
        }
    }

    /// The oldest segment that an output has yet to read. The ledger's checkpoint should reach it: what is older
    /// waits for nothing else.
    pub fn needed_by_outputs(&self) -> u64 {
        let shared = self.lock();
        let needed = shared.outputs.iter().map(|output| output.cursor.begin.segment).min();
        needed.unwrap_or(shared.committed.segment)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Every change below is whole before anything can panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, output: &str) -> Result<usize, SpoolError> {
        let found = self.options.outputs.iter().position(|name| **name == *output);
        found.ok_or(SpoolError::Misuse("an output that the spool was not opened with"))
    }

    fn stand(&self, mut shared: MutexGuard<'_, Shared>, index: usize, cursor: Cursor) {
        let before = shared.outputs[index].cursor.begin.segment;
        shared.outputs[index].cursor = cursor;
        if cursor.begin.segment > before {
            shared.moves += 1;
            self.moved.notify_all();
        }
    }

    fn save_cursor(&self, index: usize) -> io::Result<()> {
        let _alone = self.saving[index].lock().unwrap_or_else(PoisonError::into_inner);
        let Standing { cursor, saved, .. } = self.lock().outputs[index];
        if cursor == saved {
            return Ok(());
        }
        cursor::save(&self.disk, &self.options.outputs[index], cursor)?;
        self.lock().outputs[index].saved = cursor;
        Ok(())
    }

    /// A reader found no record between `stand` and `end`. Objects without records must not hold segments, nor
    /// keep an output from being drained. Returns where the reader stands now.
    fn reached(&self, index: usize, stand: Cursor, end: Position) -> Cursor {
        let mut shared = self.lock();
        let standing = &mut shared.outputs[index];
        let known = standing.empty.filter(|(from, _)| *from == stand.place()).map(|(_, to)| (to, 0));
        standing.empty = Some((stand.place(), end));
        let acknowledged = standing.cursor;
        if acknowledged.place() == stand.place() || Some(acknowledged.place()) == known {
            let cursor = acknowledged.moved_to(end);
            if cursor != acknowledged {
                self.stand(shared, index, cursor);
            }
            let Cursor { delivered, rejected, skipped, .. } = stand;
            return Cursor { delivered, rejected, skipped, ..cursor };
        }
        stand
    }

    /// Waits until an output needs fewer segments than at `seen`, or the time is over; what to pass next time.
    fn wait_moved(&self, seen: u64, timeout: Duration) -> u64 {
        let shared = self.lock();
        let waited = self.moved.wait_timeout_while(shared, timeout, |shared| shared.moves == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.moves
    }
}
