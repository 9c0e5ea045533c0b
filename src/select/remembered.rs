//! Keeps the window of duplicates over restarts and crashes. A shell around [`Window`].
//!
//! ```text
//! marks/SEQ.marks, SEQ sixteen hex digits, ascending; each is written once, atomically
//!  0  8  magic "TRLMARKS"
//!  8  4  version u32, 1
//! 12  4  count u32
//! 16  8  seed u64
//! 24 16  through, a position of the spool's log
//! 40  1  last: 1 when all marks before `through` are in this file or in earlier ones, else 0
//! 41  7  zeros
//! 48 16  each mark, oldest first
//!     4  crc32 of all bytes before
//! ```
//!
//! The spool's log is the write-ahead log, as it is the ledger's: at the start the committed records behind `through`
//! are read again and marked. Invariants, held by the power-cut tests of the storekeeper:
//!
//! * A mark is saved only after the commit of its object and after the ledger's checkpoint has passed it. So no mark on
//!   disk is of a record that a crash can take back.
//! * Segments of the spool with records behind `through` are kept ([`Remembered::needed`]).
//! * What is in doubt is forgotten, which lets duplicates through and loses nothing: a file that is damaged, of another
//!   seed, or ahead of the ledger (then that was removed, to collect everything again); all files, when the spool was
//!   not whole.
//!
//! Writing costs 16 bytes for each kept record, and a whole window now and then where restarts made small files.

use std::sync::Arc;

use super::duplicates::{FIELD, Mark, Window};
use crate::config::Source;
use crate::decode::field::{self, Field, Path};
use crate::limits;
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::{Position, Spool, SpoolError, atomic};

/// The folder of the files.
pub const DIR: &str = "marks";

const SUFFIX: &str = ".marks";
const MAGIC: &[u8; 8] = b"TRLMARKS";
const VERSION: u32 = 1;
const HEADER: usize = 48;
const CRC: usize = 4;
const MAX_BYTES: u64 = (HEADER + limits::MARKS_IN_FILE * Mark::BYTES + CRC) as u64;

/// The window of all sources that are filtered.
pub struct Remembered<D: Disk> {
    disk: D,
    window: Window,
    /// Some source is filtered.
    active: bool,
    files: Vec<File>,
    next: u64,
    /// Every mark before it is saved.
    saved: Position,
    /// Every mark before it is in the window.
    committed: Position,
}

#[derive(Debug, Clone, Copy)]
struct File {
    number: u64,
    marks: usize,
}

/// What a file says.
struct Contents {
    seed: u64,
    through: Position,
    last: bool,
    marks: Vec<Mark>,
}

impl<D: Disk> Remembered<D> {
    /// Opens the window of a state folder and marks what the spool has behind it. `ledger` is the ledger's
    /// checkpoint; `whole`: the spool was found as it was left; `seed`: chance, for a new window.
    ///
    /// # Errors
    /// The disk's. Nothing that was saved is lost by one.
    pub fn open(
        disk: D,
        sources: &[Source],
        (spool, whole): (&Arc<Spool<D>>, bool),
        ledger: Position,
        seed: u64,
    ) -> Result<Remembered<D>, SpoolError> {
        let filtered: Vec<&str> =
            sources.iter().filter(|source| !source.unfiltered).map(|source| &*source.name).collect();
        let mut new = Remembered {
            disk,
            window: Window::new(seed),
            active: !filtered.is_empty(),
            files: Vec::new(),
            next: 0,
            saved: Position::default(),
            committed: spool.committed(),
        };
        if new.active {
            new.load(if whole { ledger } else { Position::default() })?;
            new.replay(spool, &filtered)?;
        }
        Ok(new)
    }

    /// The window itself.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// What has ended is durable in the spool, up to there.
    pub fn commit(&mut self, through: Position) {
        self.window.commit();
        self.committed = self.committed.max(through);
    }

    /// So many marks wait to be saved that it is time.
    pub fn is_due(&self) -> bool {
        self.active && self.window.unsaved().len() >= limits::MARKS_IN_FILE
    }

