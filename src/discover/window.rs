//! From which day to list each stream, and what a finished pass settles. A core: `now` comes in, days go out.
//!
//! CloudTrail delivers out of order: files of an older five-minute label arrive after a newer one, and a
//! delivery that failed is tried again for up to 30 days (User Guide, "Getting and viewing your CloudTrail
//! log files"). So no mark of a last key or a last time is ever compared with a key. Instead:
//!
//! * every poll lists the *hot* days of every stream, whole partitions from [`HOT_DAYS`] before the newest day, and
//!   the ledger says which objects are new;
//! * a *sweep* lists every stream once a day as far back as [`COLD_DAYS`] before the day that the sweep before it
//!   began: whatever arrives after a stream was swept is still in what the next sweep lists, however late that
//!   comes. It goes slice by slice over the day, a few on each pass, and goes on where it was after a restart;
//! * a backfill goes through the slices, a few on each pass. Passes that follow each other at once for it list those
//!   slices alone, up to the days that the last pass over all of them listed: what is hot is listed again when the
//!   next poll is due, and not before;
//! * what is *outstanding* in a slice, from before the hot days, is listed from there: the rest of the backfill, an
//!   object that failed, a stream that could not be listed. After a transient failure that is on the next poll;
//!   after one that needs an operator (a key's policy, an archived object) in an hour, two, four, up to a day,
//!   since each time lists and asks for all of it; and after [`REFUSED_TRIES`] such tries it is given up, since the
//!   ledger cannot forget anything behind it;
//! * no listing of a poll has an upper end, so objects of the future (the box's clock is slow) are found as well;
//! * all of it follows the bucket as well as the clock: it moves on only to days of which an object was listed,
//!   so a clock that runs ahead skips nothing, nor does a box that was off for weeks. The clock alone decides how
//!   soon a slice is swept, never from which day; and what `start` means, until the bucket has told the time.
//!
//! Invariants:
//! 1. Every object with a stamp in `[done_from, floor)` that arrived up to [`COLD_DAYS`] after it was collected, or was
//!    given up. The ledger may forget those days; they are not collected again whatever is listed.
//! 2. `floor ≤ through`, `floor ≤ outstanding` of every slice, and where it stands behind the `start` of a new source,
//!    `floor ≤ round.from ≤ round.next`: nothing that is still wanted is forgotten.
//! 3. Nothing stamped before `start` is collected.

use time::{Date, Duration, Month, PrimitiveDateTime, Time};

use super::key::LogKey;
use super::slice::{Days, SLICES, Slice, SliceSet};
use crate::config::Start;

/// Whole days before the newest one that every poll lists.
pub const HOT_DAYS: i64 = 2;
/// Days that an object may arrive late: as long as CloudTrail tries to deliver.
pub const COLD_DAYS: i64 = 30;
/// Days before the hot ones that the ledger keeps, unless a sweep still needs more: a source whose progress was lost
/// lists [`COLD_DAYS`], and should know all of them.
pub const KEPT_DAYS: i64 = COLD_DAYS + 5;
/// Time in which a sweep goes through all slices.
pub const SWEEP: Duration = Duration::DAY;
/// Time to the next try of a slice that needs an operator; doubles each time.
pub const OUTSTANDING_AFTER: Duration = Duration::HOUR;
/// Longest time between two such tries.
pub const OUTSTANDING_EVERY: Duration = Duration::DAY;
/// Such tries in a row, without any of it getting better, after which what is outstanding in a slice is given up: the
/// first ones of a day and then one a day, for [`COLD_DAYS`].
pub const REFUSED_TRIES: u8 = 5 + COLD_DAYS as u8;
/// Slices with something outstanding that one pass takes at once. What is fresh waits for no more of a backfill than
/// this, and a restart repeats no more.
pub const OUTSTANDING_SLICES: usize = 8;

/// What two clocks may differ by, and a label of five minutes is long.
const CLOCKS_DIFFER: Duration = Duration::minutes(5);

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
    /// With `floor`: the span that is collected and forgotten.
    pub done_from: PrimitiveDateTime,
    /// End of that span (this day is not in it).
    pub floor: Date,
    /// The sweep that is under way; `None` before anything was listed.
    pub round: Option<Round>,
    /// What is left in each slice.
    pub left: [Left; SLICES],
}

/// One sweep through all slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// When it began. The slices are due one after the other, the last one after a [`SWEEP`].
    pub begun: PrimitiveDateTime,
    /// Slices that are swept; at most [`SLICES`].
    pub swept: u8,
    /// The day that this round lists from.
    pub from: Date,
    /// The day that the next round lists from.
    pub next: Date,
}

