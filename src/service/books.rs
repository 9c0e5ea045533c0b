//! The books of invariant 4 as text. The totals are those of the state directory's whole life: they stand in
//! the ledger's checkpoint, the spool's end frames and the cursors, so a crash neither loses nor repeats any.

use std::fmt;

use crate::discover::ledger::Books;

/// What became of everything that one source collected.
pub struct SourceBooks<'a> {
    /// The source's name.
    pub source: &'a str,
    /// Its totals.
    pub books: Books,
}

impl fmt::Display for SourceBooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Books { objects_collected, objects_quarantined, counts } = &self.books;
        write!(
            f,
            "books: source {}: objects {} collected {objects_collected} quarantined {objects_quarantined}; \
             records {} = kept {} + dropped {} + duplicate {} + quarantined {}",
            self.source,
            objects_collected + objects_quarantined,
            counts.records,
            counts.kept,
            counts.dropped,
            counts.duplicate,
            counts.quarantined
        )
    }
}

/// What became of everything that was kept, for one output.
pub struct OutputBooks<'a> {
    /// The output's name.
    pub output: &'a str,
    /// Records kept, by all sources, ever.
    pub kept: u64,
    /// Records the receiver acknowledged.
    pub delivered: u64,
    /// Records the receiver refused for good: they are in the quarantine.
    pub rejected: u64,
    /// Records given up because the spool was full (`on_full = "skip"`).
    pub skipped: u64,
    /// Nothing waits. An output that was added later than the first never saw all that was kept, so for one that is
    /// drained `kept` is what it has seen.
    pub drained: bool,
}

impl fmt::Display for OutputBooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutputBooks { output, kept, delivered, rejected, skipped, drained } = self;
        let seen = delivered + rejected + skipped;
        let kept = if *drained { seen } else { *kept };
        let waiting = kept.saturating_sub(seen);
        write!(f, "books: output {output}: kept {kept} = delivered {delivered} + rejected {rejected} + ")?;
        if *skipped > 0 {
            write!(f, "skipped {skipped} + ")?;
        }
        write!(f, "waiting {waiting}")
    }
}
