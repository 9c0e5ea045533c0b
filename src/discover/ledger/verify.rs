//! Looks at the ledger's files without touching them, beside a running agent.

use super::checkpoint::FILE;
use super::run::{DIR, Name, Run};
use super::{LedgerError, read_checkpoint};
use crate::spool::disk::Disk;
use crate::spool::position::Position;

/// How far the ledger on a disk is durable.
pub fn checkpoint<D: Disk>(disk: &D) -> Result<Position, LedgerError> {
    read_checkpoint(disk).map(|checkpoint| checkpoint.through)
}

/// Reads every file of the ledger, and tells of each its path and how many entries it has, or how it is damaged.
///
/// # Errors
/// When the disk cannot be read.
pub fn verify<D: Disk>(
    disk: &D,
    seen: &mut dyn FnMut(String, Result<u64, LedgerError>),
) -> Result<(), LedgerError> {
    let mut seen = |path: String, checked: Result<u64, LedgerError>| match checked {
        Ok(_) | Err(LedgerError::Corrupt { .. }) => {
            seen(path, checked);
            Ok(())
        }
        Err(fault) => Err(fault),
    };
    let mut files = disk.list(DIR).map_err(LedgerError::disk("list", DIR))?;
    files.sort();
    if files.iter().any(|(file, _)| file == FILE) {
        seen(format!("{DIR}/{FILE}"), read_checkpoint(disk).map(|_| 0))?;
    }
    for (file, _) in files {
        let Some(name) = Name::parse(&file) else { continue };
        let path = name.path();
        // A run that was merged with others since the listing is gone.
        let counted = Run::open(disk, name).and_then(|run| {
            let Some(run) = run else { return Ok(None) };
            let (mut stream, mut count) = (run.stream(), 0);
            while stream.next()?.is_some() {
                count += 1;
            }
            Ok(Some(count))
        });
        match counted {
            Ok(None) => {}
            Ok(Some(count)) => seen(path, Ok(count))?,
            Err(fault) => seen(path, Err(fault))?,
        }
    }
    Ok(())
}
