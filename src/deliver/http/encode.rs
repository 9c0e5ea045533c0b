//! What one record looks like inside a request, for each preset. `<document>` is the output's `format` without its line
//! break: the record's own bytes as a JSON value, or the envelope around them.
//!
//! ```text
//! ndjson         <document>\n
//! json-array     <document>,
//! splunk-hec     {"time":1688560107,"host":"…","source":"…","sourcetype":"…","index":"…","fields":{…},"event":<document>}\n
//!   raw          <document>\n
//! elastic-bulk   {"create":{"_index":"…","_id":"<eventID>-<digest>"}}\n<document>\n
//! loki           ["1688560107000000000","<document as a JSON string>"],
//! ```
//!
//! Records are never parsed and written anew. Loki takes lines as strings, so the document is escaped, and unescapes to
//! the same bytes. Times are the record's `eventTime`; a record without one gets none from the agent: Splunk then applies
//! its own rules, Loki gets the time stamp in the name of the object that the record stood in.
//!
//! `_id` makes what is sent again harmless: `create` answers that it is there. It is the `eventID` and the first half of
//! the SHA-256 of the record's bytes: the same whenever the record is sent, and another one for a record with the same
//! `eventID` and other bytes, which nobody can make up so that it hides the first. A record without an `eventID` of
//! letters, digits and `-` gets none, and may then stand there twice. The envelope that goes to Elasticsearch begins with
//! `"@timestamp"`, which data streams demand; a bare record has to get it there, from an ingest pipeline.

use std::fmt::Write as _;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use time::{Date, Month};

use super::super::encoding::Record;
use super::super::format::{self, append_bytes_escaped, append_escaped};
use crate::config::http::{Bulk, Hec, Preset};
use crate::config::{Format, Output, OutputKind};
use crate::decode::field::{self, Field, Path};
use crate::discover::key::LogKey;
use crate::select::Attribution;

/// Longest `eventID` that becomes part of a document's id. Elasticsearch takes 512 bytes; CloudTrail's have 36.
const ID_BYTES: usize = 128;
/// Bytes of the record's SHA-256 in it.
const DIGEST_BYTES: usize = 16;
const NANOS: i128 = 1_000_000_000;
/// Days from the beginning of the Julian calendar's count to 1970-01-01.
const EPOCH: i64 = 2_440_588;

/// How a preset writes records.
#[derive(Debug, Clone)]
pub struct Wire {
    preset: Preset,
    format: Format,
    time: Path,
    id: Path,
}

impl Wire {
    /// `None`: the output sends bare lines.
    pub fn of(output: &Output) -> Option<Wire> {
        let OutputKind::Http(http) = &output.kind else { return None };
        match &http.preset {
            Preset::Ndjson => None,
            Preset::SplunkHec(hec) if hec.raw => None,
            preset => Some(Wire {
                preset: preset.clone(),
                format: output.format,
                time: Path::new("eventTime"),
                id: Path::new("eventID"),
            }),
        }
    }

    /// Whether records say which account is behind them.
    pub fn wants_attribution(&self) -> bool {
        matches!(self.preset, Preset::SplunkHec(_)) || format::wants_attribution(self.format)
    }

    /// Adds the encoded record to `out`.
    pub fn append(&self, record: Record<'_>, attribution: Option<&Attribution>, out: &mut Vec<u8>) {
        match &self.preset {
            Preset::Ndjson => {
                self.document(record, attribution, out);
                out.push(b'\n');
            }
            Preset::JsonArray => {
                self.document(record, attribution, out);
                out.push(b',');
            }
            Preset::SplunkHec(hec) => self.event(hec, record, attribution, out),
            Preset::ElasticBulk(bulk) => self.action(bulk, record, attribution, out),
            Preset::Loki(_) => self.entry(record, attribution, out),
        }
    }

    fn document(&self, record: Record<'_>, attribution: Option<&Attribution>, out: &mut Vec<u8>) {
        let Record { object, index, bytes } = record;
        format::append(self.format, object, index, attribution, bytes, out);
        out.pop();
    }

