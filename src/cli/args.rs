//! Arguments, read as the table says. What a command gets has only options that it knows, each with a value exactly
//! when it takes one, and as many operands as it wants.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::prelude::*;

use super::Command;
use super::table::{COMMANDS, CONFIG_PATH, Does, Opt, Spec, ValueKind};

/// What the first words of a command line ask for.
pub(super) enum Asked {
    /// The help of the whole, or of one command or group: its words, outermost first.
    Help(Vec<&'static Spec>),
    /// The version.
    Version,
    /// A command, with its arguments.
    Command(Args),
}

/// The arguments of a command.
pub(super) struct Args {
    spec: &'static Spec,
    options: Vec<(&'static str, OsString)>,
    operands: Vec<OsString>,
}

/// Reads the arguments (without the program's name). The error is a sentence for the operator.
pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut path: Vec<&'static Spec> = Vec::new();
    let mut within = COMMANDS;
    loop {
        let known = || within.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
        match parser.next().map_err(text)? {
            None if path.is_empty() => return Err(format!("a command is missing; commands: {}", known())),
            None => return Err(format!("{} needs one of its commands: {}", said(&path), known())),
            Some(Short('h') | Long("help")) => return Ok(Asked::Help(path)),
            Some(Short('V') | Long("version")) if path.is_empty() => return Ok(Asked::Version),
            Some(Value(word)) => {
                let Some(spec) = within.iter().find(|spec| word == spec.name) else {
                    let within = if path.is_empty() { String::new() } else { format!("{}: ", said(&path)) };
                    let word = word.to_string_lossy();
                    return Err(format!("{within}unknown command '{word}'; commands: {}", known()));
                };
                path.push(spec);
                match &spec.does {
                    Does::Group(inner) => within = inner,
                    Does::Command(_) => return command(parser, path),
                }
            }
            Some(other) => return Err(other.unexpected().to_string()),
        }
    }
}

fn command(mut parser: lexopt::Parser, path: Vec<&'static Spec>) -> Result<Asked, String> {
    let spec = path[path.len() - 1];
    let mut args = Args { spec, options: Vec::new(), operands: Vec::new() };
    let most = spec.operands.as_ref().map_or(0, |operands| operands.most.unwrap_or(usize::MAX));
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Short('h') | Long("help") => return Ok(Asked::Help(path)),
            Long(name) => match spec.options.iter().find(|option| option.name == name) {
                Some(option) => args.options.push((option.name, value(&mut parser, option)?)),
                None => return Err(arg.unexpected().to_string()),
            },
            Value(word) if args.operands.len() < most => args.operands.push(word),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if let Some(operands) = &spec.operands {
        if args.operands.len() < operands.least {
            return Err(format!("{} needs {}: {}", said(&path), operands.name, operands.about));
        }
        args.operands.iter().try_for_each(|word| fits(said(&path), operands.kind, word))?;
    }
    Ok(Asked::Command(args))
}

fn value(parser: &mut lexopt::Parser, option: &Opt) -> Result<OsString, String> {
    let Some(takes) = &option.value else { return Ok(OsString::new()) };
    let word = parser.value().map_err(text)?;
    fits(format!("--{}", option.name), takes.kind, &word)?;
    Ok(word)
}

fn fits(what: String, kind: ValueKind, word: &OsStr) -> Result<(), String> {
    match kind {
        ValueKind::Words(words) if !words.iter().any(|known| word == *known) => {
            Err(format!("{what} takes one of {}, not '{}'", words.join(", "), word.to_string_lossy()))
        }
        _ => Ok(()),
    }
}

fn said(path: &[&Spec]) -> String {
    path.iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ")
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
}

impl Args {
    /// What the command makes of them.
    pub(super) fn asks(&self) -> Result<Command, String> {
        match self.spec.does {
            Does::Command(read) => read(self),
            Does::Group(_) => Err(format!("{} needs one of its commands", self.spec.name)),
        }
    }

    /// Whether the option is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of an option; of several the last.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(self.spec.options.iter().any(|option| option.name == name), "no option --{name}");
        self.options.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| &**value)
    }

    /// The same, as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text)),
                None => Err(format!("--{name}: '{}' is not text", value.to_string_lossy())),
            },
        }
    }

    /// The value of an option as a path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// The value of `--config`, or its default.
    pub(super) fn config(&self) -> PathBuf {
        self.path("config").unwrap_or_else(|| CONFIG_PATH.into())
    }

    /// The words that are no options.
    pub(super) fn operands(&self) -> &[OsString] {
        &self.operands
    }
}
