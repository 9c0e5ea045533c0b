//! Members of JSON objects and elements of JSON arrays, one after the other, from text that is wholly in memory:
//! messages and answers of services, small enough to be held.
//!
//! Nothing is copied, nothing recurses and nothing is allocated: names and values are given as they stand. Brackets
//! are matched by kind down to [`limits::CONTROL_JSON_DEPTH`]; deeper text is refused. What a value holds inside is
//! checked no further than it takes to find its end.

use crate::limits::CONTROL_JSON_DEPTH;

/// The text is no JSON of the shape that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misshapen;

const _: () = assert!(CONTROL_JSON_DEPTH <= u64::BITS as usize, "one bit a level");

/// The members of the object that `raw` is.
///
/// # Errors
/// It does not begin with `{`.
pub fn members(raw: &[u8]) -> Result<Members<'_>, Misshapen> {
    Ok(Members(Items::of(raw, b'{', b'}')?))
}

/// The elements of the array that `raw` is.
///
/// # Errors
/// It does not begin with `[`.
pub fn elements(raw: &[u8]) -> Result<Elements<'_>, Misshapen> {
    Ok(Elements(Items::of(raw, b'[', b']')?))
}

/// What stands between the quotes of a string, escapes and all; `None`: the value is no string.
pub fn string(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// See [`members`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Members<'a>(Items<'a>);

/// See [`elements`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Members<'a> {
    /// The raw name, without its quotes, and the raw value.
    type Item = Result<(&'a [u8], &'a [u8]), Misshapen>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(|items| {
            let name = items.value()?;
            items.byte(b':')?;
            Ok((string(name).ok_or(Misshapen)?, items.value()?))
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    /// The raw value.
    type Item = Result<&'a [u8], Misshapen>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(Items::value)
    }
}

/// What is left of an object or an array.
#[derive(Debug, Clone)]
struct Items<'a> {
    rest: &'a [u8],
    close: u8,
    first: bool,
    ended: bool,
}

impl<'a> Items<'a> {
    fn of(raw: &'a [u8], open: u8, close: u8) -> Result<Items<'a>, Misshapen> {
        let rest = raw.trim_ascii_start().strip_prefix(&[open]).ok_or(Misshapen)?;
        Ok(Items { rest, close, first: true, ended: false })
    }

    fn step<T>(
        &mut self,
        item: impl FnOnce(&mut Items<'a>) -> Result<T, Misshapen>,
    ) -> Option<Result<T, Misshapen>> {
        if self.ended {
            return None;
        }
        if self.byte(self.close).is_ok() {
            self.ended = true;
            // What follows the whole is no part of it.
            return (!self.rest.trim_ascii().is_empty()).then_some(Err(Misshapen));
        }
        let comma = if std::mem::take(&mut self.first) { Ok(()) } else { self.byte(b',') };
        let item = comma.and_then(|()| item(self));
        self.ended = item.is_err();
        Some(item)
    }

    /// The next byte that is no white space, which must be this one.
    fn byte(&mut self, byte: u8) -> Result<(), Misshapen> {
        self.rest = self.rest.trim_ascii_start().strip_prefix(&[byte]).ok_or(Misshapen)?;
        Ok(())
    }

    fn value(&mut self) -> Result<&'a [u8], Misshapen> {
        self.rest = self.rest.trim_ascii_start();
        let len = match self.rest.first() {
            Some(b'"') => string_len(self.rest),
            Some(b'{' | b'[') => nested_len(self.rest),
            _ => scalar_len(self.rest),
        };
        let (value, rest) = self.rest.split_at(len.ok_or(Misshapen)?);
        self.rest = rest;
        Ok(value)
    }
}

/// Up to and with the closing quote of the string that `raw` begins with.
fn string_len(raw: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', raw.get(at..)?)?;
        if raw[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Up to and with the bracket that matches the one that `raw` begins with.
fn nested_len(raw: &[u8]) -> Option<usize> {
    // The kinds of the open brackets, innermost lowest: 1 for an object.
    let (mut at, mut depth, mut kinds) = (0, 0, 0u64);
    loop {
        match raw.get(at)? {
            b'"' => {
                at += string_len(&raw[at..])?;
                continue;
            }
            open @ (b'{' | b'[') => {
                depth += 1;
                if depth > CONTROL_JSON_DEPTH {
                    return None;
                }
                kinds = kinds << 1 | u64::from(*open == b'{');
            }
            close @ (b'}' | b']') => {
                if (kinds & 1 == 1) != (*close == b'}') {
                    return None;
                }
                kinds >>= 1;
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// A number, `true`, `false` or `null`.
fn scalar_len(raw: &[u8]) -> Option<usize> {
    let len = raw.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    (len > 0).then_some(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Result<Vec<(String, String)>, Misshapen> {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        members(text.as_bytes())?.map(|member| member.map(|(n, v)| (text_of(n), text_of(v)))).collect()
    }

    #[test]
    fn members_and_elements_are_given_as_they_stand() {
        let text = r#" { "a" : "x\"}" , "b\n":[1,{"c":"]"}], "d":{} ,"e":-1.5e+3,"f":null} "#;
        let found = all(text).unwrap();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected =
            [("a", r#""x\"}""#), ("b\\n", r#"[1,{"c":"]"}]"#), ("d", "{}"), ("e", "-1.5e+3"), ("f", "null")];
        assert_eq!(found, expected);
        let found: Vec<_> = elements(b"[1, \"a,b\" ,[2] ]").unwrap().map(Result::unwrap).collect();
        assert_eq!(found, [&b"1"[..], b"\"a,b\"", b"[2]"]);
        assert_eq!((all("{}").unwrap().len(), elements(b"[ ]").unwrap().count()), (0, 0));
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{,}",
            "{\"a\":[1}",
            "{\"a\":[}]}",
            "{\"a\":\"x}",
            "{\"a\":1}{",
            "{\"a\":1 \"b\":2}",
            "{\"a\":\"\\",
        ] {
            assert_eq!(all(text), Err(Misshapen), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_and_takes_no_stack() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(all(&nested(CONTROL_JSON_DEPTH)).is_ok());
        assert!(all(&nested(CONTROL_JSON_DEPTH + 1)).is_err());
        assert!(all(&"{\"a\":[".repeat(1_000_000)).is_err());
    }

    proptest! {
        /// What serde_json writes comes apart as serde_json reads it.
        #[test]
        fn members_agree_with_another_reader(
            pairs in proptest::collection::btree_map("[a-z]{1,6}", "\\PC{0,12}", 0..6),
            pretty in any::<bool>(),
        ) {
            let value = serde_json::json!(pairs);
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let mut found = std::collections::BTreeMap::new();
            for (name, value) in all(&text.unwrap()).unwrap() {
                found.insert(name, serde_json::from_str::<String>(&value).unwrap());
            }
            prop_assert_eq!(found, pairs);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\a1 ]{0,40}") {
            let _ = all(&text);
            if let Ok(found) = elements(text.as_bytes()) {
                let _ = found.count();
            }
        }
    }
}
