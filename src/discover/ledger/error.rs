//! What can go wrong with the ledger, and what to do about it.

use std::fmt;
use std::io;

/// Why the ledger could not do what it was asked. Nothing that was in it before is lost by any of these.
#[derive(Debug)]
pub enum LedgerError {
    /// The disk refused. Wait and call again: what was asked for is not done, or not known to be.
    Disk {
        /// What was tried, e.g. `"write"`.
        what: &'static str,
        /// The file, from the state folder.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not what was written. Nothing is done about it unasked: the text says the remedy.
    Corrupt {
        /// The file, from the state folder.
        path: String,
        /// What does not fit.
        why: &'static str,
        /// What to do, and what it costs.
        remedy: &'static str,
    },
    /// A source that cannot have a ledger. The configuration should not have let it through.
    Source {
        /// Its name.
        name: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl LedgerError {
    /// Which error of the disk it was.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            LedgerError::Disk { error, .. } => Some(error.kind()),
            _ => None,
        }
    }

    /// For `map_err`: what was tried, on which file.
    pub(super) fn disk(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> LedgerError {
        move |error| LedgerError::Disk { what, path: path.to_owned(), error }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Disk { what, path, error } => write!(f, "ledger: cannot {what} {path}: {error}"),
            LedgerError::Corrupt { path, why, remedy } => {
                write!(f, "ledger: {path} in the state folder is damaged: {why}; {remedy}")
            }
            LedgerError::Source { name, why } => write!(f, "ledger: source {name:?}: {why}"),
        }
    }
}

impl std::error::Error for LedgerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LedgerError::Disk { error, .. } => Some(error),
            _ => None,
        }
    }
}
