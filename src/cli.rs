//! The command line: a table of commands, and what each needs before it begins.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;

use crate::config::{self, Config};
use crate::doctor::policy::{self, Kind, KmsKey, Principal};
use crate::doctor::{self, regions};
use crate::error::Exit;

/// The configuration that is read unless `--config` names another.
pub const CONFIG_PATH: &str = "/etc/trailspool/trailspool.toml";

const HELP: &str = "\
trailspool collects AWS CloudTrail logs from S3, spools them to disk and forwards them.

Usage: trailspool COMMAND [OPTIONS]

Commands:
  run        collect and forward until stopped
  check      find what is wrong with the configuration, the network, AWS and the outputs, and say the fix
  policy     print the IAM, bucket, key and queue policies that the sources need
  regions    print AWS's regions and their endpoints

Options of run:
  --config FILE       the configuration [/etc/trailspool/trailspool.toml]
  --once              one discovery pass, forward everything, then end
  --timeout SECONDS   with --once: end with code 75 when that takes longer

Options of check:
  --config FILE       the configuration [/etc/trailspool/trailspool.toml]
  --json              findings as JSON

Options of policy (the documents are JSON on standard output, what each is stands on standard error):
  --config FILE       the configuration [/etc/trailspool/trailspool.toml]
  --only DOCUMENT     one kind of document: iam, assume, trust, bucket, key, queue, notification
  --principal ARN     the IAM user or role whose credentials the sources use
  --kms-key ARN       allow to decrypt objects that this KMS key encrypts

Options of regions:
  --tsv               every endpoint, tab-separated, for programs

Options:
  -h, --help          show this help
  -V, --version       show the version

Exit codes: 0 done, 64 usage, 65 bad data found, 69 service unavailable, 74 I/O,
75 temporary failure, 77 permission or credentials, 78 configuration.
";

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
    Help,
    Version,
    Run { config: PathBuf, once: bool, timeout: Option<Duration> },
    Check { config: PathBuf, json: bool },
    Policy(PolicyOptions),
    Regions { tsv: bool },
}

/// What `trailspool policy` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct PolicyOptions {
    config: PathBuf,
    only: Option<Kind>,
    principal: Option<Principal>,
    kms_key: Option<KmsKey>,
}

/// For faults of the command line.
const COMMANDS: &str = "run, check, policy, regions";

/// Does what the arguments (without the program's name) ask for. `run` is the service.
pub fn main(args: impl IntoIterator<Item = OsString>, run: impl FnOnce(RunOptions) -> ExitCode) -> ExitCode {
    match parse(args) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("trailspool ", env!("TRAILSPOOL_VERSION"), "\n")),
        Ok(Command::Run { config: path, once, timeout }) => match config::load(&path) {
            Ok(config) => run(RunOptions { config, config_path: path, once, timeout }),
            Err(faults) => {
                complain(&format!("{faults}\n"));
                Exit::Config.into()
            }
        },
        Ok(Command::Check { config, json }) => doctor::main(&config, json),
        Ok(Command::Policy(options)) => policies(&options).into(),
        Ok(Command::Regions { tsv: true }) => print(&regions::tsv()),
        Ok(Command::Regions { tsv: false }) => print(&regions::table()),
        Err(text) => {
            complain(&format!("trailspool: {}\nTry 'trailspool --help'.\n", escaped(&text)));
            Exit::Usage.into()
        }
    }
}

/// Reads the arguments. The error is a sentence for the operator.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let command = match parser.next().map_err(text)? {
        None => return Err(format!("a command is missing; commands: {COMMANDS}")),
        Some(Short('h') | Long("help")) => Command::Help,
        Some(Short('V') | Long("version")) => Command::Version,
        Some(Value(word)) => match word.to_str() {
            Some("run") => return run(parser),
            Some("check") => return check(parser),
            Some("policy") => return policy(parser),
            Some("regions") => return regions(parser),
            _ => return Err(format!("unknown command '{}'; commands: {COMMANDS}", word.to_string_lossy())),
        },
        Some(other) => return Err(other.unexpected().to_string()),
    };
    Ok(command)
}

