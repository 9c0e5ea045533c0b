//! Decides of each record whether it is kept, and counts what removed it; says which account is behind it.
//!
//! ```text
//! record ─► facts: its members, in one pass ─► rules, exclude ─► baseline ─► duplicates ─► kept
//!                                                   │ "keep" ────────────────────▲
//! ```
//!
//! A core, but for `remembered`, which keeps what duplicates are found by on disk, and `dry_run`, the command
//! `filter`. It has no failure: a record that a
//! rule cannot read is kept (invariant 7). A source that is `unfiltered` has rules alone. A `keep` rule wins over
//! later rules, `exclude` and the baseline; the second copy of a kept record is a duplicate all the same.
//!
//! Counts follow the books: what was decided in an object that ends in the quarantine, has to be decoded again, or is
//! taken back before its commit, was not removed.

pub mod attribution;
pub mod baseline;
pub mod dry_run;
pub mod duplicates;
mod facts;
pub mod remembered;
mod rules;

use std::fmt;

pub use attribution::{Attribution, Attributor, Attributors};
use baseline::Baseline;
use duplicates::Window;
use facts::{Keys, Place};
use rules::{Rules, Ruling};

use crate::config::Source;
use crate::decode::Record;
use crate::decode::field::Field;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes into the spool.
    Keep,
    /// It is removed, and counted with what did it.
    Drop(Reason),
    /// It is removed: the same record was kept before.
    Duplicate,
}

/// What removes records, numbered from 0 in the source's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A field rule.
    Rule(usize),
    /// A regex of `exclude`.
    Exclude(usize),
    /// The baseline filter.
    Baseline,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule(n) => write!(f, "rule-{}", n + 1),
            Reason::Exclude(n) => write!(f, "exclude-{}", n + 1),
            Reason::Baseline => f.write_str("baseline"),
        }
    }
}

/// What one rule, or the baseline filter, removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// What removed it; shown as `rule-N` or `exclude-N`, the Nth of its kind in the source's configuration, from 1, or
    /// `baseline`.
    pub reason: Reason,
    /// What the rule looks for, as it is configured; empty for the baseline filter.
    pub regex: &'a str,
    /// The field that a rule looks into; an `exclude` looks at the whole record.
    pub field: Option<&'a str>,
    /// Records.
    pub count: u64,
}

/// Records of one fate: of committed objects, of ended ones that wait for the commit, and of the one in work.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    settled: u64,
    ended: u64,
    open: u64,
}

impl Count {
    fn end_object(&mut self, collected: bool) {
        self.ended += if collected { self.open } else { 0 };
        self.open = 0;
    }

    fn commit(&mut self) {
        self.settled += std::mem::take(&mut self.ended);
    }

    fn rollback(&mut self) {
        self.ended = 0;
        self.open = 0;
    }
}

/// The decisions of one source.
pub struct Selector {
    source: Box<str>,
    keys: Keys,
    rules: Rules,
    /// None: the source is unfiltered.
    filter: Option<Filter>,
}

struct Filter {
    baseline: Baseline,
    dropped: Count,
    event_id: Place,
}

impl Selector {
    /// The rules of a source, with all counts at zero.
    pub fn new(source: &Source) -> Selector {
        let mut paths: Vec<&str> = Vec::new();
        if !source.unfiltered {
            paths.push(duplicates::FIELD);
            for path in baseline::FIELDS.into_iter().chain(baseline::condition_fields()) {
                paths.push(path);
            }
        }
        for field in source.rules.fields() {
            paths.push(&field.field);
        }
        let keys = Keys::new(paths.into_iter());
        let filter = (!source.unfiltered).then(|| Filter {
            baseline: Baseline::new(&keys),
            dropped: Count::default(),
            event_id: keys.place(duplicates::FIELD),
        });
        let rules = Rules::new(&source.rules, &source.exclude, &keys);
        Selector { source: source.name.clone(), keys, rules, filter }
    }

    /// Decides about the next record. One that is kept is remembered in the window, which then finds its duplicates.
    pub fn decide<'a>(&mut self, record: impl Into<Record<'a>>, window: &mut Window) -> Verdict {
        let record = record.into();
        let facts = self.keys.read(record);
        let kept_by_rule = match self.rules.decide(&facts) {
            Ruling::Drop(reason) => return Verdict::Drop(reason),
            Ruling::Unreadable => return Verdict::Keep,
            Ruling::Keep => true,
            Ruling::None => false,
        };
        let Some(filter) = &mut self.filter else { return Verdict::Keep };
        if !kept_by_rule && filter.baseline.is_noise(&facts) {
            filter.dropped.open += 1;
            return Verdict::Drop(Reason::Baseline);
        }
        if let Field::Text(id) = facts.at(&filter.event_id)
            && let Some(mark) = window.mark(&self.source, id, record.bytes)
            && !window.insert(mark)
        {
            return Verdict::Duplicate;
        }
        Verdict::Keep
    }

    /// Whether members of records are asked for: a decoder should note where these are.
    pub fn looks_inside(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The object ended: what was decided since the last end counts, from the next commit on, if it is `collected`,
    /// else it is forgotten.
    pub fn end_object(&mut self, collected: bool) {
        self.counts().for_each(|count| count.end_object(collected));
    }

    /// What was collected is durable.
    pub fn commit(&mut self) {
        self.counts().for_each(Count::commit);
    }

    /// What was collected since the last commit is taken back.
    pub fn rollback(&mut self) {
        self.counts().for_each(Count::rollback);
    }

    /// What each rule, and then the baseline filter, removed from committed objects since the start, in the order of
    /// the configuration.
    pub fn drops(&self) -> impl Iterator<Item = Dropped<'_>> {
        let baseline = self.filter.iter().map(|filter| Dropped {
            reason: Reason::Baseline,
            regex: "",
            field: None,
            count: filter.dropped.settled,
        });
        self.rules.drops().chain(baseline)
    }

    /// Records of committed objects kept because a rule could not read its field, since the start.
    pub fn unreadable(&self) -> u64 {
        self.rules.unreadable()
    }

    fn counts(&mut self) -> impl Iterator<Item = &mut Count> {
        self.rules.counts().chain(self.filter.iter_mut().map(|filter| &mut filter.dropped))
    }
}

#[cfg(test)]
mod tests;