    /// What the spool has behind this place is read again after a crash. `None`: nothing is.
    pub fn needed(&self) -> Option<Position> {
        self.active.then_some(self.saved)
    }

    /// Saves what is committed, if the ledger's checkpoint has passed it. An error leaves what was saved, and what is
    /// to be saved again.
    pub fn save(&mut self, ledger: Position) -> Result<(), SpoolError> {
        if !self.active || self.committed > ledger || self.saved == self.committed {
            return Ok(());
        }
        let anew = self.files.len() >= limits::MARK_FILES;
        let before = self.files.len();
        self.write(anew)?;
        self.saved = self.committed;
        self.window.saved();
        let mut held: usize = self.files.iter().map(|file| file.marks).sum();
        let useless = self.files.iter().enumerate().take_while(|(n, file)| {
            held -= file.marks;
            held >= limits::MARKS || (anew && *n < before)
        });
        let useless = useless.count();
        let gone = |disk: &D, file: &File| match disk.remove(&path(file.number)) {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        // One that stays repeats what is known, and is tried again.
        let mut n = 0;
        self.files.retain(|file| {
            n += 1;
            n > useless || !gone(&self.disk, file)
        });
        Ok(())
    }

    fn write(&mut self, anew: bool) -> Result<(), SpoolError> {
        let all = self.window.all();
        let skip = if anew { 0 } else { all.len() - self.window.unsaved().len() };
        let mut marks = all.skip(skip);
        loop {
            let count = marks.len().min(limits::MARKS_IN_FILE);
            let last = count == marks.len();
            let bytes = encode(self.window.seed(), self.committed, last, count, marks.by_ref().take(count));
            let name = name(self.next);
            atomic::replace(&self.disk, DIR, &name, &bytes)
                .map_err(fault("write", format!("{DIR}/{name}")))?;
            self.files.push(File { number: self.next, marks: count });
            self.next += 1;
            if last {
                return Ok(());
            }
        }
    }

    fn load(&mut self, ledger: Position) -> Result<(), SpoolError> {
        self.disk.create_dir(DIR).map_err(fault("create", DIR))?;
        atomic::sweep(&self.disk, DIR).map_err(fault("tidy", DIR))?;
        // A process that was killed between a rename and its sync left a name that we see and a power cut takes back.
        self.disk.sync_dir(DIR).map_err(fault("sync", DIR))?;
        let mut numbers = Vec::new();
        for (name, _) in self.disk.list(DIR).map_err(fault("list", DIR))? {
            numbers.extend(number(&name));
        }
        numbers.sort_unstable();
        self.next = numbers.last().map_or(0, |last| last.saturating_add(1));
        for number in numbers {
            let path = path(number);
            let contents = match read(&self.disk, &path)? {
                Ok(contents) if contents.through > ledger => Err("it is ahead of the ledger or of the spool"),
                Ok(contents) if !self.files.is_empty() && contents.seed != self.window.seed() => {
                    Err("it belongs to another window")
                }
                other => other,
            };
            match contents {
                Ok(contents) => self.take(number, &contents),
                Err(why) => {
                    log::warn!(
                        "{path}: {why}; it is removed, so some duplicates that arrive now are delivered again"
                    );
                    self.disk.remove(&path).map_err(fault("remove", path))?;
                }
            }
        }
        self.window.end_object(true);
        self.window.commit();
        self.window.saved();
        Ok(())
    }

    fn take(&mut self, number: u64, contents: &Contents) {
        if self.files.is_empty() {
            self.window = Window::new(contents.seed);
        }
        for mark in &contents.marks {
            self.window.insert(*mark);
        }
        if contents.last {
            self.saved = self.saved.max(contents.through);
        }
        self.files.push(File { number, marks: contents.marks.len() });
    }

    /// Marks the committed records behind what is saved.
    fn replay(&mut self, spool: &Arc<Spool<D>>, filtered: &[&str]) -> Result<(), SpoolError> {
        let id = Path::new(FIELD);
        let window = &mut self.window;
        spool.reader_of_log(self.saved).read(&mut |object, _, record, _| {
            if filtered.contains(&&*object.source)
                && let Field::Text(id) = field::find(record, &id)
                && let Some(mark) = window.mark(&object.source, id, record)
            {
                window.insert(mark);
            }
            std::ops::ControlFlow::Continue(())
        })?;
        self.window.end_object(true);
        self.window.commit();
        Ok(())
    }
}

/// A saved part of the window, as somebody finds it who only looks.
#[derive(Debug)]
pub struct Saved {
    /// Its file, from the state folder.
    pub path: String,
    /// How many marks are in it, and up to where in the spool's log they go; or why it is of no use.
    pub marks: Result<(usize, Position), &'static str>,
}

/// Looks at the saved window without touching it, beside a running agent.
///
/// # Errors
/// When the disk cannot be read.
pub fn saved<D: Disk>(disk: &D) -> Result<Vec<Saved>, SpoolError> {
    let listed = disk.list(DIR).map_err(fault("list", DIR))?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|(name, _)| number(name)).collect();
    numbers.sort_unstable();
    let (mut found, mut seed) = (Vec::with_capacity(numbers.len()), None);
    for path in numbers.into_iter().map(path) {
        let marks = match read(disk, &path) {
            Ok(Ok(contents)) if *seed.get_or_insert(contents.seed) != contents.seed => {
                Err("it belongs to another window")
            }
            Ok(contents) => contents.map(|contents| (contents.marks.len(), contents.through)),
            // removed since the listing
            Err(error) if error.kind() == Some(std::io::ErrorKind::NotFound) => continue,
            Err(error) => return Err(error),
        };
        found.push(Saved { path, marks });
    }
    Ok(found)
}

