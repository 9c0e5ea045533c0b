//! Decides of each record whether it is kept, and counts what each rule removed.
//!
//! A core without failure: a record that a rule cannot read is kept (invariant 7). Counts follow the books:
//! what was decided in an object that ends in the quarantine, or has to be decoded again, was not removed.

pub mod attribution;
mod rules;

pub use attribution::{Attribution, Attributor, Attributors};
pub use rules::{Dropped, Rules};

use crate::config::Source;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes into the spool.
    Keep,
    /// It is removed, and counted with the rule that did it.
    Drop,
}

/// The decisions of one source.
pub struct Selector {
    rules: Rules,
}

impl Selector {
    /// The rules of a source, with all counts at zero.
    pub fn new(source: &Source) -> Selector {
        Selector { rules: Rules::new(&source.rules, &source.exclude) }
    }

    /// Decides about the next record.
    pub fn decide(&mut self, record: &[u8]) -> Verdict {
        if let Some(verdict) = self.rules.decide(record) {
            return verdict;
        }
        // The baseline filter, then duplicates, come here: after what the operator said, unless the source
        // is `unfiltered`. Attribution, which only adds to what is kept, comes behind them.
        Verdict::Keep
    }

    /// The object ended: what was decided since the last end counts if it is `collected`, else it is forgotten.
    pub fn end_object(&mut self, collected: bool) {
        self.rules.end_object(collected);
    }

    /// What each rule removed from collected objects since the start, in the order of the configuration.
    pub fn drops(&self) -> impl Iterator<Item = Dropped<'_>> {
        self.rules.drops()
    }

    /// Records of collected objects kept because a rule could not read its field, since the start.
    pub fn unreadable(&self) -> u64 {
        self.rules.unreadable()
    }
}
