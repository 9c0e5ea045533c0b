//! The storekeeper: one thread that owns everything between a fetched body and a durable object.
//!
//! It takes one body at a time, decodes and selects it straight into the spool's open object, and ends or
//! takes back that object as a whole. Ended objects wait for the next group commit; only after its fsync are
//! they entered into the ledger and their tickets answered (invariants 2 and 3).
//!
//! A commit is due when [`COMMIT_BYTES`] or [`limits::COMMIT_OBJECTS`] wait, or [`COMMIT_AFTER`] has passed
//! since the first of them. Nothing upstream waits for it: fetching goes on.
//!
//! A full spool is a state, not an error: the storekeeper commits what is whole, then waits for the outputs
//! with the object still open. Its fetch stalls behind it, and so does everything before (invariant 8).
//!
//! So is a disk that refuses something (no room, no inodes, read-only, an error of the medium, a folder that is gone).
//! What came since the last commit is taken back and fetched again; a sync that failed is never tried again on the
//! same file. Then nothing is taken until the disk takes a probe, and that is shown ([`StoreStatus::fault`]).

mod intake;
mod status;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wedge;
use crate::config;
use crate::decode::Decoder;
use crate::discover::ledger::{Entry, Ledger};
use crate::discover::queue::{FailKind, Outcome, Wanted};
use crate::fetch::body::{BodyReader, FetchFailed};
use crate::limits;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::select::Selector;
use crate::select::remembered::Remembered;
use crate::spool::disk::Disk;
use crate::spool::{Committed, Position, Quarantine, Spool, SpoolError, Writer, worker};
pub use status::{RuleDrops, StoreStatus};

/// Spooled bytes that make a commit due.
const COMMIT_BYTES: u64 = 4 * 1024 * 1024;
/// Age of the first ended object that makes a commit due.
const COMMIT_AFTER: Duration = Duration::from_millis(200);
/// How often a waiting storekeeper looks whether it should stop, or whether segments can go.
const LOOK: Duration = Duration::from_millis(250);
/// How often segments are reclaimed when nothing else happens.
const IDLE: Duration = Duration::from_secs(5);

/// One fetched body, on its way into the spool.
pub struct Job {
    /// What it is, and whom to tell.
    pub wanted: Wanted,
    /// Its bytes, as they come.
    pub body: BodyReader,
    /// What to do with them.
    pub purpose: Purpose,
    /// Told when the body was read, before the commit.
    pub read: oneshot::Sender<Read>,
}

/// What a body is fetched for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// Decode it and keep what is selected.
    Collect,
    /// It cannot be collected: its raw bytes go to the quarantine.
    SetAside(Unfit),
}

/// Why an object cannot be collected, now or later.
#[derive(Debug, Clone)]
pub struct Unfit {
    /// A stable word, for the quarantine and the metrics.
    pub slug: &'static str,
    /// For the operator.
    pub why: String,
}

/// What the storekeeper says to the fetch worker once it has read a body.
#[derive(Debug)]
pub enum Read {
    /// It is in the storekeeper's hands, or its ticket is settled: take the next one.
    Taken,
    /// It cannot be collected: fetch it again, to be set aside.
    Unfit(Wanted, Unfit),
}

/// An ended object that waits for the commit.
struct Ended {
    wanted: Wanted,
    fate: ObjectFate,
    counts: Counts,
}

/// See the module's header.
pub struct Storekeeper<D: Disk> {
    writer: Writer<D>,
    spool: Arc<Spool<D>>,
    ledger: Arc<Ledger<D>>,
    quarantine: Quarantine<D>,
    /// Bytes of one body that are read; [`limits::OBJECT_BYTES`] but in tests.
    body_bytes: u64,
    /// Away only while it decodes.
    decoder: Option<Decoder>,
    selectors: Vec<(Box<str>, Selector)>,
    remembered: Remembered<D>,
    ended: Vec<Ended>,
    first_ended: Option<Instant>,
    reclaimed: Instant,
    disk_backoff: Backoff,
    /// The last attempt to save or to remove segments failed, and that was told.
    reclaim_fault: bool,
    /// The agent stops, and the ledger lacks objects of the spool: see [`Storekeeper::enter`].
    behind: bool,
    stop: Arc<AtomicBool>,
    status: Arc<StoreStatus>,
    pulse: Arc<Pulse>,
}

