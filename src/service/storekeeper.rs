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

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config;
use crate::decode::{Broken, DecodeError, Decoder, Fault as DecodeFault, Sink, Summary};
use crate::discover::ledger::{Entry, Ledger};
use crate::discover::queue::{FailKind, Outcome, Wanted};
use crate::fetch::body::BodyReader;
use crate::limits;
use crate::net::backoff::Backoff;
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::select::{Selector, Verdict};
use crate::spool::disk::Disk;
use crate::spool::quarantine::{self, Quarantine, QuarantineWriter};
use crate::spool::{Spool, SpoolError, Writer};

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
    /// It could not be decoded, for this reason: its raw bytes go to the quarantine.
    SetAside(DecodeError),
}

/// What the storekeeper says to the fetch worker once it has read a body.
#[derive(Debug)]
pub enum Read {
    /// It is in the storekeeper's hands, or its ticket is answered: take the next one.
    Taken,
    /// It cannot be decoded: fetch it again, to be set aside.
    Undecodable(Wanted, DecodeError),
}

/// The storekeeper's state, readable by others.
#[derive(Debug, Default)]
pub struct StoreStatus {
    /// The spool is full and the storekeeper waits for the outputs.
    pub full: AtomicBool,
    /// The disk refuses writes and the storekeeper tries again.
    pub disk_fault: AtomicBool,
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
    decoder: Decoder,
    selectors: Vec<(Box<str>, Selector)>,
    ended: Vec<Ended>,
    first_ended: Option<Instant>,
    reclaimed: Instant,
    disk_backoff: Backoff,
    stop: Arc<AtomicBool>,
    status: Arc<StoreStatus>,
}

/// Why an object did not get into the spool.
enum Missed {
    /// The object itself.
    Undecodable(DecodeError),
    /// Everything else: it is fetched again on a later pass.
    Failed(FailKind, String),
    /// The spool's disk: roll back before anything else.
    Disk(SpoolError),
}

impl<D: Disk> Storekeeper<D> {
    /// A storekeeper for the configured sources.
    pub fn new(
        config: &config::Config,
        (writer, spool): (Writer<D>, Arc<Spool<D>>),
        ledger: Arc<Ledger<D>>,
        quarantine: Quarantine<D>,
        stop: Arc<AtomicBool>,
        status: Arc<StoreStatus>,
    ) -> Storekeeper<D> {
        Storekeeper {
            writer,
            spool,
            ledger,
            quarantine,
            decoder: Decoder::new(config.spool.max_record_bytes, config.spool.max_object_bytes),
            selectors: config.sources.iter().map(|s| (s.name.clone(), Selector::new(s))).collect(),
            ended: Vec::with_capacity(limits::COMMIT_OBJECTS),
            first_ended: None,
            reclaimed: Instant::now(),
            disk_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            stop,
            status,
        }
    }

