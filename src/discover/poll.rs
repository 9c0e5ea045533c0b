//! Passes over one source, one after the other, and what is kept between them.
//!
//! A pass ends when every object that it queued is answered. Only then is the source's progress moved on and
//! made durable, and only after that may the ledger forget: a crash at any point lists again, and collects
//! nothing twice.

use std::sync::Arc;
use std::time::Duration;

use time::{PrimitiveDateTime, UtcDateTime};
use tokio::time::Instant;

use super::queue::{Pass, Queue, Tally};
use super::state::{self, Loaded};
use super::status::{SourceStatus, Trouble};
use super::walk::{Known, Lister, Seen, Selection, Walk, blocking};
use super::window::{PassEnd, Plan, Progress};
use crate::config;
use crate::spool::disk::Disk;

/// A clock before this year was never set. S3 would refuse the requests, and `start` must not be resolved by it.
pub(super) const CLOCK_SET: i32 = 2025;
/// Least time between the end of a pass and the begin of the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Polls one source.
#[derive(Debug)]
pub struct Poller<L, K, D> {
    selection: Arc<Selection>,
    start: config::Start,
    scope: u32,
    refresh: Duration,
    /// Messages of a queue are to name every object first.
    sweeps: bool,
    lister: L,
    known: K,
    disk: D,
    queue: Queue,
    lane: usize,
    status: Arc<SourceStatus>,
    /// As it is on disk, or newer; `None` before the first pass.
    progress: Option<Progress>,
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
}

impl PassReport {
    /// Whether everything that is wanted was listed and is collected.
    pub fn is_complete(&self) -> bool {
        self.plan.is_some() && self.end.unfinished.is_none()
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
            lister,
            known,
            disk,
            queue,
            lane,
            status,
            progress: None,
        }
    }

    /// Polls until `stop`. `clock` gives the time of day, UTC.
    ///
    /// Cancelling it at any point loses nothing: see the module's head.
    pub async fn run(mut self, clock: impl Fn() -> UtcDateTime, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let begun = Instant::now();
            tokio::select! {
                biased;
                () = &mut stop => return,
                report = self.pass(clock()) => log::debug!("source {}: {report:?}", self.selection.name),
            }
            // Up to a tenth less, so that many boxes do not ask at the same moment for ever.
            let next = begun + self.refresh.mul_f64(1.0 - 0.1 * fastrand::f64());
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep_until(next.max(Instant::now() + PAUSE)) => {}
            }
        }
    }

    /// One pass: lists, queues, waits for the answers, and remembers.
    pub async fn pass(&mut self, now: UtcDateTime) -> PassReport {
        let now = PrimitiveDateTime::new(now.date(), now.time());
        let pass = Pass::new(Arc::clone(&self.status), now);
        let report = match self.remembered(now).await {
            Ok(progress) => self.pass_from(progress, now, &pass).await,
            Err((cause, text)) => {
                pass.raise(cause, &text, true);
                let (seen, tally, end) = (Seen::default(), pass.settled().await, PassEnd::default());
                PassReport { plan: None, seen, tally, end }
            }
        };
        if report.trouble().is_none() {
            self.status.clear();
        }
        if self.sweeps && report.seen.new > 0 {
            let (name, new) = (&self.selection.name, report.seen.new);
            log::info!("source {name}: the sweep found {new} objects that no message had named yet");
            self.status.count_found_by_sweep(new);
        }
        self.status.count_pass();
        report
    }

    async fn pass_from(
        &mut self,
        progress: Arc<Progress>,
        now: PrimitiveDateTime,
        pass: &Arc<Pass>,
    ) -> PassReport {
        let plan = progress.plan(now);
        let mut walk = Walk {
            selection: &self.selection,
            lister: &self.lister,
            known: &self.known,
            queue: &self.queue,
            lane: self.lane,
            progress: &progress,
            plan,
            pass,
            seen: Seen::default(),
            end: PassEnd::default(),
            given_up: 0,
        };
        let _ = walk.bucket().await; // where it ended, it noted what is missing
        let (seen, mut end) = (walk.seen, walk.end);

        let tally = pass.settled().await;
        end.unfinished = end.unfinished.into_iter().chain(tally.oldest_failed).min();
        end.transient |= tally.failed_transient > 0;
        let mut progress = Arc::unwrap_or_clone(progress);
        progress.settle(&plan, &end);
        if let Err((cause, text)) = self.remember(progress, plan.deep).await {
            pass.raise(cause, &text, true);
        }
        // Once more: the last two steps may have had trouble.
        PassReport { plan: Some(plan), seen, tally: pass.settled().await, end }
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
                let mut progress = before.clone();
                progress.reconcile(self.start, self.scope, now);
                (Some(before), progress)
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
    async fn remember(&mut self, progress: Progress, forget: bool) -> Result<(), (&'static str, String)> {
        let before = self.progress.replace(progress.clone());
        if before.as_ref() != Some(&progress) {
            let floor = progress.floor;
            if let Err(error) = self.save(progress).await {
                self.progress = before; // listed again, as after a crash
                return Err(error);
            }
            if forget {
                let (known, name) = (self.known.clone(), self.selection.name.clone());
                let result = blocking(move || known.expire(&name, floor)).await;
                result.map_err(|error| ("ledger", format!("the ledger cannot be shortened: {error}")))?;
            }
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
