//! The command line: what can be asked for, and what each needs before it begins.
//!
//! | file | what |
//! |---|---|
//! | `table` | the one definition of commands and options |
//! | `args`, `read` | arguments by the table; from them to a [`Command`] |
//! | `help`, `man`, `completion` | made from the table |

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::args::Asked;
use self::completion::Shell;
pub use self::table::CONFIG_PATH;
use crate::config::{self, Config};
use crate::doctor::policy::{self, Kind, KmsKey, Principal};
use crate::doctor::{self, init, regions};
use crate::error::Exit;
use crate::inspect::{quarantine, spool};
use crate::select::{baseline, dry_run};
use crate::status;

mod args;
mod completion;
mod help;
mod man;
mod read;
mod table;

/// What `trailspool run` was asked to do.
#[derive(Debug)]
pub struct RunOptions {
    /// The configuration, without faults.
    pub config: Config,
    /// Where it was read from, for reading it again.
    pub config_path: PathBuf,
    /// One discovery pass, drain, end.
    pub once: bool,
    /// With `once`: how long that may take.
    pub timeout: Option<Duration>,
}

/// What a command line means.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run { config: PathBuf, once: bool, timeout: Option<Duration> },
    Init(init::Request),
    Check { config: PathBuf, json: bool },
    Policy(PolicyOptions),
    Regions { tsv: bool },
    Spool(spool::Asked),
    Quarantine(quarantine::Asked),
    Status { config: PathBuf, json: bool },
    Filter(dry_run::Request),
    Baseline,
    Man,
    Completion(Shell),
}

/// What `trailspool policy` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct PolicyOptions {
    config: PathBuf,
    only: Option<Kind>,
    principal: Option<Principal>,
    kms_key: Option<KmsKey>,
}

/// Does what the arguments (without the program's name) ask for. `run` is the service.
pub fn main(args: impl IntoIterator<Item = OsString>, run: impl FnOnce(RunOptions) -> ExitCode) -> ExitCode {
    let command = match args::read(args) {
        Ok(Asked::Help(path)) => return print(&help::page(&path)),
        Ok(Asked::Version) => return print(concat!("trailspool ", env!("TRAILSPOOL_VERSION"), "\n")),
        Ok(Asked::Command(args)) => args.asks(),
        Err(text) => Err(text),
    };
    match command {
        Ok(Command::Run { config: path, once, timeout }) => match config::load(&path) {
            Ok(config) => run(RunOptions { config, config_path: path, once, timeout }),
            Err(faults) => {
                complain(&format!("{faults}\n"));
                Exit::Config.into()
            }
        },
        Ok(Command::Init(request)) => init::main(&request),
        Ok(Command::Check { config, json }) => doctor::main(&config, json),
        Ok(Command::Policy(options)) => policies(&options).into(),
        Ok(Command::Regions { tsv: true }) => print(&regions::tsv()),
        Ok(Command::Regions { tsv: false }) => print(&regions::table()),
        Ok(Command::Spool(asked)) => spool::main(&asked).into(),
        Ok(Command::Quarantine(asked)) => quarantine::main(&asked).into(),
        Ok(Command::Status { config, json }) => status::client::main(&config, json),
        Ok(Command::Filter(request)) => dry_run::main(&request),
        Ok(Command::Baseline) => print(baseline::TEXT),
        Ok(Command::Man) => print(&man::page()),
        Ok(Command::Completion(shell)) => print(&completion::script(shell)),
        Err(text) => {
            complain(&format!("trailspool: {}\nTry 'trailspool --help'.\n", escaped(&text)));
            Exit::Usage.into()
        }
    }
}

/// Prints the documents of every source: headings and notes on standard error, JSON on standard output.
fn policies(options: &PolicyOptions) -> Exit {
    let config = match config::load(&options.config) {
        Ok(config) => config,
        Err(faults) => {
            complain(&format!("{faults}\n"));
            return Exit::Config;
        }
    };
    let mut printed = 0;
    for source in &config.sources {
        let setup =
            policy::Setup { principal: options.principal.as_ref(), kms_key: options.kms_key.as_ref() };
        let found = match policy::policies(source, &setup) {
            Ok(found) => found,
            Err(text) => {
                complain(&format!("trailspool: {text}\n"));
                return Exit::Usage;
            }
        };
        for document in
            found.documents.iter().filter(|document| options.only.is_none_or(|kind| kind == document.kind))
        {
            complain(&format!("# {}\n", document.heading));
            print(&format!("{}\n", document.json));
            printed += 1;
        }
        found.notes.iter().for_each(|note| complain(&format!("# note: {note}\n")));
    }
    match printed {
        0 => Exit::Usage,
        _ => Exit::Done,
    }
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A reader that went away (`trailspool --help | head -1`) is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Exit::Done.into()
}

fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Position;

    fn words(line: &str) -> Result<Command, String> {
        match args::read(line.split_whitespace().map(OsString::from))? {
            Asked::Command(args) => args.asks(),
            Asked::Help(_) | Asked::Version => Err("no command".to_owned()),
        }
    }

    fn run(config: &str, once: bool, timeout: Option<u64>) -> Result<Command, String> {
        Ok(Command::Run { config: config.into(), once, timeout: timeout.map(Duration::from_secs) })
    }

    #[test]
    fn commands_and_their_options_are_understood() {
        assert_eq!(words("run"), run(CONFIG_PATH, false, None));
        assert_eq!(words("run --config a.toml"), run("a.toml", false, None));
        assert_eq!(words("run --once --timeout=90 --config=b"), run("b", true, Some(90)));
        let init = |packaged, force, check, given: &[(&'static str, &str)]| {
            let config = if packaged { CONFIG_PATH } else { "a.toml" }.into();
            let given = given.iter().map(|(name, answer)| (*name, (*answer).to_owned())).collect();
            Ok(Command::Init(init::Request { config, packaged, given, force, check }))
        };
        assert_eq!(words("init"), init(true, false, true, &[]));
        let line = "init --config a.toml --force --no-check --bucket b --output file";
        assert_eq!(words(line), init(false, true, false, &[("bucket", "b"), ("output", "file")]));
        let check = |config: &str, json| Ok(Command::Check { config: config.into(), json });
        assert_eq!(words("check"), check(CONFIG_PATH, false));
        assert_eq!(words("check --json --config a.toml"), check("a.toml", true));
        let asked = |line: &str| args::read(line.split_whitespace().map(OsString::from));
        assert!(matches!(asked("--help"), Ok(Asked::Help(path)) if path.is_empty()));
        assert!(matches!(asked("run --once -h"), Ok(Asked::Help(path)) if path[0].name == "run"));
        assert!(matches!(asked("-V"), Ok(Asked::Version)));
        assert_eq!(words("man"), Ok(Command::Man));
        let asked = |does| Ok(Command::Spool(spool::Asked { config: "a.toml".into(), does }));
        assert_eq!(words("spool ls --json --config a.toml"), asked(spool::Does::Ls { json: true }));
        let from = Position { segment: 0x1f, offset: 40 };
        let cat =
            spool::Cat { output: Some("siem".into()), from: Some(from), limit: Some(3), envelope: true };
        let line = "spool cat --config a.toml --output siem --from 1f:40 --limit 3 --format envelope";
        assert_eq!(words(line), asked(spool::Does::Cat(cat)));
        let asked = |does| Ok(Command::Quarantine(quarantine::Asked { config: CONFIG_PATH.into(), does }));
        assert_eq!(words("quarantine retry --all"), asked(quarantine::Does::Retry { id: None }));
        assert_eq!(
            words("quarantine retry 12ab"),
            asked(quarantine::Does::Retry { id: Some("12ab".into()) })
        );
        assert_eq!(words("completion fish"), Ok(Command::Completion(Shell::Fish)));
        let filter = |source: Option<&str>, json| {
            let (config, paths) = ("a.toml".into(), vec!["b.json".into(), "c".into()]);
            Ok(Command::Filter(dry_run::Request { config, source: source.map(Into::into), json, paths }))
        };
        assert_eq!(words("filter b.json --config a.toml c"), filter(None, false));
        assert_eq!(words("filter --json --source prod --config=a.toml b.json c"), filter(Some("prod"), true));
        assert_eq!(words("filter --baseline"), Ok(Command::Baseline));
        assert_eq!(words("regions"), Ok(Command::Regions { tsv: false }));
        assert_eq!(words("regions --tsv"), Ok(Command::Regions { tsv: true }));
        let user = "arn:aws:iam::111122223333:user/x";
        let expected = PolicyOptions {
            config: "a.toml".into(),
            only: Some(Kind::Bucket),
            principal: Some(Principal::parse(user).unwrap()),
            kms_key: None,
        };
        let line = format!("policy --config a.toml --only bucket --principal {user}");
        assert_eq!(words(&line), Ok(Command::Policy(expected)));
    }

    #[test]
    fn a_wrong_command_line_says_what_is_wrong() {
        for (line, part) in [
            ("", "a command is missing"),
            ("check --once", "--once"),
            ("check extra", "extra"),
            ("chekc", "unknown command 'chekc'; commands: run, init, check, policy, regions, "),
            ("regions x", "unexpected argument"),
            ("spool", "spool needs one of its commands: ls, cat, verify"),
            ("spool cat --from here", "--from takes SEGMENT[:OFFSET]"),
            ("spool cat --limit x", "--limit needs a whole number"),
            ("quarantine show", "quarantine show needs ID"),
            ("quarantine show 1 --raw --json", "--raw does not go with --json"),
            ("quarantine retry", "an ID, or --all"),
            ("quarantine retry 12ab --all", "an ID, or --all"),
            ("completion", "completion needs SHELL: bash, zsh or fish"),
            ("completion bash zsh", "zsh"),
            ("filter", "filter needs PATH"),
            ("filter --baseline x", "--baseline prints the list alone"),
            ("completion csh", "completion takes one of bash, zsh, fish, not 'csh'"),
            (
                "policy --only x",
                "--only takes one of iam, assume, trust, bucket, key, queue, notification, not 'x'",
            ),
            ("policy --principal me", "'me' is not the ARN of who reads"),
            ("policy --kms-key alias/x", "an alias does not do"),
            ("--once", "'--once'"),
            ("run extra", "extra"),
            ("run --config", "--config"),
            ("run --onec", "--onec"),
            ("run --once=yes", "yes"),
            ("run --timeout 5", "--timeout goes with --once"),
            ("run --once --timeout 0", "whole number of seconds"),
            ("run --once --timeout -1", "whole number of seconds"),
            ("run --once --timeout 1h", "whole number of seconds"),
        ] {
            let text = words(line).unwrap_err();
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}