/// Why an object did not get into the spool.
enum Missed {
    /// The object itself.
    Unfit(Unfit),
    /// Its body did not come.
    Fetch(FetchFailed),
    /// Something here that may pass: it is fetched again on a later pass.
    Later(String),
    /// The spool's disk: roll back before anything else.
    Disk(SpoolError),
    /// The writer was rolled back meanwhile, and that was told.
    RolledBack,
}

impl<D: Disk> Storekeeper<D> {
    /// A storekeeper for the configured sources.
    pub fn new(
        config: &config::Config,
        (writer, spool): (Writer<D>, Arc<Spool<D>>),
        ledger: Arc<Ledger<D>>,
        quarantine: Quarantine<D>,
        remembered: Remembered<D>,
        (stop, status): (Arc<AtomicBool>, Arc<StoreStatus>),
    ) -> Storekeeper<D> {
        Storekeeper {
            writer,
            spool,
            ledger,
            quarantine,
            body_bytes: limits::OBJECT_BYTES,
            decoder: Some(Decoder::new(config.spool.max_record_bytes, config.spool.max_object_bytes)),
            selectors: config.sources.iter().map(|s| (s.name.clone(), Selector::new(s))).collect(),
            remembered,
            ended: Vec::with_capacity(limits::COMMIT_OBJECTS),
            first_ended: None,
            reclaimed: Instant::now(),
            disk_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            reclaim_fault: false,
            behind: false,
            stop,
            status,
            pulse: Arc::default(),
        }
    }

    /// The same, with its pulse.
    #[must_use]
    pub fn watched(self, pulse: Arc<Pulse>) -> Storekeeper<D> {
        Storekeeper { pulse, ..self }
    }

    /// Works until every sender of jobs is gone, then commits, saves the ledger and returns.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let _works = worker::works_for(&self.pulse);
        self.forget();
        loop {
            self.pulse.idle();
            let job = jobs.recv_timeout(self.patience());
            self.pulse.working();
            wedge::blocking("storekeeper");
            match job {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.commit_due() {
                // After a failed commit the objects come again; there is nothing more to do about it here.
                let _ = self.commit();
                if self.remembered.is_due() {
                    let fault = self.save().err();
                    self.tell(fault);
                }
            }
            if self.reclaimed.elapsed() >= IDLE {
                self.reclaim();
            }
        }
        let _ = self.commit();
        match self.save() {
            Ok(()) => {
                self.reclaim();
            }
            Err(fault) => error!("{fault}, and read again at the next start"),
        }
    }

    /// The start has come to its end: what the outputs of a former configuration had left is not wanted any more.
    fn forget(&self) {
        match self.spool.forget_other_outputs() {
            Ok(gone) => gone.iter().for_each(|output| {
                warn!("output {output:?} is not configured any more: its cursor is removed");
            }),
            Err(fault) => {
                warn!("{fault} (an output that is not configured any more); the next start tries it again")
            }
        }
    }

    /// How long the next job may be waited for.
    fn patience(&self) -> Duration {
        match self.first_ended {
            Some(first) => COMMIT_AFTER.saturating_sub(first.elapsed()),
            None => IDLE,
        }
    }

    fn commit_due(&self) -> bool {
        self.ended.len() >= limits::COMMIT_OBJECTS
            || self.writer.uncommitted().bytes >= COMMIT_BYTES
            || self.first_ended.is_some_and(|first| first.elapsed() >= COMMIT_AFTER)
    }

