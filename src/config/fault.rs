//! What is wrong with a configuration: every fault of a file, each where the operator can find it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::limits;

/// One fault of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1; 0 when the fault is the whole file's.
    pub line: usize,
    /// Column in characters, from 1; 0 when the fault is the whole file's.
    pub column: usize,
    /// The table and key, e.g. `[source.prod] bucket`; empty for syntax and for the whole file.
    pub place: String,
    /// What is wrong, and what would be right. Never holds a secret.
    pub text: String,
}

/// All faults of a configuration file in the order of their lines; displayed one a line, `FILE:LINE: [TABLE] KEY: TEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file, as it was named.
    pub path: PathBuf,
    /// At least one, at most [`limits::CONFIG_FAULTS`].
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub more: usize,
}

impl Faults {
    /// One fault of the whole file.
    pub(super) fn whole(path: &Path, text: String) -> Faults {
        let fault = Fault { line: 0, column: 0, place: String::new(), text };
        Faults { path: path.to_owned(), faults: vec![fault], more: 0 }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escaped(&self.path.to_string_lossy());
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&path)?;
            if fault.line > 0 {
                write!(f, ":{}", fault.line)?;
            }
            if !fault.place.is_empty() {
                write!(f, ": {}", fault.place)?;
            }
            write!(f, ": {}", fault.text)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{path}: and {more} more"),
        }
    }
}

impl std::error::Error for Faults {}

/// Collects faults and warnings while a file is read.
pub(super) struct Report<'a> {
    text: &'a str,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// Lines with a fault of the grammar. Keys may be missing only because these could not be read.
    broken: BTreeSet<usize>,
    faults: RefCell<Vec<Fault>>,
    /// Faults beyond those that are kept.
    more: Cell<usize>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Report<'a> {
    /// Faults kept until they are sorted, so that a hostile file cannot fill the memory.
    const KEPT: usize = 10 * limits::CONFIG_FAULTS;

    pub(super) fn new(text: &'a str) -> Report<'a> {
        Report {
            text,
            lines: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect(),
            broken: BTreeSet::new(),
            faults: RefCell::default(),
            more: Cell::new(0),
            warnings: RefCell::default(),
        }
    }

    /// Notes a fault of the grammar, the first of each line.
    pub(super) fn syntax(&mut self, at: usize, text: &str) {
        if self.broken.insert(self.line(at)) {
            let column = self.column(at);
            self.push(at, String::new(), format!("not valid TOML: {text} (column {column})"));
        }
    }

    /// Notes a fault of a value, unless its line has a fault of the grammar, which is then the cause.
    pub(super) fn fault(&self, at: usize, place: String, text: String) {
        if !self.broken.contains(&self.line(at)) {
            self.push(at, place, text);
        }
    }

    /// Notes that something is not there at all.
    pub(super) fn missing(&self, at: usize, place: String, text: String) {
        if self.broken.is_empty() {
            self.push(at, place, text);
        }
    }

    pub(super) fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
    }

    /// The text of a span as it stands in the file.
    pub(super) fn source(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or("")
    }

    /// Whether the line that holds an offset heads a table.
    pub(super) fn heads_table(&self, at: usize) -> bool {
        self.source(self.lines[self.line(at) - 1]..self.text.len())
            .trim_start_matches([' ', '\t'])
            .starts_with('[')
    }

    /// Faults so far.
    pub(super) fn count(&self) -> usize {
        self.faults.borrow().len() + self.more.get()
    }

    /// Whether the grammar is sound. What stands in a broken line is in no table.
    pub(super) fn is_grammatical(&self) -> bool {
        self.broken.is_empty()
    }

    /// The warnings, and the faults in the order of their lines.
    pub(super) fn finish(self, path: &Path) -> (Vec<String>, Option<Faults>) {
        let warnings = self.warnings.into_inner();
        let mut faults = self.faults.into_inner();
        if faults.is_empty() {
            return (warnings, None);
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        let more = self.more.get() + faults.len().saturating_sub(limits::CONFIG_FAULTS);
        faults.truncate(limits::CONFIG_FAULTS);
        (warnings, Some(Faults { path: path.to_owned(), faults, more }))
    }

    fn push(&self, at: usize, place: String, text: String) {
        let mut faults = self.faults.borrow_mut();
        if faults.len() >= Self::KEPT {
            return self.more.set(self.more.get() + 1);
        }
        faults.push(Fault { line: self.line(at), column: self.column(at), place, text });
    }

    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at).max(1)
    }

    fn column(&self, at: usize) -> usize {
        self.source(self.lines[self.line(at) - 1]..at).chars().count() + 1
    }
}

/// A value of the file inside a sentence: in quotes, on one line, not longer than a reader needs.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let cut = text.chars().count() > SHOWN;
    let shown: String = text.chars().take(SHOWN).collect();
    format!("\"{}{}\"", escaped(&shown), if cut { "…" } else { "" })
}

/// The text with its control characters escaped.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

/// The known word nearest to a mistyped one, when it is near enough to be meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let word: Vec<char> = word.chars().take(65).collect();
    let allowed = match word.len() {
        0..=2 => 0,
        3..=4 => 1,
        5..=64 => 2,
        _ => return None,
    };
    known
        .iter()
        .map(|candidate| (distance(&word, &candidate.chars().collect::<Vec<_>>()), *candidate))
        .min()
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(a: &str, b: &str) -> usize {
        distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
    }

    #[test]
    fn edits_are_inserts_deletes_replacements_and_swaps() {
        assert_eq!(edits("bucket", "bucket"), 0);
        assert_eq!(edits("buckets", "bucket"), 1);
        assert_eq!(edits("bucet", "bucket"), 1);
        assert_eq!(edits("bukcet", "bucket"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["bucket", "name", "region", "regions"];
        assert_eq!(nearest("buckte", &known), Some("bucket"));
        assert_eq!(nearest("nmae", &known), Some("name"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let report = Report::new("a\nüb\n");
        for (at, position) in [(0, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 1)), (999, (3, 1))] {
            assert_eq!((report.line(at), report.column(at)), position, "{at}");
        }
    }

    #[test]
    fn a_quoted_value_stays_on_its_line_and_short() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert!(quoted(&"x".repeat(1000)).len() < 100);
    }
}
