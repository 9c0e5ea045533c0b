//! The help, made from the table: a page for the whole, and one for each command and group.

use std::fmt::Write as _;

use super::table::{ABOUT, Does, EXIT_CODES, Opt, Spec, leaves};

/// Widest line of the help.
const WIDTH: usize = 100;

/// The page for the whole (no words), or for one command or group.
pub(super) fn page(path: &[&Spec]) -> String {
    match path {
        [] => whole(),
        [.., spec] => match &spec.does {
            Does::Command(_) => command(path, spec),
            Does::Group(inner) => group(path, spec, inner),
        },
    }
}

fn whole() -> String {
    let mut page = format!("trailspool {ABOUT}.\n\nUsage: trailspool COMMAND [OPTIONS]\n\nCommands:\n");
    let names: Vec<_> = leaves().into_iter().map(|(words, spec)| (words.join(" "), spec.about)).collect();
    list(&mut page, names.iter().map(|(name, about)| (name.as_str(), *about)));
    page.push_str("\nOptions:\n");
    let version = ("-V, --version".to_owned(), "show the version");
    let options =
        [("-h, --help".to_owned(), "show this help, or after a command the command's options"), version];
    list(&mut page, options.iter().map(|(name, about)| (name.as_str(), *about)));
    page.push('\n');
    let codes: Vec<_> = EXIT_CODES.iter().map(|(code, what)| format!("{code} {what}")).collect();
    paragraph(&mut page, &format!("Exit codes: {}.", codes.join(", ")));
    page
}

fn group(path: &[&Spec], spec: &Spec, inner: &[Spec]) -> String {
    let mut page =
        format!("{}.\n\nUsage: trailspool {} COMMAND [OPTIONS]\n", sentence(spec.about), words(path));
    more(&mut page, spec);
    page.push_str("\nCommands:\n");
    list(&mut page, inner.iter().map(|leaf| (leaf.name, leaf.about)));
    page
}

fn command(path: &[&Spec], spec: &Spec) -> String {
    let mut page = format!("{}.\n\nUsage: trailspool {}\n", sentence(spec.about), usage(path, spec));
    more(&mut page, spec);
    if let Some(operands) = &spec.operands {
        let _ = write!(page, "\n{}: {}\n", operands.name, operands.about);
    }
    page.push_str("\nOptions:\n");
    let mut options: Vec<_> = spec.options.iter().map(|option| (dashed(option), option.about)).collect();
    options.push(("-h, --help".to_owned(), "show this help"));
    list(&mut page, options.iter().map(|(name, about)| (name.as_str(), *about)));
    page
}

/// A command's words, options and operands: `run [--config FILE] [--once]`.
pub(super) fn usage(path: &[&Spec], spec: &Spec) -> String {
    let mut usage = words(path);
    for option in spec.options {
        let _ = write!(usage, " [{}]", dashed(option));
    }
    if let Some(operands) = &spec.operands {
        let name = operands.name;
        let many = if operands.most == Some(1) { "" } else { "..." };
        let _ = match operands.least {
            0 => write!(usage, " [{name}]{many}"),
            _ => write!(usage, " {name}{many}"),
        };
    }
    usage
}

fn words(path: &[&Spec]) -> String {
    path.iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ")
}

/// An option as it is written: `--config FILE`.
pub(super) fn dashed(option: &Opt) -> String {
    match &option.value {
        Some(value) => format!("--{} {}", option.name, value.name),
        None => format!("--{}", option.name),
    }
}

/// A line of a list as the beginning of a sentence.
pub(super) fn sentence(about: &str) -> String {
    let mut letters = about.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn more(page: &mut String, spec: &Spec) {
    for text in spec.more {
        page.push('\n');
        paragraph(page, text);
    }
}

fn list<'a>(page: &mut String, entries: impl Iterator<Item = (&'a str, &'a str)> + Clone) {
    let wide = entries.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in entries {
        let _ = writeln!(page, "  {name:wide$}  {about}");
    }
}

fn paragraph(page: &mut String, text: &str) {
    for line in wrapped(text, WIDTH) {
        let _ = writeln!(page, "{line}");
    }
}

/// Text in lines no wider than this, as far as its words allow it.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = &lines[lines.len() - 1];
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;

    #[test]
    fn the_page_for_the_whole_names_every_command_and_exit_code() {
        let page = page(&[]);
        for (words, spec) in leaves() {
            assert!(
                page.contains(&format!("  {}", words.join(" "))) && page.contains(spec.about),
                "{words:?}"
            );
        }
        assert!(page.contains("78 configuration."));
        assert!(page.lines().all(|line| line.len() <= 120), "{page}");
    }

    #[test]
    fn the_page_of_a_command_names_its_options() {
        let run = page(&[&COMMANDS[0]]);
        assert!(run.starts_with(
            "Collect and forward until stopped.\n\n\
             Usage: trailspool run [--config FILE] [--once] [--timeout SECONDS]\n\n"
        ));
        assert!(run.contains("  --timeout SECONDS  with --once: end with code 75"), "{run}");
    }
}
