//! Objects that may not be read: how many are asked for, and who does not wait for them.

use super::*;

/// A key policy that refuses everything: not every poll asks for every object, and all come once it is mended.
#[tokio::test]
async fn a_bucket_that_refuses_every_object_is_not_asked_for_all_of_them_on_every_poll() {
    let seconds = |n| time::Duration::seconds(n);
    let world = World::with((0..2000).map(|n| log(noon() - seconds(n), &format!("{n:04}"))));
    world.lock().get_denied = world.logs();
    let mut agent = Agent::start(&testing::source("prod"), &world, &FaultDisk::new());
    let mut asked = 0;
    for n in 0..24 {
        let report = agent.pass(noon() + time::Duration::minutes(5 * n)).await;
        assert!(!report.is_complete());
        assert!(report.tally.failed_denied >= 100);
        asked += report.tally.failed_denied;
    }
    // For all of them when their turn comes in the backfill, and an hour later; else for a page's part.
    assert!(asked <= 24 * 356 + 2 * 2000, "{asked}");
    world.lock().get_denied.clear();
    let mut minutes = 120;
    while !agent.pass(noon() + time::Duration::minutes(minutes)).await.is_complete() {
        minutes += 5;
        assert!(minutes < 240);
    }
    assert_eq!(world.collected(), world.logs());
}

/// An organisation's bucket with accounts whose key is not shared: those behind them in the listing are collected all the
/// same, what is new today as well as a backlog.
#[tokio::test]
async fn accounts_that_refuse_every_object_do_not_hold_up_those_behind_them() {
    let of = |account: u32, n: i64| {
        let label = noon() - time::Duration::seconds(n);
        log_of(&format!("{account:012}"), "us-east-1", label, &format!("{n:03}"))
    };
    let world = World::with((0..10).flat_map(|account| (0..300).map(move |n| of(account, n))));
    world.lock().get_denied = (0..9).flat_map(|account| (0..300).map(move |n| of(account, n))).collect();
    let known = (0..300).map(|n| ("prod".to_owned(), of(9, n))).collect();
    world.lock().ledger.insert(noon().date(), known);
    world.put(&of(9, 300));
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let mut agent = Agent::start(&source, &world, &FaultDisk::new());
    let report = agent.pass(noon()).await;
    assert_eq!(world.collected(), BTreeSet::from([of(9, 300)]));
    assert_eq!((report.seen.streams, report.is_complete()), (10, false));

    let backlog: BTreeSet<String> = (301..1000).map(|n| of(9, n)).collect();
    world.lock().keys.extend(backlog.clone());
    agent.pass(noon() + time::Duration::minutes(5)).await;
    assert!(world.collected().is_superset(&backlog), "all of it at once");
}

#[tokio::test]
async fn of_many_streams_that_are_refused_only_a_few_objects_are_asked_for() {
    let accounts = 0..200u32;
    let world = World::with(accounts.flat_map(|account| {
        let labels = (0..50).map(|n| noon() - time::Duration::minutes(n));
        labels.map(move |label| log_of(&format!("{account:012}"), "us-east-1", label, "a"))
    }));
    world.lock().get_denied = world.logs();
    let source = Source { start: Start::Date(noon().date()), ..testing::source("prod") };
    let report = Agent::start(&source, &world, &FaultDisk::new()).pass(noon()).await;
    let asked = report.tally.failed_denied;
    assert_eq!((report.seen.streams, report.seen.new), (200, asked));
    // A portion of each stream that is listed while that is not known yet, then a sample of each.
    assert!(asked <= 100 + 8 * 50 + 200 * 4, "{asked}");
}
