//! The members of a record that rules, baseline and duplicates ask for, found in one pass over the record.
//!
//! It says of a field what [`field::find`] says, except where a record is not JSON inside the member that holds the
//! field: then this says [`Field::Unreadable`], which keeps the record.

use crate::decode::field::{self, Field, Path};
use crate::decode::{Record, text};

/// Members that are found in the pass. What more is asked for is looked up one by one.
const SLOTS: usize = 32;
/// Bytes of the longest key that is found in the pass.
const KEY_BYTES: usize = 32;

/// The top-level keys that are asked for, shortest first.
pub(super) struct Keys {
    keys: Vec<Box<str>>,
    /// Where the keys of each length begin in `keys`.
    of_len: [u8; KEY_BYTES + 2],
}

/// Where the field of a path is found.
pub(super) struct Place {
    /// The slot of its first key.
    slot: Option<usize>,
    /// What follows the first key.
    inner: Option<Path>,
    /// The path as a whole.
    whole: Path,
}

impl Keys {
    /// For some dotted paths.
    pub(super) fn new<'p>(paths: impl Iterator<Item = &'p str>) -> Keys {
        let mut keys: Vec<Box<str>> = Vec::new();
        for path in paths {
            let key = first(path);
            if keys.len() < SLOTS && key.len() <= KEY_BYTES && !keys.iter().any(|known| **known == *key) {
                keys.push(key.into());
            }
        }
        keys.sort_by_key(|key| key.len());
        let mut of_len = [0; KEY_BYTES + 2];
        for (len, start) in of_len.iter_mut().enumerate() {
            *start = keys.partition_point(|key| key.len() < len) as u8;
        }
        Keys { keys, of_len }
    }

    /// Where a path leads.
    pub(super) fn place(&self, path: &str) -> Place {
        let slot = self.keys.iter().position(|key| **key == *first(path));
        let inner = path.split_once('.').map(|(_, inner)| Path::new(inner));
        Place { slot, inner, whole: Path::new(path) }
    }

    /// Reads a record once.
    pub(super) fn read<'a>(&self, record: Record<'a>) -> Facts<'a> {
        let mut facts = Facts { record: record.bytes, values: [None; SLOTS], rest: Field::Absent };
        let mut missing = self.keys.len();
        let mut members = record.members();
        while missing > 0
            && let Some(member) = members.next()
        {
            if member.key.is_empty() && member.value() == Field::Unreadable {
                facts.rest = Field::Unreadable;
                break;
            }
            if let Some(slot) = self.slot(member.key, member.key_has_escapes)
                && facts.values[slot].is_none()
            {
                facts.values[slot] = Some(member.value());
                missing -= 1;
            }
        }
        facts
    }

    /// Whether anything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn slot(&self, key: &[u8], has_escapes: bool) -> Option<usize> {
        if key.len() <= KEY_BYTES {
            let same_len = usize::from(self.of_len[key.len()])..usize::from(self.of_len[key.len() + 1]);
            for slot in same_len {
                let known = self.keys[slot].as_bytes();
                // Most others differ in their first or last byte, which costs less than a call.
                if known.first() == key.first() && known.last() == key.last() && known == key {
                    return Some(slot);
                }
            }
        }
        if !has_escapes {
            return None;
        }
        self.keys.iter().position(|known| text::is(key, known.as_bytes()))
    }
}

/// What was found in one record.
pub(super) struct Facts<'a> {
    /// The record.
    pub(super) record: &'a [u8],
    values: [Option<Field<'a>>; SLOTS],
    /// What is said of a key that was not found.
    rest: Field<'a>,
}

impl<'a> Facts<'a> {
    /// The field at a place of the keys that this was read with.
    pub(super) fn at(&self, place: &Place) -> Field<'a> {
        let Some(slot) = place.slot else { return field::find(self.record, &place.whole) };
        match (self.values[slot].unwrap_or(self.rest), &place.inner) {
            (value, None) => value,
            (Field::Object(raw) | Field::Array(raw), Some(inner)) => field::find(raw, inner),
            (Field::Unreadable, _) => Field::Unreadable,
            _ => Field::Absent,
        }
    }
}

fn first(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look_up<'a>(paths: &[&str], record: &'a str) -> Vec<Field<'a>> {
        let keys = Keys::new(paths.iter().copied());
        let facts = keys.read(record.as_bytes().into());
        paths.iter().map(|path| facts.at(&keys.place(path))).collect()
    }

    #[test]
    fn one_pass_finds_what_look_ups_one_by_one_find() {
        let record = r#"{"a":1,"event\u004eame":"x","u":{"type":"Root","deep":{"er":[7,{"z":null}]}},"a":2,"":3,
            "quite-a-long-key-that-is-beyond-the-bound":true}"#;
        let paths = [
            "a",
            "eventName",
            "u.type",
            "u.deep.er.1.z",
            "u.deep.er.9",
            "a.b",
            "",
            "absent",
            "absent.too",
            "quite-a-long-key-that-is-beyond-the-bound",
        ];
        let one_by_one: Vec<_> =
            paths.iter().map(|path| field::find(record.as_bytes(), &Path::new(path))).collect();
        assert_eq!(look_up(&paths, record), one_by_one);
    }

    #[test]
    fn more_keys_than_slots_are_found_all_the_same() {
        let names: Vec<String> = (0..3 * SLOTS).map(|n| format!("k{n}")).collect();
        let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":\"{name}\"")).collect();
        let record = format!("{{{}}}", members.join(","));
        let paths: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected: Vec<_> = names.iter().map(|name| Field::Text(name.as_bytes())).collect();
        assert_eq!(look_up(&paths, &record), expected);
    }

    #[test]
    fn what_stands_before_a_fault_is_read_and_what_may_stand_behind_is_unreadable() {
        assert_eq!(look_up(&["a", "b"], r#"{"a":1,"b" 2}"#), [Field::Number(b"1"), Field::Unreadable]);
        assert_eq!(look_up(&["a"], r#"{"a":{"b":]}"#), [Field::Unreadable]);
        assert_eq!(look_up(&["a", "a.b"], ""), [Field::Unreadable; 2]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_single_look_ups_or_says_unreadable(record in r#"\{("[ab]":(1|"x"|\{"a":[12]\}|\[1,2\]|,|\}),?){0,4}\}?"#) {
            let paths = ["a", "b", "a.a", "b.1", "c"];
            for (path, field) in paths.iter().zip(look_up(&paths, &record)) {
                let single = field::find(record.as_bytes(), &Path::new(path));
                prop_assert!(field == single || field == Field::Unreadable, "{} of {}: {:?}, {:?}", path, record, field, single);
            }
        }
    }
}
