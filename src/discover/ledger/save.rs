//! What the ledger writes and removes, and in which order: runs, their names, the checkpoint, merges.
//! Everything here is called by whoever has the turn; the state's lock is not held while the disk works.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::{self, Checkpoint};
use super::day::Day;
use super::run::{self, DIR, Name, Run, Stream, Writer};
use super::{Ledger, LedgerError, Memory, RunRef, Runs, Turn};
use crate::limits;
use crate::spool::atomic;
use crate::spool::disk::Disk;
use crate::spool::position::Position;

impl<D: Disk> Ledger<D> {
    pub(super) fn save_locked(&self, turn: &mut Turn) -> Result<Position, LedgerError> {
        let memory: Vec<_> = {
            let state = self.state();
            let filled = state.sources.iter().filter(|(_, source)| !source.memory.is_empty());
            filled.map(|(name, source)| (name.clone(), source.memory.clone())).collect()
        };
        if !memory.is_empty() {
            let mut runs = Vec::new();
            let written = self.write_runs(&memory, turn, &mut runs);
            if let Err(error) = written {
                // Each try would leave another copy on a disk that may be full.
                for (name, run) in runs {
                    let _ = self.remove_runs(&name.source, name.day, &[run], turn);
                }
                return Err(error);
            }
            drop(memory);
            let mut state = self.state();
            for (name, run) in runs {
                if let Some(source) = state.sources.get_mut(&name.source) {
                    source.memory = Arc::default();
                    source.days.entry(name.day).or_default().add(run);
                }
            }
        }
        let through = self.write_checkpoint()?;
        self.merge(turn);
        Ok(through)
    }

    /// One run for each source and day, durable under their names.
    fn write_runs(
        &self,
        memory: &[(Box<str>, Arc<Memory>)],
        turn: &mut Turn,
        runs: &mut Vec<(Name, RunRef)>,
    ) -> Result<(), LedgerError> {
        for (source, entries) in memory {
            let mut entries = entries.iter().peekable();
            while let Some((day, first)) = entries.next() {
                let run = self.write_run(source, *day, turn, |writer| {
                    writer.push(first)?;
                    while let Some((_, entry)) = entries.next_if(|(other, _)| other == day) {
                        writer.push(entry)?;
                    }
                    Ok(())
                })?;
                runs.push(run);
            }
        }
        self.sync_dir(turn)
    }

    /// Writes one run; its name is not yet durable. Leaves nothing behind when it fails.
    fn write_run(
        &self,
        source: &str,
        day: Day,
        turn: &mut Turn,
        fill: impl FnOnce(&mut Writer<D>) -> Result<(), LedgerError>,
    ) -> Result<(Name, RunRef), LedgerError> {
        let name = Name { source: source.into(), day, seq: turn.next };
        turn.next += 1;
        let mut writer = Writer::create(&self.disk, name.clone())?;
        match fill(&mut writer).and_then(|()| writer.finish()) {
            Ok(count) => {
                let run = RunRef { seq: name.seq, bytes: run::file_len(count) };
                Ok((name, run))
            }
            Err(error) => {
                writer.discard();
                Err(error)
            }
        }
    }

    fn write_checkpoint(&self) -> Result<Position, LedgerError> {
        let checkpoint = {
            let state = self.state();
            let books = state.sources.iter().map(|(name, source)| (name.clone(), source.books)).collect();
            Checkpoint { through: state.through, books }
        };
        if checkpoint != self.state().saved {
            let replaced = atomic::replace(&self.disk, DIR, checkpoint::FILE, &checkpoint.encode());
            replaced.map_err(LedgerError::disk("replace", "ledger/checkpoint"))?;
        }
        let through = checkpoint.through;
        self.state().saved = checkpoint;
        Ok(through)
    }

    /// Merges runs of every day that has too many. The entries are durable as they are, so a failure can
    /// wait.
    fn merge(&self, turn: &mut Turn) {
        let due: Vec<(Box<str>, Day, Vec<RunRef>)> = {
            let state = self.state();
            let days = state
                .sources
                .iter()
                .flat_map(|(name, source)| source.days.iter().map(move |(day, runs)| (name, *day, runs)));
            let due = days.filter(|(_, _, runs)| runs.list.len() >= runs.merge_at.max(limits::LEDGER_RUNS));
            due.map(|(name, day, runs)| (name.clone(), day, runs.smallest())).collect()
        };
        for (source, day, parts) in due {
            if let Err(error) = self.merge_day(&source, day, &parts, turn) {
                log::warn!("{error}; runs of {source} {day} stay unmerged for now");
                let mut state = self.state();
                if let Some(runs) =
                    state.sources.get_mut(&source).and_then(|source| source.days.get_mut(&day))
                {
                    runs.merge_at = runs.list.len() + limits::LEDGER_RUNS;
                }
            }
        }
    }

