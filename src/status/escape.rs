//! Foreign text inside HTML, JSON, a metric's label and a terminal: it stays text, and one line.

use std::fmt::Write as _;

/// In HTML, between tags or between double quotes.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if deceives(c) => visible(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// A JSON string with its quotes.
pub(super) fn json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    crate::deliver::format::append_escaped(text, &mut out);
    out.push(b'"');
    String::from_utf8(out).unwrap_or_default() // made of text
}

/// The value of a label. Source: Prometheus, "Exposition formats": backslash, double quote and line feed are escaped.
pub(super) fn label(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if deceives(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// One line on a terminal.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if deceives(c) => visible(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// Control characters, line separators and marks of direction.
fn deceives(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn visible(out: &mut String, c: char) {
    let _ = write!(out, "{}", c.escape_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_text_wherever_it_stands() {
        let evil = "<b a='x'>&\"\\\n\u{1b}[2J\u{202e}";
        assert_eq!(html(evil), "&lt;b a=&#39;x&#39;&gt;&amp;&quot;\\\\n\\u{1b}[2J\\u{202e}");
        assert_eq!(label(evil), "<b a='x'>&\\\"\\\\\\n\u{fffd}[2J\u{fffd}");
        assert_eq!(line(evil), "<b a='x'>&\"\\\\n\\u{1b}[2J\\u{202e}");
        assert_eq!(serde_json::from_str::<String>(&json(evil)).unwrap(), evil);
    }
}
