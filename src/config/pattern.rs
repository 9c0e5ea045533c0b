//! Regexes of the configuration, bounded in what they may cost, with faults that point into the pattern.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::fault::{Report, quoted};
use crate::limits;

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
