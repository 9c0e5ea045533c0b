//! Finds the end of a JSON object or array: the bracket that matches the first one, outside strings. Works
//! on pieces of any size; in blocks of 64 bytes it looks at the brackets alone.
//!
//! What stands between the brackets is not checked, but for a backslash outside a string, which no JSON has
//! and which would make it unclear where the next string begins.

use crate::limits::JSON_DEPTH;

use super::mask::{self, BLOCK, Masks};
use super::outline::{Outline, Parts};

const _: () = assert!(JSON_DEPTH <= u128::BITS as usize, "one bit a level");

/// Where the matching bracket is sought.
#[derive(Debug, Clone)]
pub(super) struct Nest {
    /// Brackets open.
    depth: u64,
    /// Deepest nesting whose brackets are matched by kind; below that they are only counted.
    bound: u64,
    /// The kinds of the open brackets up to `bound`, innermost lowest: 1 for an object.
    kinds: u128,
    /// All ones inside a string.
    in_string: u64,
    /// 1 when the next byte is escaped.
    escaped: u64,
    /// `bound` was passed.
    deep: bool,
    line_feeds: LineFeeds,
}

/// Where a line feed may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFeeds {
    /// Also inside strings, against RFC 8259, section 7: where they do no harm.
    Anywhere,
    OutsideStrings,
    Nowhere,
}

/// What [`Nest::advance`] met first. Positions are those of the byte in the piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The piece ends inside.
    More,
    /// The matching bracket.
    End(usize),
    /// A bracket that nests deeper than the bound, told once. Go on with the byte behind it.
    TooDeep(usize),
    /// This byte cannot stand here.
    Fault(usize, &'static str),
}

impl Nest {
    /// Starts before the first bracket. `bound`: nesting allowed, at most [`JSON_DEPTH`].
    pub(super) fn new(bound: usize, line_feeds: LineFeeds) -> Nest {
        let bound = bound.min(JSON_DEPTH) as u64;
        Nest { depth: 0, bound, kinds: 0, in_string: 0, escaped: 0, deep: false, line_feeds }
    }

    /// Goes through a piece, the first of which begins with the opening bracket.
    #[inline]
    pub(super) fn advance(&mut self, piece: &[u8]) -> Step {
        self.walk(piece, None)
    }

    /// The same, of a record whose members are noted.
    pub(super) fn advance_noting(&mut self, piece: &[u8], outline: &mut Outline) -> Step {
        let step = self.walk(piece, Some(outline));
        match step {
            Step::More => outline.pass(piece.len()),
            Step::End(_) => {}
            Step::TooDeep(_) | Step::Fault(..) => outline.spoil(),
        }
        step
    }

