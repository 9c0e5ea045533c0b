//! What the operator wrote: field rules, of which the first match wins, then the `exclude` regexes.
//!
//! A rule's regex is tested against the text of a string without its escapes, and against a number, `true`,
//! `false`, `null`, an array or an object as it stands in the record. A field that is absent matches
//! nothing. A field that cannot be read keeps the record, whatever else is said of it.

use regex::bytes::Regex;

use crate::config::{Action, Rule};
use crate::decode::field::{self, Field, Path};
use crate::decode::text;

use super::Verdict;

/// Rules with the count of what each removed.
pub struct Rules {
    fields: Box<[FieldRule]>,
    excludes: Box<[Exclude]>,
    /// For the text of a field; as long as the longest one so far, which is less than a record.
    text: Vec<u8>,
    unreadable: Count,
}

/// What one rule removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// `rule-N` or `exclude-N`: the Nth of its kind in the source's configuration, from 1.
    pub label: &'a str,
    /// What the rule looks for, as it is configured.
    pub regex: &'a str,
    /// The field that a rule looks into; an `exclude` looks at the whole record.
    pub field: Option<&'a str>,
    /// Records.
    pub count: u64,
}

struct FieldRule {
    label: Box<str>,
    field: Box<str>,
    path: Path,
    regex: Regex,
    action: Action,
    dropped: Count,
}

struct Exclude {
    label: Box<str>,
    regex: Regex,
    dropped: Count,
}

/// Records: of collected objects, and of the one in work.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    settled: u64,
    pending: u64,
}

impl Count {
    fn settle(&mut self, collected: bool) {
        self.settled += if collected { self.pending } else { 0 };
        self.pending = 0;
    }
}

impl Rules {
    /// Makes the rules ready, with all counts at zero.
    pub fn new(rules: &[Rule], exclude: &[Regex]) -> Rules {
        let field_rule = |(i, rule): (usize, &Rule)| FieldRule {
            label: format!("rule-{}", i + 1).into(),
            field: rule.field.clone(),
            path: Path::new(&rule.field),
            regex: rule.regex.clone(),
            action: rule.action,
            dropped: Count::default(),
        };
        let exclude_rule = |(i, regex): (usize, &Regex)| Exclude {
            label: format!("exclude-{}", i + 1).into(),
            regex: regex.clone(),
            dropped: Count::default(),
        };
        Rules {
            fields: rules.iter().enumerate().map(field_rule).collect(),
            excludes: exclude.iter().enumerate().map(exclude_rule).collect(),
            text: Vec::new(),
            unreadable: Count::default(),
        }
    }

    /// `None`: no rule says anything of this record.
    pub fn decide(&mut self, record: &[u8]) -> Option<Verdict> {
        for rule in &mut self.fields {
            match rule.matches(record, &mut self.text) {
                Some(false) => {}
                Some(true) if rule.action == Action::Keep => return Some(Verdict::Keep),
                Some(true) => {
                    rule.dropped.pending += 1;
                    return Some(Verdict::Drop);
                }
                None => {
                    self.unreadable.pending += 1;
                    return Some(Verdict::Keep);
                }
            }
        }
        let exclude = self.excludes.iter_mut().find(|exclude| exclude.regex.is_match(record))?;
        exclude.dropped.pending += 1;
        Some(Verdict::Drop)
    }

    /// What each rule that can remove records has removed: field rules, then excludes, in their order.
    pub fn drops(&self) -> impl Iterator<Item = Dropped<'_>> {
        let fields = self.fields.iter().filter(|rule| rule.action == Action::Drop).map(|rule| Dropped {
            label: &rule.label,
            regex: rule.regex.as_str(),
            field: Some(&rule.field),
            count: rule.dropped.settled,
        });
        let excludes = self.excludes.iter().map(|exclude| Dropped {
            label: &exclude.label,
            regex: exclude.regex.as_str(),
            field: None,
            count: exclude.dropped.settled,
        });
        fields.chain(excludes)
    }

    /// Records kept because a rule could not read its field.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.settled
    }

    /// Settles the counts of the object in work, or forgets them.
    pub fn end_object(&mut self, collected: bool) {
        self.fields.iter_mut().for_each(|rule| rule.dropped.settle(collected));
        self.excludes.iter_mut().for_each(|exclude| exclude.dropped.settle(collected));
        self.unreadable.settle(collected);
    }
}

