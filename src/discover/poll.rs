//! Passes over one source, one after the other, and what is kept between them.
//!
//! A pass ends when every object that it queued is answered. Only then is the source's progress moved on and
//! made durable, and only after that may the ledger forget: a crash at any point lists again, and collects
//! nothing twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::{Date, PrimitiveDateTime, UtcDateTime};
use tokio::time::Instant;

use super::cost;
use super::queue::{Pass, Queue, Tally};
use super::slice::{self, SliceSet};
use super::state::{self, Loaded};
use super::status::{SourceStatus, Trouble};
use super::walk::{Known, Lister, Notes, Seen, Selection, Walk, blocking};
use super::window::{self, GivenUp, PassEnd, Plan, Progress};
use crate::config;
use crate::pulse::Pulse;
use crate::service::wedge;
use crate::spool::disk::Disk;

/// A clock before this year was never set. S3 would refuse the requests, and `start` must not be resolved by it.
pub(super) const CLOCK_SET: i32 = 2025;
/// Least time between the end of a pass and the begin of the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time to the next try of a pass that did not take place: a clock is set within seconds.
const AGAIN: Duration = Duration::from_secs(60);

/// Polls one source.
#[derive(Debug)]
pub struct Poller<L, K, D> {
    selection: Arc<Selection>,
    start: config::Start,
    scope: u32,
    refresh: Duration,
    /// Messages of a queue are to name every object first.
    sweeps: bool,
    lister: Arc<L>,
    known: K,
    disk: D,
    queue: Queue,
    lane: usize,
    status: Arc<SourceStatus>,
    /// As it is on disk, or newer; `None` before the first pass.
    progress: Option<Progress>,
    /// When the last pass over all that is fresh began, and what need not be listed again behind it: then the backfill
    /// may go on.
    poll: Option<(Instant, Option<Date>)>,
    /// The last pass said that there is more of a backfill.
    more: bool,
    /// The floor that the ledger has expired to.
    expired: Option<Date>,
    /// LIST requests a day, as they were last told to the operator.
    told: Option<u64>,
    pulse: Arc<Pulse>,
}

/// What one pass came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassReport {
    /// What was listed; `None`: the pass did not take place (see `trouble`).
    pub plan: Option<Plan>,
    /// What the walk saw.
    pub seen: Seen,
    /// What became of the objects queued.
    pub tally: Tally,
    /// What was left unfinished, if anything.
    pub end: PassEnd,
    /// There is more of a backfill, which can go on at once.
    pub more: bool,
}

impl PassReport {
    /// Whether all that the pass had to list was listed and is collected.
    pub fn is_complete(&self) -> bool {
        self.plan.is_some() && self.end.unfinished.is_empty()
    }

    /// What stood in the way.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.tally.trouble.as_ref()
    }
}

impl<L: Lister, K: Known, D: Disk> Poller<L, K, D> {
    /// A poller that queues into `lane` of the queue. `disk` is the state folder.
    pub fn new(
        source: &config::Source,
        lister: L,
        known: K,
        disk: D,
        (queue, lane): (Queue, usize),
        status: Arc<SourceStatus>,
    ) -> Poller<L, K, D> {
        Poller {
            selection: Arc::new(Selection::of(source)),
            start: source.start,
            scope: state::scope(source),
            refresh: source.refresh,
            sweeps: source.method.sweeps(),
            lister: Arc::new(lister),
            known,
            disk,
            queue,
            lane,
            status,
            progress: None,
            poll: None,
            more: false,
            expired: None,
            told: None,
            pulse: Arc::default(),
        }
    }

    /// The same, with the pulse of its stage.
    #[must_use]
    pub fn watched(self, pulse: Arc<Pulse>) -> Poller<L, K, D> {
        Poller { pulse, ..self }
    }