fn run(mut parser: lexopt::Parser) -> Result<Command, String> {
    let mut config = PathBuf::from(CONFIG_PATH);
    let (mut once, mut timeout) = (false, None);
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("config") => config = parser.value().map_err(text)?.into(),
            Long("once") => once = true,
            Long("timeout") => timeout = Some(seconds(&parser.value().map_err(text)?)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    match timeout.is_some() && !once {
        true => Err("--timeout goes with --once".to_owned()),
        false => Ok(Command::Run { config, once, timeout }),
    }
}

fn check(mut parser: lexopt::Parser) -> Result<Command, String> {
    let mut config = PathBuf::from(CONFIG_PATH);
    let mut json = false;
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("config") => config = parser.value().map_err(text)?.into(),
            Long("json") => json = true,
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Command::Check { config, json })
}

fn policy(mut parser: lexopt::Parser) -> Result<Command, String> {
    let mut options =
        PolicyOptions { config: PathBuf::from(CONFIG_PATH), only: None, principal: None, kms_key: None };
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("config") => options.config = parser.value().map_err(text)?.into(),
            Long("only") => options.only = Some(kind(&word(&mut parser)?)?),
            Long("principal") => options.principal = Some(Principal::parse(&word(&mut parser)?)?),
            Long("kms-key") => options.kms_key = Some(KmsKey::parse(&word(&mut parser)?)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Command::Policy(options))
}

fn regions(mut parser: lexopt::Parser) -> Result<Command, String> {
    let mut tsv = false;
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("tsv") => tsv = true,
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Command::Regions { tsv })
}

fn word(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser
        .value()
        .map_err(text)?
        .into_string()
        .map_err(|word| format!("'{}' is not text", word.to_string_lossy()))
}

fn kind(word: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        format!(
            "--only knows no document '{word}'; documents: {}",
            Kind::ALL.map(|(name, _)| name).join(", ")
        )
    })
}

fn seconds(value: &std::ffi::OsStr) -> Result<Duration, String> {
    let number = value.to_str().and_then(|text| text.parse::<u32>().ok()).filter(|seconds| *seconds > 0);
    let wrong = || format!("--timeout needs a whole number of seconds, not '{}'", value.to_string_lossy());
    number.map(|seconds| Duration::from_secs(u64::from(seconds))).ok_or_else(wrong)
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
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

    fn words(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn run(config: &str, once: bool, timeout: Option<u64>) -> Result<Command, String> {
        Ok(Command::Run { config: config.into(), once, timeout: timeout.map(Duration::from_secs) })
    }

    #[test]
    fn commands_and_their_options_are_understood() {
        assert_eq!(words("run"), run(CONFIG_PATH, false, None));
        assert_eq!(words("run --config a.toml"), run("a.toml", false, None));
        assert_eq!(words("run --once --timeout=90 --config=b"), run("b", true, Some(90)));
        let check = |config: &str, json| Ok(Command::Check { config: config.into(), json });
        assert_eq!(words("check"), check(CONFIG_PATH, false));
        assert_eq!(words("check --json --config a.toml"), check("a.toml", true));
        assert_eq!(words("--help"), Ok(Command::Help));
        assert_eq!(words("run -h"), Ok(Command::Help));
        assert_eq!(words("-V"), Ok(Command::Version));
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
            ("chekc", "unknown command 'chekc'; commands: run, check, policy, regions"),
            ("regions x", "unexpected argument"),
            ("policy --only x", "no document 'x'; documents: iam, assume, trust"),
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

    #[test]
    fn the_help_names_the_default_path() {
        assert!(HELP.contains(CONFIG_PATH));
    }
}
