//! What one record looks like on an output's wire. The output's kind and `format` decide it once
//! ([`Encoding::of`]); whoever reads the spool only asks for the length and the bytes.
//!
//! Senders get the encoded records with their bounds ([`super::lines::Lines`]) and add what goes around or between
//! them: the frame of a protocol, a comma, an envelope of the whole request.

use std::sync::Arc;

use super::format;
use super::http::encode::Wire;
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
        match &self.kind {
            &Kind::Lines(format) => {
                let attribution = self.attribution(format::wants_attribution(format), record);
                let Record { object, index, bytes } = record;
                let len = format::encoded_len(format, object, index, attribution.as_ref(), bytes);
                Draft { record, attribution, len, shape: Shape::Line(format) }
            }
            Kind::Http(wire) => {
                let attribution = self.attribution(wire.wants_attribution(), record);
                let mut ready = Vec::with_capacity(record.bytes.len() + AROUND);
                wire.append(record, attribution.as_ref(), &mut ready);
                Draft { record, attribution, len: ready.len(), shape: Shape::Ready(ready) }
            }
            Kind::Messages(messages) => {
                let attribution = self.attribution(messages.wants_attribution(), record);
                let parts = messages.parts(record, attribution.as_ref());
                Draft { record, attribution, len: parts.len, shape: Shape::Message(messages, parts) }
            }
        }
    }

    fn attribution(&self, wanted: bool, record: Record<'_>) -> Option<Attribution> {
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
