//! The ledger: which objects are in the spool, for ever, and the books of each source.
//!
//! ```text
//! ledger/checkpoint                  how far into the spool's log the runs and the books reach
//! ledger/SOURCE.YYYYMMDD.SEQ.run     sorted entries of 16 bytes, a few runs for each source and day
//! ```
//!
//! The spool's log is the write-ahead log: what [`Ledger::insert`] takes stays in memory until
//! [`Ledger::save`] writes it as one sorted run for each source and day, and after a crash [`Ledger::replay`]
//! takes it again from the end frames behind the checkpoint. Invariants, each held by the power-cut tests in
//! `crash.rs`:
//!
//! * A run is true by itself: an entry is in it only when the object is durable in the spool. So no
//!   run is wrong after a crash: one that it left beside the checkpoint, or beside the merged one, only
//!   repeats what is known.
//! * Runs are durable before the checkpoint that reaches past their entries; a merged run before its parts
//!   are removed.
//! * The books are the checkpoint's and what is replayed behind it: exact, each object once.
//! * Entries hold keys, never times: an object is known only if it was inserted itself, whatever its
//!   neighbours are.
//! * An object that was quarantined and then collected after all has a second entry ([`again`]): so that it is not
//!   collected once more when the request for it outlives a crash.
//! * Sources share nothing. A source that leaves the configuration keeps its entries and books until
//!   [`Ledger::forget`].
//!
//! A damaged file is an error that names it ([`LedgerError::Corrupt`]) and says what removing it costs: at
//! most, objects that are collected once more. It is never taken for an empty one: that would collect a day
//! again without anybody knowing why. A damaged run stops look-ups that need the damaged block, and merges of
//! its day; all else goes on.
//!
//! Memory: [`limits::LEDGER_MEMORY_ENTRIES`] entries, the names of the runs (a handful for each source and
//! day until [`Ledger::expire`]), the open files of [`limits::LEDGER_OPEN_RUNS`] runs, one block for look-ups
//! and one for each run in a merge.

mod checkpoint;
#[cfg(test)]
mod crash;
mod day;
mod error;
mod lookup;
mod run;
mod save;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use time::Date;

use self::checkpoint::Checkpoint;
use self::day::Day;
pub use self::error::LedgerError;
use self::lookup::Lookup;
use self::run::{DIR, Name};
pub use self::verify::{checkpoint, verify};
use crate::limits;
use crate::record::{Counts, ObjectFate};
use crate::spool::atomic;
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::position::{Committed, Position};

/// An object whose end is durable in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Name of the source: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
    pub source: &'a str,
    /// Day of the key's partition. Look-ups must name the same.
    pub day: Date,
    /// The object's key.
    pub key: &'a str,
    /// How it ended.
    pub fate: ObjectFate,
    /// What became of its records.
    pub counts: Counts,
}

/// Totals of a source over the life of the state folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Objects whose records are in the spool.
    pub objects_collected: u64,
    /// Objects that were set aside as a whole.
    pub objects_quarantined: u64,
    /// Their records.
    pub counts: Counts,
}

/// The ledger of all sources. Look-ups wait for no save; whatever changes it waits for its turn.
pub struct Ledger<D: Disk> {
    disk: D,
    memory_entries: usize,
    /// Held by whatever changes the ledger.
    turn: Mutex<Turn>,
    /// Held for moments, never over the disk's work.
    state: Mutex<State>,
    lookup: Mutex<Lookup<D>>,
}

struct Turn {
    /// Number of the next run.
    next: u64,
    /// Files were removed since the last sync of the folder.
    unsynced: bool,
}

#[derive(Default)]
struct State {
    sources: BTreeMap<Box<str>, Source>,
    /// Where the newest inserted object ends.
    through: Position,
    /// What the checkpoint on disk says.
    saved: Checkpoint,
}

#[derive(Default)]
struct Source {
    books: Books,
    /// What no run has yet.
    memory: Arc<Memory>,
    days: BTreeMap<Day, Runs>,
}

type Memory = BTreeSet<(Day, run::Entry)>;

/// The runs of one source and day, largest first: most look-ups end at the first.
#[derive(Default)]
struct Runs {
    list: Vec<RunRef>,
    /// Runs at which the next merge is tried; more than [`limits::LEDGER_RUNS`] after one that failed.
    merge_at: usize,
}

/// A run in the ledger's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunRef {
    seq: u64,
    bytes: u64,
}

impl<D: Disk> Ledger<D> {
    /// Opens the ledger of a state folder; an empty one when there is none. [`Ledger::replay`] must follow
    /// with everything in the spool behind [`Ledger::checkpoint`], before anything else is asked.
    pub fn open(disk: D) -> Result<Ledger<D>, LedgerError> {
        Ledger::open_bounded(disk, limits::LEDGER_MEMORY_ENTRIES)
    }

