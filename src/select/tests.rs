//! What rules, baseline and duplicates decide together.

use super::*;
use crate::config::{Action, Rule, Rules};
use crate::discover::testing;

fn selector(unfiltered: bool, rules: &[(&str, &str, Action)]) -> Selector {
    let rule = |(field, regex, action): &(&str, &str, Action)| Rule {
        field: (*field).into(),
        regex: (*regex).into(),
        action: *action,
    };
    let rules = Rules::new(rules.iter().map(rule).collect()).expect("good rules");
    let exclude = regex::bytes::RegexSet::new(["\"away\""]).expect("a good pattern");
    Selector::new(&Source { unfiltered, rules, exclude, ..testing::source("prod") })
}

fn record(id: u32, event: &str, read_only: bool) -> String {
    format!(
        r#"{{"userIdentity":{{"type":"IAMUser"}},"eventSource":"ec2.amazonaws.com","eventName":"{event}","readOnly":{read_only},"eventID":"00000000-0000-0000-0000-{id:012}"}}"#
    )
}

#[test]
fn an_unfiltered_source_has_rules_alone() {
    let (mut selector, mut window) = (selector(true, &[]), Window::new(1));
    let read = record(1, "DescribeInstances", true);
    for _ in 0..2 {
        assert_eq!(selector.decide(read.as_bytes(), &mut window), Verdict::Keep);
    }
    let away = record(2, "away", false);
    assert_eq!(selector.decide(away.as_bytes(), &mut window), Verdict::Drop(Reason::Exclude(0)));
}

#[test]
fn a_keep_rule_wins_over_exclude_and_baseline_but_keeps_one_copy() {
    let mut selector = selector(
        false,
        &[("eventName", "^(Describe|away)", Action::Keep), ("eventName", "^Drop", Action::Drop)],
    );
    let mut window = Window::new(1);
    for event in ["DescribeInstances", "away"] {
        let record = record(1, event, true);
        assert_eq!(selector.decide(record.as_bytes(), &mut window), Verdict::Keep, "{event}");
        assert_eq!(selector.decide(record.as_bytes(), &mut window), Verdict::Duplicate, "{event}");
    }
    let listed = record(2, "ListThings", true);
    let dropped = record(3, "DropThings", false);
    for _ in 0..2 {
        // what is removed is no duplicate: nothing was kept
        assert_eq!(selector.decide(listed.as_bytes(), &mut window), Verdict::Drop(Reason::Baseline));
        assert_eq!(selector.decide(dropped.as_bytes(), &mut window), Verdict::Drop(Reason::Rule(1)));
    }
}

#[test]
fn duplicates_have_the_same_id_and_the_same_bytes() {
    let (mut selector, mut window) = (selector(false, &[]), Window::new(1));
    let one = record(1, "RunInstances", false);
    assert_eq!(selector.decide(one.as_bytes(), &mut window), Verdict::Keep);
    assert_eq!(selector.decide(one.as_bytes(), &mut window), Verdict::Duplicate);
    let rewritten = one.replace("ec2.amazonaws.com", "EC2.amazonaws.com");
    assert_eq!(selector.decide(rewritten.as_bytes(), &mut window), Verdict::Keep);
    for without in [
        r#"{"eventName":"RunInstances"}"#,
        r#"{"eventID":null}"#,
        r#"{"eventID":7}"#,
        r#"{"eventID":""}"#,
        "{",
    ] {
        assert_eq!(selector.decide(without.as_bytes(), &mut window), Verdict::Keep);
        assert_eq!(selector.decide(without.as_bytes(), &mut window), Verdict::Keep, "{without}");
    }
}

#[test]
fn counts_are_exact_when_an_object_is_refused_or_taken_back() {
    let (mut selector, mut window) = (selector(false, &[]), Window::new(1));
    let counts = |selector: &Selector| selector.drops().map(|dropped| dropped.count).collect::<Vec<_>>();
    let mut object = |selector: &mut Selector, collected| {
        for event in ["away", "ListThings"] {
            selector.decide(record(1, event, true).as_bytes(), &mut window);
        }
        selector.end_object(collected);
    };
    object(&mut selector, false);
    object(&mut selector, true);
    assert_eq!(counts(&selector), [0, 0], "not committed yet");
    selector.commit();
    assert_eq!(counts(&selector), [1, 1]);
    object(&mut selector, true);
    selector.rollback();
    selector.commit();
    assert_eq!(counts(&selector), [1, 1]);
    let labels: Vec<String> = selector.drops().map(|dropped| dropped.reason.to_string()).collect();
    assert_eq!(labels, ["exclude-1", "baseline"]);
}
