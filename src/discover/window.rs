//! From which day to list, and what a finished pass settles. A core: `now` comes in, days go out.
//!
//! CloudTrail delivers out of order: files of an older five-minute label arrive after a newer one, and a
//! delivery that failed is tried again for up to 30 days (User Guide, "Getting and viewing your CloudTrail
//! log files"). So no mark of a last key or a last time is ever compared with a key. Instead:
//!
//! * every *hot* pass lists whole day partitions, from [`HOT_DAYS`] before the newest day, and the ledger
//!   says which objects are new;
//! * a *deep* pass, once a day, lists from [`COLD_DAYS`] before the newest day, or from the oldest that has
//!   something *outstanding*: an object that failed, a stream that could not be listed, or the rest of
//!   the backfill. After a transient failure that is on every poll; after one that needs an operator (a
//!   key's policy, an archived object) in an hour, two, four, up to a day, since each time lists and asks
//!   for all of it;
//! * no listing has an upper end, so objects of the future (the box's clock is slow) are found as well;
//! * both follow the bucket as well as the clock: they move on only to days of which an object was listed,
//!   so a clock that runs ahead skips nothing, nor does a box that was off for weeks.
//!
//! Invariants:
//! 1. Every object with a stamp in `[done_from, floor)` was collected. The ledger may forget those days;
//!    they are not collected again whatever is listed.
//! 2. `floor ≤ through` and `floor ≤ outstanding`: nothing that is still wanted is forgotten.
//! 3. Nothing stamped before `start` is collected.

use time::{Date, Duration, Month, PrimitiveDateTime, Time};

use super::key::LogKey;
use crate::config::Start;

/// Whole days before the newest one that every pass lists.
pub const HOT_DAYS: i64 = 2;
/// Days before the newest one that the deep pass lists: as long as CloudTrail tries to deliver.
pub const COLD_DAYS: i64 = 30;
/// Days before the hot ones that the ledger keeps; more than the deep pass can list.
pub const KEPT_DAYS: i64 = COLD_DAYS + 5;
/// Time between two deep passes.
pub const DEEP_EVERY: Duration = Duration::DAY;
/// Time to the deep pass after one that left something outstanding before the hot days; doubles each time.
pub const OUTSTANDING_AFTER: Duration = Duration::HOUR;

/// Where [`Start::All`] begins: before every day that a key can name.
const BEGINNING: Date = match Date::from_calendar_date(0, Month::January, 1) {
    Ok(date) => date,
    Err(_) => Date::MIN,
};

/// What a source remembers from pass to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `start` as configured when `start` below was resolved.
    pub configured: Start,
    /// A digest of what the source selects (bucket, prefix, accounts, regions).
    pub scope: u32,
    /// Objects stamped before this are not wanted. Resolved once, so that "24h" does not move.
    pub start: PrimitiveDateTime,
    /// First of the hot days.
    pub through: Date,
    /// Oldest day that has something left to collect, if that is known of any.
    pub outstanding: Option<Date>,
    /// With `floor`: the span that is collected and forgotten.
    pub done_from: PrimitiveDateTime,
    /// End of that span (this day is not in it).
    pub floor: Date,
    /// Begin of the last deep pass that went through without a transient failure.
    pub last_deep: Option<PrimitiveDateTime>,
    /// Such deep passes in a row that left something outstanding before the hot days.
    pub left_over: u8,
}

/// One pass: what it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When it was made.
    pub now: PrimitiveDateTime,
    /// Whether it goes back further than the hot days.
    pub deep: bool,
    /// Every stream is listed from this day to its end.
    pub from: Date,
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassEnd {
    /// Newest day partition that a log was listed in.
    pub newest: Option<Date>,
    /// Oldest day with something that was wanted and not collected.
    pub unfinished: Option<Date>,
    /// Whether any of that may succeed if only tried again.
    pub transient: bool,
}

/// Whether an object is to be collected, as far as its key alone can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Yes, unless the ledger holds it.
    Yes,
    /// Its stamp lies before `start`.
    BeforeStart,
    /// It was collected, so long ago that the ledger may have forgotten.
    Settled,
}

impl Progress {
    /// The first run of a source: everything from `start` on is outstanding.
    pub fn first(configured: Start, scope: u32, now: PrimitiveDateTime) -> Progress {
        let start = resolve(configured, now);
        Progress {
            configured,
            scope,
            start,
            through: start.date(),
            outstanding: Some(start.date()),
            done_from: start,
            floor: start.date(),
            last_deep: None,
            left_over: 0,
        }
    }