    /// Works until every sender of jobs is gone, then commits, saves the ledger and returns.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.patience()) {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.commit_due() {
                // After a failed commit the objects come again; there is nothing more to do about it here.
                let _ = self.commit();
            }
            if self.reclaimed.elapsed() >= IDLE {
                self.reclaim();
            }
        }
        let _ = self.commit();
        match self.ledger.save() {
            Ok(_) => self.reclaim(),
            Err(fault) => error!("the ledger could not be saved, it is rebuilt from the spool at the next start: {fault}"),
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
            Purpose::Collect => self.collect(&wanted.object, &mut body),
            Purpose::SetAside(why) => self.set_aside(&wanted.object, &mut body, why),
        };
        drop(body);
        let answer = match stored {
            Ok((fate, counts)) => {
                self.ended.push(Ended { wanted, fate, counts });
                self.first_ended.get_or_insert_with(Instant::now);
                Read::Taken
            }
            Err(Missed::Undecodable(why)) => Read::Undecodable(wanted, why),
            Err(Missed::Failed(kind, why)) => {
                warn!("{}: {why}", name(&wanted.object));
                wanted.ticket.answer(Outcome::Failed(kind));
                Read::Taken
            }
            Err(Missed::Disk(fault)) => {
                wanted.ticket.answer(Outcome::Failed(FailKind::Transient));
                self.recover(fault);
                Read::Taken
            }
        };
        // The worker may be gone when the agent stops; the wanted object then comes again at the next start.
        let _ = read.send(answer);
    }

    /// Decodes and selects one body into the spool's open object, and ends it.
    fn collect(&mut self, id: &ObjectId, body: &mut BodyReader) -> Result<(ObjectFate, Counts), Missed> {
        self.with_room(|writer| writer.begin(id))?;
        match self.pour(id, body) {
            Ok((counts, summary)) => {
                self.end(id, ObjectFate::Collected, counts)?;
                if summary.trailing > 0 {
                    warn!(
                        "{}: {} bytes after the last gzip member are not covered by its checksum and were not read",
                        name(id),
                        summary.trailing
                    );
                }
                Ok((ObjectFate::Collected, counts))
            }
            Err(Missed::Disk(fault)) => Err(Missed::Disk(fault)),
            Err(missed) => {
                self.writer.abort().map_err(Missed::Disk)?;
                Err(missed)
            }
        }
    }

    fn pour(&mut self, id: &ObjectId, body: &mut BodyReader) -> Result<(Counts, Summary), Missed> {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.start();
        let selector = self.selectors.iter().position(|(name, _)| *name == id.source);
        let mut intake = Intake { keeper: self, id, selector, counts: Counts::default(), broken: None };
        let poured = intake.pour(&mut decoder, body);
        let counts = intake.counts;
        self.decoder = decoder;
        poured.map(|summary| (counts, summary))
    }

    /// Puts a raw body into the quarantine; the object then counts as done.
    fn set_aside(
        &mut self,
        id: &ObjectId,
        body: &mut BodyReader,
        why: &DecodeError,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let entry = quarantine::Entry { object: id, index: None, output: None, reason: why.slug(), detail: &why.to_string() };
        let mut raw = self.quarantine.writer(&entry).map_err(|fault| no_quarantine(&fault))?;
        while let Some(chunk) = next_chunk(body)? {
            raw.append(chunk).map_err(|fault| no_quarantine(&fault))?;
        }
        raw.finish().map_err(|fault| no_quarantine(&fault))?;
        self.with_room(|writer| writer.begin(id))?;
        self.end(id, ObjectFate::Quarantined, Counts::default())?;
        warn!("{}: set aside whole: {why}", name(id));
        Ok((ObjectFate::Quarantined, Counts::default()))
    }

    fn end(&mut self, id: &ObjectId, fate: ObjectFate, counts: Counts) -> Result<(), Missed> {
        if !counts.balance() {
            error!("{}: the books do not balance, this is a defect of trailspool: {counts:?}", name(id));
        }
        self.with_room(|writer| writer.end(fate, &counts))
    }

    /// Repeats a step of the writer until there is room for it.
    fn with_room(&mut self, mut step: impl FnMut(&mut Writer<D>) -> Result<(), SpoolError>) -> Result<(), Missed> {
        loop {
            match step(&mut self.writer) {
                Ok(()) => {
                    if self.status.full.swap(false, Ordering::Relaxed) {
                        info!("the spool has room again: fetching goes on");
                    }
                    return Ok(());
                }
                Err(SpoolError::Full { .. }) => self.wait_for_room()?,
                Err(fault) => return Err(Missed::Disk(fault)),
            }
        }
    }

    /// The outputs can only make room out of what is committed, so that comes first.
    fn wait_for_room(&mut self) -> Result<(), Missed> {
        if !self.ended.is_empty() && self.commit().is_break() {
            return Err(Missed::Failed(FailKind::Transient, "the disk failed while the spool was full".into()));
        }
        if self.reclaim() {
            return Ok(());
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Missed::Failed(FailKind::Transient, "stopping while the spool is full".into()));
        }
        if !self.status.full.swap(true, Ordering::Relaxed) {
            warn!(
                "the spool is full ({} bytes): fetching pauses until the outputs have taken something",
                self.spool.used_bytes()
            );
        }
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// One fsync for everything that has ended; then, and only then, ledger and tickets. Break: the disk
    /// failed, and the writer is back at the commit before (an open object is gone as well).
    fn commit(&mut self) -> ControlFlow<()> {
        self.first_ended = None;
        if self.ended.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.writer.commit() {
            Ok(committed) => {
                let entries: Vec<Entry<'_>> = self
                    .ended
                    .iter()
                    .map(|e| Entry { object: &e.wanted.object, day: e.wanted.day, fate: e.fate, counts: e.counts })
                    .collect();
                if let Err(fault) = self.ledger.insert(&committed, &entries) {
                    // The objects are in the spool, and in the ledger's memory: only its files lag behind.
                    error!("the ledger could not be written, its log in the spool is kept until it can: {fault}");
                }
                for ended in self.ended.drain(..) {
                    ended.wanted.ticket.answer(match ended.fate {
                        ObjectFate::Collected => Outcome::Done,
                        ObjectFate::Quarantined => Outcome::Quarantined,
                    });
                }
                if self.status.disk_fault.swap(false, Ordering::Relaxed) {
                    info!("the spool can be written again: fetching goes on");
                }
                self.disk_backoff.reset();
                ControlFlow::Continue(())
            }
            Err(fault) => {
                self.recover(fault);
                ControlFlow::Break(())
            }
        }
    }

    /// After a disk error: everything since the last commit is not in the spool. Back to it, as soon as the disk allows.
    fn recover(&mut self, fault: SpoolError) {
        for ended in self.ended.drain(..) {
            ended.wanted.ticket.answer(Outcome::Failed(FailKind::Transient));
        }
        self.first_ended = None;
        if !self.status.disk_fault.swap(true, Ordering::Relaxed) {
            error!("{fault}; objects since the last commit will be fetched again");
        }
        loop {
            let pause = self.disk_backoff.next(fastrand::u64(..), None);
            if self.sleep(pause).is_break() {
                return;
            }
            match self.writer.rollback() {
                Ok(()) => return,
                Err(fault) => log::debug!("the spool cannot be rolled back yet: {fault}"),
            }
        }
    }

    fn sleep(&self, pause: Duration) -> ControlFlow<()> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            std::thread::sleep(LOOK.min(pause));
        }
        ControlFlow::Continue(())
    }

    /// Removes the segments that every output and the ledger have behind them. Whether any went.
    fn reclaim(&mut self) -> bool {
        self.reclaimed = Instant::now();
        let through = self.ledger.checkpoint();
        let through = if self.writer.reclaimable() > through {
            match self.ledger.save() {
                Ok(through) => through,
                Err(fault) => {
                    warn!("the ledger could not be saved, so its log in the spool is kept: {fault}");
                    through
                }
            }
        } else {
            through
        };
        match self.writer.reclaim(through) {
            Ok(removed) => removed > 0,
            Err(fault) => {
                warn!("{fault}");
                false
            }
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
        while let Some(chunk) = next_chunk(body)? {
            decoder.feed(chunk, self).map_err(missed)?;
        }
        decoder.finish(self).map_err(missed)
    }
}

