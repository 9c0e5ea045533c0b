//! Progress against calendars, clocks, and a naive bucket.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn day(text: &str) -> Date {
    let mut parts = text.split('-').map(|part| part.parse::<u16>().unwrap());
    let (y, m, d) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    Date::from_calendar_date(y.into(), Month::try_from(m as u8).unwrap(), d as u8).unwrap()
}

fn at(date: &str, hour: u8, minute: u8) -> PrimitiveDateTime {
    PrimitiveDateTime::new(day(date), Time::from_hms(hour, minute, 0).unwrap())
}

fn key(date: Date, hour: u8, minute: u8) -> LogKey {
    let (y, m, d) = (date.year(), u8::from(date.month()), date.day());
    LogKey::parse(&format!(
        "AWSLogs/111122223333/CloudTrail/us-east-2/{y:04}/{m:02}/{d:02}/\
         111122223333_CloudTrail_us-east-2_{y:04}{m:02}{d:02}T{hour:02}{minute:02}Z_a.json.gz"
    ))
    .unwrap()
}

fn some_slice() -> Slice {
    Slice::of(key(day("2026-01-01"), 0, 0).stream())
}

fn all_well(newest: &str) -> PassEnd {
    PassEnd { newest: Some(day(newest)), ..PassEnd::default() }
}

/// Something in one slice was refused (or failed, if transient).
fn unfinished(date: Date, newest: Date, transient: bool) -> PassEnd {
    let mut end = PassEnd { newest: Some(newest), ..PassEnd::default() };
    end.unfinished.note(some_slice(), date);
    if transient {
        end.transient.add(some_slice());
    }
    end
}

/// A poll, and passes behind it until no backfill waits. All goes well.
fn pass_through(progress: &mut Progress, now: PrimitiveDateTime) {
    let end = PassEnd { newest: Some(now.date()), ..PassEnd::default() };
    let poll = progress.plan(now, false);
    progress.settle(&poll, &end);
    while progress.waiting(now).next().is_some() {
        let plan = progress.plan_backfill(now, poll.done_from(&end));
        progress.settle(&plan, &end);
    }
}

/// A source that has run since `since` and is up to date at `now`.
fn settled(since: &str, now: PrimitiveDateTime) -> Progress {
    let mut progress = Progress::first(Start::Date(day(since)), 7, now);
    pass_through(&mut progress, now);
    progress
}

#[test]
fn start_is_resolved_to_the_label_that_holds_it() {
    let now = at("2024-03-01", 0, 3);
    let hours = |n: u64| Start::Ago(std::time::Duration::from_secs(n * 3600));
    assert_eq!(resolve(Start::Now, now), at("2024-03-01", 0, 0));
    assert_eq!(resolve(hours(24), now), at("2024-02-29", 0, 0));
    assert_eq!(resolve(hours(1), at("2026-01-01", 0, 59)), at("2025-12-31", 23, 55));
    assert_eq!(resolve(hours(u64::MAX / 3600), now).date(), BEGINNING);
    assert_eq!(resolve(Start::Date(day("2020-05-06")), now), at("2020-05-06", 0, 0));
    assert_eq!(resolve(Start::All, now).date(), BEGINNING);
}

/// What the first passes list: fresh days everywhere, then the backfill, some slices at a time.
#[test]
fn what_is_fresh_comes_first_and_no_more_than_some_slices_of_a_backfill_hold_it_up() {
    let now = at("2026-11-23", 12, 0);
    for (start, fresh, from) in [
        (Start::Now, "2026-11-23", "2026-11-23"),
        (Start::Date(day("2026-11-21")), "2026-11-21", "2026-11-21"),
        (Start::Date(day("2013-11-13")), "2026-11-21", "2013-11-13"),
        (Start::All, "2026-11-21", "0000-1-1"),
    ] {
        let mut progress = Progress::first(start, 0, now);
        let plan = progress.plan(now, true);
        assert_eq!((plan.oldest, plan.cold.len()), (day(fresh), 0), "{start:?}");
        progress.settle(&plan, &all_well("2026-11-23"));
        let mut passes = 0;
        while progress.waiting(now).count() > 0 {
            assert!(progress.waiting(now).all(|(_, first)| first == day(from)));
            let plan = progress.plan(now, false);
            assert_eq!((plan.oldest, plan.cold.len() as usize), (day(from), OUTSTANDING_SLICES));
            progress.settle(&plan, &all_well("2026-11-23"));
            passes += 1;
        }
        let expected = if fresh == from { 0 } else { SLICES / OUTSTANDING_SLICES };
        assert_eq!(passes, expected, "{start:?}");
        assert!(progress.left.iter().all(|left| left.outstanding.is_none()), "{start:?}");
    }
}

