//! Regexes of the configuration, bounded in what they may cost alone and together, with faults that point into the
//! pattern.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::Rule;
use super::fault::{Report, quoted};
use crate::limits;

/// Field rules, with the regexes of each field compiled into one.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    list: Box<[Rule]>,
    fields: Box<[FieldRegexes]>,
}

/// The regexes of all rules that look into one field.
#[derive(Debug, Clone)]
pub struct FieldRegexes {
    /// Dotted path into the record.
    pub field: Box<str>,
    /// Which of the rules these are, in order.
    pub rules: Box<[usize]>,
    /// Their regexes, in the same order.
    pub regexes: RegexSet,
}

impl Rules {
    /// Compiles rules whose regexes are known to be good. The first match wins.
    ///
    /// # Errors
    /// A sentence: together they are too large.
    pub fn new(list: Vec<Rule>) -> Result<Rules, String> {
        // Their sum is bounded, however many fields it is spread over.
        set(list.iter().map(|rule| &*rule.regex), limits::REGEX_SET_BYTES)?;
        let mut by_field: Vec<(&str, Vec<usize>)> = Vec::new();
        for (number, rule) in list.iter().enumerate() {
            match by_field.iter_mut().find(|(field, _)| *field == &*rule.field) {
                Some((_, rules)) => rules.push(number),
                None => by_field.push((&rule.field, vec![number])),
            }
        }
        let cache = (limits::REGEX_SET_BYTES / by_field.len().max(1)).max(limits::REGEX_CACHE_BYTES);
        let fields = by_field.into_iter().map(|(field, rules)| {
            let regexes = set(rules.iter().map(|rule| &*list[*rule].regex), cache)?;
            Ok(FieldRegexes { field: field.into(), rules: rules.into(), regexes })
        });
        let fields = fields.collect::<Result<_, String>>()?;
        Ok(Rules { list: list.into(), fields })
    }

    /// The rules as they are configured.
    pub fn list(&self) -> &[Rule] {
        &self.list
    }

    /// Their regexes by field, in the order in which the fields are first asked for.
    pub fn fields(&self) -> &[FieldRegexes] {
        &self.fields
    }
}

/// Compiles good patterns into one; `cache`: bytes that the cache of its searches may grow to. An error is a
/// sentence.
pub(super) fn set<'p>(patterns: impl Iterator<Item = &'p str>, cache: usize) -> Result<RegexSet, String> {
    let built = RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(limits::REGEX_SET_BYTES)
        .dfa_size_limit(cache)
        .build();
    built.map_err(|_| {
        let most = super::units::bytes_text(limits::REGEX_SET_BYTES as u64);
        format!(
            "together the regexes take more than {most} when compiled; write fewer or smaller repetitions"
        )
    })
}

/// Compiles a pattern over bytes (no Unicode classes: records are matched as they stand). A fault comes
/// with its offset in the file; `span` is the value's.
pub(super) fn regex(
    report: &Report<'_>,
    pattern: &str,
    span: Range<usize>,
) -> Result<Regex, (usize, String)> {
    let built = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(limits::REGEX_BYTES)
        .dfa_size_limit(limits::REGEX_BYTES)
        .build();
    let error = match built {
        Ok(regex) => return Ok(regex),
        Err(error) => error,
    };
    if let regex::Error::CompiledTooBig(most) = error {
        let most = super::units::bytes_text(most as u64);
        return Err((
            span.start,
            format!(
                "the regex is too large: compiled it takes more than {most}; write fewer or smaller repetitions"
            ),
        ));
    }
    match syntax_fault(pattern) {
        Some((at, why)) => {
            let shown = pattern.get(at..).unwrap_or("");
            let character = pattern.get(..at).unwrap_or("").chars().count() + 1;
            let place = match shown {
                "" => "at its end".to_owned(),
                shown => format!("at character {character}: {}", quoted(shown)),
            };
            Err((offset_in_file(report, span, at), format!("not a valid regex: {why}, {place}")))
        }
        None => Err((span.start, "not a regex that this can use".to_owned())),
    }
}

/// Where in the pattern the fault is, in bytes, and what it is.
fn syntax_fault(pattern: &str) -> Option<(usize, String)> {
    let parsed = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern);
    match parsed {
        Err(regex_syntax::Error::Parse(error)) => Some((error.span().start.offset, error.kind().to_string())),
        Err(regex_syntax::Error::Translate(error)) => {
            Some((error.span().start.offset, error.kind().to_string()))
        }
        _ => None,
    }
}

/// A literal string on one line stands in the file as it is; anything else may hold escapes, and only its
/// beginning is told.
fn offset_in_file(report: &Report<'_>, span: Range<usize>, at: usize) -> usize {
    let written = report.source(span.clone());
    match written.starts_with('\'') && !written.starts_with("'''") {
        true => span.start + 1 + at,
        false => span.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(pattern: &str) -> (usize, String) {
        let text = format!("exclude = ['{pattern}']");
        regex(&Report::new(&text), pattern, 11..13 + pattern.len()).unwrap_err()
    }

    #[test]
    fn a_fault_points_into_the_pattern() {
        let (at, text) = fault("ab(cd");
        assert_eq!((at, text.as_str()), (14, "not a valid regex: unclosed group, at character 3: \"(cd\""));
        let (_, text) = fault("a**[");
        assert!(text.contains("unclosed character class, at character 4"), "{text}");
        let (_, text) = fault(r"\p{Greek}");
        assert!(text.contains("Unicode"), "{text}");
    }

    #[test]
    fn a_regex_is_bounded_in_size() {
        let (_, text) = fault("(?:a{500}){500}");
        assert!(text.contains("too large") && text.contains("256 KiB"), "{text}");
    }

    #[test]
    fn a_regex_matches_bytes() {
        let text = r#"exclude = ['"eventName":"Describe']"#;
        let pattern = r#""eventName":"Describe"#;
        let regex = regex(&Report::new(text), pattern, 11..33).unwrap();
        assert!(regex.is_match(b"{\"eventName\":\"DescribeInstances\",\xff}"));
    }
}
