//! What polling a source takes, and its newest object and that one's age, by walking down the newest folders of each
//! stream.

use std::time::Duration;

use time::{OffsetDateTime, PrimitiveDateTime};
use tokio::time::Instant;

use super::super::finding::{Blocked, Finding, Kind, Notes};
use super::bucket::{Bucket, Found, account_of, few, not_listed};
use crate::aws::Fault;
use crate::aws::s3::{ListEnd, ListRequest, Listed};
use crate::config;
use crate::discover::cost;
use crate::discover::key::{self, Kind as LogKind, LogKey};

/// Younger than this, a trail is at work: CloudTrail delivers about every five minutes, some 15 minutes late, when there
/// are events.
const FRESH: time::Duration = time::Duration::hours(1);
/// Accounts and streams that are looked into, and the time for that.
const ACCOUNTS: usize = 10;
const STREAMS: usize = 40;
const TIME: Duration = Duration::from_secs(10);
/// Pages of one day of one stream.
const PAGES: usize = 5;

/// Finds the newest object, or one that is fresh.
pub(super) async fn probe(
    bucket: &Bucket<'_>,
    source: &config::Source,
    found: &Found,
    now: OffsetDateTime,
    notes: &Notes,
) -> Result<LogKey, Blocked> {
    let streams = match streams(bucket, source, found).await {
        Ok(Streams { streams, .. }) if !streams.is_empty() => streams,
        Ok(Streams { others, .. }) => return Err(nothing_of_cloudtrail(source, found, &others, notes)),
        Err(fault) => return Err(not_listed("an account's folder", &fault, notes)),
    };
    notes.add(polling(source, found, streams.len()));
    let (begin, mut newest, mut looked) = (Instant::now(), None::<LogKey>, 0);
    for stream in streams.iter().take(STREAMS) {
        if begin.elapsed() > TIME {
            break;
        }
        looked += 1;
        match newest_of(bucket, stream).await {
            Ok(Some(key)) if newest.as_ref().is_none_or(|newest| newest.stamp() < key.stamp()) => {
                newest = Some(key);
            }
            Ok(_) => {}
            Err(fault) => return Err(not_listed(stream, &fault, notes)),
        }
        if newest.as_ref().is_some_and(|key| age(key.stamp(), now) < FRESH) {
            break;
        }
    }
    let Some(newest) = newest else {
        let finding = Finding::warn(
            "newest",
            format!("there is no log in the newest folders of {looked} streams"),
            format!("looked into {}", few(&streams.iter().map(String::as_str).collect::<Vec<_>>())),
            "see whether a lifecycle rule removes logs before they are collected",
        );
        return Err(notes.block(finding, "there is no object to read"));
    };
    notes.add(verdict(&newest, now, looked, streams.len()));
    Ok(newest)
}

/// What polling the source takes, and costs.
fn polling(source: &config::Source, found: &Found, streams: usize) -> Finding {
    if !source.method.lists() {
        return Finding::ok("polling", "nothing is listed: messages say what there is");
    }
    let looked = found.accounts.len().clamp(1, ACCOUNTS);
    let streams = streams * found.accounts.len() / looked;
    // Their folders: the account's, and the kind's of at least one.
    let requests = (1 + 2 * found.accounts.len() + streams) as u64;
    let cost = cost::text(cost::of_a_day(requests, 0, source.refresh));
    let minutes = source.refresh.as_secs() / 60;
    Finding::ok(
        "polling",
        format!("about {streams} streams: every {minutes} min some {requests} LIST requests, {cost}"),
    )
}

fn verdict(newest: &LogKey, now: OffsetDateTime, looked: usize, of: usize) -> Finding {
    let age = age(newest.stamp(), now);
    let stamp = newest.stamp();
    let what = format!(
        "the newest object is of {} {:02}:{:02} UTC, {} old",
        stamp.date(),
        stamp.hour(),
        stamp.minute(),
        in_words(age)
    );
    if age < FRESH {
        return Finding::ok("newest", what);
    }
    let why = match looked < of {
        true => format!("only {looked} of {of} streams were looked into; others may be newer"),
        false => "CloudTrail delivers within some 15 minutes when there are events".to_owned(),
    };
    Finding::warn(
        "newest",
        what,
        why,
        "if there is no quiet account to explain it: see whether the trail still logs (`aws cloudtrail get-trail-status \
         --name TRAIL`: IsLogging, LatestDeliveryError)",
    )
}

fn age(stamp: PrimitiveDateTime, now: OffsetDateTime) -> time::Duration {
    now - stamp.assume_utc()
}

fn in_words(age: time::Duration) -> String {
    match age.whole_minutes() {
        ..=0 => "less than a minute".to_owned(),
        minutes @ 1..120 => format!("{minutes} min"),
        minutes @ 120..2880 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / 1440),
    }
}

/// Streams (account × kind × region) that the source selects, and the other folders of the accounts.
#[derive(Default)]
struct Streams {
    streams: Vec<String>,
    others: Vec<String>,
}

