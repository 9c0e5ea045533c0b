//! The text of a JSON string (RFC 8259, section 7), from the bytes between its quotes.
//!
//! A surrogate without its other half becomes U+FFFD, so the text is UTF-8 wherever the bytes are; bytes
//! that are not UTF-8 are passed on as they stand. Text is never longer than the bytes it came from.

/// An escape that JSON does not know, or that is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEscape;

/// The text of `raw`: `raw` itself where nothing is escaped, else written to `buffer`, which is emptied
/// first and grows to at most `raw.len()` bytes.
pub fn unescape<'a>(raw: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BadEscape> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(raw);
    }
    buffer.clear();
    buffer.reserve_exact(raw.len());
    let mut parts = Parts { raw };
    while let Some(part) = parts.next()? {
        buffer.extend_from_slice(part.bytes());
    }
    Ok(buffer)
}

/// Whether the text of `raw` is `plain`. A bad escape is equal to nothing.
pub fn is(raw: &[u8], plain: &[u8]) -> bool {
    // Most texts differ early, where nothing is escaped yet.
    let same = raw.iter().zip(plain).take_while(|(raw, plain)| raw == plain && **raw != b'\\').count();
    if raw.get(same) != Some(&b'\\') {
        return same == raw.len() && same == plain.len();
    }
    let (mut parts, mut left) = (Parts { raw: &raw[same..] }, &plain[same..]);
    loop {
        match parts.next() {
            Ok(Some(part)) => match left.strip_prefix(part.bytes()) {
                Some(rest) => left = rest,
                None => return false,
            },
            Ok(None) => return left.is_empty(),
            Err(BadEscape) => return false,
        }
    }
}

/// A run of plain bytes, or one unescaped character.
enum Part<'a> {
    Plain(&'a [u8]),
    Char([u8; 4], usize),
}

impl Part<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Plain(bytes) => bytes,
            Part::Char(bytes, len) => &bytes[..*len],
        }
    }
}

struct Parts<'a> {
    raw: &'a [u8],
}

impl<'a> Parts<'a> {
    fn next(&mut self) -> Result<Option<Part<'a>>, BadEscape> {
        match memchr::memchr(b'\\', self.raw) {
            Some(0) => self.escape().map(Some),
            found => {
                let (plain, rest) = self.raw.split_at(found.unwrap_or(self.raw.len()));
                self.raw = rest;
                Ok((!plain.is_empty()).then_some(Part::Plain(plain)))
            }
        }
    }

    fn escape(&mut self) -> Result<Part<'a>, BadEscape> {
        let (&letter, rest) = self.raw[1..].split_first().ok_or(BadEscape)?;
        self.raw = rest;
        let one = |byte| Ok(Part::Char([byte, 0, 0, 0], 1));
        match letter {
            b'"' | b'\\' | b'/' => one(letter),
            b'b' => one(8),
            b'f' => one(12),
            b'n' => one(b'\n'),
            b'r' => one(b'\r'),
            b't' => one(b'\t'),
            b'u' => {
                let mut bytes = [0; 4];
                let len = self.code_point()?.encode_utf8(&mut bytes).len();
                Ok(Part::Char(bytes, len))
            }
            _ => Err(BadEscape),
        }
    }

    /// Behind `\u`: one character, of one escape or of a pair of them.
    fn code_point(&mut self) -> Result<char, BadEscape> {
        let high = u32::from(hex4(self.raw)?);
        self.raw = &self.raw[4..];
        if (0xd800..0xdc00).contains(&high)
            && let Some(pair) = self.raw.strip_prefix(b"\\u")
            && let low @ 0xdc00..0xe000 = u32::from(hex4(pair)?)
        {
            self.raw = &pair[4..];
            let point = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Ok(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

fn hex4(bytes: &[u8]) -> Result<u16, BadEscape> {
    let digits = bytes.first_chunk::<4>().ok_or(BadEscape)?;
    digits.iter().try_fold(0, |value, &digit| {
        let digit = (digit as char).to_digit(16).ok_or(BadEscape)?;
        Ok(value << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(raw: &str) -> Result<String, BadEscape> {
        let mut buffer = Vec::new();
        unescape(raw.as_bytes(), &mut buffer).map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        assert_eq!(text("plain"), Ok("plain".into()));
        assert_eq!(text(r#"\"\\\/\b\f\n\r\t"#), Ok("\"\\/\u{8}\u{c}\n\r\t".into()));
        assert_eq!(text(r"a\u003db\u00e9\u20AC"), Ok("a=bé€".into()));
        assert_eq!(text(r"\ud83d\ude00!"), Ok("😀!".into()));
    }

    #[test]
    fn a_surrogate_alone_is_the_replacement_character() {
        assert_eq!(text(r"\ud83d"), Ok("\u{fffd}".into()));
        assert_eq!(text(r"\ude00x"), Ok("\u{fffd}x".into()));
        assert_eq!(text(r"\ud83d\u0041"), Ok("\u{fffd}A".into()));
        assert_eq!(text(r"\ud83d\ud83d\ude00"), Ok("\u{fffd}😀".into()));
    }

    #[test]
    fn a_bad_or_cut_escape_is_told() {
        for raw in ["\\", r"\x", r"\u12", r"\u12g4", r"\u+123", r"\ud83d\u1", r"ab\"] {
            assert_eq!(text(raw), Err(BadEscape), "{raw}");
        }
    }

    #[test]
    fn the_buffer_is_used_anew_and_only_when_needed() {
        let mut buffer = b"before".to_vec();
        assert_eq!(unescape(b"plain", &mut buffer), Ok(&b"plain"[..]));
        assert_eq!(unescape(br"\n", &mut buffer), Ok(&b"\n"[..]));
    }

    proptest! {
        #[test]
        fn text_escaped_in_any_way_is_itself_again(chars in prop::collection::vec((any::<char>(), 0u8..3), 0..40)) {
            let (mut raw, mut plain) = (String::new(), String::new());
            for (char, how) in chars {
                plain.push(char);
                if how == 0 && !matches!(char, '\\') {
                    raw.push(char);
                } else {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        let escape = if how == 1 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
                        raw.push_str(&escape);
                    }
                }
            }
            prop_assert_eq!(text(&raw), Ok(plain.clone()));
            prop_assert!(is(raw.as_bytes(), plain.as_bytes()));
            let other = format!("{plain}x");
            prop_assert!(!is(raw.as_bytes(), other.as_bytes()));
        }

        #[test]
        fn is_agrees_with_unescape_on_any_bytes(raw in "[\\\\u0-9a-d\"n]{0,24}", plain in "[a-d0-9\"]{0,6}") {
            let same = text(&raw).is_ok_and(|text| text == plain);
            prop_assert_eq!(is(raw.as_bytes(), plain.as_bytes()), same);
        }
    }
}