    /// The first run after the remembered progress was lost: as [`Progress::first`], but at least as far back
    /// as the deep pass, since this source has run before.
    pub fn lost(configured: Start, scope: u32, now: PrimitiveDateTime) -> Progress {
        let cold = PrimitiveDateTime::new(back(now.date(), COLD_DAYS), Time::MIDNIGHT);
        let mut progress = Progress::first(configured, scope, now);
        if cold < progress.start {
            progress.start = cold;
            progress.through = cold.date();
            progress.outstanding = Some(cold.date());
            progress.done_from = cold;
            progress.floor = cold.date();
        }
        progress
    }

    /// Takes up a changed configuration.
    ///
    /// * A `start` that is written differently is resolved anew. An earlier one re-opens the backfill for the
    ///   time before the old one; a later one ends what is outstanding before it.
    /// * Another selection (accounts, regions, prefix) makes the next pass a deep one, so that what is newly
    ///   selected is collected back to `start`, or to the oldest day the ledger still holds: the ledger keeps
    ///   no record of which streams an older day was collected for.
    pub fn reconcile(&mut self, configured: Start, scope: u32, now: PrimitiveDateTime) {
        if configured != self.configured {
            let start = resolve(configured, now);
            if start < self.start {
                self.reopen(start.date());
            }
            self.configured = configured;
            self.start = start;
            self.outstanding = self.outstanding.map(|day| day.max(start.date()));
        }
        if scope != self.scope {
            self.scope = scope;
            self.reopen(self.lowest());
        }
    }

    /// What the pass that begins now has to list.
    pub fn plan(&self, now: PrimitiveDateTime) -> Plan {
        let hot = self.through.min(back(now.date(), HOT_DAYS));
        let outstanding = self.outstanding.filter(|&day| day < hot);
        let every = match outstanding {
            Some(_) => {
                (OUTSTANDING_AFTER * (1i32 << self.left_over.saturating_sub(1).min(10))).min(DEEP_EVERY)
            }
            None => DEEP_EVERY,
        };
        // A clock that stands before the last deep pass was set back: one too many does no harm.
        let deep = self.last_deep.is_none_or(|last| now < last || now - last >= every);
        let from = if deep { back(hot, COLD_DAYS - HOT_DAYS).min(outstanding.unwrap_or(hot)) } else { hot };
        Plan { now, deep, from: from.max(self.lowest()) }
    }

    /// Whether a listed object is wanted at all.
    pub fn wants(&self, key: &LogKey) -> Wanted {
        if key.stamp() < self.start {
            Wanted::BeforeStart
        } else if key.stamp() >= self.done_from && key.day() < self.floor {
            Wanted::Settled
        } else {
            Wanted::Yes
        }
    }

    /// Takes in a pass that ended with all its objects answered. Afterwards the ledger may forget the days
    /// before [`Progress::floor`], once this is durable.
    pub fn settle(&mut self, plan: &Plan, end: &PassEnd) {
        let today = plan.now.date();
        if let Some(newest) = end.newest {
            self.through = self.through.max(back(newest.min(today), HOT_DAYS));
        }
        let before = self.outstanding.filter(|&day| day < plan.from);
        self.outstanding = before.into_iter().chain(end.unfinished).min();
        if plan.deep && !end.transient {
            self.last_deep = Some(plan.now);
            let left_over = self.outstanding.is_some_and(|day| day < self.through);
            self.left_over = if left_over { self.left_over.saturating_add(1) } else { 0 };
            self.forget(today);
        }
    }

    /// Moves `floor` up behind what is settled.
    fn forget(&mut self, today: Date) {
        let settled = self.outstanding.map_or(self.through, |day| day.min(self.through)).min(today);
        let floor = back(settled, KEPT_DAYS);
        if self.start < self.done_from && self.done_from.date() < settled {
            self.done_from = self.start; // the re-opened backfill reached what was done before
        }
        if floor > self.floor {
            if self.start.date() > self.floor {
                self.done_from = self.start; // what lies between was not wanted
            }
            self.floor = floor;
        }
    }

    /// The oldest day that a listing may have to show.
    fn lowest(&self) -> Date {
        if self.start < self.done_from { self.start.date() } else { self.start.date().max(self.floor) }
    }

    fn reopen(&mut self, day: Date) {
        self.outstanding = Some(self.outstanding.map_or(day, |old| old.min(day)));
        self.last_deep = None;
        self.left_over = 0;
    }
}