async fn streams(bucket: &Bucket<'_>, source: &config::Source, found: &Found) -> Result<Streams, Fault> {
    let mut all = Streams::default();
    let selected = |region: &&String| {
        key::is_region(region)
            && (source.regions.is_empty() || source.regions.iter().any(|wanted| **wanted == ***region))
    };
    for account in found.accounts.iter().take(ACCOUNTS) {
        for kind in bucket.folders(account).await?.folders {
            let folder = format!("{account}{kind}/");
            match LogKind::of_folder(&kind) {
                Some(LogKind::Events) => {
                    let regions = bucket.folders(&folder).await?.folders;
                    all.streams
                        .extend(regions.iter().filter(selected).map(|region| format!("{folder}{region}/")));
                }
                Some(_) => {}
                None => all.others.push(kind),
            }
        }
    }
    // The bucket's own region is seldom quiet.
    let home = format!("/{}/", source.region);
    all.streams.sort_by_key(|stream| !stream.ends_with(&home));
    Ok(all)
}

fn nothing_of_cloudtrail(
    source: &config::Source,
    found: &Found,
    others: &[String],
    notes: &Notes,
) -> Blocked {
    let accounts: Vec<&str> = found.accounts.iter().map(|folder| account_of(folder)).collect();
    let mut others: Vec<&str> = others.iter().map(String::as_str).collect();
    others.sort_unstable();
    others.dedup();
    let (why, fix) = match (source.regions.is_empty(), others.is_empty()) {
        (false, _) => (
            format!("`regions` selects {:?}", source.regions),
            "correct `regions`, or remove it to collect all".to_owned(),
        ),
        (true, false) => (
            format!("there are other services' logs only: {}", few(&others)),
            "see in the trail's \"Storage location\" whether its logs go to another bucket".to_owned(),
        ),
        (true, true) => (
            "the accounts' folders are empty".to_owned(),
            "see whether the trail logs, and to which bucket".to_owned(),
        ),
    };
    let what = format!("no CloudTrail logs of account(s) {} are selected", few(&accounts));
    notes.block(Finding::fail("newest", Kind::Config, what, why, fix), "there is no object to read")
}

/// The newest log of a stream's newest day.
async fn newest_of(bucket: &Bucket<'_>, stream: &str) -> Result<Option<LogKey>, Fault> {
    let mut path = stream.to_owned();
    for digits in [4, 2, 2] {
        let level = bucket.folders(&path).await?;
        let numbers = level
            .folders
            .iter()
            .filter(|name| name.len() == digits && name.bytes().all(|b| b.is_ascii_digit()));
        let Some(last) = numbers.max() else { return Ok(None) };
        path = format!("{path}{last}/");
    }
    let (mut newest, mut continuation) = (None::<LogKey>, None::<Box<str>>);
    for _ in 0..PAGES {
        let request =
            ListRequest { prefix: &path, continuation: continuation.as_deref(), ..ListRequest::default() };
        let end = bucket
            .page(&request, &mut |entry| {
                if let Listed::Key { key, .. } = entry
                    && let Ok(key) = LogKey::parse(key)
                    && newest.as_ref().is_none_or(|newest| newest.stamp() <= key.stamp())
                {
                    newest = Some(key);
                }
            })
            .await?;
        match end {
            ListEnd::More { continuation: next } => continuation = Some(next),
            ListEnd::Complete | ListEnd::Stopped => break,
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::super::finding::Level;
    use super::*;

    fn key() -> LogKey {
        LogKey::parse(
            "AWSLogs/111122223333/CloudTrail/us-east-2/2026/08/01/\
             111122223333_CloudTrail_us-east-2_20260801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz",
        )
        .unwrap()
    }

    #[test]
    fn an_old_newest_object_is_a_warning() {
        for (now, level, words) in [
            (datetime!(2026-08-01 02:10:30 UTC), Level::Ok, "less than a minute old"),
            (datetime!(2026-08-01 02:05:00 UTC), Level::Ok, "less than a minute old"),
            (datetime!(2026-08-01 03:09:00 UTC), Level::Ok, "59 min old"),
            (datetime!(2026-08-01 03:10:00 UTC), Level::Warn, "60 min old"),
            (datetime!(2026-08-02 01:00:00 UTC), Level::Warn, "22 hours old"),
            (datetime!(2026-08-31 02:10:00 UTC), Level::Warn, "30 days old"),
        ] {
            let finding = verdict(&key(), now, 1, 1);
            assert_eq!(finding.level, level, "{now}");
            assert!(
                finding.what.contains("2026-08-01 02:10 UTC") && finding.what.ends_with(words),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn an_incomplete_look_says_so() {
        let finding = verdict(&key(), datetime!(2026-08-31 02:10:00 UTC), 3, 9);
        assert!(finding.why.contains("3 of 9 streams"), "{finding:?}");
    }
}
