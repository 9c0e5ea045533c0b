//! What the operator wrote: field rules, of which the first match wins, then the `exclude` regexes.
//!
//! | the field is | a rule's regex is tested against |
//! |---|---|
//! | a string | its text, without escapes |
//! | a number, `true`, `false`, `null` | what stands in the record |
//! | an array, an object | what stands in the record, white space included |
//! | absent | nothing: it does not match |
//! | unreadable | nothing: the record is kept, unless an earlier rule has matched |
//!
//! An element of an array is named by its number (`resources.0.ARN`). Records without a field are left to the rules
//! behind. The regexes of all rules that look into one field are searched at once, and so are all `exclude` regexes.

use regex::bytes::RegexSet;

use super::facts::{Facts, Keys, Place};
use super::{Count, Dropped, Reason};
use crate::config::{self, Action};
use crate::decode::field::Field;
use crate::decode::text;

/// Rules with the count of what each removed.
pub(super) struct Rules {
    rules: Box<[Rule]>,
    fields: Box<[FieldRules]>,
    exclude: RegexSet,
    /// What each of them removed.
    excludes: Box<[Count]>,
    /// For the text of a field; as long as the longest one so far, which is less than a record.
    text: Vec<u8>,
    unreadable: Count,
}

/// What the operator says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// A `keep` rule matches.
    Keep,
    /// A rule or an `exclude` removes it, and has counted it.
    Drop(Reason),
    /// A rule cannot read its field.
    Unreadable,
    /// No rule says anything.
    None,
}

struct Rule {
    field: Box<str>,
    regex: Box<str>,
    action: Action,
    dropped: Count,
}

struct FieldRules {
    place: Place,
    /// Numbers of the rules, ascending.
    rules: Box<[usize]>,
    regexes: RegexSet,
}

impl Rules {
    /// Makes the rules ready, with all counts at zero; facts are read with `keys`.
    pub(super) fn new(rules: &config::Rules, exclude: &RegexSet, keys: &Keys) -> Rules {
        let rule = |rule: &config::Rule| Rule {
            field: rule.field.clone(),
            regex: rule.regex.clone(),
            action: rule.action,
            dropped: Count::default(),
        };
        let of_field = |field: &config::FieldRegexes| FieldRules {
            place: keys.place(&field.field),
            rules: field.rules.clone(),
            regexes: field.regexes.clone(),
        };
        Rules {
            rules: rules.list().iter().map(rule).collect(),
            fields: rules.fields().iter().map(of_field).collect(),
            exclude: exclude.clone(),
            excludes: vec![Count::default(); exclude.len()].into(),
            text: Vec::new(),
            unreadable: Count::default(),
        }
    }

    /// What is said of a record, counted.
    pub(super) fn decide(&mut self, facts: &Facts<'_>) -> Ruling {
        match self.first(facts) {
            Some((rule, true)) if self.rules[rule].action == Action::Keep => Ruling::Keep,
            Some((rule, true)) => {
                self.rules[rule].dropped.open += 1;
                Ruling::Drop(Reason::Rule(rule))
            }
            Some((_, false)) => {
                self.unreadable.open += 1;
                Ruling::Unreadable
            }
            None => self.excluded(facts.record),
        }
    }

    /// The first rule that has something to say: that it matches (`true`), or that it cannot read its field.
    fn first(&mut self, facts: &Facts<'_>) -> Option<(usize, bool)> {
        let Rules { fields, text: buffer, .. } = self;
        let mut first: Option<(usize, bool)> = None;
        for field in fields {
            if first.is_some_and(|(rule, _)| field.rules[0] > rule) {
                continue;
            }
            let found = match field_text(facts.at(&field.place), buffer) {
                Ok(None) => None,
                Ok(Some(text)) => first_match(&field.regexes, text).map(|n| (field.rules[n], true)),
                Err(text::BadEscape) => Some((field.rules[0], false)),
            };
            if let Some(found) = found
                && first.is_none_or(|(rule, _)| found.0 < rule)
            {
                first = Some(found);
            }
        }
        first
    }

    fn excluded(&mut self, record: &[u8]) -> Ruling {
        match first_match(&self.exclude, record) {
            Some(n) => {
                self.excludes[n].open += 1;
                Ruling::Drop(Reason::Exclude(n))
            }
            None => Ruling::None,
        }
    }

    /// What each rule that can remove records has removed: field rules, then excludes, in their order.
    pub(super) fn drops(&self) -> impl Iterator<Item = Dropped<'_>> {
        let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.action == Action::Drop);
        let rules = rules.map(|(n, rule)| Dropped {
            reason: Reason::Rule(n),
            regex: &rule.regex,
            field: Some(&rule.field),
            count: rule.dropped.settled,
        });
        let patterns = self.exclude.patterns().iter().zip(&self.excludes).enumerate();
        let excludes = patterns.map(|(n, (regex, dropped))| Dropped {
            reason: Reason::Exclude(n),
            regex,
            field: None,
            count: dropped.settled,
        });
        rules.chain(excludes)
    }

    /// Records kept because a rule could not read its field.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable.settled
    }

    /// Every count.
    pub(super) fn counts(&mut self) -> impl Iterator<Item = &mut Count> {
        let rules = self.rules.iter_mut().map(|rule| &mut rule.dropped);
        rules.chain(&mut self.excludes).chain([&mut self.unreadable])
    }
}

