//! A record as the splitter hands it on: its bytes, and where its members are if that was noted.

use memchr::memchr;

use super::field::{self, Field};
use super::outline::Marks;

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// As they stood in the object.
    pub bytes: &'a [u8],
    pub(super) outline: Option<Marks<'a>>,
}

impl<'a> From<&'a [u8]> for Record<'a> {
    /// One of which nothing was noted.
    fn from(bytes: &'a [u8]) -> Record<'a> {
        Record { bytes, outline: None }
    }
}

impl<'a> Record<'a> {
    /// Its members in their order. What is not JSON ends them with [`Field::Unreadable`] under an empty key; or it is
    /// no more than a literal of a wrong spelling, and then its value alone is that.
    #[inline]
    pub fn members(self) -> Members<'a> {
        Members(match self.outline {
            Some(marks) => Source::Noted { record: self.bytes, marks, at: 0, from: 1 },
            None => Source::Sought(field::members(self.bytes)),
        })
    }
}

/// A member of a record.
pub struct Member<'a> {
    /// What stands between the key's quotes.
    pub key: &'a [u8],
    /// Whether there are escapes in that: without, it is equal to what has the same bytes, and to nothing else.
    pub key_has_escapes: bool,
    value: Value<'a>,
}

enum Value<'a> {
    Read(Field<'a>),
    /// A token, perhaps with white space around.
    Noted(&'a [u8]),
}

impl<'a> Member<'a> {
    /// What the key leads to.
    #[inline]
    pub fn value(&self) -> Field<'a> {
        let raw = match self.value {
            Value::Read(field) => return field,
            Value::Noted(raw) => trim(raw),
        };
        match raw {
            [b'"', text @ .., b'"'] => Field::Text(text),
            [b'{', .., b'}'] => Field::Object(raw),
            [b'[', .., b']'] => Field::Array(raw),
            literal => field::literal(literal),
        }
    }
}

/// See [`Record::members`].
pub struct Members<'a>(Source<'a>);

enum Source<'a> {
    /// The colon of the next member is the mark `at`; its key begins behind `from`.
    Noted {
        record: &'a [u8],
        marks: Marks<'a>,
        at: usize,
        from: usize,
    },
    Sought(field::Members<'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    #[inline]
    fn next(&mut self) -> Option<Member<'a>> {
        match &mut self.0 {
            Source::Noted { record, marks, at, from } => {
                let colon = *marks.marks.get(*at)? as usize;
                let end = marks.marks.get(*at + 1).map_or(record.len() - 1, |comma| *comma as usize);
                let (key, value) = (record.get(*from..colon)?, record.get(colon + 1..end)?);
                (*at, *from) = (*at + 2, end + 1);
                let [b'"', key @ .., b'"'] = trim(key) else { return None };
                let key_has_escapes = marks.has_escapes && memchr(b'\\', key).is_some();
                Some(Member { key, key_has_escapes, value: Value::Noted(value) })
            }
            Source::Sought(members) => {
                let (key, value) = members.next()?;
                let key_has_escapes = members.key_has_escapes();
                Some(Member { key, key_has_escapes, value: Value::Read(value) })
            }
        }
    }
}

/// Without the white space around it, which records of CloudTrail's do not have.
#[inline]
fn trim(mut raw: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = raw {
        raw = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = raw {
        raw = rest;
    }
    raw
}
