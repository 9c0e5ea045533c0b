//! Clocks that were wrong at first, and are right later.

use super::*;

const HOUR: time::Duration = time::Duration::HOUR;
const DAY: time::Duration = time::Duration::DAY;

fn ago(span: time::Duration) -> Start {
    Start::Ago(Duration::try_from(span).unwrap())
}

/// Logs of an hour each, the newest first.
fn hourly(hours: i32) -> impl Iterator<Item = String> {
    (0..hours).map(|n| log(noon() - HOUR * n, "a"))
}

/// A battery that is empty, or a clock that somebody set to another time zone: `start` comes to mean what it means as soon
/// as the bucket has told the time, before the clock is right or after.
#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_at_the_first_run_skips_nothing() {
    for (start, ahead, wanted) in [
        (ago(DAY), DAY * 3650, 25),
        (ago(DAY), DAY * 3, 25),
        (ago(DAY * 7), DAY * 3, 7 * 24 + 1),
        (Start::Now, DAY * 3650, 1),
        (Start::Now, HOUR * 7, 1),
    ] {
        for (network_down, restart) in [(true, false), (true, true), (false, false), (false, true)] {
            let source = Source { start, ..testing::source("prod") };
            let world = World::with(hourly(20 * 24));
            let expected: BTreeSet<String> = hourly(wanted).collect();
            let disk = FaultDisk::new();
            let mut agent = Agent::start(&source, &world, &disk);
            world.lock().time = Some(noon());
            world.lock().network_down = network_down;
            agent.pass(noon() + ahead).await;
            assert_eq!(world.collected(), if network_down { BTreeSet::new() } else { expected.clone() });
            world.lock().network_down = false;
            if restart {
                agent = Agent::start(&source, &world, &disk);
            }
            let report = agent.pass(noon()).await;
            assert!(report.is_complete(), "{:?}", report.trouble());
            assert_eq!(world.collected(), expected, "{start:?}, {ahead} ahead, {network_down}, {restart}");
            let Loaded::Progress(progress) = state::load(&disk, "prod").unwrap() else { panic!() };
            assert!(progress.floor <= noon().date(), "the ledger would never forget");

            // Nothing comes twice later.
            world.lock().time = Some(noon() + DAY * 2);
            world.put(&log(noon() + DAY * 2, "late"));
            assert!(agent.pass(noon() + DAY * 2).await.is_complete());
            assert_eq!(world.collected().len(), expected.len() + 1);
        }
    }
}

/// A box without a battery begins each time with the day that its system was built: that moves no `start`.
#[tokio::test]
async fn a_clock_that_stands_back_after_a_restart_brings_back_no_older_days() {
    for start in [Start::Now, ago(DAY)] {
        let source = Source { start, ..testing::source("prod") };
        let world = World::with((0..700).map(|n| log(noon() - DAY * n, "a")));
        let disk = FaultDisk::new();
        Agent::start(&source, &world, &disk).pass(noon()).await;
        let collected = world.collected();
        let mut agent = Agent::start(&source, &world, &disk);
        world.lock().time = Some(noon() + HOUR);
        agent.pass(at((2025, 3, 1), 0, 0)).await;
        agent.pass(noon() + HOUR).await;
        assert_eq!(world.collected(), collected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_not_set_yet_is_looked_at_again_within_a_minute() {
    let world = World::with([log(noon(), "a")]);
    let source = Source { refresh: Duration::from_secs(24 * 3600), ..testing::source("prod") };
    let queue = Queue::new(1, 8);
    tokio::spawn(work(world.clone(), queue.clone()));
    let status = Arc::new(SourceStatus::new("prod"));
    let (disk, lane) = (FaultDisk::new(), (queue.clone(), 0));
    let poller = Poller::new(&source, world.clone(), world.clone(), disk, lane, status.clone());
    let begun = Instant::now();
    let clock = move || {
        let elapsed = begun.elapsed();
        if elapsed < Duration::from_secs(10) { at((1970, 1, 1), 0, 0) + elapsed } else { noon() + elapsed }
    };
    let running = tokio::spawn(poller.run(clock, std::future::pending()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(status.trouble().map(|trouble| trouble.cause), Some("clock"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((status.trouble(), world.collected()), (None, world.logs()));
    running.abort();
    queue.close();
}
