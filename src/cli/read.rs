//! From a command's arguments to what is asked for: one function for each command of the table. The error is a
//! sentence for the operator.

use std::time::Duration;

use super::args::Args;
use super::{Command, PolicyOptions, Shell};
use crate::doctor::policy::{Kind, KmsKey, Principal};
use crate::select::dry_run;

pub(super) fn run(args: &Args) -> Result<Command, String> {
    let (once, timeout) = (args.has("once"), args.text("timeout")?.map(seconds).transpose()?);
    match timeout.is_some() && !once {
        true => Err("--timeout goes with --once".to_owned()),
        false => Ok(Command::Run { config: args.config(), once, timeout }),
    }
}

pub(super) fn check(args: &Args) -> Result<Command, String> {
    Ok(Command::Check { config: args.config(), json: args.has("json") })
}

pub(super) fn policy(args: &Args) -> Result<Command, String> {
    let only = args.text("only")?;
    Ok(Command::Policy(PolicyOptions {
        config: args.config(),
        only: Kind::ALL.iter().find(|(name, _)| Some(*name) == only).map(|(_, kind)| *kind),
        principal: args.text("principal")?.map(Principal::parse).transpose()?,
        kms_key: args.text("kms-key")?.map(KmsKey::parse).transpose()?,
    }))
}

pub(super) fn regions(args: &Args) -> Result<Command, String> {
    Ok(Command::Regions { tsv: args.has("tsv") })
}

pub(super) fn status(args: &Args) -> Result<Command, String> {
    Ok(Command::Status { config: args.config(), json: args.has("json") })
}

pub(super) fn filter(args: &Args) -> Result<Command, String> {
    let paths: Vec<_> = args.operands().iter().map(Into::into).collect();
    match (args.has("baseline"), paths.is_empty()) {
        (true, true) => Ok(Command::Baseline),
        (true, false) => Err("--baseline prints the list alone: it takes no PATH".to_owned()),
        (false, true) => Err("filter needs PATH: files or folders with objects".to_owned()),
        (false, false) => Ok(Command::Filter(dry_run::Request {
            config: args.config(),
            source: args.text("source")?.map(Into::into),
            json: args.has("json"),
            paths,
        })),
    }
}

pub(super) fn man(_: &Args) -> Result<Command, String> {
    Ok(Command::Man)
}

pub(super) fn completion(args: &Args) -> Result<Command, String> {
    let shell = match args.operands() {
        [word] if word == "zsh" => Shell::Zsh,
        [word] if word == "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    Ok(Command::Completion(shell))
}

fn seconds(word: &str) -> Result<Duration, String> {
    let number = word.parse::<u32>().ok().filter(|seconds| *seconds > 0);
    let wrong = || format!("--timeout needs a whole number of seconds, not '{word}'");
    number.map(|seconds| Duration::from_secs(u64::from(seconds))).ok_or_else(wrong)
}
