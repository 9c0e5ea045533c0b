//! How a command ends: the exit codes of sysexits.h, as far as they are used.

use std::process::ExitCode;

/// Exit code of a command. Source: sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The command line is wrong.
    Usage = 64,
    /// Bad data was found.
    Data = 65,
    /// A service that is needed does not answer.
    Unavailable = 69,
    /// The disk, or another local I/O, failed.
    Io = 74,
    /// Not done yet; the same command may succeed later.
    Temporary = 75,
    /// Permission or credentials.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
