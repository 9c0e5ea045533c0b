//! Messages of a source's queue, each held until every object that it names is durable here.
//!
//! * A message is deleted only when each of its objects is in the spool and in the ledger, known already, gone, or no log
//!   to collect; never because of a part of them. Objects go by the same tickets as those of a listing, so a sweep beside
//!   this collects nothing twice.
//! * While it is in work a message is kept hidden: every [`RENEW`] for another [`HIDDEN`]. One that is let go of comes
//!   again, to this agent or to another one on the same queue.
//! * A message whose objects could not be collected comes again after a time that grows with its receipts. One that cannot
//!   be read, or whose objects fail although it came more than [`limits::MESSAGE_RECEIVES`] times, is set aside with its
//!   text and deleted: nothing goes round for ever. Where others are to take it, or an operator has to act first, or the
//!   quarantine has no room for it, it stays as long as the queue keeps it.
//! * What is in work is bounded by number and bytes; beyond that nothing is received. Failing requests are tried again with
//!   growing, random pauses.

mod held;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::{PrimitiveDateTime, UtcDateTime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::key::LogKey;
use super::message::{self, Object, Sorted};
use super::poll::CLOCK_SET;
use super::queue::{self, Pass, Queue, Tally};
use super::state::{self, Loaded};
use super::status::{SourceStatus, Told, Trouble};
use super::walk::{Known, Selection, blocking};
use super::window::{HOT_DAYS, KEPT_DAYS, Wanted};
use crate::aws::sqs::{BATCH, Message, Sqs};
use crate::aws::{Class, Fault};
use crate::config;
use crate::limits;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::record::ObjectId;
use crate::spool::disk::Disk;
use crate::spool::quarantine::{Entry, Kept, Quarantine};

/// The longest that a request waits for a message. Source: SQS Developer Guide, "Short and long polling".
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// How long a message in work is hidden each time: two renewals may fail before it comes again.
pub const HIDDEN: Duration = Duration::from_secs(120);
/// When it is hidden anew.
pub const RENEW: Duration = Duration::from_secs(40);
/// Pauses after failed requests.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// When a message comes again after its first failure, and the longest that this becomes.
const AGAIN: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(15 * 60));
/// The shortest, where an operator has to act first.
const AGAIN_DENIED: Duration = Duration::from_secs(5 * 60);
/// Time to let go of what is in work when the agent stops.
const LET_GO: Duration = Duration::from_secs(5);
/// How often the ledger of a source without a sweep is shortened.
const EXPIRE_EVERY: Duration = Duration::from_secs(86_400);
/// Long polls in a row without a message after which a queue counts as empty.
const EMPTY_POLLS: u32 = 2;

const _: () = assert!(LONG_POLL.as_secs() <= 20 && limits::MESSAGES_IN_WORK >= BATCH);

/// What is needed of a queue.
pub trait Mailbox: Send + Sync + 'static {
    /// See [`Sqs::receive`].
    fn receive(
        &self,
        most: usize,
        wait: Duration,
        hidden: Duration,
    ) -> impl Future<Output = Result<Vec<Message>, Fault>> + Send;
    /// See [`Sqs::delete`].
    fn delete(
        &self,
        receipts: &[Box<str>],
    ) -> impl Future<Output = Result<Vec<Result<(), Fault>>, Fault>> + Send;
    /// See [`Sqs::hide`].
    fn hide(
        &self,
        receipts: &[Box<str>],
        time: Duration,
    ) -> impl Future<Output = Result<Vec<Result<(), Fault>>, Fault>> + Send;
    /// The queue's name.
    fn name(&self) -> &str;
}

impl Mailbox for Sqs {
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, Fault> {
        Sqs::receive(self, most, wait, hidden).await
    }

    async fn delete(&self, receipts: &[Box<str>]) -> Result<Vec<Result<(), Fault>>, Fault> {
        Sqs::delete(self, receipts).await
    }

