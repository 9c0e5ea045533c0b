//! From the bytes of an object to the bytes of its records: inflate ([`gunzip`]), then split (`split`).
//! A core: pieces of any size in, calls of a [`Sink`] out; one set of fixed buffers serves all objects.
//! [`field`] and [`text`] look into a record, [`members`] into what services say.
//!
//! Invariants: records are passed on byte for byte as they stood, in order, the same however the input is
//! cut; what is not a good record is reported with its bytes or refuses the whole object; no input makes
//! the buffers grow.

pub mod field;
pub mod gunzip;
pub mod members;
pub mod text;

mod mask;
mod nest;
mod outline;
mod record;
mod split;

#[cfg(test)]
mod tests;

use std::fmt;

use gunzip::{Gunzip, MAGIC};
pub use record::Record;
use split::Splitter;

/// Takes the records of an object, in order. After an error of the decoder or of the sink itself the object
/// is not finished, and what was passed on of it is to be taken back.
pub trait Sink {
    /// What may go wrong on the taking side.
    type Error;

    /// A record: its number in the object, from 0, and itself.
    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Self::Error>;

    /// A part of something that is to be set aside in place of a record, which has its own number. Parts
    /// come in order, of any length, perhaps empty; `last` is the end of it.
    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Self::Error>;
}

/// Why something in place of a record is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Longer than `max_record_bytes`.
    TooLong,
    /// Nested deeper than [`crate::limits::JSON_DEPTH`].
    TooDeep,
    /// An element of `Records` that is null, a string, a number, a boolean or an array.
    NotAnObject,
    /// A line that is not JSON, among records that stand one a line.
    NotJson,
}

impl Broken {
    /// A stable name, for the quarantine and the metrics.
    pub fn slug(self) -> &'static str {
        match self {
            Broken::TooLong => "record-too-long",
            Broken::TooDeep => "record-too-deep",
            Broken::NotAnObject => "record-not-an-object",
            Broken::NotJson => "line-not-json",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::TooLong => "the record is longer than spool.max_record_bytes",
            Broken::TooDeep => "the record nests deeper than any CloudTrail record",
            Broken::NotAnObject => "this element of Records is not a JSON object",
            Broken::NotJson => "this line is not JSON",
        })
    }
}

/// What an object held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records, broken ones included.
    pub records: u32,
    /// Bytes of text.
    pub inflated: u64,
    /// Gzip members; 0 for plain text.
    pub members: u32,
    /// Bytes behind the last gzip member that are not a member.
    pub trailing: u64,
    /// It was gzip, not plain text.
    pub gzip: bool,
}

/// Why a whole object cannot be decoded. Trying again with the same bytes gives the same answer: the caller
/// sets the object aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The first gzip header is not one.
    BadHeader {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The object ends in the middle.
    Truncated {
        /// Of what.
        what: &'static str,
    },
    /// The compressed data of this gzip member (from 1) are not DEFLATE.
    Deflate {
        /// The member, from 1.
        member: u32,
    },
    /// This gzip member's CRC-32 does not match.
    Crc {
        /// The member, from 1.
        member: u32,
    },
    /// This gzip member's length does not match.
    Length {
        /// The member, from 1.
        member: u32,
    },
    /// The text is longer than `max_object_bytes`.
    TooLarge {
        /// The bound, bytes.
        limit: u64,
    },
    /// More records than can be numbered.
    TooManyRecords,
    /// There is no JSON in it: no bytes, or white space alone.
    Empty,
    /// The text is not JSON of a shape that can hold records.
    NotJson {
        /// The byte in the inflated text, from 0.
        offset: u64,
        /// What is wrong there.
        why: &'static str,
    },
}

