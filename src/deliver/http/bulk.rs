//! The answer of a `_bulk` request, read in passing: pieces of any size go in, what became of each record comes out.
//! Nothing is kept of it but a byte a record and a few reasons, however long it is. Sources: Elasticsearch and OpenSearch
//! references, "Bulk API".
//!
//! ```text
//! {"took":30,"errors":true,"items":[
//!   {"create":{"_index":"…","_id":"…","status":201, …}},
//!   {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"…"}}},
//!   {"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"…","caused_by":{…}}}}]}
//! ```
//!
//! | status of an item | the record |
//! |---|---|
//! | 2xx, and 409 of a `create` | is there |
//! | 429, 5xx | is sent again |
//! | 401, 403, 404, 410 | is sent again: the receiver's set-up, not the record |
//! | other | was refused |

use crate::deliver::sender::{Fate, Refusal};
use crate::limits::ANSWER_DEPTH;

/// Bytes kept of a fault's type and of its reason.
const REASON_BYTES: usize = 256;
/// Different reasons kept of one answer.
const REASONS: usize = 8;
/// Longest key that matters is `status`; longer ones are cut, and match nothing.
const KEY_BYTES: usize = 16;

/// Reads one answer.
#[derive(Debug)]
pub struct Answer {
    state: State,
    /// The open brackets, `{` or `[`, outermost first.
    open: heapless::Vec<u8, ANSWER_DEPTH>,
    /// Where the open brackets lead, as far as it matters: the items' array, an item, its operation, its error.
    path: Place,
    /// The key that a value is awaited for, and its own text while it is read.
    key: Text<KEY_BYTES>,
    string: Text<REASON_BYTES>,
    number: u64,
    escape: Escape,
    create: bool,
    item: Item,
    wanted: usize,
    fates: Vec<Fate>,
    refusals: Vec<(usize, Refusal)>,
    again: Option<(u16, String)>,
    /// An `items` array was there, and ended.
    items: bool,
}

/// What a whole answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Result {
    /// One for each item, in their order.
    pub fates: Vec<Fate>,
    /// Why some were refused. See [`crate::deliver::sender::Items::refusals`].
    pub refusals: Vec<(usize, Refusal)>,
    /// The first status that asks for another try, and what was said with it.
    pub again: Option<(u16, String)>,
}

/// This is not an answer to a bulk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAnswer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value must begin here.
    Value,
    /// A value, or the end of the array.
    FirstElement,
    /// A key, or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// A comma or a closing bracket.
    Behind,
    KeyText,
    StringText,
    Number,
    Word,
    /// The outermost bracket is closed.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// Behind a backslash.
    Sign,
}

/// The depth at which each of them is open.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Place {
    items: bool,
    error: bool,
}

/// The first bytes of a text.
#[derive(Debug, Clone)]
struct Text<const N: usize> {
    bytes: heapless::Vec<u8, N>,
    cut: bool,
}

impl<const N: usize> Text<N> {
    const fn new() -> Text<N> {
        Text { bytes: heapless::Vec::new(), cut: false }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.cut = false;
    }

    fn push(&mut self, byte: u8) {
        self.cut |= self.bytes.push(byte).is_err();
    }

