//! The command `filter`: what rules, baseline and duplicates would do to objects that lie in files here. It decodes and
//! selects as the agent does, sends nothing and leaves nothing behind. A shell; `table` and `json` write what it found.

mod json;
mod table;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use super::duplicates::Window;
use super::{Reason, Selector, Verdict};
use crate::config::{self, Source};
use crate::decode::field::{self, Field};
use crate::decode::{Broken, Decoder, Failure, Record, Sink, text};
use crate::error::Exit;
use crate::limits;

/// Examples that are shown of each fate.
const EXAMPLES: usize = 3;
/// Characters of a name that are shown.
const SHOWN: usize = 120;

/// What `trailspool filter` was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The configuration.
    pub config: PathBuf,
    /// Which source's rules; `None`: of the only one.
    pub source: Option<String>,
    /// For programs.
    pub json: bool,
    /// Files, and folders in which every `.json` and `.json.gz` is read.
    pub paths: Vec<PathBuf>,
}

/// Does the dry run and prints what came of it.
pub fn main(request: &Request) -> ExitCode {
    match run(request) {
        Ok(found) => {
            let text = if request.json { json::text(&found) } else { table::text(&found) };
            // A reader that went away is no failure.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            if found.fate(Fate::Quarantined).records + found.files_set_aside > 0 {
                return Exit::Data.into();
            }
            Exit::Done.into()
        }
        Err((exit, text)) => {
            let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
            exit.into()
        }
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Duplicate,
    Quarantined,
    Dropped(Reason),
}

/// Records of one fate.
#[derive(Debug, Clone, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    examples: Vec<Example>,
}

#[derive(Debug, Clone)]
struct Example {
    file: Rc<str>,
    index: u32,
    /// What happened, or why it was set aside.
    event: String,
}

/// What a dry run found.
struct Found {
    source: Box<str>,
    files: u64,
    files_set_aside: u64,
    /// Why files were set aside, the first of them.
    set_aside: Vec<(Rc<str>, String)>,
    /// Each fate that a record may have, in the order in which they are shown.
    fates: Vec<(Fate, Tally)>,
    /// What a rule looks for: its field and its regex.
    rules: Vec<(Option<Box<str>>, Box<str>)>,
    excludes: Vec<Box<str>>,
}

impl Found {
    fn new(source: &Source) -> Found {
        let rules = source.rules.list();
        let dropping = rules.iter().enumerate().filter(|(_, rule)| rule.action == config::Action::Drop);
        let reasons = dropping
            .map(|(n, _)| Reason::Rule(n))
            .chain((0..source.exclude.len()).map(Reason::Exclude))
            .chain((!source.unfiltered).then_some(Reason::Baseline));
        let fates = [Fate::Kept, Fate::Duplicate, Fate::Quarantined].into_iter();
        Found {
            source: source.name.clone(),
            files: 0,
            files_set_aside: 0,
            set_aside: Vec::new(),
            fates: fates.chain(reasons.map(Fate::Dropped)).map(|fate| (fate, Tally::default())).collect(),
            rules: rules.iter().map(|rule| (Some(rule.field.clone()), rule.regex.clone())).collect(),
            excludes: source.exclude.patterns().iter().map(|regex| regex.as_str().into()).collect(),
        }
    }

    fn fate(&self, fate: Fate) -> &Tally {
        const NONE: &Tally = &Tally { records: 0, bytes: 0, examples: Vec::new() };
        self.fates.iter().find(|(known, _)| *known == fate).map_or(NONE, |(_, tally)| tally)
    }

    /// Every fate that drops records.
    fn dropped(&self) -> impl Iterator<Item = (Reason, &Tally)> {
        self.fates.iter().filter_map(|(fate, tally)| match fate {
            Fate::Dropped(reason) => Some((*reason, tally)),
            _ => None,
        })
    }

    fn records(&self) -> u64 {
        self.fates.iter().map(|(_, tally)| tally.records).sum()
    }

    fn bytes(&self) -> u64 {
        self.fates.iter().map(|(_, tally)| tally.bytes).sum()
    }

    /// Field and regex of what removed records.
    fn looks_for(&self, reason: Reason) -> (Option<&str>, Option<&str>) {
        match reason {
            Reason::Rule(n) => {
                self.rules.get(n).map_or((None, None), |(field, regex)| (field.as_deref(), Some(&**regex)))
            }
            Reason::Exclude(n) => (None, self.excludes.get(n).map(|regex| &**regex)),
            Reason::Baseline => (None, None),
        }
    }
}

