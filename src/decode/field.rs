//! Finds one field of a record by its dotted path, without allocating and without reading the rest.
//!
//! Only what stands on the way is looked at: where that is not JSON, or nests deeper than
//! [`JSON_DEPTH`], the answer is [`Field::Unreadable`]. Of a key that stands twice the first counts.

use memchr::memchr2;

use crate::limits::JSON_DEPTH;

use super::mask::{BLOCK, Masks};
use super::nest::{LineFeeds, Nest, Step};
use super::text;

/// A path such as `userIdentity.type` or `resources.0.ARN`, made ready once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    key: Box<str>,
    /// The key read as an index into an array.
    index: Option<usize>,
}

impl Path {
    /// Cuts a path at its dots. In an object a segment is a key, in an array a number from 0.
    pub fn new(dotted: &str) -> Path {
        let segment = |key: &str| Segment { key: key.into(), index: key.parse().ok() };
        Path { segments: dotted.split('.').map(segment).collect() }
    }
}

/// What a path leads to. Bytes stand as they do in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// The path leads nowhere: no such key, no such element, or a value in the way that has neither.
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text.
    Number(&'a [u8]),
    /// What stands between the quotes; see [`text::unescape`].
    Text(&'a [u8]),
    /// From `[` to `]`.
    Array(&'a [u8]),
    /// From `{` to `}`.
    Object(&'a [u8]),
    /// The record is not JSON where it was looked at.
    Unreadable,
}

/// The field of `record` that `path` leads to.
pub fn find<'a>(record: &'a [u8], path: &Path) -> Field<'a> {
    let mut reader = Reader { rest: record, escaped: false };
    match reader.find(path) {
        Ok(field) => field,
        Err(NotJson) => Field::Unreadable,
    }
}

/// The members of the object that `object` begins with, in their order: a key's bytes between its quotes, and its
/// value. What is not JSON ends them with [`Field::Unreadable`] under an empty key.
pub fn members(object: &[u8]) -> Members<'_> {
    Members { reader: Reader { rest: object, escaped: false }, next: Next::First }
}

/// See [`members`].
pub struct Members<'a> {
    reader: Reader<'a>,
    next: Next,
}

impl Members<'_> {
    /// Whether the key of the last member has escapes: without, it is equal to what has the same bytes, and to nothing
    /// else.
    pub(crate) fn key_has_escapes(&self) -> bool {
        self.reader.escaped
    }
}

enum Next {
    First,
    More,
    Ended,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let member = match self.next {
            Next::First => self.reader.first_member(),
            Next::More => self.reader.next_member(),
            Next::Ended => return None,
        };
        self.next = if let Ok(Some(_)) = member { Next::More } else { Next::Ended };
        member.unwrap_or(Some((&[], Field::Unreadable)))
    }
}

/// What a literal says.
pub(super) fn literal(text: &[u8]) -> Field<'_> {
    match text {
        b"null" => Field::Null,
        b"true" => Field::Bool(true),
        b"false" => Field::Bool(false),
        number if is_number(number) => Field::Number(number),
        _ => Field::Unreadable,
    }
}

struct NotJson;

/// Stands somewhere in a record.
struct Reader<'a> {
    rest: &'a [u8],
    /// The string read last has escapes.
    escaped: bool,
}

