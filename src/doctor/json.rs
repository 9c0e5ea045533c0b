//! JSON for people: indented, and in ASCII alone, since IAM takes no character above U+00FF as it stands.

use std::fmt;

/// A JSON value of a policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Text(String),
    List(Vec<Json>),
    /// In the order in which it is written.
    Object(Vec<(&'static str, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

/// Two spaces a level; no newline at the end.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Json {
    fn write(&self, f: &mut fmt::Formatter<'_>, level: usize) -> fmt::Result {
        match self {
            Json::Text(text) => write_text(f, text),
            Json::List(items) => within(f, ('[', ']'), level, items, |f, item| item.write(f, level + 1)),
            Json::Object(members) => within(f, ('{', '}'), level, members, |f, (name, value)| {
                write_text(f, name)?;
                f.write_str(": ")?;
                value.write(f, level + 1)
            }),
        }
    }
}

fn within<T>(
    f: &mut fmt::Formatter<'_>,
    (open, close): (char, char),
    level: usize,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (n, item) in items.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(f, "{comma}\n{:width$}", "", width = 2 * (level + 1))?;
        write(f, item)?;
    }
    match items.is_empty() {
        true => write!(f, "{close}"),
        false => write!(f, "\n{:width$}{close}", "", width = 2 * level),
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            ' '..='~' => write!(f, "{c}")?,
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(f, "\\u{unit:04x}")?;
                }
            }
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_like_a_policy() {
        let value = Json::Object(vec![
            ("a", "x".into()),
            ("b", Json::List(vec!["y".into(), Json::Object(vec![])])),
            ("c", Json::List(vec![])),
        ]);
        assert_eq!(
            value.to_string(),
            "{\n  \"a\": \"x\",\n  \"b\": [\n    \"y\",\n    {}\n  ],\n  \"c\": []\n}"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_another_parser(text: String) {
            let json = Json::List(vec![text.as_str().into()]).to_string();
            prop_assert!(json.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), vec![text]);
        }
    }
}