    #[inline(always)]
    fn walk(&mut self, piece: &[u8], mut outline: Option<&mut Outline>) -> Step {
        let mut at = 0;
        while let Some(block) = piece[at..].first_chunk::<BLOCK>() {
            if let Some(step) = self.block(block, BLOCK, at, outline.as_deref_mut()) {
                return step;
            }
            at += BLOCK;
        }
        let rest = &piece[at..];
        if rest.is_empty() {
            return Step::More;
        }
        let mut block = [b' '; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        self.block(&block, rest.len(), at, outline).unwrap_or(Step::More)
    }

    /// One block, of which `len` bytes count; `at` is its place in the piece.
    #[inline(always)]
    fn block(
        &mut self,
        block: &[u8; BLOCK],
        len: usize,
        at: usize,
        outline: Option<&mut Outline>,
    ) -> Option<Step> {
        let masks = Masks::of(block);
        let (escape, escaped) = mask::escapes(masks.backslash, self.escaped);
        let quotes = masks.quote & !escaped;
        let strings = mask::prefix_xor(quotes) ^ self.in_string;
        let mut events = (masks.bracket | masks.backslash) & !strings;
        if self.line_feeds != LineFeeds::Anywhere {
            let where_not = if self.line_feeds == LineFeeds::Nowhere { u64::MAX } else { strings };
            events |= mask::newlines(block) & where_not;
        }
        // What stands directly in the outermost brackets turns at each bracket of theirs and of what they hold.
        let (mut level, mut children) = (all_if(self.depth == 1), 0);
        let mut ended = None;
        while events != 0 {
            let i = events.trailing_zeros() as usize;
            let before = self.depth;
            ended = self.event(block[i], at + i);
            if outline.is_some() {
                let behind = u64::MAX << i;
                level ^= (behind & all_if(before == 1)) ^ (behind << 1 & all_if(self.depth == 1));
                children |= u64::from(before == 1 && self.depth == 2) << i;
            }
            if ended.is_some() {
                break;
            }
            events &= events - 1;
        }
        if let Some(outline) = outline {
            let parts = Parts { level, children, quotes, strings, backslashes: masks.backslash, len };
            outline.block(block, at, &parts);
        }
        if ended.is_some() {
            self.in_string = 0;
            self.escaped = 0;
            return ended;
        }
        let last = len - 1;
        self.in_string = (strings >> last & 1).wrapping_neg();
        self.escaped = escape >> last & 1;
        None
    }

    #[inline(always)]
    fn event(&mut self, byte: u8, at: usize) -> Option<Step> {
        match byte {
            b'{' | b'[' => self.open(byte == b'{', at),
            b'}' | b']' => self.close(byte == b'}', at),
            b'\\' => Some(Step::Fault(at, "a backslash stands outside a string")),
            _ => Some(Step::Fault(at, "a line ends inside a record")),
        }
    }

    #[inline(always)]
    fn open(&mut self, object: bool, at: usize) -> Option<Step> {
        self.depth += 1;
        if self.depth <= self.bound {
            self.kinds = self.kinds << 1 | u128::from(object);
            return None;
        }
        let first = !self.deep;
        self.deep = true;
        first.then_some(Step::TooDeep(at))
    }

    #[inline(always)]
    fn close(&mut self, object: bool, at: usize) -> Option<Step> {
        if self.depth <= self.bound {
            if (self.kinds & 1 == 1) != object {
                return Some(Step::Fault(at, "a closing bracket does not match its opening one"));
            }
            self.kinds >>= 1;
        }
        self.depth -= 1;
        (self.depth == 0).then_some(Step::End(at))
    }
}

/// All ones, or none.
#[inline(always)]
fn all_if(yes: bool) -> u64 {
    u64::from(yes).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Step {
        Nest::new(JSON_DEPTH, LineFeeds::Anywhere).advance(text.as_bytes())
    }

    #[test]
    fn ends_at_the_matching_bracket_and_not_inside_strings() {
        assert_eq!(whole("{}"), Step::End(1));
        assert_eq!(whole("[]]"), Step::End(1));
        assert_eq!(whole(r#"{"a":"}","b":[1,{"c":"]"}]},{"#), Step::End(26));
        assert_eq!(whole(r#"{"a":"\"}"}"#), Step::End(10));
        assert_eq!(whole(r#"{"a":"\\"}"#), Step::End(9));
        assert_eq!(whole(r#"{"a":"#), Step::More);
    }

    #[test]
    fn says_which_byte_cannot_stand_where_it_is() {
        assert!(matches!(whole(r#"{"a":[}"#), Step::Fault(6, _)));
        assert!(matches!(whole(r#"[{]"#), Step::Fault(2, _)));
        assert!(matches!(whole(r#"{\"a":1}"#), Step::Fault(1, _)));
        assert_eq!(whole("{\"a\nb\":1}"), Step::End(8));
        assert!(matches!(
            Nest::new(JSON_DEPTH, LineFeeds::OutsideStrings).advance(b"{\"a\nb\":1}"),
            Step::Fault(3, _)
        ));
        assert_eq!(Nest::new(JSON_DEPTH, LineFeeds::OutsideStrings).advance(b"{\n\"a\":1}"), Step::End(7));
        assert!(matches!(
            Nest::new(JSON_DEPTH, LineFeeds::Nowhere).advance(b"{\n\"a\":1}"),
            Step::Fault(1, _)
        ));
    }

    #[test]
    fn below_the_bound_brackets_are_only_counted() {
        let mut nest = Nest::new(2, LineFeeds::Anywhere);
        assert_eq!(nest.advance(b"{[{[}]"), Step::TooDeep(2));
        assert_eq!(nest.advance(b"[}]]}"), Step::End(4));
    }

    #[test]
    fn strings_and_escapes_carry_over_every_cut() {
        let text = format!(r#"{{"{}\\\"}}{}":["\\","{{"]}}"#, "x".repeat(57), "\\\\".repeat(70)).into_bytes();
        for cut in 1..text.len() {
            let mut nest = Nest::new(JSON_DEPTH, LineFeeds::Anywhere);
            assert_eq!(nest.advance(&text[..cut]), Step::More);
            assert_eq!(nest.advance(&text[cut..]), Step::End(text.len() - 1 - cut));
        }
        let mut nest = Nest::new(JSON_DEPTH, LineFeeds::Anywhere);
        let steps: Vec<Step> = text.iter().map(|byte| nest.advance(&[*byte])).collect();
        assert!(steps[..text.len() - 1].iter().all(|step| *step == Step::More));
        assert_eq!(steps[text.len() - 1], Step::End(0));
    }
}
