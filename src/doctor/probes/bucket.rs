//! The folders of a bucket: what stands under the configured prefix, and where `AWSLogs/` is when it does not stand
//! there. All listings together are bounded, and each is one page.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::sleep;

use super::super::finding::{Blocked, Finding, Kind, Notes};
use crate::aws::Fault;
use crate::aws::s3::{ListEnd, ListRequest, Listed, S3};
use crate::config;
use crate::discover::key::{self, Kind as LogKind};

/// LIST requests that look for `AWSLogs/` under other prefixes.
const SEARCHES: usize = 60;
/// Folders between the bucket and `AWSLogs/` that are looked into.
const DEPTH: usize = 4;
/// Names that a finding shows.
const SHOWN: usize = 5;
/// Organisations that are looked into.
const ORGANISATIONS: usize = 3;
/// Before a request that failed for the moment is made once more.
const AGAIN: Duration = Duration::from_millis(500);

const LOGS: &str = "AWSLogs";

/// A bucket to list.
pub(super) struct Bucket<'a> {
    s3: &'a S3,
}

/// One page of a level of folders.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Names of the folders, without slashes.
    pub(super) folders: Vec<String>,
    /// Objects on the page.
    pub(super) keys: usize,
}

/// The accounts under `AWSLogs/`.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Folders of accounts, with `/` at the end.
    pub(super) accounts: Vec<String>,
}