/// What a rule looks at; `None` when the field is absent. An error: it cannot be read.
fn field_text<'a>(field: Field<'a>, buffer: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, text::BadEscape> {
    Ok(Some(match field {
        Field::Absent => return Ok(None),
        Field::Unreadable => return Err(text::BadEscape),
        Field::Text(raw) => text::unescape(raw, buffer)?,
        Field::Number(raw) | Field::Array(raw) | Field::Object(raw) => raw,
        Field::Null => b"null",
        Field::Bool(true) => b"true",
        Field::Bool(false) => b"false",
    }))
}

/// Which pattern is the first that matches. To know that one matches at all is cheaper, and mostly enough.
fn first_match(set: &RegexSet, text: &[u8]) -> Option<usize> {
    match set.len() {
        0 => None,
        1 => set.is_match(text).then_some(0),
        _ if !set.is_match(text) => None,
        _ => set.matches(text).iter().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rules with the keys that their facts are read with.
    struct Ruled(Rules, Keys);

    impl Ruled {
        fn decide(&mut self, record: &[u8]) -> Ruling {
            self.0.decide(&self.1.read(record.into()))
        }
        fn collected(&mut self, collected: bool) {
            self.0.counts().for_each(|count| {
                count.end_object(collected);
                count.commit();
            });
        }
    }

    fn rules(rules: &[(&str, &str, Action)], exclude: &[&str]) -> Ruled {
        let rule = |(field, pattern, action): &(&str, &str, Action)| config::Rule {
            field: (*field).into(),
            regex: (*pattern).into(),
            action: *action,
        };
        let keys = Keys::new(rules.iter().map(|(field, ..)| *field));
        let rules = config::Rules::new(rules.iter().map(rule).collect()).expect("good rules");
        Ruled(Rules::new(&rules, &RegexSet::new(exclude).expect("good patterns"), &keys), keys)
    }

    fn drops(field: &str, pattern: &str, record: &str) -> bool {
        rules(&[(field, pattern, Action::Drop)], &[]).decide(record.as_bytes())
            == Ruling::Drop(Reason::Rule(0))
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
        assert_eq!(rules.decide(br#"{"n":"KeepDropAway"}"#), Ruling::Keep);
        assert_eq!(rules.decide(br#"{"n":"DropNot"}"#), Ruling::Drop(Reason::Rule(1)));
        assert_eq!(rules.decide(br#"{"n":"other","x":"Away"}"#), Ruling::Drop(Reason::Exclude(1)));
        assert_eq!(rules.decide(br#"{"n":"other"}"#), Ruling::None);
        rules.collected(true);
        let counts: Vec<_> =
            rules.0.drops().map(|dropped| (dropped.reason, dropped.field, dropped.count)).collect();
        let expected =
            [(Reason::Rule(1), Some("n"), 1), (Reason::Exclude(0), None, 0), (Reason::Exclude(1), None, 1)];
        assert_eq!(counts, expected);
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
            rules.collected(collected);
        }
        assert_eq!(rules.0.drops().map(|dropped| dropped.count).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(rules.0.unreadable(), 1);
    }

    #[test]
    fn a_field_that_cannot_be_read_keeps_the_record() {
        for record in [r#"{"x" 1,"a":"drop"}"#, r#"{"a":"drop\x"}"#, r#"{"a":drop}"#, "", "drop"] {
            let mut rules = rules(&[("a", "drop", Action::Drop)], &["drop"]);
            let kept = rules.decide(record.as_bytes());
            rules.collected(true);
            assert_eq!((kept, rules.0.unreadable()), (Ruling::Unreadable, 1), "{record}");
        }
    }

    /// One rule after the other, each with a look-up and a regex of its own.
    fn plainly(rules: &[(&str, &str, Action)], exclude: &[&str], record: &[u8]) -> Ruling {
        use crate::decode::field::{Path, find};
        let mut buffer = Vec::new();
        let is_match = |pattern: &str, text: &[u8]| regex::bytes::Regex::new(pattern).unwrap().is_match(text);
        for (n, (field, pattern, action)) in rules.iter().enumerate() {
            match field_text(find(record, &Path::new(field)), &mut buffer) {
                Err(_) => return Ruling::Unreadable,
                Ok(Some(text)) if is_match(pattern, text) => match action {
                    Action::Keep => return Ruling::Keep,
                    Action::Drop => return Ruling::Drop(Reason::Rule(n)),
                },
                Ok(_) => {}
            }
        }
        match exclude.iter().position(|pattern| is_match(pattern, record)) {
            Some(n) => Ruling::Drop(Reason::Exclude(n)),
            None => Ruling::None,
        }
    }

    proptest! {
        #[test]
        fn rules_searched_together_decide_as_rules_searched_one_by_one(
            list in prop::collection::vec(
                (prop::sample::select(vec!["a", "b", "c.d", "e.1"]), "[xyz]{1,2}|", any::<bool>()), 0..6),
            exclude in prop::collection::vec("[xyz\"]{2,3}", 0..4),
            values in prop::collection::vec("[xyz]{0,3}", 5),
            broken in any::<bool>(),
        ) {
            let action = |keep| if keep { Action::Keep } else { Action::Drop };
            let list: Vec<_> = list.iter().map(|(field, regex, keep)| (*field, &**regex, action(*keep))).collect();
            let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
            let [a, b, d, e, tail] = &values[..] else { unreachable!() };
            let end = if broken { "\\q" } else { "" };
            let record = format!(r#"{{"a":"{a}","c":{{"d":"{d}"}},"b":"{b}{end}","e":["{e}","{tail}"]}}"#);
            let together = rules(&list, &exclude).decide(record.as_bytes());
            prop_assert_eq!(together, plainly(&list, &exclude, record.as_bytes()), "{}", record);
        }
    }
}
