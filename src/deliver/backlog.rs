//! What the loop of an output asks of the spool and the quarantine ([`Backlog`]), and how they answer
//! ([`Spooled`]). Every call but those that say otherwise may block.

use std::fmt::Display;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::batch::Settled;
use super::lines::Place;
use crate::record::ObjectId;
use crate::spool::disk::Disk;
use crate::spool::quarantine::Entry;
use crate::spool::{Cursor, Quarantine, Reader, Spool, SpoolError};

/// Sees one record, and where the cursor stands behind it; `Break` leaves the record for the next read.
pub type Visit<'a, C> = dyn FnMut(&ObjectId, u32, &[u8], C) -> ControlFlow<()> + 'a;

/// The records that one output has still to deliver.
pub trait Backlog: Send + 'static {
    /// A place between two records.
    type Cursor: Copy + Send + 'static;
    /// Why the spool cannot be read.
    type Error: Display + Send + 'static;

    /// Visits committed records from where the last read ended.
    fn read(&mut self, visit: &mut Visit<'_, Self::Cursor>) -> Result<(), Self::Error>;
    /// The next read begins at the first record that is not settled.
    fn rewind(&mut self) -> Result<(), Self::Error>;
    /// The next read begins here.
    fn seek(&mut self, to: Self::Cursor) -> Result<(), Self::Error>;
    /// These records are settled. In memory alone: does not block.
    fn advance(&mut self, settled: Settled<Self::Cursor>);
    /// Makes what is settled durable.
    fn save(&mut self) -> io::Result<()>;
    /// Puts a record that the receiver refused into the quarantine. Durable on return.
    fn set_aside(&mut self, record: &Refused<'_>) -> io::Result<()>;
    /// Where a cursor stands, in numbers that stay the same.
    fn place(cursor: Self::Cursor) -> Place;
    /// Whether the spool has asked this output to give up records. Does not block.
    fn wants_skip(&self) -> bool;
    /// Gives up the oldest records if the spool has asked for it, which makes room there. Returns how many; durable on
    /// return. The next read begins behind them.
    fn skip(&mut self) -> Result<u64, Self::Error>;
    /// The name of a refused record that somebody wants sent once more. Does not block.
    fn wanted_again(&mut self) -> Option<String> {
        None
    }
    /// Such a record.
    fn refused(&mut self, _id: &str) -> io::Result<Wanted> {
        Err(io::ErrorKind::NotFound.into())
    }
    /// The receiver has it now: it leaves the quarantine and is counted as delivered. Durable on return but for the
    /// count, which is with the next save.
    fn accepted_again(&mut self, _id: &str) -> io::Result<()> {
        Ok(())
    }
    /// It stays where it is. Durable on return.
    fn left_again(&mut self, _id: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A refused record, to be sent once more.
#[derive(Debug)]
pub struct Wanted {
    /// Where it comes from.
    pub object: ObjectId,
    /// Its place there.
    pub index: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A record that a receiver refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Where it comes from.
    pub object: &'a ObjectId,
    /// Its place there.
    pub index: u32,
    /// Why, as a stable word: `too-large`, `rejected`.
    pub reason: &'static str,
    /// What the receiver said.
    pub detail: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The spool and the quarantine, for one output.
pub struct Spooled<D: Disk> {
    output: Box<str>,
    spool: Arc<Spool<D>>,
    reader: Reader<D>,
    quarantine: Quarantine<D>,
    /// All time, as the cursor keeps them: the reader's own counts know of no refusals.
    delivered: u64,
    rejected: u64,
    skipped: u64,
}

impl<D: Disk> Spooled<D> {
    /// Stands at the output's cursor.
    ///
    /// # Errors
    /// When the spool was opened without this output.
    pub fn new(
        output: &str,
        spool: Arc<Spool<D>>,
        quarantine: Quarantine<D>,
    ) -> Result<Spooled<D>, SpoolError> {
        let reader = spool.reader(output)?;
        let Cursor { delivered, rejected, skipped, .. } = spool.cursor(output)?;
        Ok(Spooled { output: output.into(), spool, reader, quarantine, delivered, rejected, skipped })
    }
}

impl<D: Disk> Backlog for Spooled<D> {
    type Cursor = Cursor;
    type Error = SpoolError;

    fn read(&mut self, visit: &mut Visit<'_, Cursor>) -> Result<(), SpoolError> {
        self.reader.read(visit)
    }

    fn rewind(&mut self) -> Result<(), SpoolError> {
        let cursor = self.spool.cursor(&self.output)?;
        self.seek(cursor)
    }

    fn seek(&mut self, to: Cursor) -> Result<(), SpoolError> {
        self.reader.seek(to);
        Ok(())
    }

    fn advance(&mut self, settled: Settled<Cursor>) {
        self.delivered += settled.accepted;
        self.rejected += settled.set_aside;
        let Settled { cursor, .. } = settled;
        self.stand(cursor);
    }

    fn save(&mut self) -> io::Result<()> {
        self.spool.save(&self.output)
    }

    fn set_aside(&mut self, record: &Refused<'_>) -> io::Result<()> {
        let &Refused { object, index, reason, detail, bytes } = record;
        let entry = Entry { object, index: Some(index), output: Some(&self.output), reason, detail };
        self.quarantine.put(&entry, bytes).map(drop)
    }

    fn wanted_again(&mut self) -> Option<String> {
        self.quarantine.offered(&self.output)
    }

    fn refused(&mut self, id: &str) -> io::Result<Wanted> {
        let mut bytes = Vec::new();
        let stored = self.quarantine.read(id, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        match (stored.index, stored.output) {
            (Some(index), Some(output)) if output == self.output && stored.kept == stored.given => {
                Ok(Wanted { object: stored.object, index, bytes })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no whole record of this output's")),
        }
    }

    fn accepted_again(&mut self, id: &str) -> io::Result<()> {
        self.quarantine.remove(id)?;
        self.quarantine.settle(id)?;
        self.delivered += 1;
        self.rejected = self.rejected.saturating_sub(1);
        if let Ok(cursor) = self.spool.cursor(&self.output) {
            self.stand(cursor);
        }
        self.spool.save(&self.output)
    }

    fn left_again(&mut self, id: &str) -> io::Result<()> {
        self.quarantine.settle(id)
    }

    fn place(cursor: Cursor) -> Place {
        (cursor.frame.segment, cursor.frame.offset, cursor.record)
    }

    fn wants_skip(&self) -> bool {
        self.spool.wants_skipped(&self.output).is_some()
    }

    fn skip(&mut self) -> Result<u64, SpoolError> {
        let Some(through) = self.spool.wants_skipped(&self.output) else { return Ok(0) };
        self.rewind()?;
        let (mut count, mut last, mut behind) = (0, None, None);
        self.reader.read(&mut |_, _, _, cursor| {
            if cursor.begin.segment > through {
                // the object that the record begins in is the first that stays
                behind = Some(Cursor { frame: cursor.begin, record: 0, ..cursor });
                return ControlFlow::Break(());
            }
            count += 1;
            last = Some(cursor);
            ControlFlow::Continue(())
        })?;
        self.skipped += count;
        if let Some(cursor) = behind.or(last) {
            self.stand(cursor);
        }
        if behind.is_none() {
            // tells the spool that there is nothing between the last record and the end
            self.reader.read(&mut |_, _, _, _| ControlFlow::Break(()))?;
        }
        self.spool.skipped(&self.output);
        self.save().map_err(|error| SpoolError::Disk { what: "save", path: "the cursor".into(), error })?;
        self.rewind()?;
        Ok(count)
    }
}

impl<D: Disk> Spooled<D> {
    fn stand(&mut self, cursor: Cursor) {
        let Spooled { delivered, rejected, skipped, .. } = *self;
        self.spool.advance(&self.output, Cursor { delivered, rejected, skipped, ..cursor });
    }
}
