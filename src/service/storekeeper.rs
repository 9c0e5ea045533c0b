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

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wedge;
use crate::aws::{Class, Fault};
use crate::config;
use crate::decode::{Broken, Decoder, Failure, Record, Sink, Summary};
use crate::discover::ledger::{Entry, Ledger};
use crate::discover::queue::{FailKind, Outcome, Wanted};
use crate::fetch::body::{BodyReader, FetchFailed};
use crate::limits;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::select::remembered::Remembered;
use crate::select::{Dropped, Selector, Verdict};
use crate::spool::disk::Disk;
use crate::spool::quarantine::{self, Quarantine, QuarantineWriter};
use crate::spool::{Committed, Position, Spool, SpoolError, Writer};

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

/// The storekeeper's state, readable by others.
#[derive(Debug, Default)]
pub struct StoreStatus {
    /// The spool is full and the storekeeper waits for the outputs.
    pub full: AtomicBool,
    /// What each rule removed.
    pub drops: RuleDrops,
    /// Objects whose books did not balance: always none, unless trailspool has a defect. The spool refuses their end.
    pub unbalanced: AtomicU64,
    fault: Mutex<Option<String>>,
}

/// What each rule of each source removed since the start: told by the storekeeper with every commit. As many counts as
/// the configuration has rules.
#[derive(Debug, Default)]
pub struct RuleDrops(Mutex<Vec<SourceDrops>>);

/// A source's name, and its rules' labels and counts.
type SourceDrops = (Box<str>, Vec<(Box<str>, u64)>);

impl RuleDrops {
    /// The labels of a source's rules and their counts.
    pub fn of(&self, source: &str) -> Vec<(Box<str>, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(name, _)| **name == *source).map(|(_, drops)| drops.clone()).unwrap_or_default()
    }

    fn tell<'a>(&self, source: &str, drops: impl Iterator<Item = Dropped<'a>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(name, _)| **name == *source).unwrap_or_else(|| {
            all.push((source.into(), Vec::new()));
            all.len() - 1
        });
        let known = &mut all[at].1;
        for (n, dropped) in drops.enumerate() {
            match known.get_mut(n) {
                Some((_, count)) => *count = dropped.count,
                None => known.push((dropped.reason.to_string().into(), dropped.count)),
            }
        }
    }
}

impl StoreStatus {
    /// What the disk of the state directory refuses, and what to do; `None` while it refuses nothing. Fetching pauses
    /// until it is over.
    pub fn fault(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Notes a fault, and logs it when it is another one than before.
    fn raise(&self, what: &dyn std::fmt::Display, kind: Option<io::ErrorKind>) {
        let text = format!("{what}; {}", advice(kind));
        let mut fault = self.lock();
        if fault.as_ref() != Some(&text) {
            error!(
                "{text}. Fetching pauses, and goes on by itself; what came since the last commit is fetched again"
            );
            *fault = Some(text);
        }
    }

    fn clear(&self) {
        if self.lock().take().is_some() {
            info!("the state directory can be written again: fetching goes on");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator can do about an error of the state directory's disk.
fn advice(kind: Option<io::ErrorKind>) -> &'static str {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        Some(StorageFull | QuotaExceeded) => {
            "make room on the state directory's disk, or inodes (`df`, `df -i`)"
        }
        Some(ReadOnlyFilesystem) => "the disk is read-only: look into the kernel's log, and remount it",
        Some(NotFound) => "the state directory, or a part of it, was removed or unmounted under the agent",
        Some(PermissionDenied) => "the state directory must belong to the user that trailspool runs as",
        _ => "look into the kernel's log for what is wrong with the state directory's disk",
    }
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
            decoder: Some(Decoder::new(config.spool.max_record_bytes, config.spool.max_object_bytes)),
            selectors: config.sources.iter().map(|s| (s.name.clone(), Selector::new(s))).collect(),
            remembered,
            ended: Vec::with_capacity(limits::COMMIT_OBJECTS),
            first_ended: None,
            reclaimed: Instant::now(),
            disk_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            reclaim_fault: false,
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

    /// Decodes and selects one body into the spool's open object, and ends it.
    fn collect(&mut self, wanted: &Wanted, body: &mut BodyReader) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        self.with_room(|writer| writer.begin(id))?;
        let selector = self.selectors.iter().position(|(name, _)| *name == id.source);
        let stored = self.store(wanted, body, selector);
        if let Some(selector) = selector {
            self.selectors[selector].1.end_object(stored.is_ok());
        }
        self.remembered.window().end_object(stored.is_ok());
        stored
    }

