//! Whole histories: a bucket into which objects come out of order, the real poller, ledger and spool on a disk that
//! loses its power, a clock that steps, restarts. Afterwards the spool itself says what was collected, and how often.

use std::time::Duration as Wait;

use time::Duration;

use super::*;
use crate::discover::key::LogKey;
use crate::discover::ledger::{Entry, Ledger};
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::spool::position::Position;
use crate::spool::{self, Compression, Quarantine, Spool, Writer};

/// The agent's durable half and its poll; dropped it is a crash.
struct Appliance {
    poller: Poller<World, Arc<Ledger<FaultDisk>>, FaultDisk>,
    ledger: Arc<Ledger<FaultDisk>>,
    queue: Queue,
    _spool: Arc<Spool<FaultDisk>>,
}

impl Appliance {
    fn start(source: &Source, world: &World, disk: &FaultDisk) -> Appliance {
        let ledger = Arc::new(Ledger::open(disk.clone()).unwrap());
        let (writer, spool) = open_spool(disk, ledger.checkpoint(), &mut |key, fate, counts, end| {
            let day = LogKey::parse(key).unwrap().day();
            ledger.replay(&Entry { source: "prod", day, key, fate, counts }, end).unwrap();
        });
        let queue = Queue::new(1, 8);
        let store = Arc::new(Mutex::new(writer));
        for _ in 0..3 {
            tokio::spawn(keep(world.clone(), queue.clone(), store.clone(), ledger.clone()));
        }
        let status = Arc::new(SourceStatus::new(&source.name));
        let poller =
            Poller::new(source, world.clone(), ledger.clone(), disk.clone(), (queue.clone(), 0), status);
        Appliance { poller, ledger, queue, _spool: spool }
    }