    async fn hide(&self, receipts: &[Box<str>], time: Duration) -> Result<Vec<Result<(), Fault>>, Fault> {
        Sqs::hide(self, receipts, time).await
    }

    fn name(&self) -> &str {
        &self.queue().name
    }
}

/// Collects what the messages of one queue name.
pub struct Receiver<M, K, D: Disk>(Arc<Shared<M, K, D>>);

struct Shared<M, K, D: Disk> {
    selection: Selection,
    delete_foreign: bool,
    /// Nothing else shortens the ledger.
    alone: bool,
    mailbox: M,
    known: K,
    disk: D,
    quarantine: Quarantine<D>,
    queue: Queue,
    lane: usize,
    status: Arc<SourceStatus>,
    clock: fn() -> UtcDateTime,
    pulse: Arc<Pulse>,
    held: Mutex<Books>,
    /// Something is to be deleted, or was let go of.
    changed: Notify,
    to_delete: Notify,
}

/// The messages that are held.
#[derive(Default)]
struct Books {
    next: u64,
    held: BTreeMap<u64, Held>,
    bytes: usize,
    /// What was raised and is not over, by [`Concern`].
    raised: [HashSet<&'static str>; 3],
    /// What an operator has to mend before objects can be collected.
    left: Option<Trouble>,
    /// What an operator has to mend before messages can be deleted.
    undeletable: Option<Trouble>,
    /// Messages that come again are back then.
    back_by: Option<Instant>,
}

/// What a trouble is about: it is over when that goes well again.
#[derive(Debug, Clone, Copy)]
enum Concern {
    Receive,
    Delete,
    Objects,
}

struct Held {
    receipt: Box<str>,
    bytes: usize,
    hidden_at: Instant,
    /// Everything that it names is done.
    done: bool,
    /// Its receipt is out of date: it comes again.
    lost: bool,
}

/// What becomes of a message.
enum End {
    Delete,
    /// It is not for this source: it comes again when its time is up.
    Leave,
    /// Something that it names could not be collected yet.
    Again {
        denied: bool,
    },
}

impl<M: Mailbox, K: Known, D: Disk> Receiver<M, K, D> {
    /// A receiver that queues into `lane` of the queue. `disk` is the state folder; `clock` gives the time of day, UTC.
    pub fn new(
        source: &config::Source,
        mailbox: M,
        known: K,
        (disk, quarantine): (D, Quarantine<D>),
        (queue, lane): (Queue, usize),
        status: Arc<SourceStatus>,
        clock: fn() -> UtcDateTime,
    ) -> Receiver<M, K, D> {
        Receiver(Arc::new(Shared {
            selection: Selection::of(source),
            delete_foreign: source.delete_foreign,
            alone: !source.method.sweeps(),
            mailbox,
            known,
            disk,
            quarantine,
            queue,
            lane,
            status,
            clock,
            pulse: Arc::default(),
            held: Mutex::default(),
            changed: Notify::new(),
            to_delete: Notify::new(),
        }))
    }

    /// The same, with the pulse of its stage.
    pub fn watched(mut self, pulse: Arc<Pulse>) -> Receiver<M, K, D> {
        // Nobody else has it before it runs.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.pulse = pulse;
        }
        self
    }

    /// Receives until `stop`, or, with `once`, until the queue is empty and nothing is in work; then what an operator has to
    /// mend. What is in work when it stops is let go of: it comes again at once.
    ///
    /// Cancelling it loses nothing: what was received comes again when its time is up.
    pub async fn run(self, once: bool, stop: impl Future<Output = ()>) -> Option<Trouble> {
        let shared = self.0;
        let mut tasks = JoinSet::new();
        let end = tokio::select! {
            biased;
            () = stop => None,
            left = Shared::receive(&shared, once, &mut tasks) => left,
            () = shared.renew() => None,
            () = shared.delete() => None,
            () = shared.expire() => None,
        };
        // Before what is hidden is let go of, nobody may hide it anew.
        tasks.shutdown().await;
        shared.pulse.idle();
        if tokio::time::timeout(LET_GO, shared.let_go_of_all()).await.is_err() {
            log::info!("source {}: messages in work come again when their time is up", shared.selection.name);
        }
        end
    }
}