impl<'a> Bucket<'a> {
    pub(super) fn new(s3: &'a S3) -> Bucket<'a> {
        Bucket { s3 }
    }

    /// The first page of what stands right below a prefix.
    pub(super) async fn folders(&self, prefix: &str) -> Result<Level, Fault> {
        let mut level = Level::default();
        let request = ListRequest { prefix, delimiter: true, ..ListRequest::default() };
        self.page(&request, &mut |entry| match entry {
            Listed::Prefix(folder) => {
                let name = folder.strip_prefix(prefix).unwrap_or(folder);
                level.folders.push(name.strip_suffix('/').unwrap_or(name).to_owned());
            }
            // A folder marker is the folder itself.
            Listed::Key { key, .. } => level.keys += usize::from(key != prefix),
            Listed::Bad(_) => {}
        })
        .await?;
        Ok(level)
    }

    /// One page, at the second try if the first fails for the moment. An entry may then come twice.
    pub(super) async fn page(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) + Send),
    ) -> Result<ListEnd, Fault> {
        let mut visit = |entry: Listed<'_>| {
            visit(entry);
            ControlFlow::Continue(())
        };
        match self.s3.list(request, &mut visit).await {
            Err(fault) if matches!(fault.cause, "slow-down" | "server" | "bad-answer") => {
                sleep(AGAIN).await;
                self.s3.list(request, &mut visit).await
            }
            other => other,
        }
    }

    /// What the configured prefix leads to; `top` is what stands below its `AWSLogs/`.
    pub(super) async fn survey(
        &self,
        source: &config::Source,
        top: Level,
        notes: &Notes,
    ) -> Result<Found, Blocked> {
        let root = format!("{}{LOGS}/", source.prefix);
        let found = match self.accounts(&root, &top).await {
            Ok(found) => found,
            Err(fault) => return Err(not_listed(&root, &fault, notes)),
        };
        if found.accounts.is_empty() {
            return Err(self.nothing_there(source, &root, notes).await);
        }
        notes.add(Finding::ok("objects", format!("bucket {} has objects", source.bucket)));
        notes.add(selected(source, &root, &found));
        let wanted = |folder: &String| is_selected(source, account_of(folder));
        let accounts: Vec<String> = found.accounts.into_iter().filter(wanted).collect();
        match accounts.is_empty() {
            false => Ok(Found { accounts }),
            true => Err(Blocked("no account is selected".to_owned())),
        }
    }

    /// Accounts right below `AWSLogs/`, and below the organisations there.
    async fn accounts(&self, root: &str, top: &Level) -> Result<Found, Fault> {
        let account = |root: &str, name: &str| format!("{root}{name}/");
        let mut found = Found::default();
        for name in top.folders.iter().filter(|name| key::is_account(name)) {
            found.accounts.push(account(root, name));
        }
        for org in top.folders.iter().filter(|name| key::is_org(name)).take(ORGANISATIONS) {
            let root = format!("{root}{org}/");
            let level = self.folders(&root).await?;
            found.accounts.extend(
                level.folders.iter().filter(|name| key::is_account(name)).map(|name| account(&root, name)),
            );
        }
        Ok(found)
    }

    /// Says what is there instead, and where the logs are.
    async fn nothing_there(&self, source: &config::Source, root: &str, notes: &Notes) -> Blocked {
        let bucket = &source.bucket;
        let top = match self.folders("").await {
            Ok(top) => top,
            Err(fault) => {
                // Policies often allow listing under one prefix alone.
                notes.add(Finding::fail(
                    "key-prefix",
                    Kind::Config,
                    format!("there is no account's folder under {root:?}, and no other place may be looked at"),
                    fault.said,
                    "compare `key_prefix` and the folder behind the bucket's name with \"Storage location\" in the trail's \
                     settings",
                ));
                return Blocked("there are no logs under the configured prefix".to_owned());
            }
        };
        if top.folders.is_empty() && top.keys == 0 {
            let finding = Finding::fail(
                "objects",
                Kind::Config,
                format!("bucket {bucket} is empty"),
                "no trail delivers to it, or none has yet: a new trail's first objects take about 15 minutes",
                format!(
                    "look at the trail's \"Storage location\" and \"Last log file delivered\", or run `aws cloudtrail \
                     describe-trails` and `aws cloudtrail get-trail-status --name TRAIL`; the bucket's policy must let \
                     cloudtrail.amazonaws.com put objects into {bucket}"
                ),
            );
            return notes.block(finding, "the bucket is empty");
        }
        notes.add(Finding::ok("objects", format!("bucket {bucket} has objects")));
        notes.add(match self.search(&top).await {
            Search::Found(prefixes) => elsewhere(source, root, &prefixes),
            Search::Nowhere { all } => nowhere(source, root, &top, all),
        });
        Blocked("there are no logs under the configured prefix".to_owned())
    }

    /// Looks for `AWSLogs/` with an account below it, level by level, until the bounds are reached. Prefixes with
    /// logs of CloudTrail come first.
    async fn search(&self, top: &Level) -> Search {
        let (mut with_trail, mut without) = (Vec::new(), Vec::new());
        let mut queue: VecDeque<(String, usize)> =
            top.folders.iter().map(|name| (format!("{name}/"), 1)).collect();
        let mut left = SEARCHES;
        while let Some((folder, depth)) = queue.pop_front() {
            if left == 0 || with_trail.len() >= SHOWN {
                break;
            }
            left -= 1;
            let Ok(level) = self.folders(&folder).await else { continue };
            let prefix =
                folder.strip_suffix(&format!("{LOGS}/")).filter(|p| p.is_empty() || p.ends_with('/'));
            if let Some(prefix) = prefix
                && let Ok(Found { accounts }) = self.accounts(&folder, &level).await
                && let Some(account) = accounts.first()
            {
                left = left.saturating_sub(1);
                let kinds = self.folders(account).await.unwrap_or_default();
                let trail = kinds.folders.iter().any(|name| LogKind::of_folder(name).is_some());
                if trail { &mut with_trail } else { &mut without }.push(prefix.to_owned());
            } else if depth < DEPTH {
                queue.extend(level.folders.iter().map(|name| (format!("{folder}{name}/"), depth + 1)));
            }
        }
        with_trail.append(&mut without);
        match with_trail.is_empty() {
            false => Search::Found(with_trail),
            true => Search::Nowhere { all: queue.is_empty() && left > 0 },
        }
    }
}

enum Search {
    /// Everything before `AWSLogs/`, the likeliest first.
    Found(Vec<String>),
    /// `all`: every folder down to [`DEPTH`] was looked into.
    Nowhere { all: bool },
}

