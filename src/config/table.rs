//! Walks the tables of a parsed TOML document. Every key that is asked for is a known key; what was not
//! asked for when a table is finished is a fault. Values are turned into their final types by functions
//! that return what is wrong as a sentence.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Report, nearest, quoted};

/// One table, with the keys that were asked for so far.
pub(super) struct Table<'a> {
    report: &'a Report<'a>,
    /// Name in faults, in brackets.
    place: String,
    /// `None`: the file does not have it, and all its keys take their defaults.
    entries: Option<&'a DeTable<'a>>,
    /// Where its header stands.
    at: usize,
    asked: Vec<&'static str>,
    /// Name of the table around it and its keys: where a misplaced key may belong.
    parent: Option<(&'static str, Vec<&'static str>)>,
}

/// A value, or a sentence that says what is wrong with it and what would be right.
pub(super) type Read<T> = Result<T, String>;

impl<'a> Table<'a> {
    pub(super) fn root(report: &'a Report<'a>, entries: &'a DeTable<'a>) -> Table<'a> {
        Table { report, place: String::new(), entries: Some(entries), at: 0, asked: Vec::new(), parent: None }
    }

    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Names the table in faults from here on.
    pub(super) fn set_place(&mut self, place: String) {
        self.place = place;
    }

    /// The name that the table gives itself, good or bad.
    pub(super) fn name_as_written(&self) -> Option<&'a str> {
        match self.entries?.get("name")?.get_ref() {
            DeValue::String(name) => Some(name),
            _ => None,
        }
    }

    /// The value of a key as it stands, which makes it a known key.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.entries?.get(key)
    }

    /// The value of a key; `None` when it is not there or at fault (then noted).
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a DeValue<'a>) -> Read<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(value.get_ref()).map_err(|text| self.fault_at(value.span().start, key, text)).ok()
    }

    /// The value of a key, or what holds without it.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&'a DeValue<'a>) -> Read<T>,
    ) -> T {
        self.get(key, read).unwrap_or(default)
    }

    /// The value of a key that must be there; `right` says what to write.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        right: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, right);
        }
        self.get(key, read)
    }

    /// The entries of an array, without those at fault; `read` also gets the span.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        most: usize,
        mut read: impl FnMut(&'a DeValue<'a>, Range<usize>) -> Result<T, (usize, String)>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            let text = format!("must be an array such as [\"…\", \"…\"], not {}", kind(value.get_ref()));
            self.fault_at(value.span().start, key, text);
            return Vec::new();
        };
        if array.len() > most {
            let text = format!("has {} entries; at most {most} are allowed", array.len());
            self.fault_at(value.span().start, key, text);
        }
        let mut entries = Vec::new();
        for (n, entry) in array.iter().take(most).enumerate() {
            match read(entry.get_ref(), entry.span()) {
                Ok(entry) => entries.push(entry),
                Err((at, text)) => self.fault_at(at, &format!("{key} entry {}", n + 1), text),
            }
        }
        entries
    }

    /// A table inside this one; when the file does not have it, one without entries.
    pub(super) fn table(&mut self, key: &'static str, place: String, own: &'static str) -> Table<'a> {
        let mut entries = None;
        let mut at = self.at;
        if let Some(value) = self.value(key) {
            at = value.span().start;
            match value.get_ref() {
                DeValue::Table(found) => entries = Some(found),
                other => self.fault_at(at, key, format!("must be a table, not {}", kind(other))),
            }
        }
        self.inner(entries, at, place, own)
    }

    /// The tables of an array of tables, each headed `[[header]]`.
    pub(super) fn tables(&mut self, key: &'static str, header: &str, own: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let wrong = |other: &DeValue<'_>| {
            format!(
                "must be a list of tables, each headed [[{header}]] in double brackets, not {}",
                kind(other)
            )
        };
        let DeValue::Array(array) = value.get_ref() else {
            self.fault_at(value.span().start, key, wrong(value.get_ref()));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (n, entry) in array.iter().enumerate() {
            let place = match self.place.strip_suffix(']') {
                Some(place) => format!("{place}.{key} {}]", n + 1),
                None => format!("[{key} {}]", n + 1),
            };
            match entry.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(self.inner(Some(entries), entry.span().start, place, own))
                }
                other => self.fault_at(entry.span().start, key, wrong(other)),
            }
        }
        tables
    }

    /// Notes a fault of a key, at its value, or at the table's header when it is not there.
    pub(super) fn fault(&self, key: &str, text: String) {
        let at =
            self.entries.and_then(|entries| entries.get(key)).map_or(self.at, |value| value.span().start);
        self.fault_at(at, key, text);
    }

    /// Notes that a key the table needs is not there; `right` says what to write.
    pub(super) fn missing(&self, key: &str, right: &str) {
        self.report.missing(self.at, self.key_place(key), format!("missing: write {right}"));
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Every key that was not asked for is a fault.
    pub(super) fn finish(self) {
        for key in self.entries.into_iter().flat_map(|entries| entries.keys()) {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let belongs = self.parent.as_ref().filter(|(_, keys)| keys.contains(&name));
            let text = match (nearest(name, &self.asked), belongs) {
                (_, Some((parent, _))) => {
                    format!("unknown key here; it belongs to {parent}: move it above {}", self.place)
                }
                (Some(near), None) => format!("unknown key; did you mean {near}?"),
                (None, None) => format!("unknown key; known here: {}", self.asked.join(", ")),
            };
            self.fault_at(key.span().start, &plain(name), text);
        }
    }

    /// Notes a fault at a place of its own.
    pub(super) fn fault_at(&self, at: usize, key: &str, text: String) {
        self.report.fault(at, self.key_place(key), text);
    }

    fn key_place(&self, key: &str) -> String {
        match self.place.as_str() {
            "" => key.to_owned(),
            place => format!("{place} {key}"),
        }
    }

    fn inner(
        &self,
        entries: Option<&'a DeTable<'a>>,
        at: usize,
        place: String,
        own: &'static str,
    ) -> Table<'a> {
        let parent = (!own.is_empty()).then(|| (own, self.asked.clone()));
        Table { report: self.report, place, entries, at, asked: Vec::new(), parent }
    }
}

/// A string.
pub(super) fn string<'a>(value: &'a DeValue<'a>) -> Read<&'a str> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(format!("must be a string in quotes, not {}", kind(other))),
    }
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Read<bool> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        other => Err(format!("must be true or false (without quotes), not {}", kind(other))),
    }
}

/// A whole number between two bounds, both allowed.
pub(super) fn integer(value: &DeValue<'_>, least: u64, most: u64) -> Read<u64> {
    let DeValue::Integer(number) = value else {
        return Err(format!("must be a whole number from {least} to {most}, not {}", kind(value)));
    };
    u64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be from {least} to {most}, not {}", plain(&number.to_string())))
}

/// One word of a list.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Read<T> {
    let text = string(value)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("{} is none of {}", quoted(text), words.join(", "))
    })
}

/// A value's kind with its article, for sentences. The value itself may be a secret and is not told.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A key as it would be written: bare, or in quotes when it must be.
fn plain(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-+.".contains(c);
    if !key.is_empty() && key.len() <= 64 && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}