    fn event(&self, hec: &Hec, record: Record<'_>, attribution: Option<&Attribution>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(Moment { seconds, nanos }) = event_time(record.bytes, &self.time) {
            // writing to a vector cannot fail
            let _ = match nanos / 1_000_000 {
                0 => write!(out, "\"time\":{seconds},"),
                millis => write!(out, "\"time\":{seconds}.{millis:03},"),
            };
        }
        if let Some(host) = &hec.host {
            member("host", host, out);
            out.push(b',');
        }
        match &hec.source {
            Some(source) => member("source", source, out),
            None => {
                out.extend_from_slice(b"\"source\":\"s3://");
                append_escaped(&record.object.bucket, out);
                out.push(b'/');
                append_escaped(&record.object.key, out);
                out.push(b'"');
            }
        }
        out.push(b',');
        member("sourcetype", &hec.sourcetype, out);
        if let Some(index) = &hec.index {
            out.push(b',');
            member("index", index, out);
        }
        if let Some(attribution) = attribution {
            out.extend_from_slice(b",\"fields\":{");
            member("attribution_account", attribution.account(), out);
            out.push(b',');
            member("attribution_kind", attribution.kind().label(), out);
            let rest = [
                ("attribution_domain", attribution.domain()),
                ("attribution_principal", attribution.principal()),
            ];
            for (name, value) in rest {
                if let Some(value) = value {
                    out.push(b',');
                    member(name, value, out);
                }
            }
            for (name, value) in attribution.directory().into_iter().flat_map(|entry| entry.iter()) {
                out.extend_from_slice(b",\"directory_");
                append_escaped(name, out);
                out.extend_from_slice(b"\":\"");
                append_escaped(value, out);
                out.push(b'"');
            }
            out.push(b'}');
        }
        out.extend_from_slice(b",\"event\":");
        self.document(record, attribution, out);
        out.extend_from_slice(b"}\n");
    }

    fn action(&self, bulk: &Bulk, record: Record<'_>, attribution: Option<&Attribution>, out: &mut Vec<u8>) {
        out.extend_from_slice(if bulk.replace { b"{\"index\":{" } else { b"{\"create\":{" });
        if let Some(index) = &bulk.index {
            member("_index", index, out);
        }
        if let Some(id) = event_id(record.bytes, &self.id) {
            if bulk.index.is_some() {
                out.push(b',');
            }
            member("_id", &document_id(id, record.bytes), out);
        }
        out.extend_from_slice(b"}}\n");
        match (self.format, text(record.bytes, &self.time)) {
            (Format::Envelope, Some(time)) if moment(time).is_some() => {
                out.extend_from_slice(b"{\"@timestamp\":\"");
                out.extend_from_slice(time);
                out.extend_from_slice(b"\",");
                let brace = out.len();
                self.document(record, attribution, out);
                out.remove(brace);
            }
            _ => self.document(record, attribution, out),
        }
        out.push(b'\n');
    }

    fn entry(&self, record: Record<'_>, attribution: Option<&Attribution>, out: &mut Vec<u8>) {
        let nanos = self.nanos(record);
        let _ = write!(out, "[\"{nanos}\",\"");
        match self.format {
            // line breaks and all: a string has room for them
            Format::Raw => append_bytes_escaped(record.bytes, out),
            Format::Envelope => {
                let mut document = Vec::with_capacity(record.bytes.len() + 512);
                self.document(record, attribution, &mut document);
                append_bytes_escaped(&document, out);
            }
        }
        out.extend_from_slice(b"\"],");
    }

    /// What Loki is told of the time: nanoseconds since 1970.
    fn nanos(&self, record: Record<'_>) -> i128 {
        event_time(record.bytes, &self.time)
            .map(|Moment { seconds, nanos }| i128::from(seconds) * NANOS + i128::from(nanos))
            .or_else(|| {
                let key = LogKey::parse(&record.object.key).ok()?;
                Some(key.stamp().assume_utc().unix_timestamp_nanos())
            })
            .unwrap_or(0)
    }
}

/// A point in time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Whole seconds.
    pub seconds: i64,
    /// And below.
    pub nanos: u32,
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    append_escaped(value, out);
    out.push(b'"');
}

fn text<'a>(record: &'a [u8], path: &Path) -> Option<&'a [u8]> {
    match field::find(record, path) {
        Field::Text(text) => Some(text),
        _ => None,
    }
}

fn event_time(record: &[u8], path: &Path) -> Option<Moment> {
    moment(text(record, path)?)
}

fn event_id<'a>(record: &'a [u8], path: &Path) -> Option<&'a str> {
    let id = std::str::from_utf8(text(record, path)?).ok()?;
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    ((1..=ID_BYTES).contains(&id.len()) && id.bytes().all(good)).then_some(id)
}

/// Two records of one `eventID` are two documents unless their bytes are the same.
fn document_id(event: &str, record: &[u8]) -> String {
    let mut id = String::with_capacity(event.len() + 1 + 2 * DIGEST_BYTES);
    id.push_str(event);
    id.push('-');
    for byte in &Sha256::digest(record)[..DIGEST_BYTES] {
        // writing to a String cannot fail
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// `2023-07-05T12:28:27Z`, with a fraction or without (RFC 3339, in UTC).
pub fn moment(text: &[u8]) -> Option<Moment> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        let number = |sum: u32, c: &u8| c.is_ascii_digit().then(|| sum * 10 + u32::from(c - b'0'));
        digits.iter().try_fold(0, number)
    };
    let signs = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !signs.into_iter().all(|(at, sign)| text.get(at) == Some(&sign)) {
        return None;
    }
    let month = Month::try_from(u8::try_from(number(5..7)?).ok()?).ok()?;
    let day = u8::try_from(number(8..10)?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(number(0..4)?).ok()?, month, day).ok()?;
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos = match &text[19..] {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            number(20..20 + fraction.len())? * 10u32.pow(9 - fraction.len() as u32)
        }
        _ => return None,
    };
    let days = i64::from(date.to_julian_day()) - EPOCH;
    let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some(Moment { seconds, nanos })
}

#[cfg(test)]
mod tests;