impl<'a> Reader<'a> {
    fn find(&mut self, path: &Path) -> Result<Field<'a>, NotJson> {
        for segment in &path.segments {
            let found = match (self.peek()?, segment.index) {
                (b'{', _) => self.enter_member(segment.key.as_bytes())?,
                (b'[', Some(index)) => self.enter_element(index)?,
                _ => {
                    self.value()?;
                    false
                }
            };
            if !found {
                return Ok(Field::Absent);
            }
        }
        self.value()
    }

    /// Goes to the value of a key of the object that begins here. `false`: there is no such key.
    fn enter_member(&mut self, wanted: &[u8]) -> Result<bool, NotJson> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return Ok(false);
        }
        loop {
            let key = self.string()?;
            self.take(b':')?;
            if text::is(key, wanted) {
                return Ok(true);
            }
            self.skip()?;
            if !self.comma_before(b'}')? {
                return Ok(false);
            }
        }
    }

    fn first_member(&mut self) -> Result<Option<(&'a [u8], Field<'a>)>, NotJson> {
        self.take(b'{')?;
        if self.peek()? == b'}' { Ok(None) } else { self.member().map(Some) }
    }

    fn next_member(&mut self) -> Result<Option<(&'a [u8], Field<'a>)>, NotJson> {
        if self.comma_before(b'}')? { self.member().map(Some) } else { Ok(None) }
    }

    fn member(&mut self) -> Result<(&'a [u8], Field<'a>), NotJson> {
        let key = self.string()?;
        let escaped = self.escaped;
        self.take(b':')?;
        let value = self.value()?;
        self.escaped = escaped;
        Ok((key, value))
    }

    /// Goes to an element of the array that begins here. `false`: there are not so many.
    fn enter_element(&mut self, index: usize) -> Result<bool, NotJson> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return Ok(false);
        }
        for _ in 0..index {
            self.skip()?;
            if !self.comma_before(b']')? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `true`: a comma stands here, and is taken. `false`: the closing bracket does.
    fn comma_before(&mut self, close: u8) -> Result<bool, NotJson> {
        if self.peek()? == close {
            return Ok(false);
        }
        self.take(b',')?;
        Ok(true)
    }

    /// Passes over a value, whose insides do not matter.
    fn skip(&mut self) -> Result<(), NotJson> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.nested().map(drop),
            _ => self.literal().map(drop),
        }
    }

    fn value(&mut self) -> Result<Field<'a>, NotJson> {
        match self.peek()? {
            b'"' => self.string().map(Field::Text),
            b'{' => self.nested().map(Field::Object),
            b'[' => self.nested().map(Field::Array),
            _ => match literal(self.literal()?) {
                Field::Unreadable => Err(NotJson),
                field => Ok(field),
            },
        }
    }

    fn nested(&mut self) -> Result<&'a [u8], NotJson> {
        match Nest::new(JSON_DEPTH, LineFeeds::Anywhere).advance(self.rest) {
            Step::End(i) => Ok(self.split_off(i + 1)),
            Step::More | Step::TooDeep(_) | Step::Fault(..) => Err(NotJson),
        }
    }

    /// The bytes between the quotes.
    fn string(&mut self) -> Result<&'a [u8], NotJson> {
        self.take(b'"')?;
        self.escaped = false;
        let mut end = 0;
        loop {
            end += quote_or_backslash(self.rest.get(end..).ok_or(NotJson)?).ok_or(NotJson)?;
            if self.rest[end] == b'"' {
                let raw = self.split_off(end);
                self.rest = &self.rest[1..];
                return Ok(raw);
            }
            self.escaped = true;
            end += 2;
        }
    }

    /// A literal that something follows: none can be the last of a record.
    fn literal(&mut self) -> Result<&'a [u8], NotJson> {
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        match self.rest.iter().position(is_end) {
            Some(0) | None => Err(NotJson),
            Some(end) => Ok(self.split_off(end)),
        }
    }

    fn split_off(&mut self, end: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// The next byte that is not white space; stays before it.
    fn peek(&mut self) -> Result<u8, NotJson> {
        while let Some((&byte, behind)) = self.rest.split_first() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.rest = behind;
        }
        Err(NotJson)
    }

    fn take(&mut self, wanted: u8) -> Result<(), NotJson> {
        if self.peek()? != wanted {
            return Err(NotJson);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }
}

/// Most strings of a record end within a block, where this costs less than a call.
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    if let Some(block) = text.first_chunk::<BLOCK>() {
        let masks = Masks::of(block);
        let found = masks.quote | masks.backslash;
        if found != 0 {
            return Some(found.trailing_zeros() as usize);
        }
    }
    memchr2(b'"', b'\\', text)
}