    fn is(&self, word: &str) -> bool {
        !self.cut && self.bytes == word.as_bytes()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What is known of the item that is open.
#[derive(Debug, Default)]
struct Item {
    status: Option<u16>,
    kind: String,
    reason: String,
}

// the depths of the brackets: {"items": [ {"create": { … "error": { … }
const TOP: usize = 1;
const ITEMS: usize = 2;
const ITEM: usize = 3;
const OPERATION: usize = 4;
const ERROR: usize = 5;

impl Answer {
    /// For an answer to `wanted` records that were sent with `create`, or with `index`.
    pub fn new(wanted: usize, create: bool) -> Answer {
        Answer {
            state: State::Value,
            open: heapless::Vec::new(),
            path: Place::default(),
            key: Text::new(),
            string: Text::new(),
            number: 0,
            escape: Escape::None,
            create,
            item: Item::default(),
            wanted,
            fates: Vec::with_capacity(wanted),
            refusals: Vec::new(),
            again: None,
            items: false,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// It is no JSON, or not of this form, or has more items than records were sent.
    pub fn read(&mut self, piece: &[u8]) -> std::result::Result<(), NotAnAnswer> {
        piece.iter().try_for_each(|&byte| self.byte(byte))
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// It is cut off, or answers not every record.
    pub fn finish(self) -> std::result::Result<Result, NotAnAnswer> {
        let Answer { state, items, fates, wanted, refusals, again, .. } = self;
        match state == State::End && items && fates.len() == wanted {
            true => Ok(Result { fates, refusals, again }),
            false => Err(NotAnAnswer),
        }
    }

    fn byte(&mut self, byte: u8) -> std::result::Result<(), NotAnAnswer> {
        match self.state {
            State::KeyText | State::StringText => return self.in_string(byte),
            State::Number if byte.is_ascii_digit() => {
                self.number = self.number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                return Ok(());
            }
            State::Number if matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-') => {
                // no status is written so
                self.number = u64::MAX;
                return Ok(());
            }
            State::Number => self.number_ended(),
            State::Word if byte.is_ascii_lowercase() => return Ok(()),
            State::Word => self.state = State::Behind,
            _ => {}
        }
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return Ok(());
        }
        match (self.state, byte) {
            (State::Value | State::FirstElement, b'{' | b'[') => self.opened(byte),
            (State::Value | State::FirstElement, b'"') => self.begin_string(State::StringText),
            (State::Value | State::FirstElement, b'0'..=b'9') => {
                self.number = u64::from(byte - b'0');
                self.begin(State::Number)
            }
            (State::Value | State::FirstElement, b'-') => {
                self.number = u64::MAX;
                self.begin(State::Number)
            }
            (State::Value | State::FirstElement, b't' | b'f' | b'n') => self.begin(State::Word),
            (State::FirstElement, b']') | (State::FirstKey, b'}') => self.closed(byte),
            (State::FirstKey | State::Key, b'"') => self.begin_string(State::KeyText),
            (State::Colon, b':') => self.begin(State::Value),
            (State::Behind, b',') => {
                let next = if self.open.last() == Some(&b'{') { State::Key } else { State::Value };
                self.begin(next)
            }
            (State::Behind, b'}' | b']') => self.closed(byte),
            _ => Err(NotAnAnswer),
        }
    }

    /// A bare value where the answer itself should be is none.
    fn begin(&mut self, state: State) -> std::result::Result<(), NotAnAnswer> {
        self.state = state;
        if self.open.is_empty() { Err(NotAnAnswer) } else { Ok(()) }
    }

    fn begin_string(&mut self, state: State) -> std::result::Result<(), NotAnAnswer> {
        match state {
            State::KeyText => self.key.clear(),
            _ => self.string.clear(),
        }
        self.begin(state)
    }

    fn in_string(&mut self, byte: u8) -> std::result::Result<(), NotAnAnswer> {
        let is_key = self.state == State::KeyText;
        match (self.escape, byte) {
            (Escape::None, b'\\') => self.escape = Escape::Sign,
            (Escape::None, b'"') if is_key => self.state = State::Colon,
            (Escape::None, b'"') => {
                self.state = State::Behind;
                self.string_ended();
            }
            (Escape::None, 0..0x20) => return Err(NotAnAnswer),
            (escape, byte) => {
                // shown to people alone: \n becomes a space, \u0041 stays as it is written
                let byte = match (escape, byte) {
                    (Escape::Sign, b'n' | b't' | b'r') => b' ',
                    (_, byte) => byte,
                };
                self.escape = Escape::None;
                if is_key { self.key.push(byte) } else { self.string.push(byte) }
            }
        }
        Ok(())
    }

    fn opened(&mut self, bracket: u8) -> std::result::Result<(), NotAnAnswer> {
        self.open.push(bracket).map_err(|_| NotAnAnswer)?;
        let object = bracket == b'{';
        match self.open.len() {
            TOP if !object => return Err(NotAnAnswer),
            ITEMS if self.key.is("items") => {
                if object || self.items {
                    return Err(NotAnAnswer);
                }
                self.path.items = true;
            }
            ITEM if self.path.items => self.item = Item::default(),
            ERROR if self.path.items && self.key.is("error") => self.path.error = true,
            _ => {}
        }
        self.state = if object { State::FirstKey } else { State::FirstElement };
        Ok(())
    }

    fn closed(&mut self, bracket: u8) -> std::result::Result<(), NotAnAnswer> {
        let wanted = if bracket == b'}' { b'{' } else { b'[' };
        let depth = self.open.len();
        if self.open.pop() != Some(wanted) {
            return Err(NotAnAnswer);
        }
        match depth {
            ERROR => self.path.error = false,
            ITEM if self.path.items => self.item_ended()?,
            ITEMS if self.path.items => {
                self.path.items = false;
                self.items = true;
            }
            _ => {}
        }
        self.state = if depth == TOP { State::End } else { State::Behind };
        Ok(())
    }

    fn number_ended(&mut self) {
        self.state = State::Behind;
        if self.path.items && self.open.len() == OPERATION && self.key.is("status") {
            self.item.status = u16::try_from(self.number).ok();
        }
    }

    fn string_ended(&mut self) {
        if !self.path.items {
            return;
        }
        // older versions write the error of an item as a text
        match self.open.len() {
            OPERATION if self.key.is("error") => self.item.reason = self.string.text(),
            ERROR if self.path.error && self.key.is("type") => self.item.kind = self.string.text(),
            ERROR if self.path.error && self.key.is("reason") => self.item.reason = self.string.text(),
            _ => {}
        }
    }

    fn item_ended(&mut self) -> std::result::Result<(), NotAnAnswer> {
        let Item { status, kind, reason } = std::mem::take(&mut self.item);
        let status = status.ok_or(NotAnAnswer)?;
        if self.fates.len() == self.wanted {
            return Err(NotAnAnswer);
        }
        let text = || match kind.is_empty() {
            true => format!("{status} {reason}"),
            false => format!("{status} {kind}: {reason}"),
        };
        let fate = match status {
            200..=299 => Fate::Accepted,
            409 if self.create => Fate::Accepted,
            429 | 500..=599 | 401 | 403 | 404 | 409 | 410 => {
                self.again.get_or_insert_with(|| (status, text()));
                Fate::Again
            }
            _ => {
                let text = text();
                if self.refusals.last().is_none_or(|(_, last)| last.text != text)
                    && self.refusals.len() < REASONS
                {
                    self.refusals.push((self.fates.len(), Refusal { reason: "rejected", text }));
                }
                Fate::Refused
            }
        };
        self.fates.push(fate);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str, wanted: usize, piece: usize) -> std::result::Result<Result, NotAnAnswer> {
        let mut reader = Answer::new(wanted, true);
        answer.as_bytes().chunks(piece).try_for_each(|piece| reader.read(piece))?;
        reader.finish()
    }

    const MIXED: &str = r#"{"took": 30, "errors": true, "x": {"items": [1, {"status": 5}]}, "items": [
        {"create": {"_index": "t", "_id": "status", "_version": 1, "status": 201, "_shards": {"total": 2}}},
        {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "[1]: exists"}}},
        {"create": {"error": {"root_cause": [{"type": "no", "reason": "no"}], "type": "document_parsing_exception",
            "reason": "field \"a\"\nis bad", "caused_by": {"type": "x", "reason": "y", "status": 200}}, "status": 400}},
        {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue"}}},
        {"create": {"status": 400, "error": "as older versions say it"}}], "took2": 1.5e3}"#;