/// The account of its folder.
pub(super) fn account_of(folder: &str) -> &str {
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    folder.rsplit('/').next().unwrap_or(folder)
}

fn is_selected(source: &config::Source, account: &str) -> bool {
    source.accounts.is_empty() || source.accounts.iter().any(|wanted| **wanted == *account)
}

pub(super) fn not_listed(what: &str, fault: &Fault, notes: &Notes) -> Blocked {
    let finding = Finding::fail(
        "list",
        Kind::Unavailable,
        format!("listing {what:?} fails, though the bucket could be listed"),
        fault.said.to_string(),
        "run the check again; if it stays so, allow s3:ListBucket without a condition on the prefix",
    );
    notes.block(finding, format!("{what:?} cannot be listed"))
}

/// What of the accounts is selected.
fn selected(source: &config::Source, root: &str, found: &Found) -> Finding {
    let names: Vec<&str> = found.accounts.iter().map(|folder| account_of(folder)).collect();
    let organisations: Vec<&str> = found
        .accounts
        .iter()
        .filter_map(|folder| folder.strip_prefix(root)?.split('/').next().filter(|name| key::is_org(name)))
        .collect();
    let of = match organisations.first() {
        Some(id) => format!(" of organisation {id}"),
        None => String::new(),
    };
    let missing: Vec<&str> =
        source.accounts.iter().map(|wanted| &**wanted).filter(|wanted| !names.contains(wanted)).collect();
    let selected = names.iter().filter(|name| is_selected(source, name)).count();
    let what = format!("{} account(s){of} under {root:?}, {selected} selected: {}", names.len(), few(&names));
    let why = format!("`accounts` names some that are not there: {}", few(&missing));
    let fix =
        "correct `accounts`, or remove it to collect all; a trail of one account delivers that account only";
    match (missing.is_empty(), selected) {
        (true, _) => Finding::ok("key-prefix", what),
        (false, 0) => Finding::fail("key-prefix", Kind::Config, what, why, fix),
        (false, _) => Finding::warn("key-prefix", what, why, fix),
    }
}

/// The logs are under other prefixes than the configured one.
fn elsewhere(source: &config::Source, root: &str, prefixes: &[String]) -> Finding {
    let places: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}{LOGS}/")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let also = match prefixes.len() {
        1 => "",
        _ => "; another of these places needs a [[source]] of its own",
    };
    Finding::fail(
        "key-prefix",
        Kind::Config,
        format!("there is no account's folder under {root:?}"),
        format!("the logs are in other folders of the bucket: {}", few(&places)),
        format!("set {} in [[source]] {}{also}", lines_for(source, &prefixes[0]), source.name),
    )
}

/// The lines that lead to a prefix. With a folder behind the bucket's name or a wrong prefix, both lines say it all.
fn lines_for(source: &config::Source, prefix: &str) -> String {
    let key_prefix = prefix.trim_end_matches('/');
    let line = format!("`key_prefix = {key_prefix:?}`");
    match source.prefix.is_empty() {
        true => line,
        false => format!("`bucket = {:?}` and {line}", source.bucket),
    }
}

fn nowhere(source: &config::Source, root: &str, top: &Level, all: bool) -> Finding {
    let folders: Vec<&str> = top.folders.iter().map(String::as_str).collect();
    let instead = match folders.is_empty() {
        true => "only objects without a folder".to_owned(),
        false => format!("the folders {}", few(&folders)),
    };
    let looked = match all {
        true => format!("no folder of it down to {DEPTH} levels holds AWSLogs/ with an account"),
        false => format!("among {SEARCHES} folders none holds AWSLogs/ with an account"),
    };
    Finding::fail(
        "key-prefix",
        Kind::Config,
        format!("there is no account's folder under {root:?}"),
        format!("bucket {} has {instead}; {looked}", source.bucket),
        "look up \"Storage location\" in the trail's settings: `bucket` and `key_prefix` are what stands before AWSLogs/; a \
         new trail's first objects take about 15 minutes",
    )
}

/// The first few, quoted.
pub(super) fn few(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
