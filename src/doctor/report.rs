//! A report as text for a person and as JSON for a machine. A core.
//!
//! ```text
//! {"version":1,"level":"fail","exit":77,"findings":[
//! {"part":"source","name":"prod","probe":"list","level":"fail","tested":true,"what":"…","why":"…","fix":"…"},
//! …
//! ]}
//! ```
//! `part` is `config`, `agent`, `source`, `directory` or `output`; `name` is that of a source or an output, else empty. `level` is `ok`, `warn` or
//! `fail`; what could not be tested is `warn` with `tested` false. Strings may be empty, nothing is ever left out.

use std::fmt::Write as _;

use super::finding::{Finding, Level, Part, Report};
use crate::deliver::format::append_escaped;

/// How text looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Levels are coloured.
    pub colours: bool,
    /// Columns at which lines are broken between words.
    pub width: Option<usize>,
}

/// The text: one block for each part, one line for each finding, why and fix below it.
pub fn text(report: &Report, look: Look) -> String {
    let column = report.findings().map(|finding| finding.probe.len()).max().unwrap_or(0);
    let mut out = String::new();
    for section in &report.sections {
        let _ = writeln!(out, "{}", heading(&section.part)); // a String takes anything
        for finding in &section.findings {
            let (word, colour) = mark(finding.level);
            let (on, off) = if look.colours { (colour, "\x1b[0m") } else { ("", "") };
            let lead = format!("  {on}{word:4}{off}  {:column$}  ", finding.probe);
            let indent = 2 + 4 + 2 + column + 2;
            paragraph(&mut out, &lead, indent, &finding.what, look.width);
            let indent = indent + 5;
            for (name, text) in [("why", &finding.why), ("fix", &finding.fix)] {
                if !text.is_empty() {
                    let lead = format!("{:width$}{name}  ", "", width = indent - 5);
                    paragraph(&mut out, &lead, indent, text, look.width);
                }
            }
        }
        out.push('\n');
    }
    out.push_str(&summary(report));
    out.push('\n');
    out
}

/// The JSON document, one finding a line.
pub fn json(report: &Report) -> String {
    let mut out = Vec::with_capacity(4096);
    let (level, _) = json_level(report.worst());
    out.extend_from_slice(
        format!("{{\"version\":1,\"level\":\"{level}\",\"exit\":{},\"findings\":[", report.exit() as u8)
            .as_bytes(),
    );
    let mut first = true;
    for section in &report.sections {
        let (part, name) = part_and_name(&section.part);
        for Finding { probe, level, what, why, fix } in &section.findings {
            let (level, tested) = json_level(*level);
            out.extend_from_slice(if first { b"\n{" } else { b",\n{" });
            first = false;
            for (key, value) in [("part", part), ("name", name), ("probe", probe), ("level", level)] {
                member(&mut out, key, value);
                out.push(b',');
            }
            out.extend_from_slice(if tested { b"\"tested\":true" } else { b"\"tested\":false" });
            for (key, value) in [("what", what), ("why", why), ("fix", fix)] {
                out.push(b',');
                member(&mut out, key, value);
            }
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"\n]}\n");
    String::from_utf8(out).unwrap_or_default() // made of strings
}

fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(format!("\"{key}\":\"").as_bytes());
    append_escaped(value, out);
    out.push(b'"');
}

fn json_level(level: Level) -> (&'static str, bool) {
    match level {
        Level::Ok => ("ok", true),
        Level::NotTested => ("warn", false),
        Level::Warn => ("warn", true),
        Level::Fail(_) => ("fail", true),
    }
}

fn part_and_name(part: &Part) -> (&'static str, &str) {
    match part {
        Part::Config => ("config", ""),
        Part::Agent => ("agent", ""),
        Part::Directory => ("directory", ""),
        Part::Source(name) => ("source", name),
        Part::Output(name) => ("output", name),
    }
}

fn heading(part: &Part) -> String {
    match part {
        Part::Config => "configuration".to_owned(),
        Part::Agent => "state directory".to_owned(),
        Part::Directory => "directory of accounts".to_owned(),
        Part::Source(name) => format!("source {name}"),
        Part::Output(name) => format!("output {name}"),
    }
}