    fn merge_day(
        &self,
        source: &str,
        day: Day,
        parts: &[RunRef],
        turn: &mut Turn,
    ) -> Result<(), LedgerError> {
        let mut streams = Vec::with_capacity(parts.len());
        for part in parts {
            let name = Name { source: source.into(), day, seq: part.seq };
            let run = Run::open(&self.disk, name.clone())?;
            streams.push(
                run.ok_or_else(|| name.corrupt("it was removed while trailspool was running"))?.stream(),
            );
        }
        let (_, merged) = self.write_run(source, day, turn, |writer| merge_streams(streams, writer))?;
        if let Err(error) = self.sync_dir(turn) {
            let _ = self.remove_runs(source, day, &[merged], turn);
            return Err(error);
        }
        if let Some(of_source) = self.state().sources.get_mut(source) {
            let runs = of_source.days.entry(day).or_default();
            runs.list.retain(|run| !parts.contains(run));
            runs.add(merged);
            runs.merge_at = 0;
        }
        self.remove_runs(source, day, parts, turn)
    }

    pub(super) fn remove_days(
        &self,
        source: &str,
        days: BTreeMap<Day, Runs>,
        turn: &mut Turn,
    ) -> Result<(), LedgerError> {
        let mut result = Ok(());
        for (day, runs) in days {
            result = result.and(self.remove_runs(source, day, &runs.list, turn));
        }
        result?;
        if turn.unsynced { self.sync_dir(turn) } else { Ok(()) }
    }

    /// Removes files of runs that the state no longer names. It names those again that cannot be removed. One
    /// that a crash brings back repeats what is known.
    fn remove_runs(
        &self,
        source: &str,
        day: Day,
        runs: &[RunRef],
        turn: &mut Turn,
    ) -> Result<(), LedgerError> {
        let mut result = Ok(());
        for run in runs {
            turn.unsynced = true;
            let path = Name { source: source.into(), day, seq: run.seq }.path();
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let mut state = self.state();
                    state.sources.entry(source.into()).or_default().days.entry(day).or_default().add(*run);
                    result = result.and(Err(LedgerError::disk("remove", &path)(error)));
                }
                _ => self.lock_lookup().close(run.seq),
            }
        }
        result
    }

    fn sync_dir(&self, turn: &mut Turn) -> Result<(), LedgerError> {
        self.disk.sync_dir(DIR).map_err(LedgerError::disk("sync", DIR))?;
        turn.unsynced = false;
        Ok(())
    }
}

impl Runs {
    pub(super) fn add(&mut self, run: RunRef) {
        let at = self.list.partition_point(|other| other.bytes >= run.bytes);
        self.list.insert(at, run);
    }

    /// What to merge: the smallest two, and on while the next is no larger than what there is already. So an
    /// entry is written again only when what it stands in at least about doubles, and few runs are left.
    fn smallest(&self) -> Vec<RunRef> {
        let mut parts: Vec<RunRef> = Vec::new();
        let mut sum = 0;
        for run in self.list.iter().rev().take(limits::LEDGER_RUNS) {
            if parts.len() >= 2 && run.bytes > sum {
                break;
            }
            sum += run.bytes;
            parts.push(*run);
        }
        parts
    }
}

/// Merges sorted runs into one; what stands in several is written once.
fn merge_streams<D: Disk>(
    mut streams: Vec<Stream<D::File>>,
    writer: &mut Writer<D>,
) -> Result<(), LedgerError> {
    let mut heads = Vec::with_capacity(streams.len());
    for stream in &mut streams {
        heads.push(stream.next()?);
    }
    while let Some((at, least)) =
        heads.iter().enumerate().filter_map(|(at, head)| Some((at, (*head)?))).min_by_key(|x| x.1)
    {
        writer.push(&least)?;
        heads[at] = streams[at].next()?;
    }
    Ok(())
}
