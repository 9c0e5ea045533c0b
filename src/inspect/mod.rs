//! Looks into a state directory: the commands `spool` and `quarantine`.
//!
//! They read beside a running agent and take no lock; only `quarantine retry` writes, and that is a request which the
//! agent takes up (see [`crate::spool::retry`]). Text that came from outside, object keys above all, is shown with its
//! control characters escaped; `cat` and `show --raw` write bytes as they are, but to a terminal.

pub mod quarantine;
pub mod spool;
mod verify;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::config::{self, Config};
use crate::deliver::format::append_escaped;
use crate::discover::ledger;
use crate::error::Exit;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Position, SpoolError, View};

/// Why a command ends early: with which code, and what to say.
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    fn io(what: impl Display, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Io,
        };
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; run it as the user that the agent runs as",
            io::ErrorKind::NotFound => "; is `state_dir` right, and has the agent run?",
            _ => "",
        };
        Failure::new(exit, format!("{what}: {error}{hint}"))
    }
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Failure {
        match error {
            SpoolError::Disk { what, path, error } => Failure::io(format!("cannot {what} {path}"), &error),
            other => Failure::new(Exit::Data, other.to_string()),
        }
    }
}

/// A state directory, and what the configuration says of it.
struct Place {
    config: Config,
    disk: StdDisk,
}

impl Place {
    fn open(path: &Path) -> Result<Place, Failure> {
        let config = config::load(path).map_err(|faults| Failure::new(Exit::Config, faults.to_string()))?;
        let state = &config.agent.state_dir;
        let disk = StdDisk::read_only(state)
            .map_err(|error| Failure::io(format!("state directory {}", state.display()), &error))?;
        Ok(Place { config, disk })
    }

    fn view(&self) -> Result<View<StdDisk>, Failure> {
        // A damaged checkpoint is for `verify` to tell; the log can be read without it.
        let checkpoint = match ledger::checkpoint(&self.disk) {
            Err(ledger::LedgerError::Disk { what, path, error, .. }) => {
                return Err(Failure::io(format!("cannot {what} {path}"), &error));
            }
            other => other.unwrap_or(Position::default()),
        };
        Ok(View::open(self.disk.clone(), checkpoint, self.config.spool.max_record_bytes)?)
    }
}

/// Runs a command: its text goes to standard output, what went wrong to standard error.
fn done(result: Result<Exit, Failure>) -> Exit {
    result.unwrap_or_else(|failure| {
        let text = failure.text.trim_end();
        let _ = writeln!(
            io::stderr().lock(),
            "{}{text}",
            if failure.exit == Exit::Config { "" } else { "trailspool: " }
        );
        failure.exit
    })
}

/// Standard output. A reader that went away (`| head`) ends a command without complaint.
struct Out {
    out: io::BufWriter<io::StdoutLock<'static>>,
    /// Nobody reads any more.
    gone: bool,
    /// Bytes that a terminal would obey are escaped.
    terminal: bool,
}

impl Out {
    fn new() -> Out {
        let terminal = io::stdout().is_terminal();
        Out { out: io::BufWriter::new(io::stdout().lock()), gone: false, terminal }
    }

    /// Text of our own; what is in it from outside went through [`shown`].
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Bytes from outside.
    fn raw(&mut self, bytes: &[u8]) {
        if !self.terminal {
            return self.bytes(bytes);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, end) = part.strip_suffix(b"\n").map_or((part, ""), |line| (line, "\n"));
            self.text(&shown(&String::from_utf8_lossy(line)));
            self.text(end);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.gone |= self.out.write_all(bytes).is_err();
    }

    fn end(mut self) {
        let _ = self.out.flush();
    }
}

/// Text from outside, fit for a terminal: control characters, and those that turn the direction, are escaped.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A text as a JSON string.
fn json(text: &str) -> String {
    let mut bytes = vec![b'"'];
    append_escaped(text, &mut bytes);
    bytes.push(b'"');
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_cannot_command_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}é"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c\\u{9b}é");
        assert_eq!(json("a\"\u{1b}\n"), "\"a\\\"\\u001b\\u000a\"");
    }
}
