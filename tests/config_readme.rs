//! The README's configuration against the parser's: the same keys, and examples without faults.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use trailspool::config;

const README: &str = include_str!("../README.md");

const SOURCE: &str = r#"
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-west-2"
"#;
const CREDENTIALS: &str = r#"
[source.credentials]
method = "ec2-role"
"#;
const OUTPUT: &str = r#"
[[output]]
name = "screen"
kind = "stdout"
"#;

/// The tables of the README's list, each with the ways to begin one that differ in what they know.
const TABLES: &[(&str, &[&str])] = &[
    ("[agent]", &["[agent]"]),
    ("[spool]", &["[spool]"]),
    ("[[source]]", &["[[source]]", "[[source]]\nmethod = \"sqs+sweep\""]),
    (
        "[source.credentials]",
        &[
            "[[source]]\n[source.credentials]\nmethod = \"iam-user\"",
            "[[source]]\n[source.credentials]\nmethod = \"profile\"",
        ],
    ),
    ("[[source.rule]]", &["[[source]]\n[[source.rule]]"]),
    (
        "[[output]]",
        &[
            "[[output]]\nkind = \"stdout\"",
            "[[output]]\nkind = \"file\"",
            "[[output]]\nkind = \"http\"",
            "[[output]]\nkind = \"http\"\npreset = \"json-array\"",
            "[[output]]\nkind = \"http\"\npreset = \"splunk-hec\"",
            "[[output]]\nkind = \"http\"\npreset = \"elastic-bulk\"",
            "[[output]]\nkind = \"http\"\npreset = \"loki\"",
            "[[output]]\nkind = \"syslog\"\naddress = \"a:1\"",
            "[[output]]\nkind = \"syslog\"\naddress = \"a:1\"\ntransport = \"tls\"",
            "[[output]]\nkind = \"relp\"\naddress = \"a:1\"\ntransport = \"tls\"",
            "[[output]]\nkind = \"tcp\"\naddress = \"a:1\"\ntransport = \"tls\"",
        ],
    ),
    ("[[output.header]]", &["[[output]]\nkind = \"http\"\n[[output.header]]"]),
    ("[directory]", &["[directory]"]),
];

/// What the parser knows in a table that begins so: it says so of a key that it does not know.
fn known(beginning: &str) -> BTreeSet<String> {
    let text = format!("{beginning}\n\"?\" = 0\n");
    let faults =
        config::parse(&text, Path::new("x.toml"), &|_| None).expect_err("an unknown key").to_string();
    let list = faults.split("known here: ").nth(1).unwrap_or_else(|| panic!("{beginning}: {faults}"));
    list.lines().next().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of a table in the README's list, as (first cell, rest).
fn rows(table: &str) -> Vec<(&'static str, &'static str)> {
    let list = README.split("\n| key | default | meaning |\n").nth(1).expect("the list of keys");
    let list = list.split("\n\n").next().expect("its end");
    let header = format!("| **`{table}`** |");
    let mut lines = list.lines().skip_while(|line| !line.starts_with(&header));
    let first = lines.next().unwrap_or_else(|| panic!("{table} is not in the README's list"));
    let rest = lines.take_while(|line| !line.starts_with("| **`["));
    // A table of few keys has them beside its name.
    let own = ("", first.strip_prefix(&header).unwrap_or_default());
    std::iter::once(own).chain(rest.filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))).collect()
}

#[test]
fn the_list_has_every_key_that_the_parser_knows() {
    for (table, beginnings) in TABLES {
        let rows = rows(table);
        let listed: BTreeSet<&str> =
            rows.iter().flat_map(|(keys, rest)| quoted(keys).chain(quoted(rest))).collect();
        for key in beginnings.iter().flat_map(|beginning| known(beginning)) {
            // "Each as `…_credential` too."
            let of_file = key.strip_suffix("_credential").map(|stem| format!("{stem}_file"));
            let told = listed.contains(key.as_str())
                || listed.contains("…_credential") && of_file.is_some_and(|file| listed.contains(&*file));
            // Tables in a table are listed by themselves; a secret in the file is known to be refused.
            let other = matches!(key.as_str(), "credentials" | "rule" | "header" | "secret_access_key");
            assert!(told || other, "{table} {key}: the parser knows it, the README does not");
        }
    }
}

#[test]
fn the_parser_knows_every_key_of_the_list() {
    for (table, beginnings) in TABLES {
        let known: BTreeSet<String> = beginnings.iter().flat_map(|beginning| known(beginning)).collect();
        let keys: Vec<&str> = rows(table).iter().flat_map(|(keys, _)| quoted(keys)).collect();
        for key in &keys {
            assert!(
                known.contains(*key),
                "{table} {key}: the README lists it, the parser knows only {known:?}"
            );
        }
        assert!(!keys.is_empty() || *table == "[[output.header]]", "{table} has no rows");
    }
}

#[test]
fn every_example_is_without_faults() {
    let lab = tempfile::tempdir().unwrap();
    let dir = lab.path().to_str().unwrap();
    let blocks: Vec<&str> =
        README.split("```toml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(blocks.len() >= 3, "the README has its examples");
    for block in blocks {
        // The files that it names are in a folder of the test's.
        let mut text = format!("{}\n", block.replace("/etc/trailspool", dir).replace("/var/tmp", dir));
        for path in text.split('"').filter(|text| text.starts_with(dir) && !text.ends_with("trailspool")) {
            fs::write(path, "a-secret-of-the-readme").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        if !text.contains("[[source]]") {
            text += &format!("{SOURCE}{CREDENTIALS}");
        }
        if !text.contains("[[output]]") {
            text += OUTPUT;
        }
        if let Err(faults) = config::parse(&text, Path::new("x.toml"), &|_| None) {
            panic!("{faults}\n{text}");
        }
    }
}
