//! The splitter: finds the bytes of each record in the text of an object, which comes in pieces of any
//! size. However it is cut, the records are the same, byte for byte as they stood.
//!
//! # What is taken
//!
//! A text is a sequence of top-level values, with or without white space or a byte order mark between them
//! (merged objects have several):
//!
//! * an object with a key `Records` whose value is an array, a *container*: each element of the array is a
//!   record; whatever stands before and behind it is passed over;
//! * any other object is one record (the one-record-a-line form), also when its `Records` is no array;
//! * an array: each element is a record.
//!
//! An object cannot be known as a container before its `Records` array opens. Until then it is kept as a
//! possible record, at most `max_record` bytes; an object that grows beyond that, or nests too deep, before
//! `Records` is a (broken) record to its end.
//!
//! # What is broken
//!
//! An element that is not an object, is too long or nests too deep is reported as [`Broken`], in parts, and
//! the rest goes on. So is a line that is not JSON, up to its line feed, when it begins with `{` or stands
//! behind a first good value. Once a record was followed by a line feed, the records are taken to stand one
//! a line: a line feed then ends a record that is still open, and breaks that one alone.
//!
//! A fault in a container, in an array or in an object that spans lines leaves it unclear where the next
//! record begins: then the whole text is refused with [`DecodeError::NotJson`]. Inside the elements of
//! `Records` only strings and brackets are looked at; whether they are JSON otherwise is not asked.

use memchr::{memchr, memchr3};

use crate::limits::JSON_DEPTH;

use super::nest::{LineFeeds, Nest, Step};
use super::outline::Outline;
use super::{Broken, DecodeError, Failure, Record, Sink, text};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits one text after another.
pub(super) struct Splitter {
    max_record: usize,
    state: State,
    /// Where the value in work belongs.
    home: Home,
    /// The array of records in work is the value of `Records`, not a top-level one.
    in_container: bool,
    nest: Nest,
    /// Of the record in work, where one is made.
    outline: Outline,
    outlines: bool,
    key: Key,
    /// The record in work, if there is one: a container has none of its own.
    item: Option<Item>,
    /// What came of the item in earlier pieces, unless that was reported as broken already.
    carry: Vec<u8>,
    /// Records so far.
    records: u32,
    /// Bytes of the text before this piece.
    offset: u64,
    /// A top-level value has ended.
    begun: bool,
    /// The last top-level value was a record without a line feed in it.
    one_line: bool,
    /// Such a record was followed by a line feed: no record goes beyond its line.
    by_line: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between top-level values.
    Top,
    /// Inside a byte order mark, so many bytes of it read.
    Mark(usize),
    /// In a top-level object: a key, or `}` where that may be.
    Key {
        or_end: bool,
    },
    Colon,
    /// A member's value, or an element of an array of records, or `]` where that may be.
    Value {
        or_end: bool,
    },
    /// `,` or the end of the object or array.
    Comma,
    /// Inside a string; `escaped`: the next byte is.
    Text {
        key: bool,
        escaped: bool,
    },
    /// Inside a number, `true`, `false` or `null`.
    Literal,
    /// Inside an object or array, which [`Nest`] walks through.
    Nested,
    /// Inside a line that is broken.
    Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Object,
    Array,
}

/// A record in work.
#[derive(Debug, Clone, Copy)]
struct Item {
    broken: Option<Broken>,
    /// A line feed was among the parts that are reported already.
    lines: bool,
}

/// The piece in work.
struct Piece<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the item's bytes begin.
    start: usize,
}

impl Splitter {
    /// Allocates room for one record.
    pub(super) fn new(max_record: usize) -> Splitter {
        // A byte order mark that is cut in two must fit.
        let max_record = max_record.max(BYTE_ORDER_MARK.len());
        Splitter {
            max_record,
            state: State::Top,
            home: Home::Object,
            in_container: false,
            nest: Nest::new(JSON_DEPTH, LineFeeds::Anywhere),
            outline: Outline::new(),
            outlines: false,
            key: Key::default(),
            item: None,
            carry: Vec::with_capacity(max_record),
            records: 0,
            offset: 0,
            begun: false,
            one_line: false,
            by_line: false,
        }
    }

    /// Forgets whatever text was in work. `outlines`: records are looked into, so their members are to be noted.
    pub(super) fn start(&mut self, outlines: bool) {
        self.outlines = outlines;
        self.state = State::Top;
        self.item = None;
        self.carry.clear();
        self.records = 0;
        self.offset = 0;
        self.begun = false;
        self.one_line = false;
        self.by_line = false;
    }

