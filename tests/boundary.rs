//! The core/shell boundary, held by reading the source: a core names no runtime, socket, file, clock,
//! environment or thread, and no source file outgrows a reader.

use std::fs;
use std::path::{Path, PathBuf};

/// The files that decide. `lib.rs` lists them for readers; this list is what is enforced.
const CORES: &[&str] = &[
    "src/aws/credentials/document.rs",
    "src/aws/credentials/ini.rs",
    "src/aws/credentials/refresh.rs",
    "src/aws/fault.rs",
    "src/aws/partition.rs",
    "src/cli/args.rs",
    "src/cli/completion.rs",
    "src/cli/help.rs",
    "src/cli/man.rs",
    "src/cli/read.rs",
    "src/cli/table.rs",
    "src/decode/field.rs",
    "src/decode/gunzip.rs",
    "src/decode/mask.rs",
    "src/decode/members.rs",
    "src/decode/mod.rs",
    "src/decode/nest.rs",
    "src/decode/outline.rs",
    "src/decode/record.rs",
    "src/decode/split.rs",
    "src/decode/text.rs",
    "src/deliver/batch.rs",
    "src/deliver/encoding.rs",
    "src/deliver/format.rs",
    "src/deliver/gzip.rs",
    "src/deliver/http/body.rs",
    "src/deliver/http/bulk.rs",
    "src/deliver/http/encode.rs",
    "src/deliver/http/hec.rs",
    "src/deliver/http/loki.rs",
    "src/deliver/lines.rs",
    "src/deliver/relp/frame.rs",
    "src/deliver/syslog.rs",
    "src/deliver/unconfirmed.rs",
    "src/directory/cache.rs",
    "src/directory/entry.rs",
    "src/directory/message.rs",
    "src/discover/cost.rs",
    "src/discover/key.rs",
    "src/discover/message.rs",
    "src/discover/slice.rs",
    "src/discover/window.rs",
    "src/doctor/advice.rs",
    "src/doctor/finding.rs",
    "src/doctor/init/question.rs",
    "src/doctor/init/template.rs",
    "src/doctor/policy.rs",
    "src/doctor/queue.rs",
    "src/doctor/regions.rs",
    "src/doctor/report.rs",
    "src/limits.rs",
    "src/net/backoff.rs",
    "src/net/clock.rs",
    "src/net/issuer.rs",
    "src/net/proxy.rs",
    "src/net/window.rs",
    "src/pulse.rs",
    "src/record.rs",
    "src/select/attribution.rs",
    "src/select/baseline.rs",
    "src/select/duplicates.rs",
    "src/select/facts.rs",
    "src/select/mod.rs",
    "src/select/rules.rs",
    "src/service/watchdog.rs",
    "src/spool/frame.rs",
    "src/spool/pack.rs",
    "src/spool/position.rs",
    "src/status/ages.rs",
    "src/status/escape.rs",
    "src/status/history.rs",
    "src/status/html.rs",
    "src/status/json.rs",
    "src/status/metrics.rs",
    "src/status/request.rs",
    "src/status/snapshot.rs",
    "src/status/text.rs",
];

/// What a core may not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio::", "a runtime"),
    ("hyper::", "a network stack"),
    ("async fn", "suspension"),
    (".await", "suspension"),
    ("std::fs", "the file system"),
    ("std::net", "the network"),
    ("std::env", "the environment"),
    ("std::thread", "threads"),
    ("std::process", "processes"),
    ("Instant::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("now_utc", "a clock"),
    ("fastrand::", "chance: take the random value as an argument"),
];

/// Lines in a source file, its tests included: beyond this it wants splitting.
const LINES: usize = 900;

#[test]
fn cores_take_bytes_events_and_now_and_nothing_else() {
    let mut offences = Vec::new();
    for core in CORES {
        let text = fs::read_to_string(root().join(core)).unwrap_or_else(|error| panic!("{core}: {error}"));
        for (number, line) in code_lines(&text) {
            for (word, what) in FORBIDDEN {
                if line.contains(word) {
                    offences.push(format!("{core}:{number}: `{word}`: a core may not know {what}"));
                }
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn no_source_file_outgrows_its_reader() {
    let mut long = Vec::new();
    for path in rust_files(&root().join("src")) {
        let lines = fs::read_to_string(&path).expect("a source file").lines().count();
        if lines > LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<_> = rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| !fs::read_to_string(path).expect("a source file").starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no module header: {silent:?}");
}

/// Invariants of `lib.rs` name the tests that would break; a renamed test must not leave a dead reference.
#[test]
fn the_tests_that_the_invariants_name_exist() {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let mut sources = String::new();
    for path in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("tests"))) {
        sources.push_str(&fs::read_to_string(path).expect("a source file"));
    }
    let mut named = 0;
    for word in map.split('`').filter(|word| word.starts_with("test:")) {
        named += 1;
        let name = word.trim_start_matches("test:");
        assert!(sources.contains(&format!("fn {name}(")), "lib.rs names a test that is not there: {name}");
    }
    assert!(named >= 10, "every invariant names a test; found {named}");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a file before its tests, comments left out, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
