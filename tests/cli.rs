//! The command line from outside: help, manual, completion.

use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_trailspool");

fn printed(words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).output().expect("the binary runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What bash offers for the last of these words.
fn offered(words: &[&str]) -> Vec<String> {
    let listed: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _trailspool; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        printed(&["completion", "bash"]),
        listed.join(" "),
        words.len() - 1
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_what_may_stand_there() {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("skipped: there is no bash on this machine");
        return;
    }
    assert_eq!(offered(&["trailspool", "che"]), ["check"]);
    assert_eq!(offered(&["trailspool", "run", "--o"]), ["--once"]);
    assert_eq!(offered(&["trailspool", "run", "--once", "--t"]), ["--timeout"]);
    assert_eq!(offered(&["trailspool", "policy", "--only", "b"]), ["bucket"]);
    assert_eq!(offered(&["trailspool", "completion", "z"]), ["zsh"]);
    let root = env!("CARGO_MANIFEST_DIR");
    let file = offered(&["trailspool", "check", "--config", &format!("{root}/Cargo.to")]);
    assert_eq!(file, [format!("{root}/Cargo.toml")]);
    assert_eq!(offered(&["trailspool", "run", "--timeout", ""]), [""]);
}

#[test]
fn the_help_of_a_command_is_printed_for_it() {
    assert!(printed(&["run", "--help"]).contains("Usage: trailspool run [--config FILE] [--once]"));
    assert!(printed(&["--help"]).contains("Usage: trailspool COMMAND"));
}

#[test]
fn the_manual_is_a_page_of_section_8() {
    let page = printed(&["man"]);
    assert!(page.starts_with(".TH TRAILSPOOL 8 "), "{}", &page[..60]);
    assert!(page.lines().filter(|line| !line.starts_with('.')).all(|line| line.len() <= 80), "{page}");
}