fn run(request: &Request) -> Result<Found, (Exit, String)> {
    let examined = config::examine(&request.config);
    let faults = examined.faults.as_ref().map(ToString::to_string);
    let source = match (&request.source, &examined.sources[..]) {
        (Some(name), sources) => sources.iter().find(|source| match source {
            Ok(source) => *source.name == **name,
            Err(called) => **called == **name,
        }),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let source = match source {
        Some(Ok(source)) => source,
        Some(Err(_)) => return Err((Exit::Config, faults.unwrap_or_default())),
        None if examined.sources.is_empty() => return Err((Exit::Config, faults.unwrap_or_default())),
        None => {
            let names: Vec<&str> = examined
                .sources
                .iter()
                .map(|source| source.as_ref().map_or_else(|name| &**name, |source| &*source.name))
                .collect();
            let text = format!("--source names one of the sources: {}", shown(&names.join(", ")));
            return Err((Exit::Usage, text));
        }
    };
    let (record_bytes, object_bytes) =
        examined.spool.as_ref().map_or((limits::RECORD_BYTES, limits::OBJECT_BYTES * 4), |s| {
            (s.max_record_bytes, s.max_object_bytes)
        });
    let mut work = Work {
        decoder: Decoder::new(record_bytes, object_bytes),
        selector: Selector::new(source),
        window: Window::new(0),
        chunk: vec![0; limits::CHUNK_BYTES].into(),
        found: Found::new(source),
    };
    for path in &request.paths {
        let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if kind.is_dir() { work.folder(path)? } else { work.file(path)? }
    }
    match work.found.files {
        0 => Err((Exit::Usage, "there is no .json or .json.gz file in these folders".to_owned())),
        _ => Ok(work.found),
    }
}

struct Work {
    decoder: Decoder,
    selector: Selector,
    window: Window,
    chunk: Box<[u8]>,
    found: Found,
}

impl Work {
    /// Every object in a folder and below, in the order of names, which is the order of labels.
    fn folder(&mut self, folder: &Path) -> Result<(), (Exit, String)> {
        let list = || -> io::Result<Vec<(PathBuf, bool)>> {
            let entry = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                Ok((entry.path(), entry.file_type()?.is_dir()))
            };
            fs::read_dir(folder)?.map(entry).collect()
        };
        let mut entries = list().map_err(|error| unreadable(folder, &error))?;
        entries.sort();
        for (path, is_folder) in entries {
            let name = path.to_string_lossy();
            if is_folder {
                self.folder(&path)?;
            } else if name.ends_with(".json") || name.ends_with(".json.gz") {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// One object; a bad one is counted and told.
    fn file(&mut self, path: &Path) -> Result<(), (Exit, String)> {
        let mut file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
        let name: Rc<str> = shown(&path.to_string_lossy()).into();
        self.found.files += 1;
        self.decoder.start_noting(self.selector.looks_inside());
        let mut intake = Intake {
            selector: &mut self.selector,
            window: &mut self.window,
            fates: self.found.fates.iter().map(|(fate, _)| (*fate, Tally::default())).collect(),
            file: &name,
            broken_bytes: 0,
        };
        let mut bad = None;
        loop {
            let count = file.read(&mut self.chunk).map_err(|error| unreadable(path, &error))?;
            let fed = match count {
                0 => self.decoder.finish(&mut intake).map(drop),
                count => self.decoder.feed(&self.chunk[..count], &mut intake),
            };
            if let Err(Failure::Object(why)) = fed {
                bad = Some(format!("{}: {why}", why.slug()));
            }
            if count == 0 || bad.is_some() {
                break;
            }
        }
        let of_file = intake.fates;
        self.window.end_object(bad.is_none());
        self.window.commit();
        match bad {
            Some(why) => {
                self.found.files_set_aside += 1;
                if self.found.set_aside.len() < 10 * EXAMPLES {
                    self.found.set_aside.push((name, why));
                }
            }
            None => {
                for ((_, tally), (_, more)) in self.found.fates.iter_mut().zip(of_file) {
                    tally.records += more.records;
                    tally.bytes += more.bytes;
                    let room = EXAMPLES.saturating_sub(tally.examples.len());
                    tally.examples.extend(more.examples.into_iter().take(room));
                }
            }
        }
        Ok(())
    }
}

/// Takes the records of one file.
struct Intake<'a> {
    selector: &'a mut Selector,
    window: &'a mut Window,
    fates: Vec<(Fate, Tally)>,
    file: &'a Rc<str>,
    broken_bytes: u64,
}

impl Intake<'_> {
    fn count(&mut self, fate: Fate, index: u32, bytes: u64, event: impl FnOnce() -> String) {
        let Some((_, tally)) = self.fates.iter_mut().find(|(known, _)| *known == fate) else { return };
        tally.records += 1;
        tally.bytes += bytes;
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(Example { file: self.file.clone(), index, event: event() });
        }
    }
}

impl Sink for Intake<'_> {
    type Error = std::convert::Infallible;

    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Self::Error> {
        let fate = match self.selector.decide(record, self.window) {
            Verdict::Keep => Fate::Kept,
            Verdict::Drop(reason) => Fate::Dropped(reason),
            Verdict::Duplicate => Fate::Duplicate,
        };
        self.count(fate, index, record.bytes.len() as u64, || event(record.bytes));
        Ok(())
    }

    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Self::Error> {
        self.broken_bytes += part.len() as u64;
        if last {
            let bytes = std::mem::take(&mut self.broken_bytes);
            self.count(Fate::Quarantined, index, bytes, || why.to_string());
        }
        Ok(())
    }
}

/// What happened, in a few words.
fn event(record: &[u8]) -> String {
    let mut buffer = Vec::new();
    let mut said = |path: &str| match field::find(record, &field::Path::new(path)) {
        Field::Text(raw) => match text::unescape(raw, &mut buffer) {
            Ok(text) => shown(&String::from_utf8_lossy(text)),
            Err(text::BadEscape) => "?".to_owned(),
        },
        _ => "?".to_owned(),
    };
    format!("{} {} {}", said("eventTime"), said("eventSource"), said("eventName"))
}

/// Fit for a terminal: short, control characters escaped.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(SHOWN) {
        match c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

fn unreadable(path: &Path, error: &io::Error) -> (Exit, String) {
    (Exit::Io, format!("{}: cannot be read: {error}", shown(&path.to_string_lossy())))
}