/// What is left to collect in one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// The oldest day that has something left, if that is known of any.
    pub outstanding: Option<Date>,
    /// When it was last listed from there.
    pub tried: Option<PrimitiveDateTime>,
    /// Tries in a row after which an operator had to act on the same day.
    pub refused: u8,
}

/// One pass: what it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When it was made.
    pub now: PrimitiveDateTime,
    /// The oldest day that any stream is listed from.
    pub oldest: Date,
    /// Slices that are listed from before the hot days.
    pub cold: SliceSet,
    /// Slices that are listed at all: all of them by a poll, a few by a pass for a backfill alone.
    pub listed: SliceSet,
    /// What was listed just before from this day on need not be listed again.
    pub until: Option<Date>,
    /// Every stream is listed from the day of its slice on.
    from: [Date; SLICES],
    /// Slices that this sweep has behind it afterwards.
    swept: u8,
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassEnd {
    /// Newest day partition that a log was listed in.
    pub newest: Option<Date>,
    /// Oldest day with something that was wanted and not collected.
    pub unfinished: Days,
    /// Slices in which any of that may succeed if only tried again.
    pub transient: SliceSet,
}

/// What an operator did not mend in time: it is not tried any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The oldest day that had something left.
    pub from: Date,
    /// Slices of streams.
    pub slices: u32,
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
        Progress::begun_at(resolve(configured, now), configured, scope)
    }

    /// The first run after the remembered progress was lost: as [`Progress::first`], but at least as far back
    /// as a sweep, since this source has run before.
    pub fn lost(configured: Start, scope: u32, now: PrimitiveDateTime) -> Progress {
        let cold = PrimitiveDateTime::new(back(now.date(), COLD_DAYS), Time::MIDNIGHT);
        Progress::begun_at(resolve(configured, now).min(cold), configured, scope)
    }

    fn begun_at(start: PrimitiveDateTime, configured: Start, scope: u32) -> Progress {
        Progress {
            configured,
            scope,
            start,
            through: start.date(),
            done_from: start,
            floor: start.date(),
            round: None,
            left: [Left { outstanding: Some(start.date()), ..Left::default() }; SLICES],
        }
    }

    /// Takes up a changed configuration.
    ///
    /// * A `start` that is written differently is resolved anew. An earlier one re-opens the backfill for the
    ///   time before the old one; a later one ends what is outstanding before it.
    /// * Another selection (bucket, prefix, accounts, regions) makes everything outstanding again, so that what is
    ///   newly selected is collected back to `start`, or to the oldest day the ledger still holds: the ledger keeps
    ///   no record of which streams an older day was collected for.
    pub fn reconcile(&mut self, configured: Start, scope: u32, now: PrimitiveDateTime) {
        if configured != self.configured {
            let start = resolve(configured, now);
            if start < self.start {
                self.reopen(start.date());
            }
            self.configured = configured;
            self.start = start;
            for left in &mut self.left {
                left.outstanding = left.outstanding.map(|day| day.max(start.date()));
            }
        }
        if scope != self.scope {
            self.scope = scope;
            self.reopen(self.lowest());
        }
    }

    /// Takes up what the bucket says of the time: where `start` lies later than if it were resolved now, the clock ran
    /// ahead when that was done, and what lies between is still wanted. Whether that was so.
    ///
    /// This machine's own clock says nothing of it: one that stands back after a restart without a battery looks the same,
    /// and is not to bring back the years between.
    pub fn mend(&mut self, told: PrimitiveDateTime) -> bool {
        let start = resolve(self.configured, told);
        if self.start - start <= CLOCKS_DIFFER {
            return false;
        }
        if self.round.is_none() {
            *self = Progress::first(self.configured, self.scope, told);
        } else {
            self.start = start;
            self.reopen(start.date());
        }
        true
    }

    /// What the poll that begins now has to list. `fresh_first`: no more of a backfill than has been begun.
    pub fn plan(&self, now: PrimitiveDateTime, fresh_first: bool) -> Plan {
        let lowest = self.lowest();
        let mut plan = self.hot_days(now);
        if let Some(round) = &self.round {
            plan.swept = round.due(now);
            for slice in Slice::all().take(plan.swept.into()).skip(round.swept.into()) {
                plan.go_back(slice, round.from.max(lowest));
            }
        }
        let mut due: Vec<(Slice, &Left, Date)> = Vec::with_capacity(SLICES);
        due.extend(Slice::all().zip(&self.left).filter_map(|(slice, left)| {
            let day = left.due(self.hot(left, now), now)?;
            (left.tried.is_some() || !fresh_first).then_some((slice, left, day))
        }));
        due.sort_by_key(|(_, left, _)| left.tried);
        for (slice, _, day) in due.into_iter().take(OUTSTANDING_SLICES) {
            plan.go_back(slice, day.max(lowest));
        }
        plan.oldest = plan.from.iter().min().copied().unwrap_or(lowest);
        plan
    }

    /// What a pass has to list that goes on with the backfill at once, behind a poll that took place a moment ago;
    /// `until`: see [`Plan::done_from`] of that.
    pub fn plan_backfill(&self, now: PrimitiveDateTime, until: Option<Date>) -> Plan {
        let mut plan = self.hot_days(now);
        plan.listed = SliceSet::default();
        plan.until = until;
        for (slice, day) in self.waiting(now).take(OUTSTANDING_SLICES) {
            plan.go_back(slice, day.max(self.lowest()));
            plan.listed.add(slice);
        }
        let listed = Slice::all().filter(|slice| plan.listed.has(*slice));
        plan.oldest = listed.map(|slice| plan.from(slice)).min().unwrap_or(plan.oldest);
        plan
    }

    fn hot_days(&self, now: PrimitiveDateTime) -> Plan {
        let lowest = self.lowest();
        Plan {
            now,
            oldest: lowest,
            cold: SliceSet::default(),
            listed: SliceSet::ALL,
            until: None,
            from: self.left.map(|left| self.hot(&left, now).max(lowest)),
            swept: 0,
        }
    }

    /// The slices whose backfill has not been tried yet, and the day each begins with. While there are any, the next
    /// pass need not wait for the next poll.
    pub fn waiting(&self, now: PrimitiveDateTime) -> impl Iterator<Item = (Slice, Date)> {
        let untried = Slice::all().zip(&self.left).filter(|(_, left)| left.tried.is_none());
        untried.filter_map(move |(slice, left)| Some((slice, left.due(self.hot(left, now), now)?)))
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
    pub fn settle(&mut self, plan: &Plan, end: &PassEnd) -> Option<GivenUp> {
        let today = plan.now.date();
        if let Some(newest) = end.newest.filter(|_| plan.is_poll()) {
            self.through = self.through.max(back(newest.min(today), HOT_DAYS));
        }
        let mut given_up: Option<GivenUp> = None;
        for (slice, left) in Slice::all().zip(&mut self.left).filter(|(slice, _)| plan.listed.has(*slice)) {
            let cold = plan.cold.has(slice).then_some(plan.now);
            let unfinished = end.unfinished.of(slice);
            if let Some(day) = left.settle(plan.from(slice), unfinished, cold, end.transient.has(slice)) {
                let sum = given_up.get_or_insert(GivenUp { from: day, slices: 0 });
                *sum = GivenUp { from: sum.from.min(day), slices: sum.slices + 1 };
            }
        }
        if plan.is_poll() && (end.newest.is_some() || self.round.is_some()) {
            let next = back(self.through.min(back(today, HOT_DAYS)), COLD_DAYS - HOT_DAYS);
            let first = Round { begun: plan.now, swept: 0, from: next, next };
            self.round = Some(self.round.map_or(first, |round| round.settle(plan, next)));
        }
        self.forget(today);
        given_up
    }

    /// Moves `floor` up behind what is settled.
    fn forget(&mut self, today: Date) {
        let Some(round) = &self.round else { return };
        let outstanding = self.left.iter().filter_map(|left| left.outstanding).min();
        let settled = outstanding.map_or(self.through, |day| day.min(self.through)).min(today);
        let floor = back(settled, KEPT_DAYS).min(round.from);
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

    /// The first of the hot days in a slice, by the bucket and by the clock. Where the whole slice waits for its turn
    /// anyhow, what the clock alone says is good enough meanwhile.
    fn hot(&self, left: &Left, now: PrimitiveDateTime) -> Date {
        let by_clock = back(now.date(), HOT_DAYS);
        let waits = left.tried.is_none() && left.outstanding.is_some_and(|day| day <= self.through);
        if waits { by_clock } else { by_clock.min(self.through) }
    }

    /// The oldest day that a listing may have to show.
    fn lowest(&self) -> Date {
        if self.start < self.done_from { self.start.date() } else { self.start.date().max(self.floor) }
    }

    fn reopen(&mut self, day: Date) {
        for left in &mut self.left {
            let outstanding = left.outstanding.map_or(day, |old| old.min(day));
            *left = Left { outstanding: Some(outstanding), ..Left::default() };
        }
    }
}

impl Round {
    /// Slices that have to be swept by now.
    fn due(&self, now: PrimitiveDateTime) -> u8 {
        let all = SLICES as u8;
        let elapsed = now - self.begun;
        let due = if elapsed < -SWEEP {
            all // the clock was set back: a sweep too many does no harm, one that waits for years does
        } else {
            let parts = elapsed.whole_seconds().max(0) / (SWEEP.whole_seconds() / SLICES as i64);
            u8::try_from(parts).map_or(all, |parts| parts.min(all))
        };
        due.max(self.swept)
    }

    /// What was swept is behind it: what could not be listed stands in [`Left`] now.
    fn settle(self, plan: &Plan, next: Date) -> Round {
        if usize::from(plan.swept) < SLICES {
            return Round { swept: plan.swept, ..self };
        }
        let on_time = (Duration::ZERO..2 * SWEEP).contains(&(plan.now - self.begun));
        let begun = if on_time { self.begun + SWEEP } else { plan.now };
        Round { begun, swept: 0, from: self.next, next: next.max(self.next) }
    }
}

impl Left {
    /// The day to list the slice from, if that is due.
    fn due(&self, hot: Date, now: PrimitiveDateTime) -> Option<Date> {
        let wait = match self.refused.checked_sub(1) {
            Some(tries) => (OUTSTANDING_AFTER * (1i32 << tries.min(10))).min(OUTSTANDING_EVERY),
            None => Duration::ZERO,
        };
        // A clock that stands before the last try was set back: one too many does no harm.
        let is_due = self.tried.is_none_or(|tried| now < tried || now - tried >= wait);
        self.outstanding.filter(|&day| is_due && day < hot)
    }

    /// Takes in a pass that listed the slice from a day on; `cold`: from before the hot days, and when. Returns the
    /// day from which the slice is given up.
    fn settle(
        &mut self,
        from: Date,
        unfinished: Option<Date>,
        cold: Option<PrimitiveDateTime>,
        transient: bool,
    ) -> Option<Date> {
        let old = self.outstanding;
        let before = old.filter(|&day| day < from);
        self.outstanding = before.into_iter().chain(unfinished).min();
        let Some(day) = self.outstanding else {
            *self = Left::default();
            return None;
        };
        if before.is_some() || cold.is_none() {
            return None;
        }
        self.tried = cold;
        self.refused = match transient {
            true => 0,
            false if old == Some(day) => self.refused.saturating_add(1),
            false => 1,
        };
        if self.refused < REFUSED_TRIES {
            return None;
        }
        *self = Left::default();
        Some(day)
    }
}

impl PassEnd {
    /// A stream in this slice was not listed.
    pub fn miss(&mut self, plan: &Plan, slice: Slice, transient: bool) {
        self.unfinished.note(slice, plan.from(slice));
        if transient {
            self.transient.add(slice);
        }
    }

    /// Nobody knows what was not listed.
    pub fn miss_all(&mut self, plan: &Plan, transient: bool) {
        let listed = Slice::all().filter(|slice| plan.listed.has(*slice));
        listed.for_each(|slice| self.miss(plan, slice, transient));
    }
}

impl Plan {
    /// The day that the streams of a slice are listed from.
    pub fn from(&self, slice: Slice) -> Date {
        self.from[slice.index()]
    }

    /// Whether the hot days of all streams are in it: what comes behind it may move on.
    pub fn is_poll(&self) -> bool {
        self.listed == SliceSet::ALL
    }

    /// The day from which on everything in every slice was listed and is collected, if nothing was left of it.
    pub fn done_from(&self, end: &PassEnd) -> Option<Date> {
        let from = self.from.iter().max().copied();
        from.filter(|_| self.is_poll() && end.unfinished.is_empty())
    }

    fn go_back(&mut self, slice: Slice, day: Date) {
        let from = &mut self.from[slice.index()];
        if day < *from {
            *from = day;
            self.cold.add(slice);
        }
    }
}

/// The `start-after` that begins a listing of `stream` (which ends with `/`) with the first key of `day`: it
/// sorts behind every key of the day before.
pub fn start_after(stream: &str, day: Date) -> String {
    format!("{stream}{:04}/{:02}/{:02}/", day.year(), u8::from(day.month()), day.day())
}

/// The day of the folders that a key of a stream names, as far as they can be read.
pub fn day_of(key: &str) -> Option<Date> {
    let mut parts = key.rsplit('/').skip(1);
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
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
mod tests;