fn encode(
    seed: u64,
    through: Position,
    last: bool,
    count: usize,
    marks: impl Iterator<Item = Mark>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + count * Mark::BYTES + CRC);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(count as u32).to_le_bytes());
    bytes.extend_from_slice(&seed.to_le_bytes());
    bytes.extend_from_slice(&through.to_bytes());
    bytes.extend_from_slice(&[u8::from(last), 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(marks.flat_map(Mark::to_bytes));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Says what does not fit.
fn decode(bytes: &[u8]) -> Result<Contents, &'static str> {
    let (bytes, crc) = bytes.split_last_chunk::<CRC>().ok_or("it is cut short")?;
    if crc32fast::hash(bytes).to_le_bytes() != *crc {
        return Err("it does not fit its checksum");
    }
    let (header, marks) = bytes.split_first_chunk::<HEADER>().ok_or("it is cut short")?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| header[at + n]));
    let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| header[at + n]));
    let (marks, rest) = marks.as_chunks::<{ Mark::BYTES }>();
    if header[..8] != *MAGIC || half(8) != VERSION {
        return Err("it is of a format that this version of trailspool does not read");
    }
    if !rest.is_empty() || marks.len() != half(12) as usize {
        return Err("it is not as long as it says");
    }
    Ok(Contents {
        seed: word(16),
        through: Position::from_bytes(std::array::from_fn(|n| header[24 + n])),
        last: header[40] == 1,
        marks: marks.iter().map(|mark| Mark::from_bytes(*mark)).collect(),
    })
}

/// A file's contents; the inner error says why they are of no use.
fn read<D: Disk>(disk: &D, path: &str) -> Result<Result<Contents, &'static str>, SpoolError> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let file = disk.open(path)?;
        let len = file.len()?;
        if len > MAX_BYTES {
            return Ok(None);
        }
        let (mut bytes, mut done) = (vec![0; len as usize], 0);
        while done < bytes.len() {
            match file.read_at(done as u64, &mut bytes[done..])? {
                0 => return Ok(None),
                count => done += count,
            }
        }
        Ok(Some(bytes))
    };
    let bytes = read().map_err(fault("read", path))?;
    Ok(bytes.ok_or("it is not as long as such a file").and_then(|bytes| decode(&bytes)))
}

fn fault(what: &'static str, path: impl Into<Box<str>>) -> impl FnOnce(std::io::Error) -> SpoolError {
    let path = path.into();
    move |error| SpoolError::Disk { what, path, error }
}

fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

fn path(number: u64) -> String {
    format!("{DIR}/{}", name(number))
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}
