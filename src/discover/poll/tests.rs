//! Passes against a bucket, a ledger and fetch workers in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Mutex;

use proptest::prelude::*;
use time::{Date, Month, Time};

use super::*;
use crate::aws::s3::{ListEnd, ListRequest, Listed};
use crate::aws::{Class, Fault};
use crate::config::{Source, Start};
use crate::discover::key::NotALog;
use crate::discover::queue::{FailKind, Outcome, Wanted};
use crate::discover::testing;
use crate::fault_disk::{FaultDisk, Op, Survive};
use crate::limits;

mod clock;
mod history;
mod refused;

/// A bucket and everything around it. Clones are the same world.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    keys: BTreeSet<String>,
    /// Entries on one LIST page.
    page: usize,
    /// Prefixes that LIST refuses.
    list_denied: BTreeSet<String>,
    /// LIST requests that break off after one entry, from the next one on: one in so many. 0: none.
    break_every: usize,
    /// The first LIST request of each prefix breaks off after one entry.
    break_first: bool,
    network_down: bool,
    /// What answers say of the time, and whether there was one.
    time: Option<UtcDateTime>,
    answered: bool,
    /// A server that ignores `start-after`.
    ignores_start_after: bool,
    /// Tokens older than the page before are refused.
    tokens_refused: bool,
    listing_now: usize,
    /// The most that were listed at once.
    listed_at_once: usize,
    requests: Vec<String>,
    /// Keys whose GET is refused, and those that vanish before it.
    get_denied: BTreeSet<String>,
    get_gone: BTreeSet<String>,
    get_broken: BTreeSet<String>,
    collected: BTreeMap<String, u32>,
    ledger: BTreeMap<Date, BTreeSet<(String, String)>>,
    ledger_down: bool,
}

impl World {
    fn with(keys: impl IntoIterator<Item = String>) -> World {
        let world = World::default();
        world.lock().page = 1000;
        world.lock().keys.extend(keys);
        world
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn put(&self, key: &str) {
        self.lock().keys.insert(key.to_owned());
    }

    /// What was collected, having made sure that nothing was collected twice.
    fn collected(&self) -> BTreeSet<String> {
        let world = self.lock();
        for (key, times) in &world.collected {
            assert_eq!(*times, 1, "{key}");
        }
        world.collected.keys().cloned().collect()
    }

    fn logs(&self) -> BTreeSet<String> {
        self.lock().keys.clone()
    }
}

fn fault(class: Class, cause: &'static str) -> Fault {
    Fault { class, cause, text: format!("{cause} in a test"), said: Box::default(), retry_after: None }
}

impl Lister for World {
    /// ListObjectsV2 by its documentation, read naively.
    async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        let (page, continuation, breaks) = {
            let mut world = self.lock();
            let first = !world.requests.iter().any(|asked| asked == request.prefix);
            world.requests.push(request.prefix.to_owned());
            if world.network_down {
                return Err(fault(Class::Retry, "network"));
            }
            world.answered = true;
            if world.list_denied.contains(request.prefix) {
                return Err(fault(Class::Denied, "denied"));
            }
            if request.continuation.is_some() && world.tokens_refused {
                return Err(fault(Class::Config, "bad-token"));
            }
            let mut after = request.continuation.or(request.start_after).unwrap_or("");
            if world.ignores_start_after {
                after = "";
            }
            let mut page: Vec<(String, bool)> = Vec::new();
            let mut more = false;
            for key in world.keys.iter().filter(|key| key.starts_with(request.prefix) && key.as_str() > after)
            {
                let rest = &key[request.prefix.len()..];
                let entry = match rest.find('/').filter(|_| request.delimiter) {
                    Some(slash) => (key[..request.prefix.len() + slash + 1].to_owned(), true),
                    None => (key.clone(), false),
                };
                // A token stands for the last entry, and a common prefix as a whole lies behind it.
                if page.last() == Some(&entry) || (request.continuation.is_some() && entry.0 == after) {
                    continue;
                }
                if page.len() == world.page {
                    more = true;
                    break;
                }
                page.push(entry);
            }
            let continuation = page.last().filter(|_| more).map(|(text, _)| text.as_str().into());
            // Of a page all keys come before all common prefixes, as in S3's answers.
            page.sort_by_key(|(_, folder)| *folder);
            let every = world.break_every;
            let in_turn = every > 0 && world.requests.len().is_multiple_of(every);
            let breaks = (in_turn || (world.break_first && first)) && page.len() > 1;
            world.listing_now += 1;
            world.listed_at_once = world.listed_at_once.max(world.listing_now);
            (page, continuation, breaks)
        };
        let mut result = Ok(ListEnd::Complete);
        for (at, (text, folder)) in page.iter().enumerate() {
            tokio::task::yield_now().await;
            if breaks && at == 1 {
                result = Err(fault(Class::Retry, "network"));
                break;
            }
            let entry = if *folder { Listed::Prefix(text) } else { Listed::Key { key: text, size: 1 } };
            if visit(entry).is_break() {
                result = Ok(ListEnd::Stopped);
                break;
            }
        }
        self.lock().listing_now -= 1;
        match (result, continuation) {
            (Ok(ListEnd::Complete), Some(continuation)) => Ok(ListEnd::More { continuation }),
            (other, _) => other,
        }
    }