    pub(crate) fn open_bounded(disk: D, memory_entries: usize) -> Result<Ledger<D>, LedgerError> {
        disk.create_dir(DIR).map_err(LedgerError::disk("create", DIR))?;
        atomic::sweep(&disk, DIR).map_err(LedgerError::disk("tidy", DIR))?;
        // A process that was killed between a rename and its sync left a name that we see and a power cut takes back.
        disk.sync_dir(DIR).map_err(LedgerError::disk("sync", DIR))?;
        let saved = read_checkpoint(&disk)?;
        let mut state = State { through: saved.through, ..State::default() };
        for (source, books) in &saved.books {
            state.sources.insert(source.clone(), Source { books: *books, ..Source::default() });
        }
        let mut next = 0;
        for (file, bytes) in disk.list(DIR).map_err(LedgerError::disk("list", DIR))? {
            match Name::parse(&file) {
                Some(name) => {
                    next = next.max(name.seq.saturating_add(1));
                    let source = state.sources.entry(name.source).or_default();
                    source.days.entry(name.day).or_default().add(RunRef { seq: name.seq, bytes });
                }
                None if file == checkpoint::FILE => {}
                None => log::warn!("ledger: {DIR}/{file} is none of trailspool's files; it is left alone"),
            }
        }
        state.saved = saved;
        let lookup = Mutex::new(Lookup::new(disk.clone()));
        Ok(Ledger {
            disk,
            memory_entries,
            turn: Mutex::new(Turn { next, unsynced: false }),
            state: Mutex::new(state),
            lookup,
        })
    }

    /// How far the ledger is durable: the spool replays what ends behind it, and must keep it until then.
    pub fn checkpoint(&self) -> Position {
        self.state().saved.through
    }

    /// At the start: an object that the spool has behind the checkpoint; it ends at `end`. In the order of
    /// the log. What ends before the checkpoint is in the books already and changes nothing. An error is one
    /// of [`Ledger::insert`]'s.
    pub fn replay(&self, entry: &Entry<'_>, end: Position) -> Result<(), LedgerError> {
        if end <= self.checkpoint() {
            return Ok(());
        }
        self.add(end, std::slice::from_ref(entry))
    }