/// Word and colour (ECMA-48, SGR).
fn mark(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Ok => ("ok", "\x1b[32m"),
        Level::NotTested => ("-", "\x1b[2m"),
        Level::Warn => ("warn", "\x1b[33m"),
        Level::Fail(_) => ("FAIL", "\x1b[1;31m"),
    }
}

fn summary(report: &Report) -> String {
    let count = |of: fn(Level) -> bool| report.findings().filter(|finding| of(finding.level)).count();
    let counts = [
        (count(|level| matches!(level, Level::Fail(_))), "failed"),
        (count(|level| level == Level::Warn), "to look at"),
        (count(|level| level == Level::NotTested), "not tested"),
        (count(|level| level == Level::Ok), "well"),
    ];
    let words: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!("{} (exit code {})", words.join(", "), report.exit() as u8)
}

/// One paragraph behind its lead; what does not fit goes on below, indented.
fn paragraph(out: &mut String, lead: &str, indent: usize, text: &str, width: Option<usize>) {
    out.push_str(lead);
    let mut column = indent;
    for (n, word) in words(text).into_iter().enumerate() {
        let len = word.chars().count();
        if n > 0 {
            match width.is_some_and(|width| column + 1 + len > width) {
                true => {
                    let _ = write!(out, "\n{:indent$}", "");
                    column = indent;
                }
                false => {
                    out.push(' ');
                    column += 1;
                }
            }
        }
        // What a server said must not steer the terminal.
        out.extend(word.chars().map(|c| if c.is_control() { '?' } else { c }));
        column += len;
    }
    out.push('\n');
}

/// The words of a text. What stands in backticks is one: it is there to be copied.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut begin, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            ' ' if !quoted => {
                words.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[begin..]);
    words
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Kind, Section};
    use super::*;

    fn report() -> Report {
        Report {
            sections: vec![
                Section { part: Part::Config, findings: vec![Finding::ok("config", "a.toml is \"good\"")] },
                Section {
                    part: Part::Source("prod".into()),
                    findings: vec![
                        Finding::fail(
                            "list",
                            Kind::Permission,
                            "listing fails",
                            "HTTP 403 \x1b[31mAccess\nDenied",
                            "allow `s3:ListBucket on it` in the policy",
                        ),
                        Finding::not_tested("key-prefix", "listing fails"),
                        Finding::warn("newest", "old", "", "look"),
                    ],
                },
            ],
        }
    }

    #[test]
    fn the_text_is_aligned_and_holds_no_control_characters() {
        let expected = "\
configuration
  ok    config      a.toml is \"good\"

source prod
  FAIL  list        listing fails
                    why  HTTP 403 ?[31mAccess?Denied
                    fix  allow `s3:ListBucket on it` in the policy
  -     key-prefix  not tested, because listing fails
  warn  newest      old
                    fix  look

1 failed, 1 to look at, 1 not tested, 1 well (exit code 77)
";
        assert_eq!(text(&report(), Look::default()), expected);
    }

    #[test]
    fn lines_break_between_words_but_not_inside_what_is_to_be_copied() {
        let text = text(&report(), Look { colours: false, width: Some(48) });
        let folded = "fix  allow\n                         `s3:ListBucket on it`\n                         in the policy\n";
        assert!(text.contains(folded), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let plain = text(&report(), Look::default());
        let mut coloured = text(&report(), Look { colours: true, width: None });
        assert!(coloured.contains("\x1b[1;31mFAIL\x1b[0m"), "{coloured}");
        for code in ["\x1b[32m", "\x1b[2m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }

    #[test]
    fn the_json_has_every_member_of_every_finding() {
        let value: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        assert_eq!(
            (&value["version"], &value["level"], &value["exit"]),
            (&1.into(), &"fail".into(), &77.into())
        );
        let findings = value["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 4);
        for finding in findings {
            let mut keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, ["fix", "level", "name", "part", "probe", "tested", "what", "why"]);
        }
        assert_eq!(findings[1]["why"], "HTTP 403 \x1b[31mAccess\nDenied");
        assert_eq!(findings[1]["name"], "prod");
        assert_eq!((&findings[2]["level"], &findings[2]["tested"]), (&"warn".into(), &false.into()));
    }

    #[test]
    fn a_report_without_findings_is_json_too() {
        let value: serde_json::Value = serde_json::from_str(&json(&Report { sections: Vec::new() })).unwrap();
        assert_eq!((&value["level"], &value["exit"]), (&"ok".into(), &0.into()));
    }
}