    fn store(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
        selector: Option<usize>,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        match self.pour(id, body, selector) {
            Ok((_, summary)) if !summary.gzip && is_another(wanted, body) => {
                self.writer.abort().map_err(Missed::Disk)?;
                Err(another_body(wanted, body.bytes_read(), "it is no gzip"))
            }
            Ok((counts, summary)) => {
                let fate = match wanted.ticket.is_again() {
                    true => ObjectFate::Recollected,
                    false => ObjectFate::Collected,
                };
                self.end(id, fate, counts)?;
                if summary.trailing > 0 {
                    warn!(
                        "{}: {} bytes after the last gzip member are not covered by its checksum and were not read",
                        name(id),
                        summary.trailing
                    );
                }
                Ok((fate, counts))
            }
            Err(missed @ (Missed::Disk(_) | Missed::RolledBack)) => Err(missed),
            Err(missed) => {
                self.writer.abort().map_err(Missed::Disk)?;
                Err(missed)
            }
        }
    }

    fn pour(
        &mut self,
        id: &ObjectId,
        body: &mut BodyReader,
        selector: Option<usize>,
    ) -> Result<(Counts, Summary), Missed> {
        let Some(mut decoder) = self.decoder.take() else {
            return Err(Missed::Later("the decoder is in use, this is a defect of trailspool".into()));
        };
        match selector.is_some_and(|selector| self.selectors[selector].1.looks_inside()) {
            true => decoder.start_noting(),
            false => decoder.start(),
        }
        let mut intake = Intake { keeper: self, id, selector, counts: Counts::default(), broken: None };
        let poured = intake.pour(&mut decoder, body);
        let counts = intake.counts;
        self.decoder = Some(decoder);
        poured.map(|summary| (counts, summary))
    }

    /// Puts a raw body into the quarantine; the object then counts as done.
    fn set_aside(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
        unfit: &Unfit,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        let entry = quarantine::Entry {
            object: id,
            index: None,
            output: None,
            reason: unfit.slug,
            detail: &unfit.why,
        };
        let mut raw = self.quarantine.writer(&entry).map_err(no_quarantine)?;
        while let Some(chunk) = next_chunk(&self.pulse, body)? {
            raw.append(chunk).map_err(no_quarantine)?;
        }
        if is_another(wanted, body) {
            return Err(another_body(wanted, body.bytes_read(), &unfit.why));
        }
        raw.finish().map_err(no_quarantine)?;
        if !wanted.ticket.is_again() {
            self.with_room(|writer| writer.begin(id))?;
            self.end(id, ObjectFate::Quarantined, Counts::default())?;
        }
        warn!("{}: set aside whole: {}", name(id), unfit.why);
        Ok((ObjectFate::Quarantined, Counts::default()))
    }

    fn end(&mut self, id: &ObjectId, fate: ObjectFate, counts: Counts) -> Result<(), Missed> {
        if !counts.balance() {
            self.status.unbalanced.fetch_add(1, Ordering::Relaxed);
            error!("{}: the books do not balance, this is a defect of trailspool: {counts:?}", name(id));
        }
        self.with_room(|writer| writer.end(fate, &counts))
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
    /// failed, and the writer is back at the commit before (an open object is gone as well).
    fn commit(&mut self) -> ControlFlow<()> {
        self.first_ended = None;
        if self.ended.is_empty() {
            return ControlFlow::Continue(());
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
    /// that cannot be written is waited for, or, when the agent stops, rebuilt from the spool at the next start.
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
                return;
            }
        }
    }