    /// Passes until none of the history waits; whether the last one left nothing behind.
    async fn pass(&mut self, now: UtcDateTime) -> bool {
        loop {
            let report = self.poller.pass(now).await;
            if !report.more {
                return report.is_complete();
            }
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn open_spool(
    disk: &FaultDisk,
    from: Position,
    visit: &mut dyn FnMut(&str, ObjectFate, Counts, Position),
) -> (Writer<FaultDisk>, Arc<Spool<FaultDisk>>) {
    let options = spool::Options {
        max_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        max_record_bytes: 4096,
        compression: Compression::None,
        outputs: Vec::new(),
    };
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let mut each = |object: ObjectId, fate, counts, end| visit(&object.key, fate, counts, end);
    let (writer, spool, _) = spool::open(disk.clone(), options, quarantine, from, &mut each).unwrap();
    (writer, spool)
}

/// A fetch worker and the storekeeper: an object is in the spool, then in the ledger, then its ticket is settled.
async fn keep(
    world: World,
    queue: Queue,
    store: Arc<Mutex<Writer<FaultDisk>>>,
    ledger: Arc<Ledger<FaultDisk>>,
) {
    while let Some(wanted) = queue.pop().await {
        let broken = world.lock().get_broken.remove(&*wanted.object.key);
        tokio::task::yield_now().await;
        if broken {
            wanted.ticket.fail(&fault(Class::Retry, "network"));
            continue;
        }
        let mut writer = store.lock().unwrap();
        let counts = Counts { records: 1, kept: 1, ..Counts::default() };
        let (object, fate) = (&wanted.object, ObjectFate::Collected);
        let committed = writer
            .begin(object)
            .and_then(|()| writer.record(0, br#"{"eventID":"e"}"#))
            .and_then(|()| writer.end(fate, &counts))
            .and_then(|()| writer.commit());
        let Ok(committed) = committed else {
            writer.rollback();
            continue; // the ticket says so
        };
        let entry = Entry { source: &object.source, day: wanted.day, key: &object.key, fate, counts };
        if ledger.insert(&committed, &[entry]).is_ok() {
            wanted.ticket.settle(Outcome::Done);
        }
    }
}

/// What stands in the spool from its first byte on, and how often.
fn spooled(disk: &FaultDisk) -> BTreeMap<String, u32> {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let visit = &mut |key: &str, _, _, _| *times.entry(key.to_owned()).or_default() += 1;
    drop(open_spool(&disk.reboot(Survive::Nothing), Position::default(), visit));
    times
}

/// What may happen to the box between two polls, and to the bucket.
struct Dice(fastrand::Rng);

impl Dice {
    /// Time to the next poll: mostly some minutes, now and then a night, rarely the box is off for weeks.
    fn pause(&mut self) -> Duration {
        match self.0.u8(0..100) {
            0 => Duration::days(self.0.i64(3..20)),
            1..10 => Duration::hours(self.0.i64(4..14)),
            _ => Duration::minutes(self.0.i64(4..240)),
        }
    }

    /// How late an object is.
    fn late(&mut self) -> Duration {
        match self.0.u8(0..10) {
            0 => Duration::days(29) + Duration::minutes(self.0.i64(0..1440)),
            1 => Duration::days(self.0.i64(3..29)),
            2..5 => Duration::hours(self.0.i64(1..47)),
            _ => Duration::minutes(self.0.i64(5..25)),
        }
    }

    /// How wrong the clock is from now on.
    fn clock(&mut self) -> Duration {
        match self.0.u8(0..4) {
            0 => Duration::days(self.0.i64(-40..40)),
            1 => Duration::hours(self.0.i64(-30..30)),
            _ => Duration::ZERO,
        }
    }

    /// Random in all parts, so that nothing of the order in which they come is in their names.
    fn log(&mut self, moment: UtcDateTime, name: &str) -> String {
        let label = Time::from_hms(moment.hour(), moment.minute() / 5 * 5, 0).unwrap();
        let account = ["111122223333", "444455556666", "777788889999"][self.0.usize(0..3)];
        let region = ["us-east-1", "eu-west-1", "ap-southeast-2", "us-gov-west-1"][self.0.usize(0..4)];
        let kind = ["CloudTrail", "CloudTrail", "CloudTrail-Insight"][self.0.usize(0..3)];
        let suffix = format!("{:08x}{name}", self.0.u32(..));
        log_of(account, region, moment.replace_time(label), &suffix).replace("CloudTrail", kind)
    }
}

async fn history(seed: u64) {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let world = World::with([]);
    world.lock().page = dice.0.usize(1..30);
    world.lock().break_every = [0, 3, 7][dice.0.usize(0..3)];
    let mut disk = FaultDisk::new();
    let start = at((2028, 1, 20), 0, 0).date();
    let source = Source { start: Start::Date(start), ..testing::source("prod") };
    // Over a leap day, the ends of two months, and of a quarter.
    let (mut real, end) = (at((2028, 2, 20), 22, 50), at((2028, 4, 20), 0, 0));
    let mut wrong = Duration::ZERO;
    let mut agent = Appliance::start(&source, &world, &disk);
    let (mut cuts, mut steps, mut left) = (0, 0, 0);
    while real < end {
        real += dice.pause();
        steps += 1;
        for n in 0..dice.0.u32(0..6) {
            let moment = real - dice.late();
            let key = dice.log(moment, &format!("{steps}x{n}"));
            if dice.0.u8(0..8) == 0 {
                world.lock().get_broken.insert(key.clone());
            }
            world.put(&key);
        }
        if dice.0.u8(0..20) == 0 {
            wrong = dice.clock();
        }
        let may_cut = dice.0.u8(0..6) == 0;
        if may_cut {
            disk.cut_after(dice.0.u64(0..2000));
        }
        left += u32::from(!agent.pass(real + wrong).await);
        if dice.0.u8(0..5) == 0 {
            let _ = agent.ledger.save();
        }
        if may_cut || dice.0.u8(0..12) == 0 {
            cuts += u32::from(disk.is_cut());
            drop(agent);
            tokio::time::sleep(Wait::from_secs(1)).await; // its workers end
            let survive = [Survive::Nothing, Survive::Everything, Survive::Random(dice.0.u64(..))];
            disk = disk.reboot(survive[dice.0.usize(0..3)]);
            agent = Appliance::start(&source, &world, &disk);
        }
    }
    assert!(cuts > 5 && left > 5, "the world was too kind: {cuts} cuts, {left} passes that left something");
    // What came last gets its sweep.
    for _ in 0..2 * 3 {
        real += Duration::hours(12);
        agent.pass(real).await;
    }
    drop(agent);
    tokio::time::sleep(Wait::from_secs(1)).await;
    let wanted: BTreeMap<String, u32> = world.logs().into_iter().map(|key| (key, 1)).collect();
    assert!(wanted.len() > 300, "{}", wanted.len());
    let spooled = spooled(&disk);
    let all = wanted.keys().chain(spooled.keys());
    let wrong: Vec<_> = all.filter(|key| wanted.get(*key) != spooled.get(*key)).collect();
    assert!(wrong.is_empty(), "seed {seed}: {} of {}: {wrong:#?}", wrong.len(), wanted.len());
}

/// wazuh/wazuh#33108 (also #1367, #34615): objects of an older label that arrived after those of a newer one were lost
/// by a last-key marker. Here they come shuffled, up to 29 days late, over midnights, a leap day and the ends of months,
/// while the clock steps forward and back, connections break, and the power goes at any step of the disk.
#[test]
fn wazuh_33108_whatever_arrives_however_late_is_in_the_spool_exactly_once() {
    for seed in 0..4 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history(seed));
    }
}

/// elastic/beats#52721: two inputs wiped each other's state, and everything was ingested again.
#[tokio::test(start_paused = true)]
async fn two_sources_of_one_bucket_keep_out_of_each_others_state() {
    let world = World::with((0..60).map(|n| log(noon() - Duration::days(60 - n), "a")));
    let disk = FaultDisk::new();
    let early = Source { start: Start::All, ..testing::source("early") };
    let late = Source { start: Start::Date(noon().date()), ..testing::source("late") };
    let mut agents = [Agent::start(&early, &world, &disk), Agent::start(&late, &world, &disk)];
    for day in 0..50 {
        let now = noon() + Duration::days(day);
        world.put(&log(now, "b"));
        for agent in &mut agents {
            assert!(agent.pass(now).await.is_complete());
        }
        if day % 10 == 0 {
            agents = [Agent::start(&early, &world, &disk), Agent::start(&late, &world, &disk)];
        }
    }
    let times = world.lock().collected.clone();
    assert_eq!(times.len(), 110);
    for (key, times) in times {
        let both = LogKey::parse(&key).unwrap().day() >= noon().date();
        assert_eq!(times, if both { 2 } else { 1 }, "{key}");
    }
}

/// A source that is removed, put back, renamed.
#[tokio::test]
async fn a_source_that_is_put_back_goes_on_and_a_renamed_one_begins_anew() {
    let world = World::with([log(noon() - Duration::days(9), "a"), log(noon(), "a")]);
    let disk = FaultDisk::new();
    let begin = noon() - Duration::days(20);
    let prod = Source { start: Start::Date(begin.date()), ..testing::source("prod") };
    assert_eq!(Agent::start(&prod, &world, &disk).pass(noon()).await.seen.new, 2);
    // Removed for twelve days; what came meanwhile is there when it is put back, and nothing else.
    world.put(&log(noon() + Duration::days(1), "b"));
    world.put(&log(noon() - Duration::days(15), "late"));
    let back = noon() + Duration::days(12);
    assert_eq!(Agent::start(&prod, &world, &disk).pass(back).await.seen.new, 2);
    assert_eq!(world.collected(), world.logs());
    // Under another name it begins with its `start`.
    let renamed = Source { name: "production".into(), ..prod };
    assert_eq!(Agent::start(&renamed, &world, &disk).pass(back).await.seen.new, 4);
}

/// logstash-plugins/logstash-input-s3#86, #128, #129, wazuh/wazuh#510: every poll listed the whole bucket.
#[tokio::test]
async fn a_poll_lists_no_more_of_a_bucket_however_long_its_history_is() {
    let mut requests = Vec::new();
    for days in [10, 300] {
        let world = World::with(
            (0..days)
                .flat_map(|day| (0..20).map(move |n| log(noon() - Duration::days(day), &format!("{n:02}")))),
        );
        let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
        agent.pass(noon()).await;
        let report = agent.pass(noon() + Duration::minutes(5)).await;
        requests.push((report.seen.list_requests, report.seen.listed));
    }
    assert_eq!(requests[0], requests[1]);
}

/// An organisation: several streams are listed at once, no more than the bound, and each is collected.
#[tokio::test(start_paused = true)]
async fn many_streams_are_listed_some_at_once() {
    let accounts = (0..40).map(|n| format!("{n:012}"));
    let keys = accounts.flat_map(|account| {
        ["us-east-1", "eu-west-1", "eu-north-1"].map(|region| log_of(&account, region, noon(), "a"))
    });
    let world = World::with(keys);
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let report = Agent::start(&source, &world, &FaultDisk::new()).pass(noon()).await;
    assert_eq!((report.seen.streams, report.seen.accounts, report.tally.collected), (120, 40, 120));
    assert_eq!(world.collected(), world.logs());
    let at_once = world.lock().listed_at_once;
    assert!((5..=2 * limits::LISTS_IN_FLIGHT + 1).contains(&at_once), "{at_once}");
}

/// The passes that follow each other at once for a backfill list that alone, but what is fresh does not wait for its end.
#[tokio::test(start_paused = true)]
async fn a_backfill_lists_what_is_fresh_when_a_poll_is_due_and_not_on_each_of_its_passes() {
    let world = World::with((0..60).map(|n| log(noon() - Duration::days(n), "a")));
    let source = Source { start: Start::All, ..testing::source("prod") };
    let mut agent = Agent::start(&source, &world, &FaultDisk::new());
    let poll = agent.poller.pass(noon()).await;
    assert_eq!((poll.seen.listed, poll.more), (3, true));
    world.put(&log(noon() + Duration::minutes(5), "b"));
    let next = agent.poller.pass(noon() + Duration::minutes(1)).await;
    assert_eq!((next.seen.listed, next.seen.streams, next.more), (0, 1, true));
    tokio::time::advance(source.refresh).await;
    let due = agent.poller.pass(noon() + Duration::minutes(6)).await;
    assert_eq!((due.seen.new, due.more), (1, true));
    let rest = agent.pass(noon() + Duration::minutes(7)).await;
    assert_eq!((rest.seen.new, rest.is_complete()), (57, true));
    assert!(
        rest.seen.listed <= 61,
        "once, and no more than a page of what was listed before: {}",
        rest.seen.listed
    );
    assert_eq!(world.collected(), world.logs());
}

/// The history is shown as long as there is any, with an end in sight.
#[tokio::test(start_paused = true)]
async fn a_backfill_shows_how_far_it_is() {
    let world = World::with((0..400).map(|n| log(noon() - Duration::days(n), "a")));
    world.lock().page = 10;
    let first = (noon() - Duration::days(399)).date();
    let source = Source { start: Start::Date(first), ..testing::source("prod") };
    let mut agent = Agent::start(&source, &world, &FaultDisk::new());
    let mut report = agent.poller.pass(noon()).await;
    assert_eq!((report.tally.collected, agent.status.backfill()), (3, None));
    while report.more {
        tokio::time::sleep(Wait::from_secs(60)).await;
        report = agent.poller.pass(noon()).await;
        if let Some(backfill) = agent.status.backfill() {
            assert!(backfill.done <= backfill.all, "{backfill:?}");
            assert!(backfill.to_string().starts_with("backfill 2025-10-20 to 2026-11-23: "), "{backfill}");
        }
    }
    assert_eq!(agent.status.backfill(), None);
    assert_eq!(world.collected(), world.logs());
}