/// What goes on with a backfill at once lists its own slices alone, up to what the poll before it listed, and moves
/// nothing on that belongs to the others.
#[test]
fn a_pass_for_a_backfill_alone_leaves_the_other_slices_as_they_are() {
    let now = at("2026-11-23", 23, 55);
    let mut progress = Progress::first(Start::Date(day("2013-11-13")), 0, now);
    let poll = progress.plan(now, true);
    assert!(poll.is_poll() && poll.until.is_none());
    progress.settle(&poll, &all_well("2026-11-23"));
    let until = poll.done_from(&all_well("2026-11-23"));
    assert_eq!(poll.done_from(&unfinished(day("2026-11-22"), day("2026-11-23"), false)), None);
    let later = now + Duration::minutes(10);
    let mut listed = SliceSet::default();
    for _ in 0..SLICES / OUTSTANDING_SLICES {
        let plan = progress.plan_backfill(later, until);
        assert!(
            !plan.is_poll()
                && plan.listed == plan.cold
                && Slice::all().all(|slice| !(listed.has(slice) && plan.listed.has(slice)))
        );
        assert_eq!((plan.oldest, plan.until), (day("2013-11-13"), Some(day("2026-11-21"))));
        assert_eq!(plan.listed.len() as usize, OUTSTANDING_SLICES);
        listed.add_all(plan.listed);
        let before = progress.clone();
        // Whatever is said of the others: it did not look at them.
        let mut end = all_well("2026-11-24");
        Slice::all()
            .filter(|slice| !plan.listed.has(*slice))
            .for_each(|slice| end.unfinished.note(slice, day("2026-01-01")));
        progress.settle(&plan, &end);
        assert_eq!((progress.through, progress.round), (before.through, before.round));
        for slice in Slice::all() {
            let expected = if plan.listed.has(slice) { Left::default() } else { before.left[slice.index()] };
            assert_eq!(progress.left[slice.index()], expected);
        }
    }
    assert_eq!(listed, SliceSet::ALL);
    let mut missed = PassEnd::default();
    missed.miss_all(&progress.plan_backfill(later, until), false);
    assert!(missed.unfinished.is_empty(), "nothing waits, so nothing is listed, nor missed");
}

#[test]
fn hot_days_are_whole_partitions_over_month_year_and_leap_day() {
    for (now, from) in
        [("2024-03-01", "2024-02-28"), ("2023-03-01", "2023-02-27"), ("2026-01-01", "2025-12-30")]
    {
        // Every minute of the day gives the same window, from midnight to midnight.
        for (hour, minute) in [(0, 0), (0, 1), (23, 59)] {
            let now = at(now, hour, minute);
            let plan = settled("2020-01-01", now).plan(now, false);
            assert!(
                Slice::all()
                    .filter(|slice| !plan.cold.has(*slice))
                    .all(|slice| plan.from(slice) == day(from))
            );
        }
    }
}

