//! What is asked of a directory, and what it says of an account. A core.

use std::sync::Arc;

use crate::limits;

/// Bytes of [`Asked::key`]: a letter and an account.
pub type Key = heapless::String<{ limits::ACCOUNT_BYTES + 1 }>;

/// How an account is looked up: by its short name, by the name with its domain, or by either. At least one is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// `jsmith`; goes with `match_name`.
    pub name: Option<&'a str>,
    /// `jsmith@corp.example.com`; goes with `match_address`. Where both are there it begins with the name.
    pub address: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// A text that tells what is asked apart from anything else. `None`: it is longer than any account.
    ///
    /// ```text
    /// n jsmith     a jsmith@corp.example.com     b jsmith@corp.example.com       (without the space)
    /// ```
    pub fn key(self) -> Option<Key> {
        let (letter, text) = match (self.name, self.address) {
            (Some(name), None) => ('n', name),
            (None, Some(address)) => ('a', address),
            (Some(_), Some(address)) => ('b', address),
            (None, None) => return None,
        };
        let mut key = Key::new();
        key.push(letter).and_then(|()| key.push_str(text)).ok()?;
        Some(key)
    }

    /// What a key says.
    pub fn of_key(key: &'a str) -> Option<Asked<'a>> {
        let (letter, text) = key.split_at_checked(1)?;
        match letter {
            "n" => Some(Asked { name: Some(text), address: None }),
            "a" => Some(Asked { name: None, address: Some(text) }),
            "b" => Some(Asked { name: Some(text.rsplit_once('@')?.0), address: Some(text) }),
            _ => None,
        }
    }
}

/// Who knows accounts. It never waits: what it does not know yet, it may know for a later record.
pub trait Lookup: Send + Sync {
    /// What is known of the account now.
    fn find(&self, asked: Asked<'_>) -> Option<Arc<Entry>>;
}

/// What a directory says of an account: at least one value, none empty or with control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    names: Arc<[Box<str>]>,
    /// A value for each name, with NUL between them; empty where there is none.
    values: Box<str>,
}

impl Entry {
    /// An entry whose values belong to `names` in order. Values that cannot be sent along are left out; `None`: nothing
    /// remains.
    pub fn new(names: Arc<[Box<str>]>, values: &[Option<String>]) -> Option<Entry> {
        let good = |value: &&str| {
            (1..=limits::DIRECTORY_VALUE_BYTES).contains(&value.len()) && !value.chars().any(char::is_control)
        };
        let values: Vec<&str> = names
            .iter()
            .enumerate()
            .map(|(at, _)| values.get(at).and_then(Option::as_deref).filter(good).unwrap_or_default())
            .collect();
        let is_empty = values.iter().all(|value| value.is_empty());
        (!is_empty).then(|| Entry { names, values: values.join("\0").into() })
    }

    /// Names and values, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter().map(|name| &**name);
        names.zip(self.values.split('\0')).filter(|(_, value)| !value.is_empty())
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn names(names: &[&str]) -> Arc<[Box<str>]> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn a_key_says_what_was_asked_and_nothing_else_has_it() {
        let all = [
            Asked { name: Some("jsmith"), address: None },
            Asked { name: None, address: Some("jsmith@corp.example.com") },
            Asked { name: Some("jsmith"), address: Some("jsmith@corp.example.com") },
            Asked { name: Some("a@b"), address: Some("a@b@c.example") },
            Asked { name: Some("jsmith@corp.example.com"), address: None },
        ];
        let mut keys = std::collections::HashSet::new();
        for asked in all {
            let key = asked.key().unwrap();
            assert_eq!(Asked::of_key(&key), Some(asked));
            assert!(keys.insert(key));
        }
        let long = "x".repeat(limits::ACCOUNT_BYTES + 1);
        assert_eq!(Asked { name: Some(&long), address: None }.key(), None);
        assert_eq!(Asked::of_key("x"), None);
        assert_eq!(Asked::of_key(""), None);
    }

    #[test]
    fn an_entry_has_what_can_be_sent_along_in_the_order_of_the_configuration() {
        let names = names(&["sAMAccountName", "userPrincipalName", "mail"]);
        let long = "x".repeat(limits::DIRECTORY_VALUE_BYTES + 1);
        let text = |text: &str| Some(text.to_owned());
        let entry = Entry::new(names.clone(), &[text("jsmith"), None, text("j@corp.example.com")]).unwrap();
        let found: Vec<_> = entry.iter().collect();
        assert_eq!(found, [("sAMAccountName", "jsmith"), ("mail", "j@corp.example.com")]);
        assert_eq!(Entry::new(names.clone(), &[text(""), text(&long), text("a\nb")]), None);
        assert_eq!(Entry::new(names, &[]), None);
    }
}
