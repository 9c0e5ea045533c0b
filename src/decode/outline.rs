//! Where the members of a record begin and end: noted by the splitter as it goes through the record for its end, so
//! that no look-up has to go through it again.
//!
//! Of what stands directly in the record's object only colons and commas are noted; what must stand between them is
//! checked in masks. A record that does not pass, or has more members than [`MEMBERS`], has no outline, and is looked
//! into byte by byte: an outline makes a look-up faster, never its answer another one.

use super::mask::{self, BLOCK};

/// Members that an outline has room for. Real records have up to some forty.
const MEMBERS: usize = 64;
/// Marks that are written at once, as most blocks have no more: a loop that runs so often as a block has marks would
/// be mispredicted time and again.
const AT_ONCE: usize = 4;

/// The colons and commas of one record.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    /// Behind `len` stands what was never one.
    marks: [u32; 2 * MEMBERS + AT_ONCE],
    len: usize,
    /// Bytes of the record in earlier pieces.
    before: usize,
    /// A backslash stands in a key.
    has_escapes: bool,
    /// All ones behind a literal's byte, behind a token with no mark yet, and behind a colon.
    in_literal: u64,
    in_token: u64,
    in_value: u64,
    /// It says where the members of a whole record are.
    is_good: bool,
}

/// What of a block stands where, see [`Outline::block`].
pub(super) struct Parts {
    /// Directly in the record's object: not in what it holds, nor its brackets.
    pub(super) level: u64,
    /// The brackets that open what it holds.
    pub(super) children: u64,
    /// Quotes that are not escaped.
    pub(super) quotes: u64,
    /// Strings, from the first quote to before the last.
    pub(super) strings: u64,
    pub(super) backslashes: u64,
    /// Bytes of it that count.
    pub(super) len: usize,
}

impl Outline {
    pub(super) fn new() -> Outline {
        Outline {
            marks: [0; 2 * MEMBERS + AT_ONCE],
            len: 0,
            before: 0,
            has_escapes: false,
            in_literal: 0,
            in_token: 0,
            in_value: 0,
            is_good: false,
        }
    }

    /// A record begins.
    pub(super) fn start(&mut self) {
        self.len = 0;
        self.before = 0;
        self.has_escapes = false;
        self.in_literal = 0;
        self.in_token = 0;
        self.in_value = 0;
        self.is_good = true;
    }

    /// The record is no good one, or this is none of its object's.
    pub(super) fn spoil(&mut self) {
        self.is_good = false;
    }

    /// So many more bytes of the record are behind it.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.before += bytes;
    }

    /// A block, which begins `at` in the piece, up to the record's end if that is in it.
    ///
    /// Tokens (strings, literals, and what is nested) and marks must take turns; so must colons and commas; and before a
    /// colon stands a string. The prefix sums say of each bit how many bits were before it, odd or even.
    #[inline(always)]
    pub(super) fn block(&mut self, block: &[u8; BLOCK], at: usize, parts: &Parts) {
        let Parts { level, children, quotes, strings, backslashes, len } = *parts;
        if (level | children) == 0 {
            self.in_literal = 0;
            return;
        }
        let outside = level & !strings;
        let (colons, commas) = mask::colons_and_commas(block);
        let (colons, commas) = (colons & outside, commas & outside);
        let marks = colons | commas;
        let opening = quotes & strings & level;
        let mut literals = outside & !marks & !quotes;
        if literals != 0 {
            literals &= !mask::spaces(block);
        }
        let tokens = opening | children | (literals & !(literals << 1 | (self.in_literal & 1)));
        let turns = mask::prefix_xor(tokens | marks) ^ self.in_token;
        let values = mask::prefix_xor(marks) ^ self.in_value;
        let bad = (tokens & !turns)
            | (marks & turns)
            | (colons & !values)
            | (commas & values)
            | (tokens & !values & !opening);
        self.is_good &= bad == 0;
        self.has_escapes |= backslashes & level & !values != 0;
        self.in_literal = sign(literals << (BLOCK - len));
        self.in_token = sign(turns);
        self.in_value = sign(values);
        self.note(marks, self.before + at);
    }

    #[inline(always)]
    fn note(&mut self, mut marks: u64, at: usize) {
        let len = self.len + marks.count_ones() as usize;
        if len > 2 * MEMBERS || at > u32::MAX as usize / 2 {
            self.is_good = false;
            return;
        }
        let mut room = &mut self.marks[self.len..];
        self.len = len;
        loop {
            let Some((some, rest)) = room.split_first_chunk_mut::<AT_ONCE>() else { return };
            for mark in some {
                *mark = at as u32 + marks.trailing_zeros();
                marks &= marks.wrapping_sub(1);
            }
            if marks == 0 {
                return;
            }
            room = rest;
        }
    }

    /// The members of the record that ended, if they can be told.
    pub(super) fn get(&self) -> Option<Marks<'_>> {
        // Behind the last token, which is a value; or there is none at all.
        let is_whole = self.len == 0 && self.in_token == 0 || self.in_token != 0 && self.in_value != 0;
        let marks = self.marks.get(..self.len).filter(|_| self.is_good && is_whole)?;
        Some(Marks { marks, has_escapes: self.has_escapes })
    }
}

/// All ones if the highest bit is set.
#[inline(always)]
fn sign(bits: u64) -> u64 {
    (bits >> 63).wrapping_neg()
}

/// Where the members of a record stand: a colon and a comma for each, but for the last one's comma.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks<'a> {
    pub(super) marks: &'a [u32],
    /// Keys may have escapes.
    pub(super) has_escapes: bool,
}