#[test]
fn a_day_of_polls_sweeps_every_slice_once_and_a_few_at_a_time() {
    let begun = at("2026-11-23", 12, 0);
    for minutes in [1, 5, 7, 60, 300, 1440] {
        let mut progress = settled("2020-01-01", begun);
        let mut now = begun;
        for _ in 0..3 {
            let mut swept = [0; SLICES];
            let (mut most, end) = (0, now + Duration::DAY);
            while now < end {
                now += Duration::minutes(minutes);
                let plan = progress.plan(now, false);
                for slice in Slice::all().filter(|slice| plan.cold.has(*slice)) {
                    swept[slice.index()] += 1;
                    let reach = (now.date() - plan.from(slice)).whole_days();
                    assert!((COLD_DAYS..=COLD_DAYS + 2).contains(&reach), "{reach}");
                }
                most = most.max(plan.cold.len());
                progress.settle(&plan, &PassEnd { newest: Some(now.date()), ..PassEnd::default() });
            }
            // Where a day's last poll falls just before or behind the end of a round, a slice moves by a poll.
            let sum: i32 = swept.iter().sum();
            assert!((SLICES as i32 - 16..=SLICES as i32 + 16).contains(&sum), "{minutes}: {swept:?}");
            // A round that ended late is followed by one that has some catching up to do.
            assert!(i64::from(most) <= 2 * minutes * SLICES as i64 / 1440 + 1, "{minutes} minutes: {most}");
        }
    }
}

#[test]
fn a_restart_goes_on_with_the_sweep_where_it_was() {
    let begun = at("2026-11-23", 12, 0);
    let mut progress = settled("2020-01-01", begun);
    for minutes in (0..720).step_by(5) {
        let plan = progress.plan(begun + Duration::minutes(minutes), false);
        progress.settle(&plan, &all_well("2026-11-23"));
    }
    let later = progress.plan(begun + Duration::hours(12), true);
    assert!(later.cold.len() <= 1);
    assert_eq!(progress.round.unwrap().swept, 31);
    // Off for half a day: half a day's slices are due, not all of them.
    assert_eq!(progress.plan(begun + Duration::hours(23), true).cold.len(), 30);
}

#[test]
fn a_sweep_never_goes_before_the_start() {
    let begun = at("2026-11-23", 12, 0);
    let young = settled("2026-11-20", begun);
    let plan = young.plan(at("2026-11-24", 12, 0), false);
    assert_eq!((plan.oldest, plan.cold.len()), (day("2026-11-20"), SLICES as u32));
}

#[test]
fn a_clock_set_back_lists_more_not_less() {
    let progress = settled("2026-01-01", at("2026-11-23", 12, 0));
    let plan = progress.plan(at("2026-11-18", 12, 0), false);
    assert_eq!((plan.cold, plan.oldest), (SliceSet::ALL, day("2026-10-24")));
    // A dead clock battery: everything that the ledger can still tell apart.
    let plan = progress.plan(at("1970-01-01", 0, 0), false);
    assert!(Slice::all().all(|slice| plan.from(slice) == progress.floor));
}

#[test]
fn a_clock_that_ran_ahead_skips_no_day() {
    // From the first pass on.
    let mut progress = Progress::first(Start::Date(day("2026-01-01")), 0, at("2099-01-01", 0, 0));
    for _ in 0..20 {
        let plan = progress.plan(at("2099-01-01", 0, 0), false);
        progress.settle(&plan, &all_well("2026-11-23"));
    }
    assert_eq!((progress.through, progress.floor), (day("2026-11-21"), day("2026-10-17")));
    let plan = progress.plan(at("2099-01-01", 1, 0), false);
    assert!(Slice::all().all(|slice| plan.from(slice) <= day("2026-11-21")));
    assert_eq!(progress.plan(at("2099-01-03", 0, 0), false).oldest, day("2026-10-24"));
    let right = progress.plan(at("2026-11-25", 0, 0), false);
    assert_eq!((right.cold, right.oldest), (SliceSet::ALL, day("2026-10-24")));
}

#[test]
fn a_box_that_was_off_for_weeks_lists_from_where_it_stopped() {
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    let now = at("2026-11-23", 12, 0);
    let plan = progress.plan(now, true);
    assert_eq!((plan.cold, plan.oldest), (SliceSet::ALL, day("2026-05-02")));
    // What was delivered late while it was off is behind what that pass knew of, so the next sweep goes as far back.
    progress.settle(&plan, &all_well("2026-11-23"));
    assert_eq!(progress.round.unwrap().from, day("2026-05-02"));
    assert!(progress.floor <= day("2026-05-02"));
}

