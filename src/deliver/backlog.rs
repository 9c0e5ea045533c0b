//! What the loop of an output asks of the spool and the quarantine. Every call but [`Backlog::advance`] may
//! block.

use std::fmt::Display;
use std::ops::ControlFlow;

use super::batch::Settled;
use crate::record::ObjectId;

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
    /// These records are settled. In memory alone.
    fn advance(&mut self, settled: Settled<Self::Cursor>);
    /// Makes what is settled durable.
    fn save(&mut self) -> std::io::Result<()>;
    /// Puts a record that the receiver refused into the quarantine. Durable on return.
    fn set_aside(&mut self, record: &Refused<'_>) -> std::io::Result<()>;
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