    /// Records so far, broken ones included.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// The next piece of the text.
    pub(super) fn feed<S: Sink + ?Sized>(
        &mut self,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        let mut piece = Piece { bytes, at: 0, start: 0 };
        while let Some(&byte) = bytes.get(piece.at) {
            match self.state {
                State::Nested => self.nested(&mut piece, sink)?,
                State::Text { key, escaped } => self.text(&mut piece, key, escaped, sink)?,
                State::Literal => self.literal(&mut piece, byte, sink)?,
                State::Line => self.line(&mut piece, sink)?,
                State::Mark(n) => self.mark(&mut piece, n, byte)?,
                _ if matches!(byte, b' ' | b'\t' | b'\r') => piece.at += 1,
                _ if byte == b'\n' => self.line_feed(&mut piece, sink)?,
                State::Top => self.top(&mut piece, byte)?,
                State::Key { or_end } => self.key(&mut piece, byte, or_end, sink)?,
                State::Colon if byte == b':' => self.go(&mut piece, State::Value { or_end: false }),
                State::Colon => self.fault(&mut piece, "a colon is missing behind a key", sink)?,
                State::Value { or_end } => self.value(&mut piece, byte, or_end, sink)?,
                State::Comma => self.comma(&mut piece, byte, sink)?,
            }
        }
        if self.item.is_some() {
            self.set_by(&bytes[piece.start..], sink)?;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// The end of the text.
    pub(super) fn finish<S: Sink + ?Sized>(&mut self, sink: &mut S) -> Result<(), Failure<S::Error>> {
        match self.state {
            State::Top if self.begun => Ok(()),
            State::Top => Err(DecodeError::Empty.into()),
            State::Line => self.end_item(&[], sink),
            _ => Err(DecodeError::Truncated { what: "JSON text" }.into()),
        }
    }

    /// A line feed outside records, or directly inside an object that may be one.
    fn line_feed<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        if self.by_line && self.item.is_some() {
            return self.fault(piece, "a line ends inside a record", sink);
        }
        self.by_line |= self.state == State::Top && self.one_line;
        piece.at += 1;
        Ok(())
    }

    fn top(&mut self, piece: &mut Piece<'_>, byte: u8) -> Result<(), DecodeError> {
        self.one_line = false;
        match byte {
            b'{' => {
                self.begin_item(piece, None);
                self.home = Home::Object;
                self.go(piece, State::Key { or_end: true });
            }
            b'[' => {
                self.in_container = false;
                self.home = Home::Array;
                self.go(piece, State::Value { or_end: true });
            }
            _ if byte == BYTE_ORDER_MARK[0] => {
                self.begin_item(piece, None);
                self.go(piece, State::Mark(1));
            }
            _ => {
                self.begin_item(piece, None);
                self.not_a_value(piece)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, piece: &mut Piece<'_>, n: usize, byte: u8) -> Result<(), DecodeError> {
        if byte != BYTE_ORDER_MARK[n] {
            return self.not_a_value(piece);
        }
        if n + 1 < BYTE_ORDER_MARK.len() {
            self.go(piece, State::Mark(n + 1));
        } else {
            self.drop_item();
            self.go(piece, State::Top);
        }
        Ok(())
    }

    /// At top level stands what begins no object and no array: one bad line of many, or no JSON at all.
    fn not_a_value(&mut self, piece: &Piece<'_>) -> Result<(), DecodeError> {
        if !self.begun {
            return Err(self.not_json(piece, "the text begins with neither { nor ["));
        }
        self.break_item(Broken::NotJson);
        self.state = State::Line;
        Ok(())
    }

    fn line<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        match memchr(b'\n', &piece.bytes[piece.at..]) {
            None => piece.at = piece.bytes.len(),
            Some(i) => {
                piece.at += i;
                self.end_item(&piece.bytes[piece.start..piece.at], sink)?;
                self.begun = true;
                self.state = State::Top;
            }
        }
        Ok(())
    }

    fn key<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        byte: u8,
        or_end: bool,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        match byte {
            b'"' => {
                self.key.clear();
                self.go(piece, State::Text { key: true, escaped: false });
                Ok(())
            }
            b'}' if or_end => self.close(piece, sink),
            _ => self.fault(piece, "a key is missing in an object", sink),
        }
    }

    /// The first byte of a member's value or of an element.
    fn value<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        byte: u8,
        or_end: bool,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        let array = self.home == Home::Array;
        if or_end && array && byte == b']' {
            return self.close(piece, sink);
        }
        if !array && byte == b'[' && self.key.is_records() && self.may_be_container(piece) {
            self.drop_item();
            self.in_container = true;
            self.home = Home::Array;
            self.go(piece, State::Value { or_end: true });
            return Ok(());
        }
        if !matches!(byte, b'{' | b'[' | b'"') && !is_literal(byte) {
            return self.fault(piece, "a value is missing", sink);
        }
        if array {
            self.begin_item(piece, (byte != b'{').then_some(Broken::NotAnObject));
        }
        match byte {
            b'{' | b'[' => {
                let (bound, line_feeds) = match (self.home, self.item) {
                    (Home::Array, _) => (JSON_DEPTH, LineFeeds::Anywhere),
                    (Home::Object, Some(_)) if self.by_line => (JSON_DEPTH - 1, LineFeeds::Nowhere),
                    (Home::Object, _) => (JSON_DEPTH - 1, LineFeeds::OutsideStrings),
                };
                self.nest = Nest::new(bound, line_feeds);
                self.state = State::Nested;
                self.outline.start();
            }
            b'"' => self.go(piece, State::Text { key: false, escaped: false }),
            _ => self.state = State::Literal,
        }
        Ok(())
    }