/// The `start-after` that begins a listing of `stream` (which ends with `/`) with the first key of `day`: it
/// sorts behind every key of the day before.
pub fn start_after(stream: &str, day: Date) -> String {
    format!("{stream}{:04}/{:02}/{:02}/", day.year(), u8::from(day.month()), day.day())
}

/// The first stamp that is wanted. Stamps are labels of five minutes, so the label that holds the moment is
/// the first one.
fn resolve(start: Start, now: PrimitiveDateTime) -> PrimitiveDateTime {
    let moment = match start {
        Start::Now => now,
        Start::Ago(span) => Duration::try_from(span)
            .ok()
            .and_then(|span| now.checked_sub(span))
            .unwrap_or(PrimitiveDateTime::MIN),
        Start::Date(date) => PrimitiveDateTime::new(date, Time::MIDNIGHT),
        Start::All => PrimitiveDateTime::MIN,
    };
    let moment = moment.max(PrimitiveDateTime::new(BEGINNING, Time::MIDNIGHT));
    let label = Time::from_hms(moment.hour(), moment.minute() / 5 * 5, 0).unwrap_or(Time::MIDNIGHT);
    moment.replace_time(label)
}

fn back(day: Date, days: i64) -> Date {
    day.saturating_sub(Duration::days(days)).max(BEGINNING)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    fn all_well(newest: &str) -> PassEnd {
        PassEnd { newest: Some(day(newest)), ..PassEnd::default() }
    }

    /// A source that has run since `since` and is up to date at `now`.
    fn settled(since: &str, now: PrimitiveDateTime) -> Progress {
        let mut progress = Progress::first(Start::Date(day(since)), 7, now);
        let plan = progress.plan(now);
        progress.settle(&plan, &PassEnd { newest: Some(now.date()), ..PassEnd::default() });
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

    #[test]
    fn the_first_pass_lists_from_the_start() {
        for (start, from) in [
            (Start::Now, "2026-11-23"),
            (Start::Date(day("2013-11-13")), "2013-11-13"),
            (Start::All, "0000-1-1"),
        ] {
            let plan = Progress::first(start, 0, at("2026-11-23", 12, 0)).plan(at("2026-11-23", 12, 0));
            assert_eq!((plan.deep, plan.from), (true, day(from)));
        }
    }

    #[test]
    fn hot_days_are_whole_partitions_over_month_year_and_leap_day() {
        for (now, from) in
            [("2024-03-01", "2024-02-28"), ("2023-03-01", "2023-02-27"), ("2026-01-01", "2025-12-30")]
        {
            // Every minute of the day gives the same window, from midnight to midnight.
            for (hour, minute) in [(0, 0), (0, 1), (23, 59)] {
                let now = at(now, hour, minute);
                let progress = settled("2020-01-01", now);
                assert_eq!(progress.plan(now), Plan { now, deep: false, from: day(from) });
            }
        }
    }

    #[test]
    fn once_a_day_the_pass_goes_back_thirty_days_but_never_before_the_start() {
        let begun = at("2026-11-23", 12, 0);
        let progress = settled("2020-01-01", begun);
        assert!(!progress.plan(at("2026-11-24", 11, 59)).deep);
        let plan = progress.plan(at("2026-11-24", 12, 0));
        assert_eq!((plan.deep, plan.from), (true, day("2026-10-24")));

        let young = settled("2026-11-20", begun);
        assert_eq!(young.plan(at("2026-11-24", 12, 0)).from, day("2026-11-20"));
    }

    #[test]
    fn a_clock_set_back_lists_more_not_less() {
        let progress = settled("2026-01-01", at("2026-11-23", 12, 0));
        let plan = progress.plan(at("2026-11-18", 12, 0));
        assert!(plan.deep);
        assert_eq!(plan.from, day("2026-10-19"));
        // A dead clock battery: everything that the ledger can still tell apart.
        assert_eq!(progress.plan(at("1970-01-01", 0, 0)).from, progress.floor);
    }

    #[test]
    fn a_clock_that_ran_ahead_skips_no_day() {
        let mut progress = settled("2026-01-01", at("2026-11-23", 12, 0));
        let ahead = progress.plan(at("2099-01-01", 0, 0));
        progress.settle(&ahead, &all_well("2026-11-23"));
        assert_eq!(progress.plan(at("2099-01-01", 1, 0)).from, day("2026-11-21"));
        assert_eq!(progress.plan(at("2099-01-02", 0, 0)).from, day("2026-10-24"));
        let right = progress.plan(at("2026-11-25", 0, 0));
        assert_eq!((right.deep, right.from), (true, day("2026-10-24")));
    }

    #[test]
    fn a_box_that_was_off_for_weeks_lists_from_where_it_stopped() {
        let progress = settled("2026-01-01", at("2026-06-01", 12, 0));
        let plan = progress.plan(at("2026-11-23", 12, 0));
        assert_eq!((plan.deep, plan.from), (true, day("2026-05-02")));
    }

    #[test]
    fn a_bucket_that_fell_silent_is_listed_from_its_last_day() {
        let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
        let mut now = at("2026-06-01", 12, 5);
        for _ in 0..60 {
            now += Duration::DAY;
            let plan = progress.plan(now);
            assert!(plan.from <= day("2026-05-30"));
            progress.settle(&plan, &PassEnd::default());
        }
    }

    /// elastic/beats#39065: an object that failed once was later skipped as old.
    #[test]
    fn a_failed_object_keeps_its_day_open_however_old_it_gets() {
        let mut progress = settled("2026-01-01", at("2026-06-01", 12, 0));
        let failed = PassEnd { unfinished: Some(day("2026-06-01")), ..all_well("2026-06-01") };
        let plan = progress.plan(at("2026-06-01", 12, 5));
        progress.settle(&plan, &failed);
        let mut now = at("2026-06-01", 12, 10);
        let mut waits = Vec::new();
        let mut last_listed = now;
        while now < at("2026-09-01", 0, 0) {
            let plan = progress.plan(now);
            let lists_it = plan.from <= day("2026-06-01");
            if lists_it {
                waits.push((now - last_listed).whole_hours());
                last_listed = now;
            }
            let unfinished = lists_it.then_some(day("2026-06-01"));
            progress.settle(&plan, &PassEnd { newest: Some(now.date()), unfinished, transient: false });
            assert!(progress.floor <= day("2026-06-01"));
            now += Duration::minutes(5);
        }
        // On every poll while it is hot, then at growing distances, then daily.
        waits.retain(|&hours| hours > 0);
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 24, 24]);
        assert!(waits[7..].iter().all(|&hours| hours == 24));
        // At last it is collected: the window closes and the ledger may forget.
        while !progress.plan(now).deep {
            now += Duration::minutes(5);
        }
        let plan = progress.plan(now);
        progress.settle(&plan, &PassEnd { newest: Some(now.date()), ..PassEnd::default() });
        assert_eq!(progress.plan(now).from, back(now.date(), HOT_DAYS));
        assert_eq!(progress.floor, back(now.date(), HOT_DAYS + KEPT_DAYS));
    }

    #[test]
    fn a_backfill_that_was_cut_short_goes_on_with_the_next_pass() {
        let now = at("2026-11-23", 12, 0);
        let mut progress = Progress::first(Start::Date(day("2025-01-01")), 0, now);
        let plan = progress.plan(now);
        let cut = PassEnd { unfinished: Some(plan.from), transient: true, ..all_well("2026-11-23") };
        progress.settle(&plan, &cut);
        let next = progress.plan(now + Duration::minutes(5));
        assert_eq!((next.deep, next.from), (true, day("2025-01-01")));
    }

    #[test]
    fn start_does_not_move_on_restart_and_an_earlier_one_reopens_the_backfill() {
        let now = at("2026-11-23", 12, 0);
        let day_ago = Start::Ago(std::time::Duration::from_secs(24 * 3600));
        let mut progress = Progress::first(day_ago, 0, now);
        let plan = progress.plan(now);
        progress.settle(&plan, &all_well("2026-11-23"));
        let before = progress.clone();
        progress.reconcile(day_ago, 0, at("2026-12-23", 12, 0));
        assert_eq!(progress, before);

        progress.reconcile(Start::Date(day("2026-01-01")), 0, at("2026-11-23", 13, 0));
        let plan = progress.plan(at("2026-11-23", 13, 0));
        assert_eq!((plan.deep, plan.from), (true, day("2026-01-01")));
        assert_eq!(progress.wants(&key(day("2026-11-22"), 11, 55)), Wanted::Yes);
        progress.settle(&plan, &all_well("2026-11-23"));
        assert_eq!(progress.outstanding, None);
    }

    #[test]
    fn days_that_the_ledger_forgot_are_not_collected_again_when_start_moves_back() {
        let now = at("2026-11-23", 12, 0);
        let mut progress = settled("2026-06-01", now);
        let floor = day("2026-10-17");
        assert_eq!(progress.floor, floor);
        progress.reconcile(Start::Date(day("2026-03-01")), 7, now);
        let plan = progress.plan(now);
        assert_eq!(plan.from, day("2026-03-01"));
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
        progress.settle(&plan, &all_well("2026-11-23"));
        assert_eq!(progress.wants(&key(day("2026-03-01"), 3, 0)), Wanted::Settled);
    }

    #[test]
    fn a_later_start_ends_the_backfill_before_it() {
        let now = at("2026-11-23", 12, 0);
        let mut progress = Progress::first(Start::All, 0, now);
        progress.reconcile(Start::Date(day("2026-11-01")), 0, now);
        let plan = progress.plan(now);
        assert_eq!(plan.from, day("2026-11-01"));
        progress.settle(&plan, &all_well("2026-11-23"));
        assert_eq!(progress.outstanding, None);
        assert!(!progress.plan(now).deep);
    }

    #[test]
    fn another_selection_is_listed_at_once_as_far_back_as_the_ledger_goes() {
        let now = at("2026-11-23", 12, 0);
        let mut progress = settled("2026-06-01", now);
        progress.reconcile(progress.configured, 8, now);
        let plan = progress.plan(now);
        assert_eq!((plan.deep, plan.from), (true, progress.floor));
    }

    #[test]
    fn lost_progress_goes_back_as_far_as_the_deep_pass() {
        let now = at("2026-11-23", 12, 0);
        assert_eq!(Progress::lost(Start::Now, 0, now).plan(now).from, day("2026-10-24"));
        assert_eq!(Progress::lost(Start::All, 0, now).plan(now).from, BEGINNING);
    }

    #[test]
    fn a_listing_begins_behind_the_day_before_and_before_the_day() {
        let stream = key(day("2026-01-01"), 0, 0).stream().to_owned();
        let first = start_after(&stream, day("2026-01-01"));
        assert!(key(day("2025-12-31"), 23, 55).as_str() < first.as_str());
        assert!(first.as_str() < key(day("2026-01-01"), 0, 0).as_str());
        assert!(start_after(&stream, BEGINNING).ends_with("/0000/01/01/"));
    }

    proptest! {
        /// A naive bucket in which every day's objects appear days later, in any order, are listed by a clock
        /// that jumps about, and fail now and then: what is wanted is collected exactly once, although the
        /// ledger forgets whatever it may.
        #[test]
        fn late_objects_are_collected_exactly_once(
            steps in proptest::collection::vec(
                (0i64..4, 0i64..=COLD_DAYS - 4, prop_oneof![6 => Just(0i64), 1 => -400i64..400], 0u8..10),
                1..60
            ),
            start in 0i64..30,
        ) {
            let zero = day("2024-01-15");
            let mut today = zero;
            let start = Start::Date(zero + Duration::days(start));
            let mut progress = None;
            let mut bucket: BTreeMap<Date, u32> = BTreeMap::new(); // day of an object -> times collected
            let mut ledger: BTreeMap<Date, ()> = BTreeMap::new();
            let quiet = std::iter::repeat_n((1, 0, 0, 9), 20);
            for (forward, late, clock, luck) in steps.into_iter().chain(quiet) {
                today += Duration::days(forward);
                bucket.entry(back(today, late)).or_default();
                bucket.entry(today).or_default();
                let now = PrimitiveDateTime::new(today + Duration::days(clock), Time::MIDNIGHT);
                let progress = progress.get_or_insert_with(|| Progress::first(start, 0, now));
                let plan = progress.plan(now);
                let mut end = PassEnd::default();
                for (&date, times) in bucket.range_mut(plan.from..) {
                    end.newest = Some(date);
                    if progress.wants(&key(date, 0, 0)) != Wanted::Yes || ledger.contains_key(&date) {
                        continue;
                    }
                    if luck < 3 {
                        end.unfinished = end.unfinished.or(Some(date));
                        end.transient |= luck == 0;
                    } else {
                        *times += 1;
                        ledger.insert(date, ());
                    }
                }
                progress.settle(&plan, &end);
                let floor = progress.floor;
                ledger.retain(|&date, ()| date >= floor);
                prop_assert!(progress.floor <= progress.through);
                prop_assert!(progress.outstanding.is_none_or(|day| progress.floor <= day));
            }
            let first = progress.map_or(today, |progress| progress.start.date());
            for (date, times) in bucket {
                prop_assert_eq!(times, u32::from(date >= first), "{}", date);
            }
        }
    }
}