#[test]
fn a_bucket_that_fell_silent_is_listed_from_its_last_day() {
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    let mut now = at("2026-06-01", 12, 5);
    for _ in 0..60 {
        now += Duration::DAY;
        let plan = progress.plan(now, false);
        assert!(Slice::all().all(|slice| plan.from(slice) <= day("2026-05-30")));
        progress.settle(&plan, &PassEnd::default());
    }
}

/// elastic/beats#39065: an object that failed once was later skipped as old.
#[test]
fn a_failed_object_keeps_its_day_open_however_old_it_gets() {
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    let failed = day("2026-06-01");
    let plan = progress.plan(at("2026-06-01", 12, 5), false);
    progress.settle(&plan, &unfinished(failed, failed, false));
    let mut now = at("2026-06-01", 12, 10);
    let mut waits = Vec::new();
    let mut last_listed = now;
    while now < at("2026-06-20", 0, 0) {
        let plan = progress.plan(now, false);
        let end = if plan.from(some_slice()) <= failed {
            waits.push((now - last_listed).whole_hours());
            last_listed = now;
            unfinished(failed, now.date(), false)
        } else {
            PassEnd { newest: Some(now.date()), ..PassEnd::default() }
        };
        progress.settle(&plan, &end);
        assert!(progress.floor <= failed);
        now += Duration::minutes(5);
    }
    // On every poll while it is hot, then at growing distances, then daily; a sweep comes between.
    waits.retain(|&hours| hours > 0);
    assert!(waits.iter().all(|&hours| hours <= 24) && waits.iter().sum::<i64>() > 14 * 24, "{waits:?}");
    assert!((15..40).contains(&waits.len()), "{waits:?}");
    // At last it is collected: the window closes and the ledger may forget.
    for _ in 0..3 * 288 - 1 {
        let plan = progress.plan(now, false);
        progress.settle(&plan, &PassEnd { newest: Some(now.date()), ..PassEnd::default() });
        now += Duration::minutes(5);
    }
    assert_eq!(progress.left, [Left::default(); SLICES]);
    assert_eq!(progress.floor, back(now.date(), HOT_DAYS + KEPT_DAYS));
}

/// The tries of a slice that an operator has to mend: in an hour, two, four, eight, sixteen, and then daily.
#[test]
fn what_an_operator_has_to_mend_is_tried_at_growing_distances_and_in_its_own_slice_alone() {
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    let old = day("2026-04-26"); // not forgotten yet
    progress.left[some_slice().index()] = Left { outstanding: Some(old), ..Left::default() };
    let mut now = at("2026-06-01", 12, 0);
    let mut tries = Vec::new();
    for _ in 0..4 * 288 {
        let plan = progress.plan(now, false);
        let tried = plan.from(some_slice()) == old;
        assert!(Slice::all().filter(|slice| *slice != some_slice()).all(|slice| plan.from(slice) > old));
        let end = if tried {
            tries.push(now);
            unfinished(old, now.date(), false)
        } else {
            PassEnd { newest: Some(now.date()), ..PassEnd::default() }
        };
        progress.settle(&plan, &end);
        now += Duration::minutes(5);
    }
    let waits: Vec<_> = tries.windows(2).map(|pair| (pair[1] - pair[0]).whole_hours()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 24, 24]);
}

/// A key that nobody may use, an object in an archive: it is tried for a month, and then lets the ledger forget.
#[test]
fn what_stays_refused_for_a_month_is_given_up_and_no_longer_keeps_the_ledger_from_forgetting() {
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    let old = day("2026-04-26"); // not forgotten yet
    progress.left[some_slice().index()] = Left { outstanding: Some(old), ..Left::default() };
    let mut now = at("2026-06-01", 12, 0);
    let given_up = loop {
        assert!(now < at("2026-07-10", 0, 0));
        let plan = progress.plan(now, false);
        let end = match plan.from(some_slice()) == old {
            true => unfinished(old, now.date(), false),
            false => PassEnd { newest: Some(now.date()), ..PassEnd::default() },
        };
        if let Some(given_up) = progress.settle(&plan, &end) {
            break given_up;
        }
        assert!(progress.floor <= old);
        now += Duration::minutes(5);
    };
    assert_eq!(given_up, GivenUp { from: old, slices: 1 });
    assert!((now - at("2026-06-01", 12, 0)).whole_days() >= 30);
    assert_eq!(progress.floor, back(now.date(), HOT_DAYS + KEPT_DAYS));
    assert_eq!(progress.wants(&key(old, 0, 0)), Wanted::Settled);
}

