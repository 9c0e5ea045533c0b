//! Requests to try again what is in the quarantine.
//!
//! ```text
//! quarantine/<id>.retry     an empty file: the entry of this name shall be tried again
//! ```
//!
//! Whoever may write the state directory asks by making the file (`trailspool quarantine retry`), whether or not an
//! agent runs. The agent looks for such files, and removes each when the matter is settled, the entry first. What holds
//! wherever it is cut short:
//!
//! * an object that could be read this time is in the spool once: the ledger remembers it under a second name
//!   ([`ObjectFate::Recollected`](crate::record::ObjectFate)), and a request for one that it knows so is only tidied up;
//! * an object or a record that fails again keeps its entry;
//! * a record that an output accepts this time counts as delivered instead of rejected, or, if a crash comes between,
//!   still as rejected: `kept = delivered + rejected + waiting` holds either way.

use std::io;

use super::disk::{Disk, DiskFile};
use super::quarantine::{DIR, Stored};

const SUFFIX: &str = ".retry";

/// What to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The whole object: it is fetched.
    Object,
    /// The record: it is sent to the output that refused it.
    Record,
}

/// What trying an entry again means. The error says why it cannot be.
pub fn meaning(entry: &Stored) -> Result<Again, &'static str> {
    match (&entry.output, entry.index) {
        (Some(_), Some(_)) if entry.kept < entry.given => {
            Err("its raw bytes were cut off when the quarantine was full: they are still in the object in S3")
        }
        (Some(_), Some(_)) => Ok(Again::Record),
        // Every log's key has folders, and the id of a message has none.
        (None, None) if !entry.object.source.is_empty() && !entry.object.key.contains('/') => {
            Err("it is a message of a queue, which nothing could be done with: `show --raw` prints it")
        }
        (None, None) if !entry.object.source.is_empty() => Ok(Again::Object),
        (None, Some(_)) => {
            Err("it is a part of an object whose other records were collected: it is not JSON, or too \
                                long, and would be so again; `show --raw` prints it")
        }
        _ => Err("these are damaged bytes of the spool: `show --raw` prints them"),
    }
}

/// Asks for an entry. Durable on return.
pub fn request<D: Disk>(disk: &D, id: &str) -> io::Result<()> {
    let _proof = disk.create(&path(id))?.sync()?;
    disk.sync_dir(DIR)
}

/// The entries that are asked for, in order.
pub fn requests<D: Disk>(disk: &D) -> io::Result<Vec<String>> {
    let files = disk.list(DIR)?.into_iter();
    let mut ids: Vec<String> =
        files.filter_map(|(name, _)| Some(name.strip_suffix(SUFFIX)?.to_owned())).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The request is settled.
pub fn settle<D: Disk>(disk: &D, id: &str) -> io::Result<()> {
    match disk.remove(&path(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => disk.sync_dir(DIR),
    }
}

fn path(id: &str) -> String {
    format!("{DIR}/{id}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ObjectId;

    #[test]
    fn only_what_can_be_had_again_is_tried_again() {
        let entry = |source: &str, key: &str, output: Option<&str>, index| Stored {
            id: String::new(),
            object: ObjectId { source: source.into(), bucket: "b".into(), key: key.into() },
            index,
            output: output.map(Box::from),
            reason: "r".into(),
            detail: "d".into(),
            kept: 2,
            given: 2,
        };
        let log = "AWSLogs/1/CloudTrail/r/2026/11/23/x.json.gz";
        assert_eq!(meaning(&entry("prod", log, None, None)), Ok(Again::Object));
        let refused = entry("prod", log, Some("siem"), Some(1));
        assert_eq!(meaning(&refused), Ok(Again::Record));
        let why = |entry: &Stored| meaning(entry).unwrap_err();
        assert!(why(&Stored { kept: 1, ..refused }).contains("cut off"));
        assert!(why(&entry("prod", log, None, Some(1))).contains("part of an object"));
        assert!(why(&entry("prod", "19dd0b57-b21e-4ac1-bd88-01bbb068cb78", None, None)).contains("message"));
        assert!(why(&entry("", "spool/0000000000000001.seg@40", None, None)).contains("of the spool"));
    }
}
