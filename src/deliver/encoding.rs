//! What one record looks like on an output's wire. The output's kind and `format` decide it once
//! ([`Encoding::of`]); whoever reads the spool only asks for the length and the bytes.
//!
//! What a directory says of an account may be known when a record is encoded again, and may not have been before. Such
//! a line also has a [`Name`], of what stays the same: so the records of a batch are known for what they are.
//!
//! Senders get the encoded records with their bounds ([`super::lines::Lines`]) and add what goes around or between
//! them: the frame of a protocol, a comma, an envelope of the whole request.

use std::sync::Arc;

use super::format;
use super::http::encode::Wire;
use super::lines::Name;
use super::syslog::{self, Framing, Messages};
use crate::config::{Format, Output, OutputKind};
use crate::record::ObjectId;
use crate::select::{Attribution, Attributors};

/// Bytes that most records have around them.
const AROUND: usize = 768;

/// A record and where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The object that it stood in.
    pub object: &'a ObjectId,
    /// Its place there, from 0.
    pub index: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// How an output writes records.
#[derive(Debug, Clone)]
pub struct Encoding {
    kind: Kind,
    /// Of each source, which account is behind its records.
    attributors: Arc<Attributors>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Lines of text ([`format`]).
    Lines(Format),
    /// A part of an HTTP request ([`super::http::encode`]).
    Http(Box<Wire>),
    /// Syslog messages ([`syslog`]).
    Messages(Messages),
}

impl Encoding {
    /// What the output's configuration says.
    pub fn of(output: &Output, attributors: Arc<Attributors>) -> Encoding {
        let format = output.format;
        let kind = match &output.kind {
            OutputKind::Syslog { syslog, framing, .. } => {
                Kind::Messages(Messages::new(syslog, format, *framing))
            }
            OutputKind::Relp { syslog, .. } => Kind::Messages(Messages::new(syslog, format, Framing::None)),
            _ => match Wire::of(output) {
                Some(wire) => Kind::Http(Box::new(wire)),
                None => Kind::Lines(format),
            },
        };
        Encoding { kind, attributors }
    }

    /// Looks at a record once: its length is known before anything is written.
    pub fn draft<'a>(&'a self, record: Record<'a>) -> Draft<'a> {
        let attribution = self.attribution(record);
        let name = attribution.as_ref().filter(|attribution| attribution.directory().is_some());
        let name = name.map(|attribution| {
            let mut line = Vec::new();
            self.draft_with(record, Some(attribution.derived()), None).append(&mut line);
            Name::of(&line)
        });
        self.draft_with(record, attribution, name)
    }

    /// The name of a record's line, whatever a directory says of its account.
    pub fn name(&self, record: Record<'_>) -> Name {
        let attribution = self.attribution(record).map(|attribution| attribution.derived());
        let mut line = Vec::new();
        self.draft_with(record, attribution, None).append(&mut line);
        Name::of(&line)
    }

    fn draft_with<'a>(
        &'a self,
        record: Record<'a>,
        attribution: Option<Attribution>,
        name: Option<Name>,
    ) -> Draft<'a> {
        let (len, shape) = match &self.kind {
            &Kind::Lines(format) => {
                let Record { object, index, bytes } = record;
                let len = format::encoded_len(format, object, index, attribution.as_ref(), bytes);
                (len, Shape::Line(format))
            }
            Kind::Http(wire) => {
                let mut ready = Vec::with_capacity(record.bytes.len() + AROUND);
                wire.append(record, attribution.as_ref(), &mut ready);
                (ready.len(), Shape::Ready(ready))
            }
            Kind::Messages(messages) => {
                let parts = messages.parts(record, attribution.as_ref());
                (parts.len, Shape::Message(messages, parts))
            }
        };
        Draft { record, attribution, len, shape, name }
    }

    fn attribution(&self, record: Record<'_>) -> Option<Attribution> {
        let wanted = match &self.kind {
            Kind::Lines(format) => format::wants_attribution(*format),
            Kind::Http(wire) => wire.wants_attribution(),
            Kind::Messages(messages) => messages.wants_attribution(),
        };
        if wanted { self.attributors.attribute(&record.object.source, record.bytes) } else { None }
    }

    /// Bytes that [`Encoding::append`] adds.
    pub fn encoded_len(&self, record: Record<'_>) -> usize {
        self.draft(record).len()
    }

    /// Adds the encoded record to `out`.
    pub fn append(&self, record: Record<'_>, out: &mut Vec<u8>) {
        self.draft(record).append(out);
    }
}

