//! What the storekeeper shows of itself.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{error, info};

use crate::select::Dropped;

/// The storekeeper's state, readable by others.
#[derive(Debug, Default)]
pub struct StoreStatus {
    /// The spool is full and the storekeeper waits for the outputs.
    pub full: AtomicBool,
    /// What each rule removed.
    pub drops: RuleDrops,
    /// Objects whose books did not balance: always none, unless trailspool has a defect. The spool refuses their end.
    pub unbalanced: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// What each rule of each source removed since the start: told by the storekeeper with every commit. As many counts as
/// the configuration has rules.
#[derive(Debug, Default)]
pub struct RuleDrops(Mutex<Vec<SourceDrops>>);

/// A source's name, and its rules' labels and counts.
type SourceDrops = (Box<str>, Vec<(Box<str>, u64)>);

impl RuleDrops {
    /// The labels of a source's rules and their counts.
    pub fn of(&self, source: &str) -> Vec<(Box<str>, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(name, _)| **name == *source).map(|(_, drops)| drops.clone()).unwrap_or_default()
    }

    pub(super) fn tell<'a>(&self, source: &str, drops: impl Iterator<Item = Dropped<'a>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(name, _)| **name == *source).unwrap_or_else(|| {
            all.push((source.into(), Vec::new()));
            all.len() - 1
        });
        let known = &mut all[at].1;
        for (n, dropped) in drops.enumerate() {
            match known.get_mut(n) {
                Some((_, count)) => *count = dropped.count,
                None => known.push((dropped.reason.to_string().into(), dropped.count)),
            }
        }
    }
}

impl StoreStatus {
    /// What the disk of the state directory refuses, and what to do; `None` while it refuses nothing. Fetching pauses
    /// until it is over.
    pub fn fault(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Notes a fault, and logs it when it is another one than before.
    pub(super) fn raise(&self, what: &dyn std::fmt::Display, kind: Option<io::ErrorKind>) {
        let text = format!("{what}; {}", advice(kind));
        let mut fault = self.lock();
        if fault.as_ref() != Some(&text) {
            error!(
                "{text}. Fetching pauses, and goes on by itself; what came since the last commit is fetched again"
            );
            *fault = Some(text);
        }
    }

    pub(super) fn clear(&self) {
        if self.lock().take().is_some() {
            info!("the state directory can be written again: fetching goes on");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator can do about an error of the state directory's disk.
pub(super) fn advice(kind: Option<io::ErrorKind>) -> &'static str {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        Some(StorageFull | QuotaExceeded) => {
            "make room on the state directory's disk, or inodes (`df`, `df -i`)"
        }
        Some(ReadOnlyFilesystem) => "the disk is read-only: look into the kernel's log, and remount it",
        Some(NotFound) => "the state directory, or a part of it, was removed or unmounted under the agent",
        Some(PermissionDenied) => "the state directory must belong to the user that trailspool runs as",
        _ => "look into the kernel's log for what is wrong with the state directory's disk",
    }
}
