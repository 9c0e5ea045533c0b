//! Looks at the ledger's files without touching them, beside a running agent.

use super::run::{DIR, Name, Run};
use super::{LedgerError, read_checkpoint};
use crate::spool::disk::Disk;
use crate::spool::position::Position;

/// How far the ledger on a disk is durable.
pub fn checkpoint<D: Disk>(disk: &D) -> Result<Position, LedgerError> {
    read_checkpoint(disk).map(|checkpoint| checkpoint.through)
}

/// Reads every file of the ledger, and tells what is damaged. Returns how many files and entries there are.
///
/// # Errors
/// When the disk cannot be read.
pub fn verify<D: Disk>(disk: &D, damaged: &mut dyn FnMut(LedgerError)) -> Result<(u64, u64), LedgerError> {
    let (mut files, mut entries) = (0, 0);
    let mut seen = |checked: Result<u64, LedgerError>| match checked {
        Ok(count) => {
            files += 1;
            entries += count;
            Ok(())
        }
        Err(fault @ LedgerError::Corrupt { .. }) => {
            files += 1;
            damaged(fault);
            Ok(())
        }
        Err(fault) => Err(fault),
    };
    seen(read_checkpoint(disk).map(|_| 0))?;
    for (file, _) in disk.list(DIR).map_err(LedgerError::disk("list", DIR))? {
        let Some(name) = Name::parse(&file) else { continue };
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
            Ok(Some(count)) => seen(Ok(count))?,
            Err(fault) => seen(Err(fault))?,
        }
    }
    Ok((files, entries))
}