/// An encoded record that is not written yet: what had to be found out for its length is not found out twice.
#[derive(Debug)]
pub struct Draft<'a> {
    record: Record<'a>,
    attribution: Option<Attribution>,
    len: usize,
    shape: Shape<'a>,
    name: Option<Name>,
}

#[derive(Debug)]
enum Shape<'a> {
    Line(Format),
    Message(&'a Messages, syslog::Parts<'a>),
    /// Encoded already: its length cannot be had for less.
    Ready(Vec<u8>),
}

impl Draft<'_> {
    /// Its bytes.
    #[allow(clippy::len_without_is_empty)] // none is
    pub fn len(&self) -> usize {
        self.len
    }

    /// The name of the line, if it is not that of its bytes.
    pub fn name(&self) -> Option<Name> {
        self.name
    }

    /// Adds it to `out`.
    pub fn append(self, out: &mut Vec<u8>) {
        let before = out.len();
        let Draft { record, attribution, shape, .. } = &self;
        let Record { object, index, bytes } = *record;
        match shape {
            Shape::Line(format) => format::append(*format, object, index, attribution.as_ref(), bytes, out),
            Shape::Message(messages, parts) => messages.append(*record, attribution.as_ref(), parts, out),
            Shape::Ready(ready) => out.extend_from_slice(ready),
        }
        debug_assert_eq!(out.len() - before, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::format::tests::{USER, knowing};
    use super::*;
    use crate::config::OnFull;

    fn encoding(format: Format, attributors: Attributors) -> Encoding {
        let output = Output {
            name: "o".into(),
            kind: OutputKind::Stdout,
            format,
            batch_bytes: 1,
            batch_records: 1,
            batch_wait: std::time::Duration::ZERO,
            on_full: OnFull::Hold,
            concurrency: 1,
        };
        Encoding::of(&output, Arc::new(attributors))
    }

    #[test]
    fn a_line_is_known_by_what_a_directory_does_not_change() {
        let object = ObjectId { source: "s".into(), bucket: "b".into(), key: "k".into() };
        let record = Record { object: &object, index: 0, bytes: USER };
        let line = |encoding: &Encoding| {
            let mut line = Vec::new();
            encoding.append(record, &mut line);
            (line, encoding.draft(record).name(), encoding.name(record))
        };
        let envelope = |attributes| encoding(Format::Envelope, knowing(attributes));
        let (one, name_of_one, one_again) = line(&envelope(&[("mail", "one@x")]));
        let (two, name_of_two, two_again) = line(&envelope(&[("mail", "two@x"), ("sn", "Smith")]));
        assert_ne!(one, two);
        assert_eq!((name_of_one, one_again), (name_of_two, two_again));
        assert_eq!(name_of_one, Some(one_again));
        // what goes without is its own name
        let derived = Attributors::new(&[crate::config::Source {
            attribution: crate::config::Attribution::ShortName,
            ..crate::discover::testing::source("s")
        }]);
        let (plain, name, again) = line(&encoding(Format::Envelope, derived));
        assert_eq!((name, again), (None, Name::of(&plain)));
        assert_eq!(again, one_again);
        assert_eq!(line(&encoding(Format::Raw, knowing(&[("mail", "one@x")]))).1, None);
    }
}