impl<D: Disk> Sink for Intake<'_, D> {
    type Error = Missed;

    fn record(&mut self, index: u32, bytes: &[u8]) -> Result<(), Missed> {
        self.counts.records += 1;
        let keeper = &mut *self.keeper;
        let selector = self.selector.map(|index| &mut keeper.selectors[index].1);
        match selector.map_or(Verdict::Keep, |selector| selector.decide(bytes)) {
            Verdict::Keep => {
                self.counts.kept += 1;
                keeper.with_room(|writer| writer.record(index, bytes))
            }
            Verdict::Drop(_) => {
                self.counts.dropped += 1;
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
                self.broken.insert(quarantine.writer(&entry).map_err(|fault| no_quarantine(&fault))?)
            }
        };
        raw.append(part).map_err(|fault| no_quarantine(&fault))?;
        if last {
            if let Some(raw) = self.broken.take() {
                raw.finish().map_err(|fault| no_quarantine(&fault))?;
            }
            self.counts.records += 1;
            self.counts.quarantined += 1;
        }
        Ok(())
    }
}

fn next_chunk(body: &mut BodyReader) -> Result<Option<&[u8]>, Missed> {
    body.next().map_err(|broken| Missed::Failed(FailKind::Transient, broken.to_string()))
}

fn missed(fault: DecodeFault<Missed>) -> Missed {
    match fault {
        DecodeFault::Bad(why) => Missed::Undecodable(why),
        DecodeFault::Sink(missed) => missed,
    }
}

fn no_quarantine(fault: &std::io::Error) -> Missed {
    Missed::Failed(
        FailKind::Transient,
        format!("the quarantine cannot be written, the object is tried again later: {fault}"),
    )
}

fn name(id: &ObjectId) -> String {
    format!("source {}: s3://{}/{}", id.source, id.bucket, id.key)
}