/// `-? digits (. digits)? ([eE] [+-]? digits)?`, as RFC 8259, section 6, has it.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let places = digits(fraction);
        if places == 0 {
            return false;
        }
        rest = &fraction[places..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            unsigned => unsigned,
        };
        let places = digits(exponent);
        if places == 0 {
            return false;
        }
        rest = &exponent[places..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD: &[u8] = br#" { "eventVersion":"1.08", "userIdentity" : {"type":"AWSService","n":-1.5E+9,"who":{"a.b":1,"":"empty"}},
        "readOnly":true,"managementEvent":false,"errorCode":null,"resources":[{"ARN":"one"},{"ARN":"two"},[7]],"empty":[],"none":{},
        "event\u004eame":"Get\u003dIt","dup":1,"dup":2} "#;

    fn at(path: &str) -> Field<'static> {
        find(RECORD, &Path::new(path))
    }

    #[test]
    fn a_path_leads_to_each_kind_of_value() {
        assert_eq!(at("eventVersion"), Field::Text(b"1.08"));
        assert_eq!(at("userIdentity.type"), Field::Text(b"AWSService"));
        assert_eq!(at("userIdentity.n"), Field::Number(b"-1.5E+9"));
        assert_eq!(at("readOnly"), Field::Bool(true));
        assert_eq!(at("managementEvent"), Field::Bool(false));
        assert_eq!(at("errorCode"), Field::Null);
        assert_eq!(at("none"), Field::Object(b"{}"));
        assert_eq!(at("empty"), Field::Array(b"[]"));
        assert_eq!(at("userIdentity.who"), Field::Object(br#"{"a.b":1,"":"empty"}"#));
        assert_eq!(at("userIdentity.who."), Field::Text(b"empty"));
    }

    #[test]
    fn a_number_in_a_path_is_an_index_in_an_array() {
        assert_eq!(at("resources.0.ARN"), Field::Text(b"one"));
        assert_eq!(at("resources.1"), Field::Object(br#"{"ARN":"two"}"#));
        assert_eq!(at("resources.2.0"), Field::Number(b"7"));
        for nowhere in ["resources.3", "resources.ARN", "resources.-1", "resources.2.1", "empty.0"] {
            assert_eq!(at(nowhere), Field::Absent, "{nowhere}");
        }
    }

    #[test]
    fn what_is_not_there_is_absent() {
        for nowhere in
            ["nothing", "", "eventVersion.x", "errorCode.x", "readOnly.0", "none.x", "userIdentity.who.a.b"]
        {
            assert_eq!(at(nowhere), Field::Absent, "{nowhere}");
        }
    }

    #[test]
    fn keys_are_compared_by_what_they_say_and_the_first_counts() {
        assert_eq!(at("eventName"), Field::Text(br"Get\u003dIt"));
        assert_eq!(at("dup"), Field::Number(b"1"));
    }

    #[test]
    fn what_is_not_json_on_the_way_is_unreadable() {
        let deep = format!("{{\"x\":{},\"a\":1}}", "[".repeat(200) + &"]".repeat(200));
        let records = [
            "",
            "null",
            "{",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":tru}",
            "{\"a\":\"x",
            "{\"a\":\"x\\",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":[1}",
            "{\"x\" 1,\"a\":1}",
            "{\"x\":1 \"a\":1}",
            "{,\"a\":1}",
            "{a:1}",
            "{\"x\":1,}",
            "[1]",
            "\"a\"",
            deep.as_str(),
        ];
        for record in records {
            let field = find(record.as_bytes(), &Path::new("a"));
            let expected = if matches!(record, "[1]") { Field::Absent } else { Field::Unreadable };
            let scalar = matches!(record, "null" | "\"a\"");
            assert!(field == expected || scalar && field == Field::Absent, "{record}: {field:?}");
        }
    }

    #[test]
    fn behind_the_field_nothing_is_read() {
        assert_eq!(find(br#"{"a":"x",]]]"#, &Path::new("a")), Field::Text(b"x"));
    }

    #[test]
    fn members_come_in_order_and_end_where_it_is_not_json() {
        let listed = |object: &'static str| members(object.as_bytes()).collect::<Vec<_>>();
        let both: [(&[u8], Field<'_>); 2] = [(b"a", Field::Null), (b"b", Field::Object(b"{\"c\":1}"))];
        assert_eq!(listed(r#" { "a" : null , "b":{"c":1} } behind"#), both);
        assert_eq!(listed("{}"), []);
        for broken in ["", "[", "{", "{,}", r#"{"a"}"#, r#"{"a":}"#] {
            assert_eq!(listed(broken), [(&b""[..], Field::Unreadable)], "{broken}");
        }
        assert_eq!(listed(r#"{"a":null,]"#), [(&b"a"[..], Field::Null), (&b""[..], Field::Unreadable)]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in r#"[{}\[\]":,\\a0 ]{0,60}"#, path in "[a0.]{0,5}") {
            if let Field::Text(raw) | Field::Number(raw) | Field::Array(raw) | Field::Object(raw) =
                find(record.as_bytes(), &Path::new(&path))
            {
                prop_assert!(memchr::memmem::find(record.as_bytes(), raw).is_some());
            }
            // Each member but an unreadable last one takes bytes.
            prop_assert!(members(record.as_bytes()).count() <= record.len() + 1);
        }
    }
}