    fn told(&self) -> Option<UtcDateTime> {
        let world = self.lock();
        world.time.filter(|_| world.answered)
    }
}

impl Known for World {
    fn contains(&self, source: &str, day: Date, key: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let world = self.lock();
        if world.ledger_down {
            return Err("a broken disk".into());
        }
        let entry = (source.to_owned(), key.to_owned());
        Ok(world.ledger.get(&day).is_some_and(|entries| entries.contains(&entry)))
    }

    fn expire(&self, source: &str, before: Date) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.lock().ledger.retain(|day, entries| {
            entries.retain(|(of, _)| of != source || *day >= before);
            !entries.is_empty()
        });
        Ok(())
    }
}

/// A fetch worker and the storekeeper in one.
async fn work(world: World, queue: Queue) {
    while let Some(Wanted { object, day, ticket, .. }) = queue.pop().await {
        let broken = world.lock().get_broken.remove(&*object.key);
        let failed = {
            let world = world.lock();
            if world.get_denied.contains(&*object.key) {
                Some(fault(Class::Denied, "kms"))
            } else if world.get_gone.contains(&*object.key) {
                Some(fault(Class::Gone, "gone"))
            } else {
                broken.then(|| fault(Class::Retry, "network"))
            }
        };
        if let Some(fault) = failed {
            ticket.fail(&fault);
            continue;
        }
        tokio::task::yield_now().await;
        {
            let mut world = world.lock();
            *world.collected.entry(object.key.to_string()).or_default() += 1;
            world.ledger.entry(day).or_default().insert((object.source.to_string(), object.key.to_string()));
        }
        ticket.settle(Outcome::Done);
    }
}

/// One source at work in a world; made anew it is a restart.
struct Agent {
    poller: Poller<World, World, FaultDisk>,
    status: Arc<SourceStatus>,
    queue: Queue,
}

impl Agent {
    fn start(source: &Source, world: &World, disk: &FaultDisk) -> Agent {
        let queue = Queue::new(1, 8);
        for _ in 0..3 {
            tokio::spawn(work(world.clone(), queue.clone()));
        }
        let status = Arc::new(SourceStatus::new(&source.name));
        let poller = Poller::new(
            source,
            world.clone(),
            world.clone(),
            disk.clone(),
            (queue.clone(), 0),
            Arc::clone(&status),
        );
        Agent { poller, status, queue }
    }

