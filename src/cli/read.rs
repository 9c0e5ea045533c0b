//! From a command's arguments to what is asked for: one function for each command of the table. The error is a
//! sentence for the operator.

use std::time::Duration;

use super::args::Args;
use super::table::CONFIG_PATH;
use super::{Command, PolicyOptions, Shell};
use crate::doctor::init;
use crate::doctor::policy::{Kind, KmsKey, Principal};
use crate::inspect::{quarantine, spool};
use crate::select::dry_run;
use crate::spool::Position;

pub(super) fn run(args: &Args) -> Result<Command, String> {
    let (once, timeout) = (args.has("once"), args.text("timeout")?.map(seconds).transpose()?);
    match timeout.is_some() && !once {
        true => Err("--timeout goes with --once".to_owned()),
        false => Ok(Command::Run { config: args.config(), once, timeout }),
    }
}

pub(super) fn init(args: &Args) -> Result<Command, String> {
    let mut given = init::question::Given::new();
    for question in init::question::QUESTIONS {
        if let Some(answer) = args.text(question.name)? {
            given.insert(question.name, answer.to_owned());
        }
    }
    Ok(Command::Init(init::Request {
        config: args.config(),
        packaged: args.config().as_os_str() == CONFIG_PATH,
        given,
        force: args.has("force"),
        check: !args.has("no-check"),
    }))
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

fn spool(args: &Args, does: spool::Does) -> Result<Command, String> {
    Ok(Command::Spool(spool::Asked { config: args.config(), does }))
}

pub(super) fn spool_ls(args: &Args) -> Result<Command, String> {
    spool(args, spool::Does::Ls { json: args.has("json") })
}

pub(super) fn spool_cat(args: &Args) -> Result<Command, String> {
    let from = |text: &str| {
        Position::parse(text)
            .ok_or_else(|| format!("--from takes SEGMENT[:OFFSET] as spool ls prints them, not '{text}'"))
    };
    let limit = |text: &str| text.parse().map_err(|_| format!("--limit needs a whole number, not '{text}'"));
    let cat = spool::Cat {
        output: args.text("output")?.map(str::to_owned),
        from: args.text("from")?.map(from).transpose()?,
        limit: args.text("limit")?.map(limit).transpose()?,
        envelope: args.text("format")? == Some("envelope"),
    };
    spool(args, spool::Does::Cat(cat))
}

pub(super) fn spool_verify(args: &Args) -> Result<Command, String> {
    spool(args, spool::Does::Verify { json: args.has("json") })
}

fn quarantine(args: &Args, does: quarantine::Does) -> Result<Command, String> {
    Ok(Command::Quarantine(quarantine::Asked { config: args.config(), does }))
}

pub(super) fn quarantine_ls(args: &Args) -> Result<Command, String> {
    quarantine(args, quarantine::Does::Ls { json: args.has("json") })
}

pub(super) fn quarantine_show(args: &Args) -> Result<Command, String> {
    let (raw, json) = (args.has("raw"), args.has("json"));
    match (id(args), raw && json) {
        (_, true) => Err("--raw does not go with --json".to_owned()),
        (id, false) => quarantine(args, quarantine::Does::Show { id: id.unwrap_or_default(), raw, json }),
    }
}

pub(super) fn quarantine_retry(args: &Args) -> Result<Command, String> {
    match (id(args), args.has("all")) {
        (id, all) if id.is_some() == all => Err("quarantine retry needs an ID, or --all".to_owned()),
        (id, _) => quarantine(args, quarantine::Does::Retry { id }),
    }
}

fn id(args: &Args) -> Option<String> {
    args.operands().first().map(|id| id.to_string_lossy().into_owned())
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
