//! The real agent as a process of its own: its folder with configuration and state, its start, its end by
//! any signal, what it printed, how much memory it took, and its books.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::s3_server::{ACCESS_KEY, REGION, S3Server, SECRET_KEY};

/// A configuration; the text parts are TOML lines of their tables.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Name of the source.
    pub name: String,
    pub endpoint: String,
    /// `name` or `name/folder`.
    pub bucket: String,
    pub key_prefix: String,
    pub path_style: bool,
    /// More lines of `[[source]]`.
    pub source: String,
    /// `[[source.rule]]` tables.
    pub rules: String,
    /// `[[output]]` tables.
    pub outputs: String,
}

impl Setup {
    /// Everything in the server's bucket, to the given outputs, without the baseline filter.
    pub fn new(server: &S3Server, bucket: &str, outputs: impl Into<String>) -> Setup {
        Setup {
            name: "prod".into(),
            endpoint: server.endpoint(),
            bucket: bucket.into(),
            key_prefix: String::new(),
            path_style: true,
            source: "unfiltered = true\n".into(),
            rules: String::new(),
            outputs: outputs.into(),
        }
    }
}

/// An `[[output]]` table that writes to a file.
pub fn file_output(name: &str, path: &Path) -> String {
    format!("[[output]]\nname = {name:?}\nkind = \"file\"\npath = {path:?}\n")
}

/// An `[[output]]` table that posts to a URL.
pub fn http_output(name: &str, url: &str) -> String {
    format!("[[output]]\nname = {name:?}\nkind = \"http\"\nurl = {url:?}\n")
}

/// An `[[output]]` table for standard output.
pub fn stdout_output(name: &str) -> String {
    format!("[[output]]\nname = {name:?}\nkind = \"stdout\"\n")
}

/// A folder with a configuration and the agent's state; removed when dropped.
pub struct Home {
    dir: TempDir,
    runs: AtomicU64,
}

impl Home {
    /// Makes the folder; [`Home::configure`] comes next.
    pub fn new() -> Home {
        let dir = tempfile::Builder::new().prefix("trailspool-").tempdir().expect("a temporary folder");
        Home { dir, runs: AtomicU64::new(0) }
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `state_dir`
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes the configuration, replacing an earlier one.
    pub fn configure(&self, setup: &Setup) {
        let secret = self.path("secret");
        fs::write(&secret, SECRET_KEY).expect("the secret's file");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
        let Setup { name, endpoint, bucket, key_prefix, path_style, source, rules, outputs } = setup;
        self.write_config(&format!(
            r#"[agent]
state_dir = {state:?}
status_listen = ""

[[source]]
name = {name:?}
bucket = {bucket:?}
key_prefix = {key_prefix:?}
region = "{REGION}"
start = "all"
endpoint = {endpoint:?}
path_style = {path_style}
{source}
  [source.credentials]
  method = "iam-user"
  access_key_id = "{ACCESS_KEY}"
  secret_key_file = {secret:?}
{rules}
{outputs}"#,
            state = self.state_dir(),
        ));
    }

    /// Puts `new` into the configuration in place of `old`, which must be there.
    pub fn edit_config(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.path("trailspool.toml")).expect("a configuration");
        assert!(text.contains(old), "{old} is not in:\n{text}");
        self.write_config(&text.replace(old, new));
    }

    /// Writes any text as the configuration.
    pub fn write_config(&self, text: &str) {
        fs::write(self.path("trailspool.toml"), text).expect("the configuration's file");
    }

    /// Starts `run` with further arguments.
    pub fn start(&self, arguments: &[&str]) -> Run {
        self.start_command("run", arguments, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Run {
        self.start_command("run", arguments, environment)
    }

    /// Runs `check` with further arguments to its end.
    pub fn check(&self, arguments: &[&str]) -> Finished {
        self.start_command("check", arguments, &[]).wait(Duration::from_secs(60))
    }

    /// Runs a command of the given words to its end.
    pub fn command(&self, words: &[&str]) -> Finished {
        self.start_words(words, &[], &[]).wait(Duration::from_secs(60))
    }

    fn start_command(&self, command: &str, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Run {
        self.start_words(&[command], arguments, environment)
    }

    fn start_words(&self, words: &[&str], arguments: &[&str], environment: &[(&str, &OsStr)]) -> Run {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!("{number}.out")), self.path(&format!("{number}.err")));
        let program = program();
        let child = Command::new(&program[0])
            .args(&program[1..])
            .args(words)
            .arg("--config")
            .arg(self.path("trailspool.toml"))
            .args(arguments)
            .env_remove("STATE_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a file for the output"))
            .stderr(File::create(&err).expect("a file for the log"))
            .spawn()
            .expect("the agent starts");
        Run::new(child, out, err)
    }