impl<M: Mailbox, K: Known, D: Disk> Shared<M, K, D> {
    async fn receive(this: &Arc<Self>, once: bool, tasks: &mut JoinSet<()>) -> Option<Trouble> {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        let (mut empty, mut most) = (0, BATCH);
        loop {
            this.pulse.waiting(this.room(tasks)).await;
            this.pulse.working();
            let begun = Instant::now();
            let received = tokio::select! {
                received = this.mailbox.receive(most, LONG_POLL, HIDDEN) => received,
                // A message that panicked is to be known at once.
                never = reap(tasks) => match never {},
            };
            match received {
                Ok(messages) => {
                    pause.reset();
                    this.over(Concern::Receive);
                    // A poll before messages that come again are back says nothing of these.
                    empty = if messages.is_empty() && this.are_back(begun) { empty + 1 } else { 0 };
                    if !messages.is_empty() {
                        most = (most * 2).min(BATCH);
                    }
                    this.status.count_told(Told::Received, messages.len() as u64);
                    for message in messages {
                        let number = this.hold(&message);
                        tasks.spawn(Arc::clone(this).handle(number, message));
                    }
                    if once && empty >= EMPTY_POLLS && this.is_idle() {
                        let mut books = this.lock();
                        return books.undeletable.take().or(books.left.take());
                    }
                }
                Err(fault) => {
                    let trouble = this.raise(Concern::Receive, &fault);
                    if fault.cause == "bad-answer" {
                        most = 1; // if it was too long, one message alone is not
                    }
                    if once && !fault.is_transient() && this.is_idle() {
                        return Some(trouble);
                    }
                    // vector#22947: without a pause a refusal is a hot loop.
                    let pause = pause.next(fastrand::u64(..), fault.retry_after);
                    this.pulse.waiting(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// Waits until there is room for another batch of messages.
    async fn room(&self, tasks: &mut JoinSet<()>) {
        loop {
            let changed = self.changed.notified();
            {
                let books = self.lock();
                if books.held.len() + BATCH <= limits::MESSAGES_IN_WORK
                    && books.bytes <= limits::MESSAGE_BYTES_IN_WORK
                {
                    return;
                }
            }
            tokio::select! {
                () = changed => {}
                never = reap(tasks) => match never {},
            }
        }
    }

    /// Nothing is in work that can go on without an operator.
    fn is_idle(&self) -> bool {
        let books = self.lock();
        books.held.is_empty() || (books.undeletable.is_some() && books.held.values().all(|held| held.done))
    }

    fn are_back(&self, now: Instant) -> bool {
        self.lock().back_by.is_none_or(|by| by <= now)
    }

    /// One message to its end; what is to be deleted stays held until it is.
    async fn handle(self: Arc<Self>, number: u64, message: Message) {
        let receives = message.receives;
        match self.end_of(message).await {
            End::Delete => {
                if let Some(held) = self.lock().held.get_mut(&number) {
                    held.done = true;
                }
                self.to_delete.notify_one();
            }
            End::Leave => self.let_go(number),
            End::Again { denied } => {
                self.status.count_told(Told::Again, 1);
                let after = again_after(receives, denied, fastrand::u64(..));
                let receipt = self.lock().held.get(&number).map(|held| held.receipt.clone());
                let hidden = match receipt {
                    Some(receipt) => {
                        matches!(self.mailbox.hide(&[receipt], after).await.as_deref(), Ok([Ok(())]))
                    }
                    None => false,
                };
                if !denied {
                    let by = Instant::now() + if hidden { after } else { HIDDEN };
                    let mut books = self.lock();
                    books.back_by = books.back_by.max(Some(by));
                }
                self.let_go(number);
            }
        }
    }

    async fn end_of(&self, message: Message) -> End {
        let objects = match message::read(&message.body) {
            Ok(message::Message::Objects(objects)) => objects,
            Ok(message::Message::Test) => {
                self.status.count_told(Told::Test, 1);
                return End::Delete;
            }
            Err(why) => return self.set_aside(message, "unreadable-message", why.to_string()).await,
        };
        let too_often = Some(message).filter(|message| message.receives > limits::MESSAGE_RECEIVES);
        let pass = Pass::new(Arc::clone(&self.status), self.now());
        let (mut foreign, mut broken) = (false, false);
        for object in objects {
            let Selection { bucket, prefix, accounts, regions, .. } = &self.selection;
            match message::sort(&object, bucket, prefix, accounts, regions) {
                Sorted::Log(key) => broken |= self.collect(&pass, key, &object).await.is_err(),
                Sorted::NotALog(why) => self.status.count_not_a_log(why),
                Sorted::NotSelected => self.status.count_told(Told::NotSelected, 1),
                Sorted::Foreign => {
                    self.status.count_told(Told::Foreign, 1);
                    foreign = true;
                }
            }
        }
        let tally = pass.settled().await;
        self.status.count_told(Told::Gone, tally.gone);
        self.note(&tally);
        let stays = foreign && !self.delete_foreign;
        let (transient, denied) = (tally.failed_transient > 0 || broken, tally.failed_denied > 0);
        match too_often {
            // opentelemetry-collector-contrib#45153: a part that failed keeps the whole message.
            _ if !transient && !denied && !stays => End::Delete,
            _ if !transient && !denied => End::Leave,
            Some(message) if !denied && !stays => {
                let why = format!("it was received {} times and could not be collected", message.receives);
                self.set_aside(message, "message-too-often", why).await
            }
            _ => End::Again { denied: !transient },
        }
    }

    /// Queues an object, unless it is done already.
    async fn collect(&self, pass: &Arc<Pass>, key: LogKey, object: &Object) -> Result<(), ()> {
        // Before the look-up, as for a listing: what another one finishes in between is then in the ledger.
        let ticket = self.queue.ticket_in_turn(pass, &key).await;
        match self.is_known(&key).await {
            Ok(true) => {
                self.status.count_told(Told::Known, 1);
                ticket.release();
            }
            Ok(false) => {
                let day = key.day();
                // An object of another bucket is not collected.
                let (source, bucket) = (self.selection.name.clone(), self.selection.bucket.clone());
                let object_id = ObjectId { source, bucket, key: key.into_text() };
                self.queue
                    .push(self.lane, queue::Wanted { object: object_id, size: object.size, day, ticket })
                    .await;
            }
            Err(error) => {
                pass.raise("ledger", &format!("the ledger cannot be read: {error}"), true);
                ticket.release();
                return Err(());
            }
        }
        Ok(())
    }

    /// Whether an object was collected. Of days that the ledger has forgotten, the sweep's progress knows; without a sweep
    /// nobody does, and what a message names is collected.
    async fn is_known(&self, key: &LogKey) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (known, disk, name, key) =
            (self.known.clone(), self.disk.clone(), self.selection.name.clone(), key.clone());
        let forgets = self.now().date().saturating_sub(time::Duration::days(HOT_DAYS + KEPT_DAYS - 1));
        blocking(move || {
            if known.contains(&name, key.day(), key.as_str())? {
                return Ok(true);
            }
            if key.day() > forgets {
                return Ok(false);
            }
            // After the look-up: the progress is durable before the ledger forgets.
            Ok(match state::load(&disk, &name)? {
                Loaded::Progress(progress) => progress.wants(&key) == Wanted::Settled,
                Loaded::Absent | Loaded::Broken(_) => false,
            })
        })
        .await
    }

    /// Keeps the text of a message that nothing can be done with.
    async fn set_aside(&self, message: Message, reason: &'static str, why: String) -> End {
        let (source, queue) = (&self.selection.name, self.mailbox.name());
        let said = format!("source {source}: message {} of queue {queue} is set aside: {why}", message.id);
        let object = ObjectId { source: source.clone(), bucket: queue.into(), key: message.id.into() };
        let quarantine = self.quarantine.clone();
        let put = blocking(move || {
            let entry = Entry { object: &object, index: None, output: None, reason, detail: &why };
            quarantine.put(&entry, &message.body)
        });
        match put.await {
            Ok(Kept::Whole) => {
                log::warn!("{said}");
                self.status.count_told(Told::SetAside, 1);
                End::Delete
            }
            // Without its text nobody knew what it named.
            Ok(Kept::Cut | Kept::Counted) => {
                let text = format!(
                    "the quarantine is full, so messages that belong there stay in queue {queue}; see what is in it with \
                     `trailspool quarantine ls`, and mend that and have it tried again with `trailspool quarantine retry`, or \
                     set `quarantine_max_bytes` higher"
                );
                let trouble =
                    self.raise(Concern::Objects, &Fault::new(Class::Config, "quarantine-full", text));
                self.lock().left = Some(trouble);
                End::Again { denied: true }
            }
            Err(error) => {
                let text = format!("the quarantine cannot be written: {error}");
                self.raise(Concern::Objects, &Fault::new(Class::Retry, "quarantine", text));
                End::Again { denied: false }
            }
        }
    }

    /// Keeps in mind what its objects met, for the end of `--once`, and what is over.
    fn note(&self, tally: &Tally) {
        let mut books = self.lock();
        match &tally.trouble {
            Some(trouble) => {
                books.raised[Concern::Objects as usize].insert(trouble.cause);
                if !trouble.transient {
                    books.left = Some(trouble.clone());
                }
            }
            None => {
                drop(books);
                if tally.collected > 0 {
                    self.over(Concern::Objects);
                }
            }
        }
    }

    /// Shortens the ledger by what no message can name any more: SQS keeps messages for 14 days at most.
    async fn expire(&self) {
        loop {
            let now = self.now();
            if self.alone && now.year() >= CLOCK_SET {
                let before = now.date().saturating_sub(time::Duration::days(HOT_DAYS + KEPT_DAYS));
                let (known, name) = (self.known.clone(), self.selection.name.clone());
                if let Err(error) = blocking(move || known.expire(&name, before)).await {
                    log::warn!("source {}: the ledger cannot be shortened: {error}", self.selection.name);
                }
            }
            tokio::time::sleep(EXPIRE_EVERY).await;
        }
    }

    fn now(&self) -> PrimitiveDateTime {
        let now = (self.clock)();
        PrimitiveDateTime::new(now.date(), now.time())
    }

    /// Shows a failure in the source's status.
    fn raise(&self, concern: Concern, fault: &Fault) -> Trouble {
        self.lock().raised[concern as usize].insert(fault.cause);
        let (cause, text) = (fault.cause, fault.text.clone());
        let trouble = Trouble { cause, text, transient: fault.is_transient(), since: self.now() };
        self.status.raise(trouble.clone());
        trouble
    }

    /// This goes well again.
    fn over(&self, concern: Concern) {
        let over = std::mem::take(&mut self.lock().raised[concern as usize]);
        for cause in over {
            self.status.clear_of(cause);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what has ended, for ever; a panic goes on here.
async fn reap(tasks: &mut JoinSet<()>) -> std::convert::Infallible {
    loop {
        match tasks.join_next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                if let Ok(panic) = error.try_into_panic() {
                    resume_unwind(panic);
                }
            }
            None => std::future::pending::<()>().await,
        }
    }
}

/// When a message comes again: doubled with each receipt, and spread, so that not all of an outage come at once.
fn again_after(receives: u32, denied: bool, random: u64) -> Duration {
    let doubled = AGAIN.0.saturating_mul(1u32.checked_shl(receives.saturating_sub(1)).unwrap_or(u32::MAX));
    let bound = doubled.max(if denied { AGAIN_DENIED } else { Duration::ZERO }).min(AGAIN.1);
    bound.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

#[cfg(test)]
mod tests;