    fn take(&mut self, job: Job) {
        let Job { wanted, mut body, purpose, read } = job;
        let stored = match &purpose {
            _ if self.behind => {
                Err(Missed::Later("stopping before the ledger could be written; it is fetched again".into()))
            }
            Purpose::Collect => self.collect(&wanted, &mut body),
            Purpose::SetAside(unfit) => self.set_aside(&wanted, &mut body, unfit),
        };
        // Its buffers are free for the worker's next fetch before the worker hears that it may begin one.
        drop(body);
        let answer = match stored {
            Ok((ObjectFate::Quarantined, _)) if wanted.ticket.is_again() => {
                // Its entry is newer now; the books hold it already.
                wanted.ticket.settle(Outcome::Quarantined);
                Read::Taken
            }
            Ok((fate, counts)) => {
                self.ended.push(Ended { wanted, fate, counts });
                self.first_ended.get_or_insert_with(Instant::now);
                Read::Taken
            }
            Err(Missed::Unfit(unfit)) => Read::Unfit(wanted, unfit),
            Err(Missed::Fetch(FetchFailed(fault))) => {
                wanted.ticket.fail(&fault);
                Read::Taken
            }
            Err(Missed::Later(why)) => {
                warn!("{}: {why}", name(&wanted.object));
                wanted.ticket.settle(Outcome::Failed(FailKind::Transient));
                Read::Taken
            }
            Err(Missed::Disk(fault)) => {
                wanted.ticket.settle(Outcome::Failed(FailKind::Transient));
                self.recover(&fault);
                Read::Taken
            }
            Err(Missed::RolledBack) => {
                wanted.ticket.settle(Outcome::Failed(FailKind::Transient));
                Read::Taken
            }
        };
        // The worker may be gone when the agent stops; the wanted object then comes again at the next start.
        let _ = read.send(answer);
    }

    /// Repeats a step of the writer until there is room for it.
    fn with_room(
        &mut self,
        mut step: impl FnMut(&mut Writer<D>) -> Result<(), SpoolError>,
    ) -> Result<(), Missed> {
        loop {
            match step(&mut self.writer) {
                Ok(()) => {
                    if self.status.full.swap(false, Ordering::Relaxed) {
                        info!("the spool has room again: fetching goes on");
                    }
                    return Ok(());
                }
                Err(SpoolError::Full) => self.wait_for_room()?,
                Err(fault @ SpoolError::TooLarge { .. }) => {
                    return Err(Missed::Unfit(Unfit { slug: "too-large-for-spool", why: fault.to_string() }));
                }
                Err(fault) => return Err(Missed::Disk(fault)),
            }
        }
    }

    /// The outputs can only make room out of what is committed, so that comes first.
    fn wait_for_room(&mut self) -> Result<(), Missed> {
        if !self.ended.is_empty() && self.commit().is_break() {
            return Err(Missed::RolledBack);
        }
        if self.reclaim() {
            return Ok(());
        }
        self.spool.ask_to_skip();
        if self.stop.load(Ordering::Relaxed) {
            return Err(Missed::Later("stopping while the spool is full; it is fetched again".into()));
        }
        if !self.status.full.swap(true, Ordering::Relaxed) {
            warn!(
                "the spool is full ({} bytes): fetching pauses until the outputs have taken something",
                self.spool.used_bytes()
            );
        }
        self.pulse.waiting_for(|| self.writer.wait_for_room(LOOK));
        Ok(())
    }

    /// One fsync for everything that has ended; then, and only then, ledger and tickets. Break: the disk
    /// failed, now or at an insert that was given up, and the writer is back at the commit before (an open object is
    /// gone as well).
    fn commit(&mut self) -> ControlFlow<()> {
        self.first_ended = None;
        if self.ended.is_empty() {
            return ControlFlow::Continue(());
        }
        if self.behind {
            self.take_back();
            return ControlFlow::Break(());
        }
        let committed = match self.writer.commit() {
            Ok(committed) => committed,
            Err(fault) => {
                self.recover(&fault);
                return ControlFlow::Break(());
            }
        };
        self.enter(&committed);
        self.remembered.commit(committed.through);
        self.selectors.iter_mut().for_each(|(_, selector)| selector.commit());
        for (source, selector) in &self.selectors {
            self.status.drops.tell(source, selector.drops());
        }
        for ended in self.ended.drain(..) {
            ended.wanted.ticket.settle(match ended.fate {
                ObjectFate::Collected | ObjectFate::Recollected => Outcome::Done,
                ObjectFate::Quarantined => Outcome::Quarantined,
            });
        }
        self.disk_backoff.reset();
        ControlFlow::Continue(())
    }

