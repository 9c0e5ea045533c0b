//! What the outside may know of a source, for metrics and the status page. Counters only ever grow; the
//! trouble is the one thing an operator should act on. Trouble and warnings are logged when they change, not when
//! they repeat.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime};
use tokio::time::Instant;

use super::key::NotALog;
use super::slice::SLICES;
use crate::aws::Warning;

/// What stands in the way of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Stable label for metrics.
    pub cause: &'static str,
    /// What failed, on what, why, what to do.
    pub text: String,
    /// Whether it may pass without anybody's doing.
    pub transient: bool,
    /// When the pass began that met it first (UTC).
    pub since: PrimitiveDateTime,
}

/// What happened to messages of a queue, and to the objects that they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A message was received: one that comes again counts again.
    Received,
    /// A message was deleted after everything that it names was done.
    Deleted,
    /// A message only tried whether messages arrive.
    Test,
    /// A message was set aside: it cannot be read, or came too often.
    SetAside,
    /// A message comes again: something that it names could not be collected yet.
    Again,
    /// A message could not be deleted by its receipt any more: it comes again.
    Stale,
    /// An object that a message names is in the ledger already.
    Known,
    /// It is not there any more.
    Gone,
    /// It is outside the source's bucket and prefix.
    Foreign,
    /// It is of an account or region that is not selected.
    NotSelected,
}

impl Told {
    /// All of them; the place of each is its number.
    pub const ALL: [Told; 10] = [
        Told::Received,
        Told::Deleted,
        Told::Test,
        Told::SetAside,
        Told::Again,
        Told::Stale,
        Told::Known,
        Told::Gone,
        Told::Foreign,
        Told::NotSelected,
    ];

    /// As a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Told::Received => "received",
            Told::Deleted => "deleted",
            Told::Test => "test",
            Told::SetAside => "set-aside",
            Told::Again => "again",
            Told::Stale => "stale",
            Told::Known => "known",
            Told::Gone => "gone",
            Told::Foreign => "foreign",
            Told::NotSelected => "not-selected",
        }
    }
}

/// Shared between a source's poll, its tickets and whoever shows it.
#[derive(Debug)]
pub struct SourceStatus {
    name: Box<str>,
    listed: AtomicU64,
    queued: AtomicU64,
    requests: AtomicU64,
    passes: AtomicU64,
    not_logs: [AtomicU64; NotALog::ALL.len()],
    told: [AtomicU64; Told::ALL.len()],
    found_by_sweep: AtomicU64,
    newest: AtomicI64,
    trouble: Mutex<Option<Trouble>>,
    warnings: Mutex<Vec<Warning>>,
    /// Streams that the last pass listed.
    streams: AtomicU64,
    daily_requests: AtomicU64,
    backfill: Mutex<Option<Backfill>>,
}

/// How far the history from before the first run is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfill {
    /// First day.
    pub from: Date,
    /// Last day.
    pub to: Date,
    /// Days that are listed, of all streams together.
    pub done: u64,
    /// Days that there are to list, of all streams together.
    pub all: u64,
    begun: Instant,
}

impl Backfill {
    /// Time that the rest will take if it goes on like this; `None` at the beginning.
    pub fn left(&self) -> Option<Duration> {
        let share = self.done as f64 / self.all.max(1) as f64;
        let elapsed = self.begun.elapsed();
        (share >= 0.01).then(|| elapsed.mul_f64((1.0 - share.min(1.0)) / share))
    }
}

impl fmt::Display for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backfill { from, to, done, all, .. } = self;
        let percent = (done * 100 / (*all).max(1)).min(99);
        write!(f, "backfill {from} to {to}: {percent} %")?;
        match self.left().map(|left| left.as_secs()) {
            None => Ok(()),
            Some(seconds @ 0..120) => write!(f, ", {seconds} s left"),
            Some(seconds @ 120..7200) => write!(f, ", {} min left", seconds / 60),
            Some(seconds) => write!(f, ", {} h left", seconds / 3600),
        }
    }
}

const NONE: i64 = i64::MIN;

/// The day before which there was no CloudTrail. Source: AWS News Blog, "AWS CloudTrail – Capture AWS API Activity".
const CLOUDTRAIL: Date = match Date::from_calendar_date(2013, Month::November, 13) {
    Ok(date) => date,
    Err(_) => Date::MIN,
};