/// A disk or a network that is out for months is no reason to give anything up, nor is a clock that jumps, nor what
/// gets better.
#[test]
fn only_what_is_refused_day_after_day_is_given_up() {
    let old = day("2026-04-26");
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    for n in 0..400 {
        let now = at("2026-06-01", 12, 0) + Duration::DAY * n;
        progress.left[some_slice().index()].outstanding = Some(old);
        let plan = progress.plan(now, false);
        assert_eq!(progress.settle(&plan, &unfinished(old, now.date(), true)), None);
        assert_eq!(progress.left[some_slice().index()].outstanding, Some(old));
    }
    let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
    progress.left[some_slice().index()].outstanding = Some(old);
    for n in 0..80 {
        let now = at("2026-06-01", 12, 0) + Duration::DAY * n;
        let plan = progress.plan(now, false);
        let getting_better = old + Duration::DAY * (n / 20);
        assert_eq!(progress.settle(&plan, &unfinished(getting_better, now.date(), false)), None, "{n}");
    }
}

#[test]
fn a_backfill_that_was_cut_short_goes_on_with_the_next_pass_where_it_was_cut() {
    let now = at("2026-11-23", 12, 0);
    let mut progress = Progress::first(Start::Date(day("2025-01-01")), 0, now);
    let plan = progress.plan(now, true);
    progress.settle(&plan, &all_well("2026-11-23"));
    let plan = progress.plan(now, false);
    let mut cut = all_well("2026-11-23");
    for slice in Slice::all() {
        cut.unfinished.note(slice, plan.from(slice));
        cut.transient.add(slice);
    }
    progress.settle(&plan, &cut);
    let mut backfilled = 0;
    for _ in 0..SLICES / OUTSTANDING_SLICES {
        let plan = progress.plan(now + Duration::minutes(5), false);
        backfilled += Slice::all().filter(|slice| plan.from(*slice) == day("2025-01-01")).count();
        progress.settle(&plan, &all_well("2026-11-23"));
    }
    assert_eq!(backfilled, SLICES);
    assert!(progress.left.iter().all(|left| left.outstanding.is_none()));
}

#[test]
fn start_does_not_move_on_restart_and_an_earlier_one_reopens_the_backfill() {
    let now = at("2026-11-23", 12, 0);
    let day_ago = Start::Ago(std::time::Duration::from_secs(24 * 3600));
    let mut progress = Progress::first(day_ago, 0, now);
    pass_through(&mut progress, now);
    let before = progress.clone();
    progress.reconcile(day_ago, 0, at("2026-12-23", 12, 0));
    assert_eq!(progress, before);

    progress.reconcile(Start::Date(day("2026-01-01")), 0, at("2026-11-23", 13, 0));
    assert_eq!(progress.waiting(now).count(), SLICES);
    assert_eq!(progress.plan(at("2026-11-23", 13, 0), false).oldest, day("2026-01-01"));
    assert_eq!(progress.wants(&key(day("2026-11-22"), 11, 55)), Wanted::Yes);
    pass_through(&mut progress, at("2026-11-23", 13, 0));
    assert_eq!(progress.left, [Left::default(); SLICES]);
}

