//! The agent's own log: one line a message on standard error, in one write.
//!
//! Under systemd a line is `<PRIORITY>TEXT` and the journal adds the time; otherwise it is `TIME LEVEL: TEXT`,
//! on a terminal `LEVEL: TEXT`. Text can hold object keys that somebody else chose: control characters are
//! escaped, so that no key can forge a line, and a line is cut at [`limits::LOG_LINE_BYTES`].

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use time::OffsetDateTime;

use crate::limits;

/// Begins logging. A second call only sets the level.
pub fn init(level: LevelFilter) {
    // The only failure is that a logger is set already: then it stays.
    let _ = log::set_boxed_logger(Box::new(Logger { style: Style::of_stderr() }));
    set_level(level);
}

/// Sets the least severe level that is logged.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Journal,
    Terminal,
    Plain,
}

struct Logger {
    style: Style,
}

impl Style {
    fn of_stderr() -> Style {
        #[allow(clippy::disallowed_methods)] // Set by the service manager, not by the operator.
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        #[allow(clippy::useless_conversion)] // The types are narrower on some 32-bit targets.
        let journal = nix::sys::stat::fstat(io::stderr())
            .is_ok_and(|stat| is_stream(&stream, u64::from(stat.st_dev), u64::from(stat.st_ino)));
        match (journal, io::stderr().is_terminal()) {
            (true, _) => Style::Journal,
            (false, true) => Style::Terminal,
            (false, false) => Style::Plain,
        }
    }
}

impl Log for Logger {
    /// Libraries are heard when they warn; the details are our own.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn || metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        #[allow(clippy::disallowed_methods)] // The time of the line itself, decided nowhere else.
        let now = (self.style == Style::Plain).then(|| OffsetDateTime::from(SystemTime::now()));
        let line = Line::new(self.style, now, record.level(), record.args());
        // There is nowhere left to tell that standard error is gone.
        let _ = io::stderr().lock().write_all(line.bytes());
    }

    fn flush(&self) {}
}

/// Whether `JOURNAL_STREAM` names this very file. It is inherited: a child whose standard error was
/// redirected still has it. Source: systemd.exec(5), `$JOURNAL_STREAM`: device and inode in decimal, a colon between.
fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    let parts = variable.split_once(':').map(|(dev, ino)| (dev.parse::<u64>(), ino.parse::<u64>()));
    parts == Some((Ok(device), Ok(inode)))
}

/// A line being put together in a fixed buffer.
struct Line {
    text: heapless::String<{ limits::LOG_LINE_BYTES }>,
    full: bool,
}

impl Line {
    /// What ends a line that was cut, and its newline.
    const CUT: &str = "…\n";

    fn new(style: Style, now: Option<OffsetDateTime>, level: Level, text: &fmt::Arguments<'_>) -> Line {
        let mut line = Line { text: heapless::String::new(), full: false };
        let (priority, word) = match level {
            Level::Error => (3, "error"),
            Level::Warn => (4, "warning"),
            Level::Info => (6, "info"),
            Level::Debug => (7, "debug"),
            Level::Trace => (7, "trace"),
        };
        // Writing to the line fails only when it is full: then the rest is left out.
        let _ = match (style, now) {
            (Style::Journal, _) => write!(line, "<{priority}>"),
            (_, Some(now)) => write!(line, "{} {word}: ", Stamp(now)),
            (_, None) => write!(line, "{word}: "),
        };
        let _ = line.write_fmt(*text);
        let end = if line.full { Line::CUT } else { "\n" };
        let _ = line.text.push_str(end);
        line
    }

    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn put(&mut self, c: char) -> fmt::Result {
        if self.text.len() + c.len_utf8() + Line::CUT.len() > limits::LOG_LINE_BYTES {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push(c).map_err(|_| fmt::Error)
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                // Line and paragraph separators and direction marks deceive readers as control characters do.
                '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    c.escape_unicode().try_for_each(|c| self.put(c))?
                }
                c if c.is_control() => c.escape_default().try_for_each(|c| self.put(c))?,
                c => self.put(c)?,
            }
        }
        Ok(())
    }
}

/// A point in time as RFC 3339, in UTC, to the millisecond.
struct Stamp(OffsetDateTime);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(f, "{:04}-{:02}-{:02}T", t.year(), u8::from(t.month()), t.day())?;
        write!(f, "{:02}:{:02}:{:02}.{:03}Z", t.hour(), t.minute(), t.second(), t.millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style, now: Option<OffsetDateTime>, level: Level, text: &str) -> String {
        let line = Line::new(style, now, level, &format_args!("{text}"));
        String::from_utf8(line.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_line_begins_as_its_reader_expects() {
        let now = OffsetDateTime::from_unix_timestamp(1_769_860_801).unwrap();
        assert_eq!(line(Style::Journal, None, Level::Error, "x"), "<3>x\n");
        assert_eq!(line(Style::Journal, None, Level::Warn, "x"), "<4>x\n");
        assert_eq!(line(Style::Journal, None, Level::Info, "x"), "<6>x\n");
        assert_eq!(line(Style::Journal, None, Level::Debug, "x"), "<7>x\n");
        assert_eq!(line(Style::Terminal, None, Level::Warn, "x"), "warning: x\n");
        assert_eq!(line(Style::Plain, Some(now), Level::Info, "x"), "2026-01-31T12:00:01.000Z info: x\n");
    }

    #[test]
    fn text_cannot_forge_a_line() {
        let forged =
            line(Style::Journal, None, Level::Info, "key a\n<0>all is lost\r\u{1b}[2J\u{85}\u{2028}\u{202e}");
        assert_eq!(forged, "<6>key a\\n<0>all is lost\\r\\u{1b}[2J\\u{85}\\u{2028}\\u{202e}\n");
        assert_eq!(line(Style::Terminal, None, Level::Info, "ключ 鍵"), "info: ключ 鍵\n");
    }

    #[test]
    fn a_long_line_is_cut_inside_its_bound() {
        for text in ["x".repeat(10_000), "鍵".repeat(10_000), "\n".repeat(10_000)] {
            let line = line(Style::Journal, None, Level::Info, &text);
            assert!(line.len() <= limits::LOG_LINE_BYTES && line.len() > limits::LOG_LINE_BYTES - 16);
            assert!(line.ends_with("…\n"));
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_stream("9:123456", 9, 123_456));
        for other in
            ["", ":", "9", "9:", "9:123457", "8:123456", "9:123456:1", "x:y", "99999999999999999999:1"]
        {
            assert!(!is_stream(other, 9, 123_456), "{other}");
        }
    }
}
