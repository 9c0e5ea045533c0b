//! The splitter once more, for comparison: over a whole text, one byte after another, no masks, no pieces.

use std::ops::Range;

/// Something in place of a record: `Err` has the reason's slug.
pub type Found = (Range<usize>, Result<(), &'static str>);

/// What a text holds, and the slug of the error it ends with, with the offset for "not-json".
pub fn split(
    text: &[u8],
    max_record: usize,
    depth: usize,
) -> (Vec<Found>, Result<(), (&'static str, usize)>) {
    let mut naive = Naive { text, at: 0, max: max_record.max(3), depth, found: Vec::new(), by_line: false };
    let end = naive.top();
    (naive.found, end)
}

type End<T> = Result<T, (&'static str, usize)>;

const CUT: (&str, usize) = ("truncated", 0);

struct Naive<'a> {
    text: &'a [u8],
    at: usize,
    max: usize,
    depth: usize,
    found: Vec<Found>,
    by_line: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Feeds {
    Anywhere,
    OutsideStrings,
    Nowhere,
}

impl Naive<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn fault<T>(&self) -> End<T> {
        Err(("not-json", self.at))
    }

    fn top(&mut self) -> End<()> {
        let (mut begun, mut one_line) = (false, false);
        loop {
            let before = self.at;
            self.space();
            self.by_line |= one_line && self.text[before..self.at].contains(&b'\n');
            one_line = false;
            let start = self.at;
            match self.peek() {
                None if begun => return Ok(()),
                None => return Err(("empty", 0)),
                Some(b'{') => one_line = self.object()?,
                Some(b'[') => self.array()?,
                Some(0xef) => {
                    for byte in *b"\xef\xbb\xbf" {
                        match self.peek() {
                            None => return Err(CUT),
                            Some(here) if here != byte => break,
                            Some(_) => self.at += 1,
                        }
                    }
                    if self.at - start == 3 {
                        continue;
                    }
                    if !begun {
                        return self.fault();
                    }
                    self.line(start, Err("line-not-json"));
                }
                Some(_) if !begun => return self.fault(),
                Some(_) => self.line(start, Err("line-not-json")),
            }
            begun = true;
        }
    }

    /// From `start` to the end of the line at `self.at`.
    fn line(&mut self, start: usize, why: Result<(), &'static str>) {
        while !matches!(self.peek(), None | Some(b'\n')) {
            self.at += 1;
        }
        self.found.push((start..self.at, why));
    }

    /// Answers whether it was a record on one line.
    fn object(&mut self) -> End<bool> {
        let (start, mut container, mut deep) = (self.at, false, None);
        match self.members(start, &mut container, &mut deep) {
            Ok(()) if container => Ok(false),
            Ok(()) => {
                self.found.push((start..self.at, self.verdict(start, self.at, deep, None)));
                Ok(!self.text[start..self.at].contains(&b'\n'))
            }
            Err(("line-not-json", at)) if !container && !self.text[start..at].contains(&b'\n') => {
                let verdict = self.verdict(start, at, deep, Some("line-not-json"));
                self.line(start, verdict);
                Ok(false)
            }
            Err(("line-not-json", at)) => Err(("not-json", at)),
            Err(end) => Err(end),
        }
    }

    /// What breaks a record first: depth, a fault at its end, or its length.
    fn verdict(
        &self,
        start: usize,
        end: usize,
        deep: Option<usize>,
        fault: Option<&'static str>,
    ) -> Result<(), &'static str> {
        match deep {
            Some(deep) if deep - start <= self.max => return Err("record-too-deep"),
            _ if deep.is_some() || end - start > self.max => return Err("record-too-long"),
            _ => {}
        }
        fault.map_or(Ok(()), Err)
    }

    /// The members of an object. A fault in it is "line-not-json"; what is not is final.
    fn members(&mut self, start: usize, container: &mut bool, deep: &mut Option<usize>) -> End<()> {
        let soft = |at| Err(("line-not-json", at));
        self.at += 1;
        let mut first = true;
        loop {
            self.member_space(*container)?;
            match self.peek() {
                None => return Err(CUT),
                Some(b'}') if first => break,
                Some(b'"') => {}
                Some(_) => return soft(self.at),
            }
            let key = self.at + 1;
            self.string(Feeds::OutsideStrings)?;
            let key = &self.text[key..self.at - 1];
            self.member_space(*container)?;
            match self.peek() {
                None => return Err(CUT),
                Some(b':') => self.at += 1,
                Some(_) => return soft(self.at),
            }
            self.member_space(*container)?;
            let small = deep.is_none() && self.at - start <= self.max;
            match self.peek() {
                None => return Err(CUT),
                Some(b'[') if says_records(key) && (*container || small) => {
                    *container = true;
                    self.array()?;
                }
                Some(b'{' | b'[') => {
                    let feeds =
                        if self.by_line && !*container { Feeds::Nowhere } else { Feeds::OutsideStrings };
                    self.nested(self.depth - 1, feeds, *container, deep)?;
                }
                Some(b'"') => self.string(Feeds::OutsideStrings)?,
                Some(byte) if literal(byte) => self.literal()?,
                Some(_) => return soft(self.at),
            }
            self.member_space(*container)?;
            match self.peek() {
                None => return Err(CUT),
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                Some(_) => return soft(self.at),
            }
            first = false;
        }
        self.at += 1;
        Ok(())
    }

    fn member_space(&mut self, container: bool) -> End<()> {
        let before = self.at;
        self.space();
        let feed = self.text[before..self.at].iter().position(|byte| *byte == b'\n');
        match feed {
            Some(i) if self.by_line && !container => {
                self.at = before + i;
                Err(("line-not-json", self.at))
            }
            _ => Ok(()),
        }
    }

    fn array(&mut self) -> End<()> {
        self.at += 1;
        let mut first = true;
        loop {
            self.space();
            let start = self.at;
            match self.peek() {
                None => return Err(CUT),
                Some(b']') if first => break,
                Some(byte @ (b'{' | b'[')) => {
                    let mut deep = None;
                    match self.nested(self.depth, Feeds::Anywhere, false, &mut deep) {
                        Err(("line-not-json", at)) => return Err(("not-json", at)),
                        other => other?,
                    }
                    let verdict = match byte {
                        b'{' => self.verdict(start, self.at, deep, None),
                        _ => Err("record-not-an-object"),
                    };
                    self.found.push((start..self.at, verdict));
                }
                Some(byte) => {
                    match byte {
                        b'"' => self.string(Feeds::Anywhere)?,
                        _ if literal(byte) => self.literal()?,
                        _ => return self.fault(),
                    }
                    self.found.push((start..self.at, Err("record-not-an-object")));
                }
            }
            self.space();
            match self.peek() {
                None => return Err(CUT),
                Some(b',') => self.at += 1,
                Some(b']') => break,
                Some(_) => return self.fault(),
            }
            first = false;
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self, feeds: Feeds) -> End<()> {
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                None => return Err(CUT),
                Some(b'\n') if feeds != Feeds::Anywhere => return Err(("line-not-json", self.at)),
                Some(_) if escaped => escaped = false,
                Some(b'\\') => escaped = true,
                Some(b'"') => break,
                Some(_) => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self) -> End<()> {
        while self.peek().is_some_and(literal) {
            self.at += 1;
        }
        if self.peek().is_none() { Err(CUT) } else { Ok(()) }
    }

    /// `deep`: where the record first went deeper than `bound`, also when a fault follows.
    fn nested(&mut self, bound: usize, feeds: Feeds, passed_over: bool, deep: &mut Option<usize>) -> End<()> {
        let mut kinds = Vec::new();
        loop {
            match self.peek() {
                None => return Err(CUT),
                Some(b'"') => {
                    self.string(feeds)?;
                    continue;
                }
                Some(byte @ (b'{' | b'[')) => {
                    kinds.push(byte + 2);
                    if kinds.len() > bound {
                        *deep = deep.or(Some(self.at));
                        if passed_over {
                            return Err(("not-json", self.at));
                        }
                    }
                }
                Some(byte @ (b'}' | b']')) => {
                    if kinds.len() <= bound && kinds.last() != Some(&byte) {
                        return Err(("line-not-json", self.at));
                    }
                    kinds.pop();
                }
                Some(b'\\') => return Err(("line-not-json", self.at)),
                Some(b'\n') if feeds == Feeds::Nowhere => return Err(("line-not-json", self.at)),
                Some(_) => {}
            }
            self.at += 1;
            if kinds.is_empty() {
                return Ok(());
            }
        }
    }
}

fn literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

fn says_records(key: &[u8]) -> bool {
    let (mut said, mut rest) = (Vec::new(), key);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'\\' {
            let Some(digits) = rest.strip_prefix(b"u00").and_then(|rest| rest.get(..2)) else { return false };
            let Ok(code) = u8::from_str_radix(&String::from_utf8_lossy(digits), 16) else { return false };
            said.push(code);
            rest = &rest[5..];
        } else {
            said.push(byte);
        }
    }
    said == b"Records"
}
