//! Look-ups in runs: a few open files and one block, whatever there is on disk.

use super::RunRef;
use super::day::Day;
use super::error::LedgerError;
use super::run::{Block, Entry, Name, Run};
use crate::limits;
use crate::spool::disk::Disk;

/// The runs that were asked last, open. A poll asks day by day, so they are mostly the right ones.
pub(super) struct Lookup<D: Disk> {
    disk: D,
    /// The last used is the last.
    open: Vec<Run<D::File>>,
    block: Block,
}

impl<D: Disk> Lookup<D> {
    pub(super) fn new(disk: D) -> Lookup<D> {
        Lookup { disk, open: Vec::with_capacity(limits::LEDGER_OPEN_RUNS), block: Block::default() }
    }

    /// Whether one of the runs has the entry; `None`: one of them is no longer there.
    pub(super) fn find(
        &mut self,
        source: &str,
        day: Day,
        runs: &[RunRef],
        entry: &Entry,
    ) -> Result<Option<bool>, LedgerError> {
        for run in runs {
            let run = match self.open.iter().position(|open| open.seq() == run.seq) {
                Some(at) => self.open.remove(at),
                None => match Run::open(&self.disk, Name { source: source.into(), day, seq: run.seq })? {
                    Some(run) => run,
                    None => return Ok(None),
                },
            };
            let found = run.contains(entry, &mut self.block);
            if self.open.len() == limits::LEDGER_OPEN_RUNS {
                self.open.remove(0);
            }
            self.open.push(run);
            if found? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// Lets go of a run whose file was removed.
    pub(super) fn close(&mut self, seq: u64) {
        self.open.retain(|open| open.seq() != seq);
    }
}