    /// Passes until none of the history waits, taken for one.
    async fn pass(&mut self, now: UtcDateTime) -> PassReport {
        let mut sum = self.poller.pass(now).await;
        while sum.more {
            let next = self.poller.pass(now).await;
            sum.seen.list_requests += next.seen.list_requests;
            sum.seen.listed += next.seen.listed;
            sum.seen.known += next.seen.known;
            sum.seen.new += next.seen.new;
            for (all, count) in sum.seen.not_logs.iter_mut().zip(next.seen.not_logs) {
                *all += count;
            }
            sum.tally.collected += next.tally.collected;
            sum.tally.failed_denied += next.tally.failed_denied;
            sum.end.unfinished.merge(&next.end.unfinished);
            sum.more = next.more;
        }
        sum
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn at(date: (i32, u8, u8), hour: u8, minute: u8) -> UtcDateTime {
    let month = Month::try_from(date.1).unwrap();
    let date = Date::from_calendar_date(date.0, month, date.2).unwrap();
    UtcDateTime::new(date, Time::from_hms(hour, minute, 0).unwrap())
}

fn log_of(account: &str, region: &str, label: UtcDateTime, suffix: &str) -> String {
    let (y, m, d) = (label.year(), u8::from(label.month()), label.day());
    let (hour, minute) = (label.hour(), label.minute());
    format!(
        "AWSLogs/{account}/CloudTrail/{region}/{y:04}/{m:02}/{d:02}/\
         {account}_CloudTrail_{region}_{y:04}{m:02}{d:02}T{hour:02}{minute:02}Z_{suffix}.json.gz"
    )
}

fn log(label: UtcDateTime, suffix: &str) -> String {
    log_of("111122223333", "us-east-1", label, suffix)
}

const NOON: ((i32, u8, u8), u8, u8) = ((2026, 11, 23), 12, 0);

fn noon() -> UtcDateTime {
    at(NOON.0, NOON.1, NOON.2)
}

/// wazuh/wazuh#33108 (also #1367, #34615): three `T1820Z` files arrived after a `T1825Z` one, and a last-key
/// marker lost them.
#[tokio::test]
async fn files_of_an_older_label_that_arrive_later_are_collected() {
    let label = |minute| at((2025, 7, 1), 18, minute);
    let world = World::with([log(label(20), "aaaa"), log(label(25), "mmmm")]);
    let disk = FaultDisk::new();
    let mut agent = Agent::start(&testing::source("prod"), &world, &disk);
    agent.pass(at((2025, 7, 1), 18, 30)).await;
    for suffix in ["0000", "bbbb", "zzzz"] {
        world.put(&log(label(20), suffix));
    }
    let report = agent.pass(at((2025, 7, 1), 18, 35)).await;
    assert_eq!((report.seen.new, report.seen.known, report.tally.collected), (3, 2, 3));
    assert_eq!(world.collected(), world.logs());
}

/// logstash-plugins/logstash-input-s3#191, #221, #244: a time watermark lost objects of the same second.
#[tokio::test]
async fn files_of_the_same_label_are_told_apart_by_their_keys() {
    let world = World::with([log(noon(), "mmmm")]);
    let disk = FaultDisk::new();
    let mut agent = Agent::start(&testing::source("prod"), &world, &disk);
    for suffix in ["zzzz", "aaaa", "mmmn"] {
        assert!(agent.pass(noon()).await.is_complete());
        world.put(&log(noon(), suffix));
    }
    agent.pass(noon()).await;
    assert_eq!(world.collected().len(), 4);
}

/// The same over days: deliveries of up to 30 days late, in any order, over midnight, a month's end, a leap
/// day; with restarts, breaking connections and objects that fail for a while.
#[test]
fn whatever_arrives_in_whatever_order_is_collected_once() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        runtime().block_on(async {
            let world = World::with([]);
            world.lock().page = random.usize(1..40);
            world.lock().break_every = random.usize(0..5);
            let disk = FaultDisk::new();
            let begin = at((2028, 2, 24), 22, 0);
            let source =
                Source { start: Start::Date(at((2028, 1, 20), 0, 0).date()), ..testing::source("prod") };
            let mut agent = Agent::start(&source, &world, &disk);
            let mut now = begin;
            let mut trouble = false;
            for step in 0..120 {
                now += time::Duration::minutes(random.i64(1..180));
                for n in 0..random.u32(0..6) {
                    let late = match random.u8(0..10) {
                        0 => time::Duration::days(random.i64(3..30)),
                        1..4 => time::Duration::hours(random.i64(1..47)),
                        _ => time::Duration::minutes(random.i64(0..20)),
                    };
                    let region = ["us-east-1", "eu-west-1"][random.usize(0..2)];
                    let account = ["111122223333", "444455556666"][random.usize(0..2)];
                    let key = log_of(account, region, now - late, &format!("{step}x{n}"));
                    if random.u8(0..8) == 0 {
                        world.lock().get_broken.insert(key.clone());
                    }
                    world.put(&key);
                }
                if random.u8(0..10) == 0 {
                    agent = Agent::start(&source, &world, &disk);
                }
                trouble |= !agent.pass(now).await.is_complete();
            }
            assert!(trouble, "the world was too kind");
            for _ in 0..3 {
                now += time::Duration::days(1);
                agent.pass(now).await;
            }
            assert_eq!(world.collected(), world.logs(), "seed {seed}");
        });
    }
}