    /// Runs `run --once` to its end.
    pub fn once(&self) -> Finished {
        self.start(&["--once", "--timeout", "100"]).wait(Duration::from_secs(120))
    }

    /// Runs `run --once` until it ends with 0: between a server and a receiver that fail at random, a pass may
    /// end with 75, "temporary failure", which asks for another one.
    pub fn drain(&self) -> Finished {
        for _ in 0..4 {
            let end = self.once();
            match end.code() {
                Some(75) => {}
                _ => return end.expect_code(0),
            }
        }
        self.once().expect_code(0)
    }
}

/// The agent's program: the binary in tests; in an example, which cargo does not build the binary for, the
/// example itself, whose first argument `agent` makes it the agent.
fn program() -> Vec<OsString> {
    match option_env!("CARGO_BIN_EXE_trailspool") {
        Some(binary) => vec![binary.into()],
        None => vec![std::env::current_exe().expect("the path of this program").into(), "agent".into()],
    }
}

/// A running agent. Killed when dropped.
pub struct Run {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

/// An agent that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    /// The log.
    pub stderr: String,
    /// Peak resident memory, KiB, as last seen before the end (`VmHWM`).
    pub peak_kib: u64,
    pub elapsed: Duration,
}

impl Run {
    #[allow(clippy::disallowed_methods, reason = "the test's own clock")]
    fn new(child: Child, out: PathBuf, err: PathBuf) -> Run {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        // The usage that wait4 tells begins with that of the process before exec: of the test, not of the agent.
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let (seen, stopped) = (peak.clone(), stop.clone());
        let sampler = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(kib) = peak_kib(&status) {
                    seen.fetch_max(kib, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Run { child, out, err, started: Instant::now(), peak, stop, sampler: Some(sampler) }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// SIGKILL; `false` when it had already ended by itself.
    pub fn kill(mut self) -> (bool, Finished) {
        let alive = self.ended().is_none();
        self.sample();
        let _ = self.child.kill();
        let status = self.child.wait().expect("the end of a child");
        // Between the look and the signal it may have ended by itself: the status tells.
        (alive && status.signal() == Some(Signal::SIGKILL as i32), self.finish(status))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a signal to a child");
    }

    /// Waits for its end; panics, with its log, when that takes longer.
    #[allow(clippy::disallowed_methods, reason = "the test's own clock")]
    pub fn wait(mut self, at_most: Duration) -> Finished {
        let until = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended() {
                return self.finish(status);
            }
            assert!(
                Instant::now() < until,
                "the agent did not end within {at_most:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until something holds while the agent runs; panics, with its log, when it ends or takes too long.
    #[allow(clippy::disallowed_methods, reason = "the test's own clock")]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Run) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            if let Some(status) = self.ended() {
                panic!("the agent ended ({status}) before {what}; its log:\n{}", self.log());
            }
            assert!(Instant::now() < until, "not within a minute: {what}; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    fn sample(&self) {
        if let Some(kib) = peak_kib(&PathBuf::from(format!("/proc/{}/status", self.child.id()))) {
            self.peak.fetch_max(kib, Ordering::Relaxed);
        }
    }

    fn finish(&mut self, status: ExitStatus) -> Finished {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            let _ = sampler.join();
        }
        Finished {
            status,
            stdout: fs::read(&self.out).unwrap_or_default(),
            stderr: self.log(),
            peak_kib: self.peak.load(Ordering::Relaxed),
            elapsed: self.started.elapsed(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peak_kib(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Finished {
    /// The exit code; a signal counts as none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The books; panics, with the log, when a run that ended well printed none.
    pub fn books(&self) -> Books {
        assert!(!self.stderr.contains("the books do not balance"), "the log:\n{}", self.stderr);
        Books::parse(&self.stderr).unwrap_or_else(|why| panic!("{why}; the log:\n{}", self.stderr))
    }

    /// Panics, with the log, when the exit code is another one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code(), Some(code), "exit {}; the log:\n{}", self.status, self.stderr);
        self
    }
}

/// What `run --once` prints at its end: totals over the life of the state folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    pub sources: Vec<SourceBooks>,
    pub outputs: Vec<OutputBooks>,
}

/// `books: source NAME: objects N collected N quarantined N; records N = kept N + dropped N + duplicate N + quarantined N`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceBooks {
    pub name: String,
    pub objects: u64,
    pub collected: u64,
    pub quarantined_objects: u64,
    pub records: u64,
    pub kept: u64,
    pub dropped: u64,
    pub duplicate: u64,
    pub quarantined: u64,
}

/// `books: output NAME: kept N = delivered N + rejected N [+ skipped N] + waiting N`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputBooks {
    pub name: String,
    pub kept: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub waiting: u64,
}

impl Books {
    /// Finds the books in a log.
    pub fn parse(log: &str) -> Result<Books, String> {
        let mut books = Books::default();
        for line in log.lines().filter_map(|line| line.split_once("books: ").map(|(_, rest)| rest)) {
            let bad = || format!("not a line of the books: {line}");
            let (head, counts) = line.split_once(": ").ok_or_else(bad)?;
            let (kind, name) = head.split_once(' ').ok_or_else(bad)?;
            let numbers: Vec<u64> =
                counts.split(' ').filter_map(|w| w.trim_end_matches(';').parse().ok()).collect();
            let words: String =
                counts.split(' ').filter(|w| w.trim_end_matches(';').parse::<u64>().is_err()).collect();
            let name = name.to_owned();
            match (kind, words.as_str(), numbers.as_slice()) {
                (
                    "source",
                    "objectscollectedquarantinedrecords=kept+dropped+duplicate+quarantined",
                    &[
                        objects,
                        collected,
                        quarantined_objects,
                        records,
                        kept,
                        dropped,
                        duplicate,
                        quarantined,
                    ],
                ) => books.sources.push(SourceBooks {
                    name,
                    objects,
                    collected,
                    quarantined_objects,
                    records,
                    kept,
                    dropped,
                    duplicate,
                    quarantined,
                }),
                ("output", "kept=delivered+rejected+waiting", &[kept, delivered, rejected, waiting]) => {
                    books.outputs.push(OutputBooks { name, kept, delivered, rejected, skipped: 0, waiting });
                }
                (
                    "output",
                    "kept=delivered+rejected+skipped+waiting",
                    &[kept, delivered, rejected, skipped, waiting],
                ) => books.outputs.push(OutputBooks { name, kept, delivered, rejected, skipped, waiting }),
                _ => return Err(bad()),
            }
        }
        match (books.sources.is_empty(), books.outputs.is_empty()) {
            (false, false) => Ok(books),
            _ => Err("the log has no books".into()),
        }
    }

    /// What does not add up, in words; empty when everything does. `truth` is of the one source.
    pub fn faults(&self, truth: &super::bucket::Truth) -> Vec<String> {
        let mut faults = Vec::new();
        let mut same = |what: &str, is: u64, should: u64| {
            if is != should {
                faults.push(format!("{what}: {is} in the books, {should} in truth"));
            }
        };
        for books in &self.sources {
            same("objects", books.objects, truth.objects);
            same("collected objects", books.collected, truth.collected);
            same("quarantined objects", books.quarantined_objects, truth.quarantined_objects);
            same("records", books.records, truth.records);
            same("kept records", books.kept, truth.kept);
            same("dropped records", books.dropped, truth.dropped);
            same("duplicate records", books.duplicate, truth.duplicate);
            same("quarantined records", books.quarantined, truth.quarantined);
        }
        for books in &self.outputs {
            same(&format!("records for {}", books.name), books.kept, truth.kept);
            let ends = books.delivered + books.rejected + books.skipped + books.waiting;
            same(&format!("delivered + rejected + waiting of {}", books.name), ends, books.kept);
        }
        faults
    }
}