impl SourceStatus {
    /// The status of the source of this name, with nothing done yet.
    pub fn new(name: &str) -> SourceStatus {
        SourceStatus {
            name: name.into(),
            listed: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            not_logs: std::array::from_fn(|_| AtomicU64::new(0)),
            told: std::array::from_fn(|_| AtomicU64::new(0)),
            found_by_sweep: AtomicU64::new(0),
            newest: AtomicI64::new(NONE),
            trouble: Mutex::new(None),
            warnings: Mutex::default(),
            streams: AtomicU64::new(0),
            daily_requests: AtomicU64::new(0),
            backfill: Mutex::default(),
        }
    }

    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keys listed, known ones included, since the start of the process.
    pub fn listed(&self) -> u64 {
        self.listed.load(Relaxed)
    }

    /// Objects queued to be fetched.
    pub fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// LIST requests made.
    pub fn list_requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Passes finished.
    pub fn passes(&self) -> u64 {
        self.passes.load(Relaxed)
    }

    /// LIST requests that a day takes, as far as the last complete pass can tell; 0 before there was one.
    pub fn daily_requests(&self) -> u64 {
        self.daily_requests.load(Relaxed)
    }

    /// How far the history is collected, as long as there is any left to list.
    pub fn backfill(&self) -> Option<Backfill> {
        *locked(&self.backfill)
    }

    /// Keys listed that are not logs, for this reason.
    pub fn not_logs(&self, why: NotALog) -> u64 {
        self.not_logs[why.index()].load(Relaxed)
    }

    /// Messages, or objects named by them, that met this.
    pub fn told(&self, what: Told) -> u64 {
        self.told[what as usize].load(Relaxed)
    }

    /// Objects that the sweep of a source with a queue found before any message named them.
    pub fn found_by_sweep(&self) -> u64 {
        self.found_by_sweep.load(Relaxed)
    }

    /// Stamp of the newest object known to be collected (UTC): since the start of the process, or seen again by a pass.
    pub fn newest_collected(&self) -> Option<PrimitiveDateTime> {
        let seconds = Some(self.newest.load(Relaxed)).filter(|&seconds| seconds != NONE)?;
        let moment = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        Some(PrimitiveDateTime::new(moment.date(), moment.time()))
    }

    /// What stands in the way now.
    pub fn trouble(&self) -> Option<Trouble> {
        locked(&self.trouble).clone()
    }

    /// What does not stand in the way, but should be mended.
    pub fn warnings(&self) -> Vec<Warning> {
        locked(&self.warnings).clone()
    }

    pub(super) fn set_daily_requests(&self, requests: u64) {
        self.daily_requests.store(requests, Relaxed);
    }

    pub(super) fn set_streams(&self, streams: u64) {
        self.streams.store(streams, Relaxed);
    }

    /// So many of the slices are to be listed from `from` for the first time. Slices that are done stay done.
    pub(super) fn backfill_begins(&self, from: Date, to: Date, slices: u64) {
        // What was before CloudTrail has no days to list.
        let from = from.max(CLOUDTRAIL);
        let days = (to - from).whole_days().unsigned_abs() + 1;
        let all = (days * self.streams.load(Relaxed) * slices / SLICES as u64).max(1);
        let mut backfill = locked(&self.backfill);
        if backfill.is_none() {
            log::info!("source {}: collecting its history from {from} to {to}", self.name);
            *backfill = Some(Backfill { from, to, done: 0, all, begun: Instant::now() });
        }
    }

