//! The manual page, made from the table, in the language of man(7).

use std::fmt::Write as _;

use super::help;
use super::table::{ABOUT, CONFIG_PATH, EXIT_CODES, leaves};

/// The day on which what the page says changed last: pages are dated, and builds are to be reproducible.
const DATE: &str = "2026-11-25";

/// Longest line that a source of roff should have.
const WIDTH: usize = 76;

const DESCRIPTION: &str = "\
trailspool finds CloudTrail objects in S3 buckets, fetches them with requests that it signs itself, inflates them in \
fixed buffers, keeps the records that its configuration selects, spools them to disk and forwards them until each is \
acknowledged. Memory is set by the configuration, not by the input.";

const FILES: &[(&str, &str)] = &[
    (CONFIG_PATH, "The configuration, unless --config names another."),
    (
        "/var/lib/trailspool",
        "The state directory, unless the configuration or $STATE_DIRECTORY names another.",
    ),
];

/// The page.
pub(super) fn page() -> String {
    let mut page = format!(".TH TRAILSPOOL 8 {DATE} \"trailspool {}\"\n", env!("CARGO_PKG_VERSION"));
    section(&mut page, "NAME");
    text(&mut page, &format!("trailspool - {ABOUT}"));
    section(&mut page, "SYNOPSIS");
    page.push_str(".B trailspool\n.I COMMAND\n.RI [ OPTIONS ]\n");
    section(&mut page, "DESCRIPTION");
    text(&mut page, DESCRIPTION);
    section(&mut page, "COMMANDS");
    for (words, spec) in leaves() {
        let path: Vec<&_> = vec![spec];
        let usage = help::usage(&path, spec);
        let options = usage.strip_prefix(spec.name).unwrap_or_default();
        let _ = writeln!(page, ".SS \"{}{}\"", escaped(&words.join(" ")), escaped(options));
        text(&mut page, &format!("{}.", help::sentence(spec.about)));
        for paragraph in spec.more {
            page.push_str(".PP\n");
            text(&mut page, paragraph);
        }
        if let Some(operands) = &spec.operands {
            tagged(&mut page, operands.name, operands.about);
        }
        for option in spec.options {
            tagged(&mut page, &help::dashed(option), option.about);
        }
    }
    section(&mut page, "FILES");
    FILES.iter().for_each(|(path, what)| tagged(&mut page, path, what));
    section(&mut page, "EXIT STATUS");
    EXIT_CODES.iter().for_each(|(code, what)| tagged(&mut page, &code.to_string(), what));
    page
}

fn section(page: &mut String, name: &str) {
    let _ = writeln!(page, ".SH {name}");
}

fn tagged(page: &mut String, tag: &str, what: &str) {
    let _ = writeln!(page, ".TP\n.B {}", escaped(tag));
    text(page, what);
}

/// Filled text. A line may not begin with a control character of roff.
fn text(page: &mut String, words: &str) {
    for line in help::wrapped(&escaped(words), WIDTH) {
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        let _ = writeln!(page, "{guard}{line}");
    }
}

/// A dash that is typed is no hyphen.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_every_command_and_option() {
        let page = page();
        for (words, spec) in leaves() {
            assert!(page.contains(&format!(".SS \"{}", escaped(&words.join(" ")))), "{words:?}");
            for option in spec.options {
                assert!(page.contains(&format!(".B \\-\\-{}", escaped(option.name))), "--{}", option.name);
            }
        }
    }

    #[test]
    fn no_line_of_text_is_taken_for_a_request() {
        for line in page().lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split_whitespace().next().unwrap();
            assert!([".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".RI"].contains(&request), "{line}");
        }
    }
}