#[test]
fn days_that_the_ledger_forgot_are_not_collected_again_when_start_moves_back() {
    let now = at("2026-11-23", 12, 0);
    let mut progress = settled("2026-06-01", now);
    let floor = day("2026-10-17");
    assert_eq!(progress.floor, floor);
    progress.reconcile(Start::Date(day("2026-03-01")), 7, now);
    assert_eq!(progress.plan(now, false).oldest, day("2026-03-01"));
    for (date, wanted) in [
        ("2026-02-28", Wanted::BeforeStart),
        ("2026-03-01", Wanted::Yes),
        ("2026-05-31", Wanted::Yes),
        ("2026-06-01", Wanted::Settled),
        ("2026-10-16", Wanted::Settled),
        ("2026-10-17", Wanted::Yes),
    ] {
        assert_eq!(progress.wants(&key(day(date), 3, 0)), wanted, "{date}");
    }
    // As long as one slice of the backfill is left, none of the newly wanted days is behind it.
    let plan = progress.plan(now, false);
    progress.settle(&plan, &all_well("2026-11-23"));
    assert_eq!(progress.wants(&key(day("2026-03-01"), 3, 0)), Wanted::Yes);
    pass_through(&mut progress, now);
    assert_eq!(progress.wants(&key(day("2026-03-01"), 3, 0)), Wanted::Settled);
}

#[test]
fn a_later_start_ends_the_backfill_before_it() {
    let now = at("2026-11-23", 12, 0);
    let mut progress = Progress::first(Start::All, 0, now);
    let plan = progress.plan(now, true);
    progress.settle(&plan, &all_well("2026-11-23"));
    progress.reconcile(Start::Date(day("2026-11-01")), 0, now);
    assert_eq!(progress.plan(now, false).oldest, day("2026-11-01"));
    pass_through(&mut progress, now);
    assert_eq!(progress.left, [Left::default(); SLICES]);
}

#[test]
fn another_selection_is_listed_at_once_as_far_back_as_the_ledger_goes() {
    let now = at("2026-11-23", 12, 0);
    let mut progress = settled("2026-06-01", now);
    progress.reconcile(progress.configured, 8, now);
    assert_eq!(progress.waiting(now).count(), SLICES);
    assert_eq!(progress.plan(now, false).oldest, progress.floor);
}

#[test]
fn lost_progress_goes_back_as_far_as_a_sweep() {
    let now = at("2026-11-23", 12, 0);
    for (start, from) in [(Start::Now, day("2026-10-24")), (Start::All, BEGINNING)] {
        let lost = Progress::lost(start, 0, now);
        assert_eq!(lost.plan(now, false).oldest, from);
        assert!(lost.waiting(now).all(|(_, first)| first == from));
    }
}

#[test]
fn a_listing_begins_behind_the_day_before_and_before_the_day() {
    let stream = key(day("2026-01-01"), 0, 0).stream().to_owned();
    let first = start_after(&stream, day("2026-01-01"));
    assert!(key(day("2025-12-31"), 23, 55).as_str() < first.as_str());
    assert!(first.as_str() < key(day("2026-01-01"), 0, 0).as_str());
    assert!(start_after(&stream, BEGINNING).ends_with("/0000/01/01/"));
}

/// One step of the world and the pass that follows it.
#[derive(Debug, Clone)]
struct Step {
    /// Hours that go by.
    hours: i64,
    /// Days that an object arrives late, and its stream.
    late: Vec<(i64, usize)>,
    /// Days that the clock is wrong by.
    clock: i64,
    /// Each stream's luck: 0 fails, 1 is refused, else well.
    luck: [u8; 3],
    /// The power goes after the objects are in the ledger, before the progress is durable.
    cut: bool,
    /// Minutes that a pass takes while there is a backfill; what came late comes in between. Every so many of them the
    /// next poll is due.
    pass: (i64, i64),
}