impl FieldRule {
    /// `None`: the field cannot be read.
    fn matches(&self, record: &[u8], buffer: &mut Vec<u8>) -> Option<bool> {
        let text = match field::find(record, &self.path) {
            Field::Absent => return Some(false),
            Field::Unreadable => return None,
            Field::Text(raw) => text::unescape(raw, buffer).ok()?,
            Field::Number(raw) | Field::Array(raw) | Field::Object(raw) => raw,
            Field::Null => b"null",
            Field::Bool(true) => b"true",
            Field::Bool(false) => b"false",
        };
        Some(self.regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Regex {
        Regex::new(pattern).expect("a good pattern")
    }

    fn rules(rules: &[(&str, &str, Action)], exclude: &[&str]) -> Rules {
        let rule = |(field, pattern, action): &(&str, &str, Action)| Rule {
            field: (*field).into(),
            regex: regex(pattern),
            action: *action,
        };
        let exclude: Vec<Regex> = exclude.iter().map(|pattern| regex(pattern)).collect();
        Rules::new(&rules.iter().map(rule).collect::<Vec<_>>(), &exclude)
    }

    fn drops(field: &str, pattern: &str, record: &str) -> bool {
        rules(&[(field, pattern, Action::Drop)], &[]).decide(record.as_bytes()) == Some(Verdict::Drop)
    }

    #[test]
    fn the_first_match_wins_and_keep_wins_over_exclude() {
        let mut rules = rules(
            &[
                ("n", "^Keep", Action::Keep),
                ("n", "^(Keep|Drop)", Action::Drop),
                ("n", "^DropNot", Action::Keep),
            ],
            &["Drop", "Away"],
        );
        assert_eq!(rules.decide(br#"{"n":"KeepDropAway"}"#), Some(Verdict::Keep));
        assert_eq!(rules.decide(br#"{"n":"DropNot"}"#), Some(Verdict::Drop));
        assert_eq!(rules.decide(br#"{"n":"other","x":"Away"}"#), Some(Verdict::Drop));
        assert_eq!(rules.decide(br#"{"n":"other"}"#), None);
        rules.end_object(true);
        let counts: Vec<_> =
            rules.drops().map(|dropped| (dropped.label, dropped.field, dropped.count)).collect();
        assert_eq!(counts, [("rule-2", Some("n"), 1), ("exclude-1", None, 0), ("exclude-2", None, 1)]);
    }

    #[test]
    fn strings_are_tested_without_escapes_and_the_rest_as_it_stands() {
        assert!(drops("a.b", "^x=\"y\"$", r#"{"a":{"b":"x\u003d\"y\""}}"#));
        assert!(drops("a", "^-1.5E9$", r#"{"a":-1.5E9}"#));
        assert!(drops("a", "^true$", r#"{"a":true}"#));
        assert!(drops("a", "^false$", r#"{"a":false}"#));
        assert!(drops("a", "^null$", r#"{"a":null}"#));
        assert!(drops("a", r#"^\[ "b"\]$"#, r#"{"a":[ "b"]}"#));
        assert!(drops("a", r#"^\{"b":1\}$"#, r#"{"a":{"b":1}}"#));
        assert!(drops("a.1", "^c$", r#"{"a":["b","c"]}"#));
    }

    #[test]
    fn an_absent_field_matches_nothing() {
        assert!(!drops("b", "", r#"{"a":1}"#));
        assert!(!drops("a.b", "", r#"{"a":"text"}"#));
        assert!(drops("a", "", r#"{"a":""}"#));
    }

    #[test]
    fn what_was_decided_in_an_object_that_was_not_collected_does_not_count() {
        let mut rules = rules(&[("a", "^1$", Action::Drop)], &["2"]);
        for (record, collected) in [(r#"{"a":1}"#, false), (r#"{"a":2}"#, true), ("{", false), ("{", true)] {
            rules.decide(record.as_bytes());
            rules.end_object(collected);
        }
        assert_eq!(rules.drops().map(|dropped| dropped.count).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(rules.unreadable(), 1);
    }

    #[test]
    fn a_field_that_cannot_be_read_keeps_the_record() {
        for record in [r#"{"x" 1,"a":"drop"}"#, r#"{"a":"drop\x"}"#, r#"{"a":drop}"#, "", "drop"] {
            let mut rules = rules(&[("a", "drop", Action::Drop)], &["drop"]);
            let kept = rules.decide(record.as_bytes());
            rules.end_object(true);
            assert_eq!((kept, rules.unreadable()), (Some(Verdict::Keep), 1), "{record}");
        }
    }
}
