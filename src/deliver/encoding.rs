//! What one record looks like on an output's wire. The output's kind and `format` decide it once
//! ([`Encoding::of`]); whoever reads the spool only asks for the length and the bytes.
//!
//! Senders get the encoded records with their bounds ([`super::lines::Lines`]) and add what goes around or between
//! them: the frame of a protocol, a comma, an envelope of the whole request.

use super::format;
use crate::config::{Format, Output};
use crate::record::ObjectId;

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
pub enum Encoding {
    /// Lines of text ([`format`]).
    Lines(Format),
}

impl Encoding {
    /// What the output's configuration says.
    pub fn of(output: &Output) -> Encoding {
        Encoding::Lines(output.format)
    }

    /// Looks at a record once: its length is known before anything is written.
    pub fn draft<'a>(&'a self, record: Record<'a>) -> Draft<'a> {
        match self {
            &Encoding::Lines(format) => {
                let len = format::encoded_len(format, record.object, record.index, record.bytes);
                Draft { record, len, shape: Shape::Lines(format) }
            }
        }
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

/// An encoded record that is not written yet.
#[derive(Debug)]
pub struct Draft<'a> {
    record: Record<'a>,
    len: usize,
    shape: Shape,
}

/// What was found out for the length and is needed to write.
#[derive(Debug)]
enum Shape {
    Lines(Format),
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
        let Record { object, index, bytes } = self.record;
        match self.shape {
            Shape::Lines(format) => format::append(format, object, index, bytes, out),
        }
        debug_assert_eq!(out.len() - before, self.len);
    }
}