    /// After a disk error: what came since the last commit is not in the spool, and is fetched again.
    fn recover(&mut self, fault: &SpoolError) {
        for ended in self.ended.drain(..) {
            ended.wanted.ticket.settle(Outcome::Failed(FailKind::Transient));
        }
        self.first_ended = None;
        self.writer.rollback();
        self.remembered.window().rollback();
        self.selectors.iter_mut().for_each(|(_, selector)| selector.rollback());
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

/// Takes the decoder's records, one by one.
struct Intake<'a, D: Disk> {
    keeper: &'a mut Storekeeper<D>,
    id: &'a ObjectId,
    selector: Option<usize>,
    counts: Counts,
    broken: Option<QuarantineWriter<D>>,
}

impl<D: Disk> Intake<'_, D> {
    fn pour(&mut self, decoder: &mut Decoder, body: &mut BodyReader) -> Result<Summary, Missed> {
        let mut bytes = 0;
        let pulse = Arc::clone(&self.keeper.pulse);
        while let Some(chunk) = next_chunk(&pulse, body)? {
            bytes += chunk.len() as u64;
            if bytes > limits::OBJECT_BYTES {
                let why = format!(
                    "it is larger than any CloudTrail object: more than {} bytes",
                    limits::OBJECT_BYTES
                );
                return Err(Missed::Unfit(Unfit { slug: "object-too-large", why }));
            }
            decoder.feed(chunk, self).map_err(missed)?;
            // A large body may come slowly; what ended before it does not wait for it.
            if self.keeper.commit_due() && self.keeper.commit().is_break() {
                return Err(Missed::RolledBack);
            }
        }
        decoder.finish(self).map_err(missed)
    }
}

impl<D: Disk> Sink for Intake<'_, D> {
    type Error = Missed;

    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Missed> {
        self.counts.records += 1;
        let keeper = &mut *self.keeper;
        let selector = self.selector.map(|index| &mut keeper.selectors[index].1);
        let window = keeper.remembered.window();
        match selector.map_or(Verdict::Keep, |selector| selector.decide(record, window)) {
            Verdict::Keep => {
                self.counts.kept += 1;
                keeper.with_room(|writer| writer.record(index, record.bytes))
            }
            Verdict::Drop(_) => {
                self.counts.dropped += 1;
                Ok(())
            }
            Verdict::Duplicate => {
                self.counts.duplicate += 1;
                Ok(())
            }
        }
    }

    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Missed> {
        let quarantine = &self.keeper.quarantine;
        let raw = match &mut self.broken {
            Some(raw) => raw,
            None => {
                let entry = quarantine::Entry {
                    object: self.id,
                    index: Some(index),
                    output: None,
                    reason: why.slug(),
                    detail: &why.to_string(),
                };
                self.broken.insert(quarantine.writer(&entry).map_err(no_quarantine)?)
            }
        };
        raw.append(part).map_err(no_quarantine)?;
        if last {
            if let Some(raw) = self.broken.take() {
                raw.finish().map_err(no_quarantine)?;
            }
            self.counts.records += 1;
            self.counts.quarantined += 1;
        }
        Ok(())
    }
}

/// Its fetch has time-outs of its own: waiting for it is a state.
fn next_chunk<'a>(pulse: &Pulse, body: &'a mut BodyReader) -> Result<Option<&'a [u8]>, Missed> {
    pulse.waiting_for(|| body.next()).map_err(Missed::Fetch)
}

fn missed(failure: Failure<Missed>) -> Missed {
    match failure {
        Failure::Object(why) => Missed::Unfit(Unfit { slug: why.slug(), why: why.to_string() }),
        Failure::Sink(missed) => missed,
    }
}

/// Where it is not known how many bytes there must be, what came is taken for the object.
fn is_another(wanted: &Wanted, body: &BodyReader) -> bool {
    wanted.size.is_some_and(|size| size != body.bytes_read())
}

/// What came is not what was listed, nor an object that vouches for itself with a checksum: a gateway's page, or an
/// object that is being replaced. The object itself may come on a later pass.
fn another_body(wanted: &Wanted, len: u64, why: &str) -> Missed {
    let text = format!(
        "reading {:?} from bucket {}: {len} bytes came where {} are listed, and {why}: if this lasts, \
         something between here and S3 changes answers",
        wanted.object.key,
        wanted.object.bucket,
        wanted.size.unwrap_or_default()
    );
    Missed::Fetch(FetchFailed(Fault::new(Class::Retry, "bad-answer", text)))
}

fn no_quarantine(fault: io::Error) -> Missed {
    Missed::Disk(SpoolError::Disk {
        what: "set something aside in",
        path: quarantine::DIR.into(),
        error: fault,
    })
}

fn name(id: &ObjectId) -> String {
    format!("source {}: s3://{}/{}", id.source, id.bucket, id.key)
}

#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod tests;
