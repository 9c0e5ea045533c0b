//! The configuration that `trailspool init` writes, with a comment on every line that an operator may want to change.
//! A core.

use std::fmt::Write as _;

use super::question::Answers;

/// Columns before a comment.
const COMMENT: usize = 46;

/// The text. What is not known yet is left out, so that what is known can be checked by itself.
pub(super) fn render(answers: &Answers) -> String {
    let mut text = Text(String::with_capacity(3072));
    text.0.push_str(
        "# trailspool's configuration, written by \"trailspool init\". Every key stands in the README; \
         \"trailspool check\"\n# says what is wrong, \"systemctl reload trailspool\" takes up a change. Secrets have \
         no place in here.\n",
    );
    agent(&mut text, answers);
    source(&mut text, answers);
    output(&mut text, answers);
    text.0
}

fn agent(text: &mut Text, answers: &Answers) {
    text.table("[agent]");
    match answers.get("state-dir") {
        "" => text.off("state_dir", "/var/lib/trailspool", "spool, ledger, cursors, quarantine"),
        dir => text.set("state_dir", dir, "spool, ledger, cursors, quarantine"),
    }
    text.set("status_listen", "127.0.0.1:9464", "a browser there shows how it is doing");
    text.table("[spool]");
    text.set("max_bytes", "2GiB", "at this size fetching pauses; nothing is dropped");
    text.off("compression", "lz4", "fewer flash writes, for some CPU");
}

fn source(text: &mut Text, answers: &Answers) {
    text.table("[[source]]");
    text.set("name", "prod", "names its state: a renamed source is a new one");
    text.known("bucket", answers.get("bucket"), "\"name\", or \"name/folder\"");
    match answers.get("key-prefix") {
        "" => text.off("key_prefix", "PREFIX", "only if the trail was given one"),
        prefix => text.set("key_prefix", prefix, "as the trail was given it"),
    }
    text.known("region", answers.get("region"), "where the bucket is");
    match answers.get("queue-url") {
        "" => {
            text.set("method", "poll", "listings; \"sqs+sweep\" with a queue_url: messages too");
            text.off_raw("refresh_minutes", "5", "time between two listings");
        }
        url => {
            text.set("method", "sqs+sweep", "messages for speed, listings for completeness");
            text.set("queue_url", url, "it is told of new objects");
        }
    }
    text.set("start", answers.get("start"), "how far back the first run goes");
    text.known("endpoint", answers.get("endpoint"), "instead of AWS's own");
    text.off_raw("accounts", "[\"111122223333\"]", "to collect; all that are found without this");
    text.off_raw("unfiltered", "true", "no baseline filter: \"trailspool filter --baseline\" prints it");
    text.off_raw("exclude", "['\"eventName\":\"Describe']", "regexes over a record; a match drops it");
    credentials(text, answers);
}

fn credentials(text: &mut Text, answers: &Answers) {
    text.0.push_str("  [source.credentials]\n");
    text.indent(
        "method",
        answers.get("credentials"),
        "\"trailspool policy\" prints what they must be allowed",
    );
    if answers.get("credentials") == "iam-user" {
        text.indent("access_key_id", answers.get("access-key-id"), "");
        text.indent("secret_key_file", answers.get("secret-key-file"), "readable by its owner only");
        let comment = "a systemd credential: LoadCredential= of the unit";
        text.indent("secret_key_credential", answers.get("secret-key-credential"), comment);
    }
    if answers.get("credentials") == "profile" {
        text.indent("profile", answers.get("profile"), "of ~/.aws/config and ~/.aws/credentials");
    }
    text.indent("assume_role", answers.get("assume-role"), "");
    if !answers.get("assume-role").is_empty() {
        text.indent("external_id", answers.get("external-id"), "");
    }
}

fn output(text: &mut Text, answers: &Answers) {
    text.table("[[output]]");
    text.set("name", "siem", "names its cursor");
    let to = answers.get("to");
    match answers.get("output") {
        "" => {}
        kind if answers.streams() => {
            text.set("kind", kind, "");
            text.known("address", to, "");
            text.set("transport", answers.get("transport"), "");
        }
        "file" => {
            text.set("kind", "file", "");
            text.known("path", to, "rotated ones are PATH.1, PATH.2, ...");
        }
        "stdout" => text.set("kind", "stdout", ""),
        preset => {
            text.set("kind", "http", "");
            text.set("preset", if preset == "http" { "ndjson" } else { preset }, "the API of the receiver");
            text.known("url", to, "");
            token(text, answers, preset);
        }
    }
    text.known("ca_file", answers.get("ca-file"), "the receiver is trusted by these");
    match answers.get("format") {
        "raw" => text.off("format", "envelope", "around the record: source, key, attribution"),
        format => text.set("format", format, "around the record: source, key, attribution"),
    }
    text.off("on_full", "skip", "when the spool is full because of it: give up the oldest");
}

fn token(text: &mut Text, answers: &Answers, preset: &str) {
    let scheme = match preset {
        "splunk-hec" => "splunk_token",
        "elastic-bulk" => "api_key",
        _ => "bearer_token",
    };
    let of_file = "readable by its owner only";
    text.known(&format!("{scheme}_file"), answers.get("token-file"), of_file);
    let of_unit = "a systemd credential: LoadCredential= of the unit";
    text.known(&format!("{scheme}_credential"), answers.get("token-credential"), of_unit);
    match preset {
        "elastic-bulk" => text.known("index", answers.get("index"), ""),
        "loki" => text.line("", "labels", "{ job = \"cloudtrail\" }", "of the stream"),
        _ => {}
    }
}