    /// Whether what came before `Records` is small enough to have been kept, wherever it was cut.
    fn may_be_container(&self, piece: &Piece<'_>) -> bool {
        self.item.is_none_or(|item| item.broken.is_none() && self.item_len(piece) <= self.max_record)
    }

    /// Whether the members of what is in work are noted: it is a record.
    fn notes(&self) -> bool {
        self.outlines && self.home == Home::Array
    }

    fn nested<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        let bytes = &piece.bytes[piece.at..];
        let step = match self.notes() {
            true => self.nest.advance_noting(bytes, &mut self.outline),
            false => self.nest.advance(bytes),
        };
        match step {
            Step::More => piece.at = piece.bytes.len(),
            Step::End(i) => {
                piece.at += i + 1;
                return self.end_value(piece, sink);
            }
            Step::TooDeep(i) => {
                piece.at += i;
                if self.item.is_none() {
                    return Err(self.not_json(piece, "it nests too deep beside Records").into());
                }
                self.break_item_here(piece, Broken::TooDeep);
                piece.at += 1;
            }
            Step::Fault(i, why) => {
                piece.at += i;
                return self.fault(piece, why, sink);
            }
        }
        Ok(())
    }

    fn text<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        key: bool,
        escaped: bool,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        let rest = &piece.bytes[piece.at..];
        let plain = match memchr3(b'"', b'\\', b'\n', rest) {
            _ if escaped => 0,
            found => found.unwrap_or(rest.len()),
        };
        // An escaped byte, the backslash before it and a harmless line feed belong to the text as well.
        let (taken, next) = match rest.get(plain) {
            None => (plain, Some(State::Text { key, escaped: false })),
            Some(b'\n') if self.home == Home::Object => {
                piece.at += plain;
                return self.fault(piece, "a line ends inside a string", sink);
            }
            Some(b'"') if !escaped => (plain, None),
            Some(byte) => (plain + 1, Some(State::Text { key, escaped: !escaped && *byte == b'\\' })),
        };
        if key {
            self.key.extend(&rest[..taken]);
        }
        piece.at += taken;
        match next {
            Some(state) => self.state = state,
            None if key => self.go(piece, State::Colon),
            None => {
                piece.at += 1;
                return self.end_value(piece, sink);
            }
        }
        Ok(())
    }

    fn literal<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        byte: u8,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        if is_literal(byte) {
            piece.at += 1;
            return Ok(());
        }
        self.end_value(piece, sink)
    }

    /// A value ended just before `piece.at`.
    fn end_value<S: Sink + ?Sized>(
        &mut self,
        piece: &Piece<'_>,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        self.state = State::Comma;
        match self.home {
            Home::Array => self.end_item(&piece.bytes[piece.start..piece.at], sink),
            Home::Object => Ok(()),
        }
    }

    fn comma<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        byte: u8,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        match (byte, self.home) {
            (b',', Home::Object) => self.go(piece, State::Key { or_end: false }),
            (b',', Home::Array) => self.go(piece, State::Value { or_end: false }),
            (b'}', Home::Object) | (b']', Home::Array) => return self.close(piece, sink),
            _ => return self.fault(piece, "a comma or closing bracket is missing", sink),
        }
        Ok(())
    }

    /// The bracket at `piece.at` closes the top-level object or the array of records.
    fn close<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        if self.home == Home::Array && self.in_container {
            self.home = Home::Object;
            self.go(piece, State::Comma);
            return Ok(());
        }
        self.go(piece, State::Top);
        self.begun = true;
        if let Some(item) = self.item {
            self.one_line = self.is_one_line(item, piece);
            self.end_item(&piece.bytes[piece.start..piece.at], sink)?;
        }
        Ok(())
    }

    /// Whether no line feed stands in the item before `piece.at`.
    fn is_one_line(&self, item: Item, piece: &Piece<'_>) -> bool {
        let here = &piece.bytes[piece.start..piece.at];
        !item.lines && memchr(b'\n', &self.carry).is_none() && memchr(b'\n', here).is_none()
    }

    /// The byte at `piece.at` cannot stand there.
    fn fault<S: Sink + ?Sized>(
        &mut self,
        piece: &mut Piece<'_>,
        why: &'static str,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        match self.item {
            Some(item) if self.home == Home::Object && self.is_one_line(item, piece) => {
                self.break_item_here(piece, Broken::NotJson);
                self.state = State::Line;
                self.line(piece, sink)
            }
            _ => Err(self.not_json(piece, why).into()),
        }
    }

    fn not_json(&self, piece: &Piece<'_>, why: &'static str) -> DecodeError {
        DecodeError::NotJson { offset: self.offset + piece.at as u64, why }
    }

    fn go(&mut self, piece: &mut Piece<'_>, state: State) {
        piece.at += 1;
        self.state = state;
    }

    fn begin_item(&mut self, piece: &mut Piece<'_>, broken: Option<Broken>) {
        piece.start = piece.at;
        self.item = Some(Item { broken, lines: false });
    }

    fn drop_item(&mut self) {
        self.item = None;
        self.carry.clear();
    }

    /// Breaks the item for what stands at `piece.at`, unless it is too long by then.
    fn break_item_here(&mut self, piece: &Piece<'_>, why: Broken) {
        let long = self.item_len(piece) > self.max_record;
        self.break_item(if long { Broken::TooLong } else { why });
    }

    /// The first reason stays.
    fn break_item(&mut self, why: Broken) {
        if let Some(item) = &mut self.item {
            item.broken.get_or_insert(why);
        }
    }

    /// Bytes of the item before `piece.at`, as long as it is not broken.
    fn item_len(&self, piece: &Piece<'_>) -> usize {
        self.carry.len() + (piece.at - piece.start)
    }

    /// The piece ends inside the item, whose bytes in it are `part`.
    fn set_by<S: Sink + ?Sized>(&mut self, part: &[u8], sink: &mut S) -> Result<(), Failure<S::Error>> {
        if self.carry.len() + part.len() > self.max_record {
            self.break_item(Broken::TooLong);
        }
        match self.item.and_then(|item| item.broken) {
            Some(why) => self.broken(why, part, false, sink),
            None => {
                self.carry.extend_from_slice(part);
                Ok(())
            }
        }
    }

    /// The item ends with `part`.
    fn end_item<S: Sink + ?Sized>(&mut self, part: &[u8], sink: &mut S) -> Result<(), Failure<S::Error>> {
        if self.carry.len() + part.len() > self.max_record {
            self.break_item(Broken::TooLong);
        }
        let index = self.records;
        let next = index.checked_add(1).ok_or(DecodeError::TooManyRecords)?;
        match self.item.take().and_then(|item| item.broken) {
            Some(why) => self.broken(why, part, true, sink)?,
            None => {
                let outline = if self.notes() { self.outline.get() } else { None };
                if self.carry.is_empty() {
                    sink.record(index, Record { bytes: part, outline }).map_err(Failure::Sink)?;
                } else {
                    self.carry.extend_from_slice(part);
                    sink.record(index, Record { bytes: &self.carry, outline }).map_err(Failure::Sink)?;
                    self.carry.clear();
                }
            }
        }
        self.records = next;
        Ok(())
    }

    fn broken<S: Sink + ?Sized>(
        &mut self,
        why: Broken,
        part: &[u8],
        last: bool,
        sink: &mut S,
    ) -> Result<(), Failure<S::Error>> {
        if let Some(item) = &mut self.item {
            item.lines |= memchr(b'\n', &self.carry).is_some() || memchr(b'\n', part).is_some();
        }
        if !self.carry.is_empty() {
            sink.broken(self.records, why, &self.carry, false).map_err(Failure::Sink)?;
            self.carry.clear();
        }
        sink.broken(self.records, why, part, last).map_err(Failure::Sink)
    }
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// A key as far as it can still be `Records`: seven characters, each at most the six bytes of `\u0052`.
#[derive(Default)]
struct Key {
    bytes: heapless::Vec<u8, 42>,
    too_long: bool,
}

impl Key {
    fn clear(&mut self) {
        self.bytes.clear();
        self.too_long = false;
    }

    fn extend(&mut self, part: &[u8]) {
        self.too_long |= self.bytes.extend_from_slice(part).is_err();
    }

    fn is_records(&self) -> bool {
        !self.too_long && text::is(&self.bytes, b"Records")
    }
}