    /// Polls until `stop`. `clock` gives the time of day, UTC.
    ///
    /// Cancelling it at any point loses nothing: see the module's head.
    pub async fn run(mut self, clock: impl Fn() -> UtcDateTime, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut polled = Instant::now();
        loop {
            let begun = Instant::now();
            let (more, took_place) = tokio::select! {
                biased;
                () = &mut stop => return,
                report = self.pass(clock()) => {
                    log::debug!("source {}: {report:?}", self.selection.name);
                    if report.plan.is_none_or(|plan| plan.is_poll()) {
                        polled = begun;
                    }
                    (report.more, report.plan.is_some())
                }
            };
            let refresh = if took_place { self.refresh } else { self.refresh.min(AGAIN) };
            // Up to a tenth less, so that many boxes do not ask at the same moment for ever.
            let next = if more { begun } else { polled + refresh.mul_f64(1.0 - 0.1 * fastrand::f64()) };
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep_until(next.max(Instant::now() + PAUSE)) => {}
            }
        }
    }

    /// One pass: lists, queues, waits for the answers, and remembers.
    pub async fn pass(&mut self, now: UtcDateTime) -> PassReport {
        self.pulse.working();
        wedge::pending("source").await;
        let now = PrimitiveDateTime::new(now.date(), now.time());
        let pass = Pass::new(Arc::clone(&self.status), now);
        let more = std::mem::take(&mut self.more);
        let report = match self.remembered(now).await {
            Ok(progress) => {
                let plan = self.plan(&progress, now, more);
                self.pass_from(progress, plan, &pass).await
            }
            Err((cause, text)) => {
                pass.raise(cause, &text, true);
                let (seen, tally, end) = (Seen::default(), pass.settled().await, PassEnd::default());
                PassReport { plan: None, seen, tally, end, more: false }
            }
        };
        // A pass for a backfill alone says nothing of what troubled the poll before it.
        if report.trouble().is_none() && report.plan.is_some_and(|plan| plan.is_poll()) {
            self.status.clear();
        }
        self.more = report.more;
        if self.sweeps && report.seen.new > 0 {
            let (name, new) = (&self.selection.name, report.seen.new);
            log::info!("source {name}: the sweep found {new} objects that no message had named yet");
            self.status.count_found_by_sweep(new);
        }
        self.status.count_pass();
        self.pulse.idle();
        report
    }

    /// A poll, or no more than some of the backfill, when a pass goes on with that at once and no poll is due.
    fn plan(&self, progress: &Progress, now: PrimitiveDateTime, more: bool) -> Plan {
        match &self.poll {
            Some((begun, until))
                if more && begun.elapsed() < self.refresh && progress.waiting(now).next().is_some() =>
            {
                progress.plan_backfill(now, *until)
            }
            poll => progress.plan(now, poll.is_none()),
        }
    }

    async fn pass_from(&mut self, progress: Arc<Progress>, plan: Plan, pass: &Arc<Pass>) -> PassReport {
        let begun = Instant::now();
        let backfill = self.backfill(&progress, &plan);
        let walk = Arc::new(Walk {
            selection: Arc::clone(&self.selection),
            lister: Arc::clone(&self.lister),
            known: self.known.clone(),
            queue: self.queue.clone(),
            lane: self.lane,
            progress: Arc::clone(&progress),
            plan,
            pass: Arc::clone(pass),
            backfill,
            notes: Mutex::default(),
            pulse: Arc::clone(&self.pulse),
        });
        walk.bucket().await;
        let Notes { seen, mut end, ended, .. } =
            std::mem::take(&mut *walk.notes.lock().unwrap_or_else(PoisonError::into_inner));
        drop(walk);

        let tally = self.pulse.waiting(pass.settled()).await;
        end.unfinished.merge(&tally.failed);
        end.transient.add_all(tally.transient);
        let mut progress = Arc::unwrap_or_clone(progress);
        let given_up = progress.settle(&plan, &end);
        let mended = self.mend(&mut progress);
        let more =
            mended || progress.waiting(plan.now).next().is_some() && !ended && end.transient.is_empty();
        let remembered = self.remember(progress).await;
        let remembered = match remembered {
            Ok(()) => {
                if mended {
                    self.poll = None;
                } else if plan.is_poll() {
                    self.poll = Some((begun, plan.done_from(&end)));
                }
                self.tell(given_up, &tally);
                true
            }
            Err((cause, text)) => {
                pass.raise(cause, &text, true);
                false
            }
        };
        self.status.set_streams(seen.streams);
        if end.unfinished.is_empty() && backfill.is_empty() && plan.is_poll() {
            self.tell_cost(&seen);
        }
        if remembered && !more && self.poll.is_some() {
            self.status.backfill_ended();
        }
        // Once more: the last steps may have had trouble.
        let tally = pass.settled().await;
        PassReport { plan: Some(plan), seen, tally, end, more: more && remembered }
    }

    /// Resolves `start` anew if this machine's clock ran ahead when that was done, by what the bucket said of the time.
    fn mend(&self, progress: &mut Progress) -> bool {
        let told = self.lister.told().filter(|told| told.year() >= CLOCK_SET);
        let before = progress.start;
        let mended = told.is_some_and(|told| progress.mend(PrimitiveDateTime::new(told.date(), told.time())));
        if mended {
            let (name, start) = (&self.selection.name, progress.start);
            log::warn!(
                "source {name}: this machine's clock ran ahead when it first ran; `start` is {start} instead of {before}"
            );
        }
        mended
    }

    /// The slices of a plan that are listed for the first time, having shown what is to come of them.
    fn backfill(&self, progress: &Progress, plan: &Plan) -> SliceSet {
        let mut slices = SliceSet::default();
        let mut all = (0, None);
        for (slice, day) in progress.waiting(plan.now) {
            all = (all.0 + 1, Some(all.1.map_or(day, |first: Date| first.min(day))));
            if plan.listed.has(slice) && plan.from(slice) <= day {
                slices.add(slice);
            }
        }
        if let (waiting, Some(from)) = all
            && self.poll.is_some()
        {
            self.status.backfill_begins(from, plan.now.date(), waiting);
        }
        slices
    }

    /// What an operator did not mend in time.
    fn tell(&self, given_up: Option<GivenUp>, tally: &Tally) {
        if let Some(GivenUp { from, slices }) = given_up {
            log::error!(
                "source {}: what was refused day after day for {} days is given up, from {from} on in {slices} of {} parts of its \
                 streams ({} objects were refused just now); once they can be read, a source of another name with \
                 `start = \"{from}\"` collects them",
                self.selection.name,
                window::COLD_DAYS,
                slice::SLICES,
                tally.failed_denied
            );
        }
    }

    /// Says what the LIST requests of a day come to, at first and when that is another number.
    fn tell_cost(&mut self, seen: &Seen) {
        let daily = cost::of_a_day(seen.list_requests, seen.listed, self.refresh);
        self.status.set_daily_requests(daily);
        if self.told.is_none_or(|told| cost::differs(told, daily)) {
            self.told = Some(daily);
            log::info!(
                "source {}: {} streams take {} LIST requests a poll, with the daily sweep about {}",
                self.selection.name,
                seen.streams,
                seen.list_requests,
                cost::text(daily)
            );
        }
    }

    /// The source's progress, from the disk at the first pass; durable when the configuration changed it, so
    /// that a `start` of "24h" is resolved once.
    async fn remembered(&mut self, now: PrimitiveDateTime) -> Result<Arc<Progress>, (&'static str, String)> {
        if let Some(progress) = &self.progress {
            return Ok(Arc::new(progress.clone()));
        }
        if now.year() < CLOCK_SET {
            return Err(("clock", format!("the clock says {now}: it was never set; check the time service")));
        }
        let (disk, name) = (self.disk.clone(), self.selection.name.clone());
        let loaded = blocking(move || state::load(&disk, &name)).await.map_err(state_error)?;
        let (before, progress) = match loaded {
            Loaded::Progress(before) => {
                let mut progress = (*before).clone();
                progress.reconcile(self.start, self.scope, now);
                (Some(*before), progress)
            }
            Loaded::Absent => (None, Progress::first(self.start, self.scope, now)),
            Loaded::Broken(why) => {
                let progress = Progress::lost(self.start, self.scope, now);
                log::error!(
                    "source {}: its state file is damaged ({why}); it is listed again from {}, and what the ledger \
                     has forgotten is collected again",
                    self.selection.name,
                    progress.start
                );
                (None, progress)
            }
        };
        if before.as_ref() != Some(&progress) {
            self.save(progress.clone()).await?;
        }
        self.progress = Some(progress.clone());
        Ok(Arc::new(progress))
    }

    /// Keeps the progress, and lets the ledger forget what lies behind it, once that is durable.
    async fn remember(&mut self, progress: Progress) -> Result<(), (&'static str, String)> {
        let before = self.progress.replace(progress.clone());
        if before.as_ref() == Some(&progress) {
            return Ok(());
        }
        let (floor, has_listed) = (progress.floor, progress.round.is_some());
        if let Err(error) = self.save(progress).await {
            self.progress = before; // listed again, as after a crash
            return Err(error);
        }
        // Before anything was listed the floor is the clock's word alone.
        if self.expired != Some(floor) && has_listed {
            let (known, name) = (self.known.clone(), self.selection.name.clone());
            let result = blocking(move || known.expire(&name, floor)).await;
            result.map_err(|error| ("ledger", format!("the ledger cannot be shortened: {error}")))?;
            self.expired = Some(floor);
        }
        Ok(())
    }

    async fn save(&self, progress: Progress) -> Result<(), (&'static str, String)> {
        let (disk, name) = (self.disk.clone(), self.selection.name.clone());
        blocking(move || state::save(&disk, &name, &progress)).await.map_err(state_error)
    }
}

fn state_error(error: std::io::Error) -> (&'static str, String) {
    ("state", format!("the source's state (folder `{}` of the state folder) fails: {error}", state::DIR))
}

#[cfg(test)]
mod tests;