    /// Enters what was committed into the ledger. It is in the spool, so there is no way but forward: a ledger
    /// that cannot be written is waited for, or, when the agent stops, rebuilt from the spool at the next start. Then
    /// nothing more is committed: the next insert would carry the checkpoint past what this one lacks.
    fn enter(&mut self, committed: &Committed) {
        loop {
            let entries: Vec<Entry<'_>> = self
                .ended
                .iter()
                .map(|ended| Entry {
                    source: &ended.wanted.object.source,
                    day: ended.wanted.day,
                    key: &ended.wanted.object.key,
                    fate: ended.fate,
                    counts: ended.counts,
                })
                .collect();
            let Err(fault) = self.ledger.insert(committed, &entries) else {
                self.status.clear();
                return;
            };
            self.status.raise(&fault, fault.kind());
            if self.pause().is_break() {
                self.behind = true;
                return;
            }
        }
    }

    /// What came since the last commit is not in the spool, and is fetched again.
    fn take_back(&mut self) {
        for ended in self.ended.drain(..) {
            ended.wanted.ticket.settle(Outcome::Failed(FailKind::Transient));
        }
        self.first_ended = None;
        self.writer.rollback();
        self.remembered.window().rollback();
        self.selectors.iter_mut().for_each(|(_, selector)| selector.rollback());
    }

    /// After a disk error: back to the last commit, then wait for the disk.
    fn recover(&mut self, fault: &SpoolError) {
        self.take_back();
        self.status.raise(fault, fault.kind());
        while self.pause().is_continue() {
            // Room may come from what the outputs have taken meanwhile.
            self.reclaim();
            match self.spool.probe() {
                Ok(()) => return self.status.clear(),
                Err(error) => {
                    self.status.raise(
                        &format_args!("the state directory refuses a probe: {error}"),
                        Some(error.kind()),
                    );
                }
            }
        }
    }

    /// Waits before the disk is tried again. Break: the agent stops.
    fn pause(&mut self) -> ControlFlow<()> {
        let until = Instant::now() + self.disk_backoff.next(fastrand::u64(..), None);
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            self.pulse.waiting_for(|| std::thread::sleep(LOOK));
        }
        ControlFlow::Continue(())
    }

    /// Saves the ledger, then what duplicates are found by, which must not be ahead of it. What cannot be saved is
    /// taken from the spool at the next start, and tried again before that.
    fn save(&mut self) -> Result<(), String> {
        let kept = "until it can be saved, its log in the spool is kept";
        let ledger = self.ledger.save().map_err(|fault| format!("{fault}; {kept}"))?;
        let saved = self.remembered.save(ledger);
        saved.map_err(|fault| format!("{fault} (what duplicates are found by); {kept}"))
    }

    /// What the spool has behind this place is taken from it again after a crash.
    fn needed_here(&self) -> Position {
        let ledger = self.ledger.checkpoint();
        self.remembered.needed().map_or(ledger, |remembered| remembered.min(ledger))
    }

    /// Removes the segments that every output, the ledger and the window of duplicates have behind them. Whether any
    /// went.
    fn reclaim(&mut self) -> bool {
        self.reclaimed = Instant::now();
        let mut fault = None;
        if self.spool.needed_by_outputs() > self.needed_here().segment {
            fault = self.save().err();
        }
        let freed = match self.writer.reclaim(self.needed_here()) {
            Ok(freed) => freed > 0,
            Err(error) => {
                fault = Some(format!("{error}; it is tried again"));
                false
            }
        };
        self.tell(fault);
        freed
    }

    /// Logs what failed at an attempt to save or to remove segments, unless the one before failed too.
    fn tell(&mut self, fault: Option<String>) {
        let told = std::mem::replace(&mut self.reclaim_fault, fault.is_some());
        if let Some(text) = fault.filter(|_| !told) {
            warn!("{text}");
        }
    }
}

fn name(id: &ObjectId) -> String {
    format!("source {}: s3://{}/{}", id.source, id.bucket, id.key)
}

#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod tests;
