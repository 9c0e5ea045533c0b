//! What is said of an object and its records on their way: where they come from and what became of them.

use std::sync::Arc;

/// One S3 object, as everything after discovery names it: a clone shares the texts, and so do the objects of a source
/// its name and the bucket's. The key is the raw key (not URL-encoded).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Name of the configured source that found it.
    pub source: Arc<str>,
    /// Bucket name, without folder.
    pub bucket: Arc<str>,
    /// Object key, at most [`crate::limits::KEY_BYTES`] bytes.
    pub key: Arc<str>,
}

/// What became of the records of one object, or of many. The books of invariant 4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records found in the object.
    pub records: u64,
    /// Records that went into the spool.
    pub kept: u64,
    /// Records that a rule or the baseline filter removed.
    pub dropped: u64,
    /// Records removed because the same event was kept before.
    pub duplicate: u64,
    /// Records set aside with their raw bytes.
    pub quarantined: u64,
}

impl Counts {
    /// `records = kept + dropped + duplicate + quarantined`.
    pub fn balance(&self) -> bool {
        self.kept
            .checked_add(self.dropped)
            .and_then(|n| n.checked_add(self.duplicate))
            .and_then(|n| n.checked_add(self.quarantined))
            == Some(self.records)
    }

    /// Adds the counts of one more object.
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.duplicate += other.duplicate;
        self.quarantined += other.quarantined;
    }
}

/// How an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectFate {
    /// Its records were counted and the kept ones are in the spool.
    Collected,
    /// It could not be decoded: its raw body is in the quarantine, none of its records is in the spool.
    Quarantined,
    /// It was quarantined, and collected when somebody asked for it again: in the books it is the one instead of the other.
    Recollected,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_balance_only_when_every_record_has_one_fate() {
        let mut counts = Counts { records: 3, kept: 1, dropped: 1, duplicate: 0, quarantined: 1 };
        assert!(counts.balance());
        counts.kept = 2;
        assert!(!counts.balance());
        counts.kept = u64::MAX;
        assert!(!counts.balance());
    }
}