struct Text(String);

impl Text {
    fn table(&mut self, head: &str) {
        let _ = writeln!(self.0, "\n{head}"); // a String takes anything
    }

    /// `key = "value"`
    fn set(&mut self, key: &str, value: &str, comment: &str) {
        self.line("", key, &quoted(value), comment);
    }

    /// The same, if there is a value.
    fn known(&mut self, key: &str, value: &str, comment: &str) {
        if !value.is_empty() {
            self.set(key, value, comment);
        }
    }

    /// As [`Text::known`], in a table within a table.
    fn indent(&mut self, key: &str, value: &str, comment: &str) {
        if !value.is_empty() {
            self.line("  ", key, &quoted(value), comment);
        }
    }

    /// A key that can be turned on by taking the `#` away.
    fn off(&mut self, key: &str, value: &str, comment: &str) {
        self.line("# ", key, &quoted(value), comment);
    }

    fn off_raw(&mut self, key: &str, value: &str, comment: &str) {
        self.line("# ", key, value, comment);
    }

    fn line(&mut self, lead: &str, key: &str, value: &str, comment: &str) {
        let line = format!("{lead}{key} = {value}");
        let _ = match comment {
            "" => writeln!(self.0, "{line}"),
            _ => writeln!(self.0, "{line:COMMENT$}# {comment}"),
        };
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c)); // control characters are below U+00A0
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Method, OutputKind, Start};

    fn answers(given: &[(&'static str, &str)]) -> Answers {
        Answers(given.iter().map(|(name, answer)| (*name, (*answer).to_owned())).collect())
    }

    /// Every kind of output and of credentials, with everything that goes with it.
    #[test]
    fn what_is_written_is_a_configuration_without_faults() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let secret = file("secret", "a-secret");
        let ca = file("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let env = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let outputs = [
            ("http", "https://siem.example.com/in"),
            ("splunk-hec", "https://splunk.example.com:8088"),
            ("elastic-bulk", "https://elastic.example.com:9200"),
            ("loki", "https://loki.example.com"),
            ("syslog", "siem.example.com:6514"),
            ("relp", "[2001:db8::5]:2514"),
            ("tcp", "siem.example.com:5170"),
            ("file", "/var/log/trail \"1\".json"),
            ("stdout", ""),
        ];
        for (kind, to) in outputs {
            for method in ["iam-user", "ec2-role", "profile", "default"] {
                let mut all = answers(&[
                    ("bucket", "acme-cloudtrail/folder"),
                    ("key-prefix", "trail"),
                    ("region", "us-west-2"),
                    ("queue-url", "https://sqs.us-west-2.amazonaws.com/111122223333/trail"),
                    ("start", "7d"),
                    ("credentials", method),
                    ("access-key-id", "AKIAIOSFODNN7EXAMPLE"),
                    ("secret-key-file", &secret),
                    ("profile", "audit"),
                    ("assume-role", "arn:aws:iam::111122223333:role/trails/reader"),
                    ("external-id", "acme-7"),
                    ("output", kind),
                    ("to", to),
                    ("ca-file", &ca),
                    ("index", "cloudtrail"),
                    ("token-file", &secret),
                    ("format", "envelope"),
                    ("state-dir", "/var/lib/other"),
                ]);
                let out_of_place: Vec<_> = super::super::question::QUESTIONS
                    .iter()
                    .filter(|question| !all.applies(question))
                    .map(|question| question.name)
                    .collect();
                out_of_place.iter().for_each(|name| {
                    all.0.remove(name);
                });
                let text = render(&all);
                let config = config::parse(&text, Path::new("a.toml"), &env)
                    .unwrap_or_else(|faults| panic!("{faults}\n{text}"));
                assert_eq!(&*config.sources[0].prefix, "folder/trail/");
                assert_eq!(config.sources[0].method, Method::SqsSweep);
                if let OutputKind::File(written) = &config.outputs[0].kind {
                    assert_eq!(written.path, Path::new(to));
                }
            }
        }
    }

    #[test]
    fn defaults_and_what_is_commented_out_are_the_configurations_own() {
        let least = answers(&[
            ("bucket", "acme"),
            ("region", "us-west-2"),
            ("credentials", "ec2-role"),
            ("output", "stdout"),
        ]);
        let text = render(&least);
        let config = config::parse(&text, Path::new("a.toml"), &|_| None).unwrap();
        assert_eq!(
            config.sources[0].start,
            Start::Ago(std::time::Duration::from_secs(86_400)),
            "as where start is not written"
        );
        // What is turned off is right as well, once it is turned on.
        let on: String =
            text.lines().filter(|line| !line.contains("PREFIX")).fold(String::new(), |on, line| {
                let key =
                    line.strip_prefix("# ").filter(|line| line.contains(" = ") && !line.starts_with("says"));
                on + key.unwrap_or(line) + "\n"
            });
        assert_ne!(on, text);
        config::parse(&on, Path::new("a.toml"), &|_| None).unwrap_or_else(|faults| panic!("{faults}\n{on}"));
    }

    #[test]
    fn an_answer_stays_inside_its_string() {
        for nasty in ["\"\nkind = \"stdout", "a\\", "tab\there", "\u{7f}\u{85}", "ünïcode"] {
            let text = format!("key = {}", quoted(nasty));
            let table = toml::de::DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let value = table.get_ref().get("key").unwrap().get_ref().as_str().unwrap();
            assert_eq!(value, nasty);
        }
    }
}