#[tokio::test]
async fn neighbours_and_digests_are_not_fetched_nor_even_listed() {
    let good = log(noon(), "good");
    let wanted = [
        good.clone(),
        good.replace("CloudTrail", "CloudTrail-Insight"),
        good.replace("CloudTrail", "CloudTrail-NetworkActivity"),
    ];
    let world = World::with(wanted.clone());
    for other in [
        // All of these sort before "CloudTrail/", since '-' comes before '/'.
        good.replace("CloudTrail", "CloudTrail-Digest"),
        good.replace("CloudTrail", "CloudTrail-Aggregated"),
        good.replace("CloudTrail", "Config"),
        good.replace("CloudTrail", "elasticloadbalancing"),
        good.replace("CloudTrail", "vpcflowlogs"),
        "AWSLogs/111122223333/CloudTrail".to_owned(),
        "AWSLogs/111122223333/CloudTrail/".to_owned(),
        "AWSLogs/aws-account-id=111122223333/CloudTrail/us-east-1/x".to_owned(),
        "AWSLogs/stray.txt".to_owned(),
        "elsewhere/AWSLogs/".to_owned() + &good,
        // Among the logs themselves.
        good.replace("_CloudTrail_", "_CloudTrail-Digest_"),
        good.replace("good", "not_good"),
        format!("AWSLogs/111122223333/CloudTrail/us-east-1/2026/{good}"),
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/23/".to_owned(),
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/24/".to_owned(),
    ] {
        world.put(&other);
    }
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let mut agent = Agent::start(&source, &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    assert_eq!(world.collected(), BTreeSet::from(wanted));
    let not_logs = NotALog::ALL.map(|why| report.seen.not_logs[why.index()]);
    // The marker of the first day is `start-after` itself.
    assert_eq!(not_logs, [1, 0, 1, 0, 2]);
    assert_eq!(agent.status.not_logs(NotALog::Digest), 1);
    assert_eq!(report.trouble(), None);
    assert!(
        !world.lock().requests.iter().any(|prefix| prefix.contains("Digest") || prefix.contains("Config"))
    );
    assert_eq!(report.seen.list_requests, 1 + 1 + 3 + 3);
}

#[tokio::test]
async fn organisations_prefixes_and_filters_select_streams() {
    let plain = log_of("111122223333", "us-east-1", noon(), "a");
    let all: Vec<String> = ["", "o-abc1234567/"]
        .into_iter()
        .flat_map(|org| {
            ["111122223333", "444455556666"].into_iter().flat_map(move |account| {
                ["us-east-1", "us-gov-west-1", "cn-north-1"].map(|region| {
                    log_of(account, region, noon(), "a").replace("AWSLogs/", &format!("AWSLogs/{org}"))
                })
            })
        })
        .collect();
    let under = |prefix: &str| all.iter().map(|key| format!("{prefix}{key}")).collect::<Vec<_>>();
    for prefix in ["", "o-abc1234567/", "a/b/", "AWSLogs/"] {
        let world = World::with(under(prefix));
        world.lock().page = 1;
        world.put("zzz/AWSLogs/");
        let source = Source { prefix: prefix.into(), ..testing::source("prod") };
        Agent::start(&source, &world, &FaultDisk::new()).pass(noon()).await;
        assert_eq!(world.collected(), under(prefix).into_iter().collect(), "{prefix}");
    }
    let world = World::with(all.clone());
    let source = Source {
        accounts: vec!["111122223333".into(), "999999999999".into()],
        regions: vec!["us-east-1".into()],
        ..testing::source("prod")
    };
    Agent::start(&source, &world, &FaultDisk::new()).pass(noon()).await;
    let selected = [plain.clone(), plain.replace("AWSLogs/", "AWSLogs/o-abc1234567/")];
    assert_eq!(world.collected(), BTreeSet::from(selected));
}

#[tokio::test]
async fn one_account_that_is_denied_does_not_stop_the_others() {
    let accounts = ["111111111111", "222222222222", "333333333333"];
    let world = World::with(accounts.map(|account| log_of(account, "us-east-1", noon(), "a")));
    world.lock().list_denied.insert("AWSLogs/222222222222/".to_owned());
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    assert_eq!((report.tally.collected, report.seen.lists_failed), (2, 1));
    assert!(!report.is_complete());
    assert_eq!(agent.status.trouble().unwrap().cause, "denied");

    world.lock().list_denied.clear();
    let report = agent.pass(noon() + time::Duration::minutes(61)).await;
    assert!(report.is_complete());
    assert_eq!(agent.status.trouble(), None);
    assert_eq!(world.collected(), world.logs());
}

#[tokio::test]
async fn a_restart_collects_nothing_twice_and_start_does_not_move() {
    let hour = time::Duration::hours(1);
    let world = World::with((0..48).map(|n| log(noon() - hour * n, "a")));
    let disk = FaultDisk::new();
    let day_ago = Start::Ago(Duration::from_secs(24 * 3600));
    let source = Source { start: day_ago, ..testing::source("prod") };
    let report = Agent::start(&source, &world, &disk).pass(noon()).await;
    // The hours 0 to 24, and of the window's days those before the start.
    assert_eq!((report.tally.collected, report.seen.before_start), (25, 11 + 1));

    let disk = disk.reboot(Survive::Nothing);
    world.put(&log(noon() - hour * 24, "late"));
    world.put(&log(noon() - hour * 25, "before"));
    let report = Agent::start(&source, &world, &disk).pass(noon() + hour * 12).await;
    assert_eq!((report.tally.collected, report.seen.known), (1, 25));
    world.collected();
}

/// A power cut at any step of a pass's writing: after the restart nothing is missing, nothing twice, and the
/// start is where it was, or was never resolved.
#[tokio::test]
async fn a_power_cut_while_remembering_loses_nothing() {
    let day_ago = Start::Ago(Duration::from_secs(24 * 3600));
    let source = Source { start: day_ago, ..testing::source("prod") };
    for fuse in 0.. {
        let world = World::with([log(noon(), "a")]);
        let disk = FaultDisk::new();
        disk.cut_after(fuse);
        let report = Agent::start(&source, &world, &disk).pass(noon()).await;
        let was_cut = disk.is_cut();
        assert_eq!(report.trouble().map(|trouble| trouble.cause), was_cut.then_some("state"));
        for survive in [Survive::Nothing, Survive::Everything, Survive::Random(fuse)] {
            let (ledger, collected) = {
                let world = world.lock();
                (world.ledger.clone(), world.collected.clone())
            };
            let world = World::with(world.logs());
            world.lock().ledger = ledger;
            world.lock().collected = collected;
            let late = noon() + time::Duration::hours(2);
            world.put(&log(late, "b"));
            let disk = disk.preview(survive);
            let report = Agent::start(&source, &world, &disk).pass(late).await;
            assert!(report.is_complete());
            assert_eq!(world.collected(), world.logs());
        }
        if !was_cut {
            return;
        }
    }
}

/// elastic/beats#39065: an object that failed once was later skipped as old.
#[tokio::test]
async fn an_object_that_failed_comes_again_however_old_it_got() {
    let (denied, broken, gone) = (log(noon(), "denied"), log(noon(), "broken"), log(noon(), "gone"));
    let world = World::with([denied.clone(), broken.clone(), gone.clone()]);
    world.lock().get_denied.insert(denied.clone());
    world.lock().get_broken.insert(broken.clone());
    world.lock().get_gone.insert(gone.clone());
    let disk = FaultDisk::new();
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let mut agent = Agent::start(&source, &world, &disk);
    let report = agent.pass(noon()).await;
    assert_eq!((report.tally.failed_denied, report.tally.failed_transient, report.tally.gone), (1, 1, 1));
    assert_eq!(agent.status.trouble().unwrap().cause, "kms");
    world.lock().keys.remove(&gone);

    agent.pass(noon() + time::Duration::minutes(5)).await;
    assert_eq!(world.collected(), BTreeSet::from([broken]));

    // Past the hot window, past the cold one, over a restart; other objects come and go.
    for day in 1..34 {
        let now = noon() + time::Duration::days(day);
        world.put(&log(now, "other"));
        if day == 20 {
            agent = Agent::start(&source, &world, &disk);
        }
        let report = agent.pass(now).await;
        assert_eq!((report.tally.collected, report.tally.failed_denied), (1, 1), "day {day}");
    }
    world.lock().get_denied.clear();
    let now = noon() + time::Duration::days(34);
    assert!(agent.pass(now).await.is_complete());
    assert_eq!(world.collected(), world.logs());

    // Now the old days are let go: the ledger shrinks, and nothing is listed from there.
    let mut report = agent.pass(now + time::Duration::days(1)).await;
    for days in 2..8 {
        let now = now + time::Duration::days(days);
        world.put(&log(now, "other"));
        report = agent.pass(now).await;
    }
    assert!(report.plan.unwrap().oldest > noon().date());
    let oldest = *world.lock().ledger.keys().next().unwrap();
    assert!(oldest > noon().date(), "{oldest}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_goes_on_behind_the_last_key() {
    for (break_every, page, tokens_refused) in [(2, 7, false), (3, 1000, false), (0, 7, true), (2, 5, true)] {
        let minutes = |n| time::Duration::minutes(n);
        let world = World::with((0..100).map(|n| log(noon() - minutes(n * 5), "a")));
        world.lock().page = page;
        world.lock().break_every = break_every;
        world.lock().tokens_refused = tokens_refused;
        let report = Agent::start(&testing::source("prod"), &world, &FaultDisk::new()).pass(noon()).await;
        assert_eq!((report.seen.new, report.tally.collected), (100, 100));
        assert!(report.is_complete());
        assert_eq!(world.collected(), world.logs());
    }
}

/// Objects that lie beside the folders come before these on a page, whatever their names: what breaks off behind such an
/// object has shown no folder yet.
#[tokio::test(start_paused = true)]
async fn a_listing_of_folders_that_breaks_off_behind_a_stray_object_finds_all_of_them() {
    for page in [2, 3, 1000] {
        let logs: BTreeSet<String> = ["111111111111", "222222222222"]
            .into_iter()
            .flat_map(|account| ["eu-west-1", "us-east-1"].map(|region| log_of(account, region, noon(), "a")))
            .flat_map(|log| [log.replace("CloudTrail", "CloudTrail-Insight"), log])
            .collect();
        let world = World::with(logs.clone());
        world.put("AWSLogs/zzz");
        for account in ["111111111111", "222222222222"] {
            for stray in ["AElsewhere", "ELBAccessLogTestFile", "CloudTrail/zzz", "CloudTrail-Insight/zzz"] {
                world.put(&format!("AWSLogs/{account}/{stray}"));
            }
        }
        world.lock().page = page;
        world.lock().break_first = true;
        let report = Agent::start(&testing::source("prod"), &world, &FaultDisk::new()).pass(noon()).await;
        assert!(report.is_complete(), "{:?}", report.trouble());
        assert_eq!(world.collected(), logs, "{page} on a page");
    }
}

#[tokio::test]
async fn no_listing_stays_open_while_the_queue_is_full_and_nothing_grows_with_it() {
    let seconds = |n| time::Duration::seconds(n);
    let world = World::with((0..5000).map(|n| log(noon() - seconds(n * 7), &format!("{n:05}"))));
    world.lock().page = 5000; // more than the agent takes at once
    let source = testing::source("prod");
    let queue = Queue::new(1, 4);
    let status = Arc::new(SourceStatus::new("prod"));
    let mut poller = Poller::new(
        &source,
        world.clone(),
        world.clone(),
        FaultDisk::new(),
        (queue.clone(), 0),
        Arc::clone(&status),
    );
    let worker = tokio::spawn({
        let (world, queue) = (world.clone(), queue.clone());
        async move {
            while let Some(wanted) = queue.pop().await {
                if queue.len() == 4 {
                    assert_eq!(world.lock().listing_now, 0);
                }
                assert!(queue.len() <= 4);
                assert!(queue.in_work() <= limits::LISTED_KEYS + 4);
                let mut world = world.lock();
                *world.collected.entry(wanted.object.key.to_string()).or_default() += 1;
                drop(world);
                wanted.ticket.settle(Outcome::Done);
            }
        }
    });
    let report = poller.pass(noon()).await;
    assert_eq!((report.seen.new, report.tally.collected, status.queued()), (5000, 5000, 5000));
    assert_eq!(world.collected().len(), 5000);
    // Folders, then five pages of a thousand; a page is not listed twice because its keys are new.
    assert!(report.seen.list_requests <= 3 + 6, "{}", report.seen.list_requests);
    queue.close();
    worker.await.unwrap();
}

#[tokio::test]
async fn an_empty_place_names_the_likely_fault_of_the_configuration() {
    let world = World::with([format!("o-abc1234567/{}", log(noon(), "a"))]);
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    let trouble = report.trouble().unwrap();
    assert_eq!(trouble.cause, "empty");
    for part in ["bucket bucket", "\"AWSLogs/\"", "key_prefix", "o-abc1234567"] {
        assert!(trouble.text.contains(part), "{part}: {}", trouble.text);
    }

    let source = Source { prefix: "o-abc1234567/".into(), ..testing::source("prod") };
    let filtered = Source { accounts: vec!["999999999999".into()], ..source.clone() };
    let report = Agent::start(&filtered, &world, &FaultDisk::new()).pass(noon()).await;
    assert_eq!(report.trouble().unwrap().cause, "nothing-selected");
    assert!(report.trouble().unwrap().text.contains("999999999999"));
    assert_eq!(Agent::start(&source, &world, &FaultDisk::new()).pass(noon()).await.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_down_ends_the_pass_and_the_next_one_takes_up_all() {
    let accounts = (0..20).map(|n| log_of(&format!("{n:012}"), "us-east-1", noon(), "a"));
    let world = World::with(accounts);
    world.lock().network_down = true;
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    assert_eq!((report.is_complete(), report.end.transient.is_empty()), (false, false));
    assert_eq!(agent.status.trouble().unwrap().cause, "network");
    assert!(world.lock().requests.len() < 20);
    world.lock().network_down = false;
    assert!(agent.pass(noon() + time::Duration::minutes(5)).await.is_complete());
    assert_eq!(world.collected(), world.logs());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_advance_is_not_asked_for_ever() {
    let world = World::with((0..50).map(|n| log(noon(), &format!("{n:02}"))));
    world.lock().page = 10;
    world.lock().ignores_start_after = true;
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    assert!(!report.is_complete());
    assert_eq!(report.trouble().unwrap().cause, "bad-answer");
    world.collected();
}

#[tokio::test]
async fn what_the_box_itself_cannot_do_is_trouble_and_no_loss() {
    let world = World::with([log(noon(), "a")]);
    let disk = FaultDisk::new();
    let mut agent = Agent::start(&testing::source("prod"), &world, &disk);

    let report = agent.pass(at((1970, 1, 1), 0, 3)).await;
    assert_eq!((report.plan, report.trouble().unwrap().cause), (None, "clock"));

    disk.fail_next(Op::Write, crate::fault_disk::ENOSPC);
    let report = agent.pass(noon()).await;
    assert_eq!((report.plan, report.trouble().unwrap().cause), (None, "state"));

    world.lock().ledger_down = true;
    let report = agent.pass(noon()).await;
    assert_eq!((report.is_complete(), report.trouble().unwrap().cause), (false, "ledger"));
    assert!(world.collected().is_empty());

    world.lock().ledger_down = false;
    assert!(agent.pass(noon()).await.is_complete());
    assert_eq!((agent.status.trouble(), world.collected()), (None, world.logs()));
    assert_eq!(agent.status.newest_collected().map(|stamp| stamp.date()), Some(noon().date()));
}

#[tokio::test]
async fn a_damaged_state_file_is_begun_anew_from_the_cold_window() {
    let days = time::Duration::days(1);
    let world = World::with((0..40).map(|n| log(noon() - days * n, "a")));
    let disk = FaultDisk::new();
    let source = Source { start: Start::Now, ..testing::source("prod") };
    Agent::start(&source, &world, &disk).pass(noon() - days * 20).await;
    disk.flip("sources/prod.state", 30, 4);
    Agent::start(&source, &world, &disk).pass(noon()).await;
    assert_eq!(world.collected().len(), 31);
}

#[tokio::test]
async fn an_object_in_work_elsewhere_is_not_queued_and_not_forgotten() {
    let world = World::with([log(noon(), "a")]);
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let elsewhere =
        Pass::new(Arc::clone(&agent.status), PrimitiveDateTime::new(noon().date(), noon().time()));
    let key = crate::discover::key::LogKey::parse(&log(noon(), "a")).unwrap();
    let ticket = agent.queue.ticket(&elsewhere, &key).unwrap();
    let report = agent.pass(noon()).await;
    assert_eq!((report.seen.in_work, report.seen.new, report.is_complete()), (1, 0, false));
    ticket.settle(Outcome::Failed(FailKind::Transient));
    assert!(agent.pass(noon()).await.is_complete());
    assert_eq!(world.collected(), world.logs());
}

#[tokio::test(start_paused = true)]
async fn the_poll_repeats_at_its_rate_and_stops_when_told() {
    let world = World::with([log(noon(), "a")]);
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let Agent { poller, status, queue } = &mut Agent::start(&source, &world, &FaultDisk::new());
    let poller = std::mem::replace(
        poller,
        Poller::new(
            &testing::source("unused"),
            world.clone(),
            world.clone(),
            FaultDisk::new(),
            (queue.clone(), 0),
            Arc::clone(status),
        ),
    );
    let begun = Instant::now();
    let clock = move || noon() + begun.elapsed();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(poller.run(clock, async {
        let _ = stopped.await;
    }));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // Every 300 s, less up to a tenth.
    assert!((12..=15).contains(&status.passes()), "{}", status.passes());
    world.put(&log(noon(), "b"));
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(world.collected(), world.logs());
    stop.send(()).unwrap();
    running.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any bucket, any page size, with connections that break: what the naive reading of the grammar calls a
    /// log is collected once, and nothing else.
    #[test]
    fn a_walk_finds_what_a_naive_reading_finds(
        page in 1usize..30,
        break_every in 0usize..6,
        parts in proptest::collection::vec((0usize..4, 0usize..5, 0usize..7, 0usize..4, 0u16..400, 0usize..5), 0..60),
    ) {
        let world = World::with([]);
        world.lock().page = page;
        world.lock().break_every = break_every;
        let mut logs = BTreeSet::new();
        for (root, account, kind, region, days, name) in parts {
            let root = ["AWSLogs/", "AWSLogs/o-abc1234567/", "AWSLogs-old/", "other/AWSLogs/"][root];
            let account = ["111111111111", "222222222222", "o-", "11111111111", "222222222222-x"][account];
            let kinds = ["CloudTrail", "CloudTrail-Insight", "CloudTrail-NetworkActivity"];
            let kind = [kinds[0], kinds[1], kinds[2], "CloudTrail-Digest", "Config", "CloudTrail0", "CloudTrail-"][kind];
            let region = ["us-east-1", "us-east-1-fips", "cn-north-1", "US"][region];
            let day = noon() - time::Duration::days(days.into());
            let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
            let name = match name {
                0 => format!("{account}_{kind}_{region}_{y:04}{m:02}{d:02}T0000Z_a.json.gz"),
                1 => format!("{account}_{kind}_{region}_{y:04}{m:02}{d:02}T2355Z_b.json.gz"),
                2 => format!("{account}_CloudTrail-Digest_{region}_{y:04}{m:02}{d:02}T2355Z_b.json.gz"),
                3 => String::new(),
                _ => "x/y.json.gz".to_owned(),
            };
            let text = format!("{root}{account}/{kind}/{region}/{y:04}/{m:02}/{d:02}/{name}");
            let is_log = ["AWSLogs/", "AWSLogs/o-abc1234567/"].contains(&root)
                && ["111111111111", "222222222222"].contains(&account)
                && kinds.contains(&kind)
                && region != "US"
                && (name.ends_with("_a.json.gz") || name.ends_with("_b.json.gz"))
                && !name.contains("Digest");
            world.put(&text);
            if is_log {
                logs.insert(text);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let report = runtime.block_on(async {
            Agent::start(&testing::source("prod"), &world, &FaultDisk::new()).pass(noon()).await
        });
        prop_assert!(report.is_complete(), "{:?}", report);
        prop_assert_eq!(world.collected(), logs);
        prop_assert_eq!(
            report.seen.listed,
            report.seen.new + report.seen.known + report.seen.not_logs.iter().sum::<u64>()
        );
    }
}