    #[test]
    fn items_are_told_apart_in_pieces_of_any_size() {
        let whole = read(MIXED, 5, usize::MAX).unwrap();
        use Fate::*;
        assert_eq!(whole.fates, [Accepted, Accepted, Refused, Again, Refused]);
        let texts: Vec<_> = whole.refusals.iter().map(|(at, refusal)| (*at, &*refusal.text)).collect();
        assert_eq!(
            texts,
            [(2, "400 document_parsing_exception: field \"a\" is bad"), (4, "400 as older versions say it")]
        );
        assert_eq!(whole.again, Some((429, "429 es_rejected_execution_exception: queue".into())));
        for piece in 1..80 {
            assert_eq!(read(MIXED, 5, piece).as_ref(), Ok(&whole), "{piece}");
        }
    }

    #[test]
    fn a_conflict_of_an_index_request_is_tried_again() {
        let mut reader = Answer::new(1, false);
        reader.read(br#"{"items":[{"index":{"status":409}}]}"#).unwrap();
        assert_eq!(reader.finish().unwrap().fates, [Fate::Again]);
    }

    #[test]
    fn an_answer_that_is_cut_off_or_answers_other_records_is_none() {
        for end in 0..MIXED.len() {
            assert_eq!(read(&MIXED[..end], 5, 7), Err(NotAnAnswer), "{end}");
        }
        for wanted in [0, 4, 6] {
            assert_eq!(read(MIXED, wanted, 7), Err(NotAnAnswer), "{wanted}");
        }
        for other in [
            "[]",
            "{}",
            "\"items\"",
            "1",
            "<html>",
            r#"{"items":{}}"#,
            r#"{"items":[{"create":{}}]}"#,
            r#"{"items":[{"create":{"status":"201"}}]}"#,
            r#"{"items":[{"create":{"status":2e2}}]}"#,
            r#"{"items":[{"create":{"status":201}}]}}"#,
            r#"{"items":[{"create":{"status":201}]]"#,
        ] {
            assert_eq!(read(other, 1, 3), Err(NotAnAnswer), "{other}");
        }
        assert_eq!(read(&"{\"a\":".repeat(100_000), 1, 1000), Err(NotAnAnswer), "deep");
    }

    #[test]
    fn two_thousand_faults_leave_a_few_reasons() {
        let item = format!(
            r#"{{"create":{{"status":400,"error":{{"type":"t","reason":"{}"}}}}}}"#,
            "long ".repeat(2000)
        );
        let answer = format!(r#"{{"items":[{}]}}"#, vec![item; 2000].join(","));
        let read = read(&answer, 2000, 16 * 1024).unwrap();
        assert_eq!((read.fates.len(), read.refusals.len()), (2000, 1));
        assert!(read.refusals[0].1.text.len() < 600);
    }
}