    /// A stream's history begins to be listed.
    pub(super) fn backfill_stream(&self, from: Date) -> BackfillStream<'_> {
        BackfillStream { status: self, reached: from.max(CLOUDTRAIL) }
    }

    /// Nothing of the history is left to list.
    pub(super) fn backfill_ended(&self) {
        if let Some(Backfill { from, to, .. }) = locked(&self.backfill).take() {
            log::info!("source {}: its history from {from} to {to} is collected", self.name);
        }
    }

    pub(super) fn count_listed(&self, keys: u64) {
        self.listed.fetch_add(keys, Relaxed);
    }

    pub(super) fn count_queued(&self) {
        self.queued.fetch_add(1, Relaxed);
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_pass(&self) {
        self.passes.fetch_add(1, Relaxed);
    }

    pub(super) fn count_not_a_log(&self, why: NotALog) {
        self.not_logs[why.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn count_told(&self, what: Told, number: u64) {
        self.told[what as usize].fetch_add(number, Relaxed);
    }

    pub(super) fn count_found_by_sweep(&self, objects: u64) {
        self.found_by_sweep.fetch_add(objects, Relaxed);
    }

    pub(super) fn collected(&self, stamp: PrimitiveDateTime) {
        self.newest.fetch_max(stamp.assume_utc().unix_timestamp(), Relaxed);
    }

    /// Sets the trouble. The first moment of the same cause is kept.
    pub(super) fn raise(&self, mut trouble: Trouble) {
        let mut current = locked(&self.trouble);
        match &*current {
            Some(old) if old.cause == trouble.cause => trouble.since = old.since,
            _ => log::warn!("source {}: {}", self.name, trouble.text),
        }
        *current = Some(trouble);
    }

    /// A pass met no trouble.
    pub(super) fn clear(&self) {
        if let Some(old) = locked(&self.trouble).take() {
            log::info!("source {}: no longer in trouble ({})", self.name, old.cause);
        }
    }

    /// What raised this trouble is over; another one stays.
    pub(super) fn clear_of(&self, cause: &str) {
        let current = locked(&self.trouble).as_ref().map(|trouble| trouble.cause);
        if current == Some(cause) {
            self.clear();
        }
    }

    /// Sets what is to be warned of now.
    pub(super) fn warn(&self, warnings: Vec<Warning>) {
        let mut current = locked(&self.warnings);
        for new in warnings.iter().filter(|new| !current.iter().any(|old| old.cause == new.cause)) {
            log::warn!("source {}: {}", self.name, new.text);
        }
        for old in current.iter().filter(|old| !warnings.iter().any(|new| new.cause == old.cause)) {
            log::info!("source {}: no longer to be warned of: {}", self.name, old.cause);
        }
        *current = warnings;
    }
}

/// One stream of a backfill. Dropped, it is listed to its end, or will be listed again.
pub(super) struct BackfillStream<'a> {
    status: &'a SourceStatus,
    reached: Date,
}

impl BackfillStream<'_> {
    /// Its listing came to this day.
    pub(super) fn reached(&mut self, day: Option<Date>) {
        if let (Some(day), Some(backfill)) = (day, locked(&self.status.backfill).as_mut())
            && day > self.reached
        {
            let day = day.min(backfill.to);
            backfill.done += (day - self.reached).whole_days().max(0).unsigned_abs();
            self.reached = self.reached.max(day);
        }
    }
}

impl Drop for BackfillStream<'_> {
    fn drop(&mut self) {
        if let Some(backfill) = locked(&self.status.backfill).as_mut() {
            backfill.done += (backfill.to - self.reached).whole_days().max(0).unsigned_abs() + 1;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use time::{Date, Time};

    use super::*;

    fn at(minute: u8) -> PrimitiveDateTime {
        PrimitiveDateTime::new(
            Date::from_calendar_date(2026, time::Month::November, 23).unwrap(),
            Time::from_hms(12, minute, 0).unwrap(),
        )
    }

    fn trouble(cause: &'static str, minute: u8) -> Trouble {
        Trouble { cause, text: format!("at {minute}"), transient: false, since: at(minute) }
    }

    #[test]
    fn trouble_lasts_from_its_first_moment_until_it_is_cleared() {
        let status = SourceStatus::new("prod");
        assert_eq!(status.trouble(), None);
        status.raise(trouble("denied", 1));
        status.raise(trouble("denied", 2));
        assert_eq!(status.trouble(), Some(Trouble { text: "at 2".to_owned(), ..trouble("denied", 1) }));
        status.raise(trouble("network", 3));
        assert_eq!(status.trouble(), Some(trouble("network", 3)));
        status.clear();
        assert_eq!(status.trouble(), None);
    }

    #[test]
    fn warnings_are_those_of_now() {
        let status = SourceStatus::new("prod");
        let clock = |text: &str| Warning { cause: "clock", text: text.to_owned() };
        status.warn(vec![clock("6 minutes")]);
        status.warn(vec![clock("7 minutes")]);
        assert_eq!(status.warnings(), [clock("7 minutes")]);
        status.warn(Vec::new());
        assert_eq!(status.warnings(), []);
    }

    #[test]
    fn the_newest_stamp_never_moves_back() {
        let status = SourceStatus::new("prod");
        assert_eq!(status.newest_collected(), None);
        status.collected(at(10));
        status.collected(at(5));
        assert_eq!(status.newest_collected(), Some(at(10)));
    }
}
