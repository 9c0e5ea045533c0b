//! `trailspool init` from end to end: a person at a terminal, a script with options, and what neither may break.

mod common;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::bucket::{Bucket, Plan, yesterday};
use common::s3_server::{ACCESS_KEY, Faults, REGION, S3Server, SECRET_KEY};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use tempfile::TempDir;

struct Bench {
    bucket: Bucket,
    server: S3Server,
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let plan = Plan { objects: 12, max_records: 20, ..Plan::small(7, yesterday()) };
        let bucket = Bucket::generate(&plan);
        let server = S3Server::start(&bucket, Faults::default());
        Bench { bucket, server, dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("text").to_owned()
    }

    fn init(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trailspool"));
        command.args(["init", "--config", &self.path("a.toml"), "--state-dir", &self.path("state")]);
        command.args(["--endpoint", &self.server.endpoint()]).args(options);
        command
    }

    /// Without a terminal.
    fn script(&self, options: &[&str]) -> Output {
        self.init(options).stdin(Stdio::null()).output().expect("the binary runs")
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("a.toml")).expect("a configuration")
    }

    /// What collects from the bucket into a file, with a secret that is there already.
    fn options(&self) -> Vec<String> {
        let secret = self.path("key");
        fs::write(&secret, SECRET_KEY).expect("the secret's file");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
        [
            ("--bucket", &*self.bucket.name),
            ("--region", REGION),
            ("--start", "all"),
            ("--access-key-id", ACCESS_KEY),
            ("--secret-key-file", &secret),
            ("--output", "file"),
            ("--to", &self.path("out.ndjson")),
        ]
        .iter()
        .flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()])
        .collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn options_alone_make_a_configuration_that_collects() {
    let bench = Bench::new();
    let options = bench.options();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let done = bench.script(&options);
    assert_eq!(done.status.code(), Some(0), "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stdout).contains("may be listed"), "it ends with the check: {}", text(&done.stdout));
    assert_eq!(mode(&bench.path("a.toml")), 0o644, "the service's account has to read it");

    let run = Command::new(env!("CARGO_BIN_EXE_trailspool"))
        .args(["run", "--once", "--config", &bench.path("a.toml")])
        .output()
        .expect("the binary runs");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(!fs::read(bench.path("out.ndjson")).expect("records").is_empty());
}

#[test]
fn a_script_is_told_everything_that_is_missing_or_wrong_and_nothing_is_written() {
    let bench = Bench::new();
    let told = |options: &[&str], code: i32, parts: &[&str]| {
        let done = bench.script(options);
        assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
        let text = text(&done.stderr);
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in: {text}"));
        assert!(!Path::new(&bench.path("a.toml")).exists(), "{text}");
    };
    told(&[], 64, &["--bucket BUCKET", "--region REGION", "--access-key-id ID", "--output KIND"]);
    told(&["--output", "file"], 64, &["--to PLACE is missing"]);
    told(&["--profile", "x"], 64, &["--profile goes with --credentials profile only"]);
    told(&["--output", "smoke"], 64, &["--output takes one of http, "]);
    let wrong = ["--bucket", "No_Bucket", "--region", "no region", "--credentials", "default"];
    let output = ["--output", "syslog", "--to", "siem.example.com"];
    told(&[wrong.as_slice(), &output].concat(), 78, &["--bucket: ", "--region: ", "--to: "]);
}

#[test]
fn a_configuration_that_is_there_is_left_alone_or_kept() {
    let bench = Bench::new();
    let options = bench.options();
    let mut options: Vec<_> = options.iter().map(String::as_str).collect();
    options.push("--no-check");
    fs::write(bench.path("a.toml"), "# somebody's work\n").expect("a file");
    let refused = bench.script(&options);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    assert_eq!(bench.config(), "# somebody's work\n");

    options.push("--force");
    assert_eq!(bench.script(&options).status.code(), Some(0));
    assert!(bench.config().contains(&bench.bucket.name));
    let kept = fs::read_to_string(bench.path("a.toml.old")).expect("the old one");
    assert_eq!(kept, "# somebody's work\n");

    // The package's own, not filled in: nobody's work.
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/trailspool.toml");
    fs::copy(template, bench.path("a.toml")).expect("a copy");
    options.pop();
    assert_eq!(bench.script(&options).status.code(), Some(0));
    assert!(bench.config().contains(&bench.bucket.name));
}

/// A person at a terminal.
struct Person {
    terminal: File,
    child: Child,
    /// All that the terminal showed.
    seen: String,
    /// How much of it was waited for.
    read: usize,
}

impl Person {
    fn sits_at(mut command: Command) -> Person {
        let pair = openpty(None, None).expect("a terminal");
        let (input, output) = (File::from(pair.slave), pair.master);
        command.stdin(input.try_clone().expect("a handle")).stderr(input);
        let child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        Person { terminal: output.into(), child, seen: String::new(), read: 0 }
    }

    /// Waits for a question, then types the answer.
    #[track_caller]
    fn answers(&mut self, question: &str, answer: &str) {
        self.sees(question);
        writeln!(self.terminal, "{answer}").expect("the terminal takes it");
    }

    #[track_caller]
    fn sees(&mut self, words: &str) {
        while !self.seen[self.read..].contains(words) {
            let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            let events = poll(&mut ready, PollTimeout::from(60_000_u16)).expect("poll");
            assert!(events > 0, "no {words:?} within a minute: {}", self.seen);
            let mut bytes = [0; 4096];
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            assert!(count > 0, "it ended without {words:?}: {}", self.seen);
            self.seen.push_str(&text(&bytes[..count]));
        }
        self.read += self.seen[self.read..].find(words).expect("just seen") + words.len();
    }
}

#[test]
fn a_person_is_asked_again_until_an_answer_is_right_and_the_secret_is_not_shown() {
    let bench = Bench::new();
    let mut person = Person::sits_at(bench.init(&["--start", "all"]));
    person.answers("S3 bucket with the trail", &bench.bucket.name);
    person.answers("region of the bucket", "no region");
    person.sees("no region"); // echoed, then complained of
    person.answers("region of the bucket", REGION);
    person.answers("key prefix of the trail", "");
    person.answers("SQS queue", "");
    person.answers("whose credentials", "iam");
    person.sees("one of these: iam-user");
    person.answers("whose credentials", "");
    person.answers("access key id", ACCESS_KEY);
    person.answers("role to assume", "");
    person.answers("where records go", "file");
    person.answers("its URL", "relative/path");
    person.sees("absolute path");
    person.answers("its URL", &bench.path("out.ndjson"));
    person.answers("secret access key, not shown", SECRET_KEY);
    person.sees("written: ");
    let done = person.child.wait_with_output().expect("it ends");
    assert_eq!(done.status.code(), Some(0), "{}{}", person.seen, text(&done.stdout));
    assert!(!person.seen.contains(SECRET_KEY) && !bench.config().contains(SECRET_KEY), "{}", person.seen);
    assert_eq!(mode(&bench.path("secret_key")), 0o600);
    assert!(bench.config().contains("\nstart = \"all\""), "{}", bench.config());
}

#[test]
fn a_person_who_leaves_in_the_middle_has_written_nothing() {
    let bench = Bench::new();
    let mut person = Person::sits_at(bench.init(&[]));
    person.answers("S3 bucket with the trail", &bench.bucket.name);
    person.answers("region of the bucket", "\u{4}");
    person.sees("nothing was written");
    assert_eq!(person.child.wait().expect("it ends").code(), Some(64));
    assert!(!Path::new(&bench.path("a.toml")).exists());
}