fn a_step() -> impl Strategy<Value = Step> {
    let hours = prop_oneof![8 => 1i64..30, 3 => 1i64..3, 1 => 200i64..1500];
    let late = proptest::collection::vec((0i64..=COLD_DAYS, 0usize..3), 0..5);
    let clock = prop_oneof![8 => Just(0i64), 1 => -3i64..3, 1 => -400i64..400];
    let cut = prop_oneof![4 => Just(false), 1 => Just(true)];
    let pass = prop_oneof![2 => Just((0, 1)), 1 => (1i64..600, 1i64..900)];
    (hours, late, clock, [0u8..8, 0u8..8, 0u8..8], cut, pass)
        .prop_map(|(hours, late, clock, luck, cut, pass)| Step { hours, late, clock, luck, cut, pass })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A naive bucket of three streams in which objects appear up to thirty days late, are listed by a clock that jumps
    /// about, fail now and then, and the power goes before the progress is durable, or the box is off for two months:
    /// what is wanted is collected exactly once, although the ledger forgets whatever it may.
    #[test]
    fn late_objects_are_collected_exactly_once(
        steps in proptest::collection::vec(a_step(), 1..80),
        start in -20i64..30,
    ) {
        let streams = ["a/", "b/", "c/"].map(Slice::of);
        let zero = at("2024-01-15", 7, 0);
        let mut real = zero;
        let start = Start::Date(zero.date() + Duration::days(start));
        let mut progress = None;
        let mut bucket: BTreeMap<(Date, usize, usize), u32> = BTreeMap::new(); // times collected
        let mut ledger: BTreeSet<(Date, usize, usize)> = BTreeSet::new();
        let well = Step { hours: 11, late: Vec::new(), clock: 0, luck: [9; 3], cut: false, pass: (0, 1) };
        let quiet = std::iter::repeat_n(well, 30);
        for (number, step) in steps.into_iter().chain(quiet).enumerate() {
            real += Duration::hours(step.hours);
            let mut late = step.late.into_iter();
            bucket.entry((real.date(), number % 3, number)).or_default();
            let (mut poll, mut since): (Option<Option<Date>>, i64) = (None, 0);
            loop {
                if let Some((days, stream)) = late.next() {
                    bucket.entry((back(real.date(), days), stream, number)).or_default();
                }
                let now = real + Duration::days(step.clock);
                let progress = progress.get_or_insert_with(|| Progress::first(start, 0, now));
                let plan = match &poll {
                    Some(until) if since < step.pass.1 => progress.plan_backfill(now, *until),
                    poll => progress.plan(now, poll.is_none()),
                };
                let mut end = PassEnd::default();
                for (&object, times) in &mut bucket {
                    let (date, stream, _) = object;
                    let beyond = plan.until.is_some_and(|until| until <= date);
                    if date < plan.from(streams[stream]) || beyond || !plan.listed.has(streams[stream]) {
                        continue;
                    }
                    end.newest = end.newest.max(Some(date));
                    if progress.wants(&key(date, 0, 0)) != Wanted::Yes || ledger.contains(&object) {
                        continue;
                    }
                    if step.luck[stream] < 2 {
                        end.unfinished.note(streams[stream], date);
                        if step.luck[stream] == 0 {
                            end.transient.add(streams[stream]);
                        }
                    } else {
                        *times += 1;
                        ledger.insert(object);
                    }
                }
                if step.cut {
                    break;
                }
                prop_assert_eq!(progress.settle(&plan, &end), None);
                if plan.is_poll() {
                    (poll, since) = (Some(plan.done_from(&end)), 0);
                }
                ledger.retain(|&(date, ..)| date >= progress.floor);
                prop_assert!(progress.floor <= progress.through);
                let outstanding = progress.left.iter().filter_map(|left| left.outstanding).min();
                prop_assert!(outstanding.is_none_or(|day| progress.floor <= day));
                let first = progress.start.date();
                prop_assert!(progress.round.is_none_or(|round| progress.floor <= round.from.max(first)));
                if progress.waiting(now).count() == 0 {
                    break;
                }
                real += Duration::minutes(step.pass.0);
                since += step.pass.0;
            }
            for (days, stream) in late {
                bucket.entry((back(real.date(), days), stream, number)).or_default();
            }
        }
        let first = progress.map_or(real.date(), |progress| progress.start.date());
        for ((date, stream, number), times) in bucket {
            prop_assert_eq!(times, u32::from(date >= first), "{} {} {}", date, stream, number);
        }
    }
}