impl DecodeError {
    /// A stable name, for the quarantine and the metrics.
    pub fn slug(&self) -> &'static str {
        match self {
            DecodeError::BadHeader { .. } => "gzip-header",
            DecodeError::Truncated { .. } => "truncated",
            DecodeError::Deflate { .. } => "gzip-data",
            DecodeError::Crc { .. } => "gzip-crc",
            DecodeError::Length { .. } => "gzip-length",
            DecodeError::TooLarge { .. } => "too-large",
            DecodeError::TooManyRecords => "too-many-records",
            DecodeError::Empty => "empty",
            DecodeError::NotJson { .. } => "not-json",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::BadHeader { why } => write!(f, "its gzip header is damaged: {why}"),
            DecodeError::Truncated { what } => {
                write!(f, "it ends in the middle of its {what}: it was cut off when it was written or copied")
            }
            DecodeError::Deflate { member } => {
                write!(f, "the compressed data of its gzip member {member} are damaged")
            }
            DecodeError::Crc { member } => {
                write!(f, "the CRC-32 of its gzip member {member} does not match: it is damaged")
            }
            DecodeError::Length { member } => {
                write!(f, "the length of its gzip member {member} does not match: it is damaged")
            }
            DecodeError::TooLarge { limit } => write!(
                f,
                "it inflates to more than {limit} bytes; if that is meant to be, raise spool.max_object_bytes"
            ),
            DecodeError::TooManyRecords => write!(f, "it holds more than {} records", u32::MAX),
            DecodeError::Empty => f.write_str("it is empty: there is no JSON in it"),
            DecodeError::NotJson { offset, why } => {
                write!(f, "byte {offset} of its text is not JSON that can hold records: {why}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why decoding stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The object is bad.
    Object(DecodeError),
    /// The sink failed; of the object nothing is said.
    Sink(E),
}

impl<E> From<DecodeError> for Failure<E> {
    fn from(error: DecodeError) -> Failure<E> {
        Failure::Object(error)
    }
}

/// Decodes one object after another: [`Decoder::start`], [`Decoder::feed`] as often as there are bytes,
/// [`Decoder::finish`]. After an error only `start` makes sense.
pub struct Decoder {
    form: Form,
    gunzip: Gunzip,
    splitter: Splitter,
    inflated: u64,
    max_object: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing read yet.
    Unknown,
    /// The first byte is that of gzip.
    PerhapsGzip,
    Gzip,
    Plain,
}

impl Decoder {
    /// Allocates all that is ever needed: the inflater's 110 KiB and `max_record_bytes`.
    /// `max_object_bytes` bounds the inflated text of one object.
    pub fn new(max_record_bytes: usize, max_object_bytes: u64) -> Decoder {
        Decoder {
            form: Form::Unknown,
            gunzip: Gunzip::new(),
            splitter: Splitter::new(max_record_bytes),
            inflated: 0,
            max_object: max_object_bytes,
        }
    }

    /// Begins an object; whatever was in work is forgotten.
    pub fn start(&mut self) {
        self.start_noting(false);
    }

    /// The same. `members`: those of its records will be asked for, so where these are is noted in passing.
    pub fn start_noting(&mut self, members: bool) {
        self.form = Form::Unknown;
        self.gunzip.start();
        self.splitter.start(members);
        self.inflated = 0;
    }

    /// The next bytes of the object as it is stored: gzip if it begins with `1f 8b`, else plain JSON.
    pub fn feed<S: Sink + ?Sized>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        if let (Form::Unknown, [first, rest @ ..]) = (self.form, bytes) {
            self.form = if *first == MAGIC[0] { Form::PerhapsGzip } else { Form::Plain };
            if self.form == Form::PerhapsGzip {
                bytes = rest;
            }
        }
        if let (Form::PerhapsGzip, [second, ..]) = (self.form, bytes) {
            self.form = if *second == MAGIC[1] { Form::Gzip } else { Form::Plain };
            self.pass(&MAGIC[..1], sink)?;
        }
        self.pass(bytes, sink)
    }

    /// The end of the object.
    pub fn finish<S: Sink + ?Sized>(&mut self, sink: &mut S) -> Result<Summary, Failure<S::Error>> {
        if self.form == Form::PerhapsGzip {
            return Err(DecodeError::Truncated { what: "gzip stream" }.into());
        }
        if self.form == Form::Gzip {
            self.gunzip.finish()?;
        }
        self.splitter.finish(sink)?;
        Ok(Summary {
            records: self.splitter.records(),
            inflated: self.inflated,
            members: self.gunzip.members(),
            trailing: self.gunzip.trailing(),
            gzip: self.form == Form::Gzip,
        })
    }

    fn pass<S: Sink + ?Sized>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), Failure<S::Error>> {
        match self.form {
            Form::Unknown | Form::PerhapsGzip => Ok(()),
            Form::Plain => {
                count(&mut self.inflated, bytes, self.max_object)?;
                self.splitter.feed(bytes, sink)
            }
            Form::Gzip => {
                let mut rest = bytes;
                loop {
                    let (used, piece) = self.gunzip.step(rest)?;
                    if used == 0 && piece.is_empty() {
                        return Ok(());
                    }
                    count(&mut self.inflated, piece, self.max_object)?;
                    self.splitter.feed(piece, sink)?;
                    rest = &rest[used..];
                }
            }
        }
    }
}

fn count(inflated: &mut u64, piece: &[u8], limit: u64) -> Result<(), DecodeError> {
    *inflated += piece.len() as u64;
    if *inflated > limit { Err(DecodeError::TooLarge { limit }) } else { Ok(()) }
}