    /// After a commit: the objects it covers, at most [`limits::COMMIT_OBJECTS`]. When the memory part would
    /// become too large it is saved first.
    ///
    /// `Err`: none of the objects was taken. They are in the spool, so collecting them again would double
    /// them: call again with the same, and nothing else, until it is `Ok`.
    pub fn insert(&self, committed: &Committed, entries: &[Entry<'_>]) -> Result<(), LedgerError> {
        self.add(committed.through, entries)
    }

    /// Whether the object is in the spool, or was. Reads a block or two of each of the day's runs; blocking.
    pub fn contains(&self, source: &str, day: Date, key: &str) -> Result<bool, LedgerError> {
        let (day, entry) = (Day::of(day), run::entry(source, key));
        let mut asked = None;
        loop {
            let runs = {
                let state = self.state();
                let Some(of_source) = state.sources.get(source) else { return Ok(false) };
                if of_source.memory.contains(&(day, entry)) {
                    return Ok(true);
                }
                of_source.days.get(&day).map_or_else(Vec::new, |runs| runs.list.clone())
            };
            match self.lock_lookup().find(source, day, &runs, &entry)? {
                Some(found) => return Ok(found),
                // A merge or an expiry took a run away between the two: the list is another one now.
                None if asked.as_ref() != Some(&runs) => asked = Some(runs),
                None => {
                    return Err(LedgerError::Corrupt {
                        path: format!("{DIR}/{source}.{day}.*.run"),
                        why: "a run was removed while trailspool was running",
                        remedy: "restart trailspool: the objects that it listed are collected once more",
                    });
                }
            }
        }
    }

    /// Writes the memory part as sorted runs, then the checkpoint, and returns it: the spool may drop what
    /// ends before. Then merges where a day has [`limits::LEDGER_RUNS`] runs; a merge that fails is logged
    /// and tried again later.
    ///
    /// `Err`: everything is known as before, from memory or from disk, and the checkpoint is the old one or,
    /// when its last sync failed, may be the new one.
    pub fn save(&self) -> Result<Position, LedgerError> {
        self.save_locked(&mut self.lock_turn())
    }

    /// The totals of a source; zeros for one that has none.
    pub fn books(&self, source: &str) -> Books {
        self.state().sources.get(source).map(|source| source.books).unwrap_or_default()
    }

    /// Names of the sources that have books or entries.
    pub fn sources(&self) -> Vec<Box<str>> {
        self.state().sources.keys().cloned().collect()
    }

    /// Drops a source's entries of the days before `before`; its books stay. What comes again for such a day
    /// is taken again. After a crash, entries of those days that were never saved are back until the next
    /// call. `Err`: some may be left; call again.
    pub fn expire(&self, source: &str, before: Date) -> Result<(), LedgerError> {
        let mut turn = self.lock_turn();
        let before = Day::of(before);
        let days = {
            let mut state = self.state();
            let Some(of_source) = state.sources.get_mut(source) else { return Ok(()) };
            if of_source.memory.first().is_some_and(|(day, _)| *day < before) {
                Arc::make_mut(&mut of_source.memory).retain(|(day, _)| *day >= before);
            }
            let kept = of_source.days.split_off(&before);
            std::mem::replace(&mut of_source.days, kept)
        };
        self.remove_days(source, days, &mut turn)
    }

    /// Drops everything of a source, its books as well, and durably: also what is still in the spool is not
    /// replayed. `Err`: some of it may be left; call again.
    pub fn forget(&self, source: &str) -> Result<(), LedgerError> {
        let mut turn = self.lock_turn();
        // What a former call could not remove is on disk only.
        let mut days: BTreeMap<Day, Runs> = BTreeMap::new();
        for (file, bytes) in self.disk.list(DIR).map_err(LedgerError::disk("list", DIR))? {
            if let Some(name) = Name::parse(&file).filter(|name| *name.source == *source) {
                days.entry(name.day).or_default().add(RunRef { seq: name.seq, bytes });
            }
        }
        self.state().sources.remove(source);
        self.save_locked(&mut turn)?;
        self.remove_days(source, days, &mut turn)
    }

    fn add(&self, through: Position, entries: &[Entry<'_>]) -> Result<(), LedgerError> {
        let mut turn = self.lock_turn();
        self.check_sources(entries)?;
        let held: usize = self.state().sources.values().map(|source| source.memory.len()).sum();
        let twice = entries.iter().filter(|entry| entry.fate == ObjectFate::Recollected).count();
        if held > 0 && held + entries.len() + twice > self.memory_entries {
            self.save_locked(&mut turn)?;
        }
        let mut state = self.state();
        for entry in entries {
            let source = match state.sources.get_mut(entry.source) {
                Some(source) => source,
                None => state.sources.entry(entry.source.into()).or_default(),
            };
            let item = (Day::of(entry.day), run::entry(entry.source, entry.key));
            let memory = Arc::make_mut(&mut source.memory);
            memory.insert(item);
            if entry.fate == ObjectFate::Recollected {
                memory.insert((item.0, run::entry(entry.source, &again(entry.key))));
            }
            source.books.add(entry);
        }
        state.through = state.through.max(through);
        Ok(())
    }

    fn check_sources(&self, entries: &[Entry<'_>]) -> Result<(), LedgerError> {
        let state = self.state();
        let mut new = BTreeSet::new();
        for name in entries.iter().map(|entry| entry.source).filter(|name| !state.sources.contains_key(*name))
        {
            if !run::is_source(name) {
                let why = "its name cannot be part of a file's name";
                return Err(LedgerError::Source { name: name.into(), why });
            }
            new.insert(name);
            if state.sources.len() + new.len() > limits::LEDGER_SOURCES {
                let why =
                    "the ledger has too many sources; have it forget some that are no longer configured";
                return Err(LedgerError::Source { name: name.into(), why });
            }
        }
        Ok(())
    }

    // A panic while one of these was held left nothing half changed: each change of the state is made at
    // once.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_lookup(&self) -> MutexGuard<'_, Lookup<D>> {
        self.lookup.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The second name of an object that was collected after it had been quarantined. A key of a log holds no NUL.
pub fn again(key: &str) -> String {
    format!("{key}\0again")
}

impl Books {
    fn add(&mut self, entry: &Entry<'_>) {
        match entry.fate {
            ObjectFate::Collected => self.objects_collected += 1,
            ObjectFate::Quarantined => self.objects_quarantined += 1,
            ObjectFate::Recollected => {
                self.objects_collected += 1;
                self.objects_quarantined = self.objects_quarantined.saturating_sub(1);
            }
        }
        self.counts.add(&entry.counts);
    }
}

fn read_checkpoint<D: Disk>(disk: &D) -> Result<Checkpoint, LedgerError> {
    let path = format!("{DIR}/{}", checkpoint::FILE);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
        Err(error) => return Err(LedgerError::disk("open", &path)(error)),
    };
    let corrupt = |why| LedgerError::Corrupt { path: path.clone(), why, remedy: checkpoint::REMEDY };
    let len = file.len().map_err(LedgerError::disk("measure", &path))?;
    if len > checkpoint::MAX_BYTES {
        return Err(corrupt("it is longer than any checkpoint"));
    }
    let mut bytes = vec![0; len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(done as u64, &mut bytes[done..]).map_err(LedgerError::disk("read", &path))? {
            0 => return Err(corrupt("it ends before its length")),
            count => done += count,
        }
    }
    Checkpoint::decode(&bytes).map_err(corrupt)
}
