//! The loop of one output: fill a batch from the spool, send it, move the cursor.
//!
//! What holds, at every await (so that a crash or a stop may come anywhere):
//! * the cursor only moves over records that the receiver accepted, or that are durably in the quarantine;
//! * the cursor is made durable before the loop waits for anything, at the first acknowledgement after the start, and
//!   once in [`SAVE_EVERY`] while it moves: that much is sent again after a crash, no more; and a process that dies
//!   again and again comes on with each life that lasts for one batch;
//! * where a receiver acknowledges nothing, the cursor stays behind what went into the connection
//!   ([`super::unconfirmed`]), and a broken connection takes the reader back to it;
//! * with several requests on their way ([`super::batch`]) answers are taken in the order of the records, whatever the
//!   order in which they come;
//! * records that the spool asks this output to give up are counted, durably, before the spool lets go of them;
//! * a stop lets the request under way end, but waits no longer than [`STOP_GRACE`]; then the cursor is saved.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backlog::{Backlog, Refused};
use super::batch::{Answer, Batch, Step};
use super::encoding::{Encoding, Record};
use super::lines::{Buffer, Lines, Name};
use super::sender::{Again, Fate, Items, Outcome, Reason, Refusal, Sender};
use super::status::{OutputStatus, Reporter};
use super::unconfirmed::Unconfirmed;
use crate::config::Output;
use crate::limits;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::select::Attributors;
use crate::service::wedge;

/// How often a moving cursor is made durable.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for the request under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long a connection that carries nothing may take to end in order.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// First and longest wait after something that passes.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// First and longest wait after something that wants a change of the configuration, here or there.
const HOLD: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(120));

/// What an output waits for.
pub(super) struct Wakes<P> {
    /// There may be new records.
    pub(super) committed: watch::Receiver<P>,
    /// Some output is asked to give up records.
    pub(super) skips: watch::Receiver<()>,
    /// The agent is stopping.
    pub(super) stop: watch::Receiver<bool>,
}

/// Delivers until `stop` turns true or its sender is gone.
pub(super) async fn run<S: Sender + 'static, B: Backlog, P: Send + Sync>(
    config: &Output,
    attributors: Arc<Attributors>,
    sender: S,
    backlog: B,
    wakes: Wakes<P>,
    (status, pulse): (Arc<OutputStatus>, Arc<Pulse>),
) {
    let Wakes { committed, skips, stop } = wakes;
    let work = Work {
        backlog,
        batch: Batch::new(config.batch_bytes, config.batch_records),
        lines: Buffer::default(),
        encoding: Encoding::of(config, attributors),
        batch_bytes: config.batch_bytes,
        requests: config.concurrency,
        whole: false,
        next: Next::Here,
        settled: None,
    };
    let mut output = Loop {
        work: Some(work),
        sender,
        batch_wait: config.batch_wait,
        ahead: VecDeque::new(),
        committed,
        skips,
        stop,
        reporter: Reporter::new(&config.name, status),
        stage: format!("output {}", config.name).into(),
        pulse,
        control: None,
        refusals: BTreeMap::new(),
        said: String::new(),
        retry: Backoff::new(RETRY.0, RETRY.1),
        hold: Backoff::new(HOLD.0, HOLD.1),
        saved: None,
        rested: false,
        tend: Some(Instant::now()),
        unconfirmed: Unconfirmed::default(),
        written: 0,
    };
    while let Ok(()) = output.turn().await {}
    output.end().await;
}

/// The agent is stopping.
struct Stopped;

/// What belongs to the blocking side.
struct Work<B: Backlog> {
    backlog: B,
    batch: Batch<B::Cursor>,
    /// The lines of the batch.
    lines: Buffer,
    encoding: Encoding,
    batch_bytes: usize,
    /// For how many requests a batch is filled.
    requests: usize,
    /// No more records belong into the batch.
    whole: bool,
    /// Where the next batch begins.
    next: Next<B::Cursor>,
    /// Behind the settled records of this and earlier batches, where the spool's own cursor is not there yet.
    settled: Option<B::Cursor>,
}

enum Next<C> {
    /// Where the reader stands.
    Here,
    /// Here: the reader went elsewhere.
    At(C),
    /// At the first unsettled record.
    Unsettled,
}

struct Loop<S, B: Backlog, P> {
    /// Away only while a blocking step has it.
    work: Option<Work<B>>,
    sender: S,
    batch_wait: Duration,
    /// Requests on their way behind the next one, or answered, in the order of their records.
    ahead: VecDeque<Ahead<S>>,
    committed: watch::Receiver<P>,
    skips: watch::Receiver<()>,
    stop: watch::Receiver<bool>,
    reporter: Reporter,
    /// What the watchdog calls it.
    stage: Box<str>,
    pulse: Arc<Pulse>,
    /// A line that the receiver accepted once, to find out whether it accepts anything.
    control: Option<Bytes>,
    /// Why records of the batch were refused that are not set aside yet, by their place in it.
    refusals: BTreeMap<usize, Refusal>,
    /// What the receiver said when it refused something last.
    said: String,
    retry: Backoff,
    hold: Backoff,
    /// When the cursor was made durable last; `None` before the first acknowledgement.
    saved: Option<Instant>,
    /// It was, since there is nothing more to do.
    rested: bool,
    /// When the receiver wants to be asked what it has to do though no record comes.
    tend: Option<Instant>,
    /// Settled records whose connection has to stand a little longer.
    unconfirmed: Unconfirmed<B::Cursor>,
    /// Bytes accepted since they were counted last.
    written: usize,
}

/// A request that is sent before its turn.
struct Ahead<S> {
    /// Of the batch.
    records: Range<usize>,
    task: JoinHandle<(S, Outcome)>,
    /// Something was refused since it was sent.
    earlier: bool,
}

impl<S> Drop for Ahead<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Quarantined {
    /// Under this name.
    As(String),
    /// It failed and will be tried again.
    NotYet,
    /// The spool's file was damaged since the batch was read; the reader deals with that.
    Changed,
}

impl<S: Sender + 'static, B: Backlog, P: Send + Sync> Loop<S, B, P> {
    /// One batch, or a wait for one.
    async fn turn(&mut self) -> Result<(), Stopped> {
        self.committed.mark_unchanged();
        self.rested = false;
        self.pulse.working();
        wedge::pending(&self.stage).await;
        if let Some(again) = self.confirm()? {
            return self.send_again(again).await;
        }
        if self.is_asked_to_skip()? {
            self.give_up_old().await?;
        }
        if self.deliver_again().await? {
            return Ok(());
        }
        let work = self.work()?;
        if matches!(work.next, Next::Unsettled) {
            work.settled = None;
            self.unconfirmed.lost();
        }
        if let Err(text) = self.blocking(Work::fill).await? {
            return self.trouble(Reason::Storage, text, None).await;
        }
        if self.work()?.batch.is_empty() {
            if self.unconfirmed.is_empty() {
                self.reporter.idle();
            }
            return self.wait_for_records().await;
        }
        self.gather().await?;
        self.reporter.begin();
        let lines = self.work()?.lines.take();
        let delivered = self.deliver(&lines).await;
        self.ahead.clear();
        let work = self.work()?;
        work.lines.take_back(lines, work.batch_bytes * work.requests);
        delivered
    }

    /// Waits for more records while the batch is neither full nor old enough.
    async fn gather(&mut self) -> Result<(), Stopped> {
        let until = Instant::now() + self.batch_wait;
        if self.batch_wait.is_zero() || self.work()?.whole {
            return Ok(());
        }
        self.save().await;
        while !self.work()?.whole {
            self.pulse.idle();
            tokio::select! {
                changed = self.committed.changed() => changed.map_err(|_| Stopped)?,
                () = stopped(&mut self.stop) => return Err(Stopped),
                () = sleep_until(until) => {
                    self.pulse.working();
                    return Ok(());
                }
            }
            self.pulse.working();
            self.committed.mark_unchanged();
            // a failure shows again when the next batch is read
            let _ = self.blocking(Work::read_on).await?;
        }
        Ok(())
    }

    /// Whether the spool wants room of this output, and not of another.
    fn is_asked_to_skip(&mut self) -> Result<bool, Stopped> {
        if !self.skips.has_changed().unwrap_or(false) {
            return Ok(false);
        }
        let asked = self.work()?.backlog.wants_skip();
        if !asked {
            self.skips.mark_unchanged();
        }
        Ok(asked)
    }

    /// Gives up the oldest records, if this output is asked to.
    async fn give_up_old(&mut self) -> Result<(), Stopped> {
        self.skips.mark_unchanged();
        match self.blocking(|work| work.backlog.skip()).await? {
            Ok(0) => Ok(()),
            Ok(count) => {
                self.work()?.next = Next::Unsettled;
                self.reporter.skipped(count);
                Ok(())
            }
            Err(error) => {
                let text = format!("cannot give up old records: {error}");
                self.trouble(Reason::Storage, text, None).await
            }
        }
    }

    /// The cursor is saved on the way when that is due, not at once: commits may come every moment.
    async fn wait_for_records(&mut self) -> Result<(), Stopped> {
        loop {
            let due = self.saved.unwrap_or_else(Instant::now) + SAVE_EVERY;
            let confirmed = self.unconfirmed.due().map(Instant::from_std);
            self.pulse.idle();
            tokio::select! {
                changed = self.committed.changed() => return changed.map_err(|_| Stopped),
                () = stopped(&mut self.stop) => return Err(Stopped),
                Ok(()) = self.skips.changed() => {
                    self.skips.mark_changed();
                    return Ok(());
                }
                () = sleep_until(due), if !self.rested => self.rested = self.save().await,
                // the next turn confirms
                () = sleep_until(confirmed.unwrap_or(due)), if confirmed.is_some() => return Ok(()),
                () = sleep_until(self.tend.unwrap_or(due)), if self.tend.is_some() => self.tend().await,
            }
        }
    }

    /// The receiver does what it has to though no record comes.
    async fn tend(&mut self) {
        self.pulse.working();
        let after = self.sender.tend().await;
        self.tend = after.map(|after| Instant::now() + after);
    }

    /// Brings a batch to its end, or gives it up in doubt.
    async fn deliver(&mut self, lines: &Lines) -> Result<(), Stopped> {
        self.refusals.clear();
        loop {
            if self.is_asked_to_skip()? {
                // the records at hand may be among those that are given up
                let work = self.work()?;
                work.batch.clear();
                work.next = Next::Unsettled;
                return Ok(());
            }
            let control = self.control.clone();
            match self.work()?.batch.step(control.is_some()) {
                Step::Send(records) => {
                    if let Some(again) = self.confirm()? {
                        return self.send_again(again).await;
                    }
                    self.send_ahead(lines)?;
                    let outcome = self.outcome_of(records.clone(), lines).await?;
                    let lines = lines.slice(records.clone());
                    if !self.unconfirmed.is_empty()
                        && let Outcome::Retry { reason, text, after } = outcome
                    {
                        return self.send_again(Again { reason, text, after }).await;
                    }
                    self.answered(outcome, records, &lines).await?;
                }
                Step::Probe => {
                    let outcome = self.send(Lines::one(control.unwrap_or_default())).await?;
                    self.probed(outcome).await?;
                }
                Step::SetAside(record) => {
                    let line = lines.slice(record..record + 1);
                    if let Quarantined::Changed = self.set_aside(record, line).await? {
                        return Ok(());
                    }
                }
                Step::Doubt => return self.doubt().await,
                Step::Done => return Ok(()),
            }
            self.settle().await?;
        }
    }

    /// Sends the requests behind the next one, as many as may be on their way. While one is tried again it is alone.
    fn send_ahead(&mut self, lines: &Lines) -> Result<(), Stopped> {
        let work = self.work()?;
        if work.requests == 1 || self.reporter.is_in_trouble() {
            return Ok(());
        }
        let work = self.work()?;
        let wanted: Vec<Range<usize>> = work.batch.ahead().take(work.requests - 1).collect();
        for records in wanted {
            if self.ahead.iter().any(|ahead| ahead.records == records) {
                continue;
            }
            let Some(mut sender) = self.sender.another() else { return Ok(()) };
            let part = self.marked(records.clone(), lines.slice(records.clone()))?;
            let task = tokio::spawn(async move {
                let outcome = sender.send(part).await;
                (sender, outcome)
            });
            self.ahead.push_back(Ahead { records, task, earlier: false });
        }
        Ok(())
    }

    /// The receiver's answer to these records of the batch. Those that an earlier answer has settled are not sent.
    async fn outcome_of(&mut self, records: Range<usize>, lines: &Lines) -> Result<Outcome, Stopped> {
        // what is ahead was cut up or settled meanwhile when it is not this
        self.ahead.retain(|ahead| ahead.records.start >= records.start);
        if let Some(at) = self.ahead.iter().position(|ahead| ahead.records == records)
            && let Some(mut ahead) = self.ahead.remove(at)
        {
            self.work()?.batch.set_earlier(ahead.earlier);
            let task = &mut ahead.task;
            let answered = async {
                tokio::select! {
                    biased;
                    answer = &mut *task => Ok(answer),
                    () = stopped(&mut self.stop) => timeout(STOP_GRACE, task).await.map_err(|_| Stopped),
                }
            };
            let answer = self.pulse.waiting(answered).await?;
            return answer.map(|(_, outcome)| outcome).map_err(|_| Stopped);
        }
        let work = self.work()?;
        work.batch.set_earlier(false);
        let all = lines.slice(records.clone());
        match work.batch.pending(records.clone()) {
            None => {
                let all = self.marked(records, all)?;
                self.send(all).await
            }
            Some(places) => {
                let part = self.marked(records.clone(), all.only(&places))?;
                Ok(spread(self.send(part).await?, &places, records.len()))
            }
        }
    }

    /// The lines, known by where these records of the batch stand in the spool.
    fn marked(&mut self, records: Range<usize>, lines: Lines) -> Result<Lines, Stopped> {
        let batch = &self.work()?.batch;
        let place = |record| batch.after(record).map(B::place);
        Ok(match (place(records.start), place(records.end - 1)) {
            (Some(first), Some(last)) => lines.at(first, last),
            _ => lines,
        })
    }

    /// What the answer to these records of the batch, which are these lines, means for it.
    async fn answered(
        &mut self,
        outcome: Outcome,
        records: Range<usize>,
        lines: &Lines,
    ) -> Result<(), Stopped> {
        let (answer, refusal) = match outcome {
            Outcome::Accepted => {
                self.work()?.batch.answered(Answer::Accepted);
                self.accepted(records.len(), lines.total(), lines.get(lines.count() - 1));
                return Ok(());
            }
            Outcome::TooLarge(text) => (Answer::TooLarge, Refusal { reason: "too-large", text }),
            Outcome::Rejected(text) => (Answer::Rejected, Refusal { reason: "rejected", text }),
            Outcome::RejectedAt(bad, text) => (Answer::RejectedAt(bad), Refusal { reason: "rejected", text }),
            Outcome::Retry { reason, text, after } => return self.again(Again { reason, text, after }).await,
            Outcome::Hold(text) => return self.trouble(Reason::Held, text, None).await,
            Outcome::Items(items) => return self.answered_each(*items, records, lines).await,
        };
        self.work()?.batch.answered(answer);
        self.refused();
        self.said.clone_from(&refusal.text);
        if records.len() == 1 {
            self.refusals.insert(records.start, refusal);
        }
        Ok(())
    }

    /// The same, for an answer record by record.
    async fn answered_each(
        &mut self,
        items: Items,
        records: Range<usize>,
        lines: &Lines,
    ) -> Result<(), Stopped> {
        let Items { fates, refusals, again } = items;
        let fates = &fates[..fates.len().min(records.len())];
        let accepted = || (0..fates.len()).filter(|&at| fates[at] == Fate::Accepted);
        if let Some(last) = accepted().next_back() {
            let bytes = accepted().map(|at| lines.get(at).len()).sum();
            self.accepted(accepted().count(), bytes, lines.get(last));
        }
        let mut listed = refusals.into_iter().peekable();
        let mut why = None;
        for (at, _) in
            fates.iter().enumerate().filter(|(_, fate)| matches!(fate, Fate::Refused | Fate::Unfit))
        {
            while let Some((_, refusal)) = listed.next_if(|&(listed, _)| listed <= at) {
                why = Some(refusal);
            }
            let refusal = why.clone().unwrap_or_else(no_reason);
            self.refused();
            self.said.clone_from(&refusal.text);
            self.refusals.insert(records.start + at, refusal);
        }
        self.work()?.batch.answered_each(fates);
        match again {
            Some(again) if fates.iter().any(|&fate| fate != Fate::Again) => {
                self.settle().await?;
                self.trouble(again.reason, again.text, again.after).await
            }
            Some(again) => self.again(again).await,
            None => Ok(()),
        }
    }

    /// Some records are the receiver's; `last` is the last one of them.
    fn accepted(&mut self, records: usize, bytes: usize, last: &[u8]) {
        if last.len() <= limits::CONTROL_BYTES || self.control.is_none() {
            self.control = Some(Bytes::copy_from_slice(last));
        }
        self.written += bytes;
        self.reporter.delivered(records, bytes);
        self.retry.reset();
        self.hold.reset();
    }

    /// Something was refused: what is already on its way says nothing of it.
    fn refused(&mut self) {
        self.ahead.iter_mut().for_each(|ahead| ahead.earlier = true);
    }

    /// Everything that was sent is sent again.
    async fn again(&mut self, again: Again) -> Result<(), Stopped> {
        if matches!(again.reason, Reason::Timeout | Reason::Broken) {
            self.work()?.batch.answered(Answer::Broken);
        }
        self.trouble(again.reason, again.text, again.after).await
    }

    async fn probed(&mut self, outcome: Outcome) -> Result<(), Stopped> {
        let accepted = match outcome {
            Outcome::Accepted => true,
            Outcome::TooLarge(_) | Outcome::Rejected(_) | Outcome::RejectedAt(..) => false,
            Outcome::Retry { reason, text, after } => return self.trouble(reason, text, after).await,
            Outcome::Hold(text) => return self.trouble(Reason::Held, text, None).await,
            Outcome::Items(items) => match (items.fates.first(), items.again) {
                (Some(Fate::Accepted), _) => true,
                (Some(Fate::Refused | Fate::Unfit), _) => false,
                (_, Some(again)) => return self.trouble(again.reason, again.text, again.after).await,
                (_, None) => return self.trouble(Reason::Broken, "it did not answer".to_owned(), None).await,
            },
        };
        self.work()?.batch.probed(accepted);
        Ok(())
    }

    /// Quarantines the first unsettled record, whose line this is.
    async fn set_aside(&mut self, record: usize, line: Lines) -> Result<Quarantined, Stopped> {
        let refusal = self.refusals.remove(&record).unwrap_or_else(no_reason);
        let (refusal, stored) = self
            .blocking(move |work| {
                let stored = work.set_aside(line.name(0), &refusal);
                (refusal, stored)
            })
            .await?;
        match stored {
            Ok(quarantined) => {
                if let Quarantined::As(name) = &quarantined {
                    self.work()?.batch.set_aside();
                    self.reporter.set_aside(&format!("the last is {name}: {}", refusal.text));
                }
                Ok(quarantined)
            }
            Err(text) => {
                self.refusals.insert(record, refusal);
                self.trouble(Reason::Storage, text, None).await?;
                Ok(Quarantined::NotYet)
            }
        }
    }

    /// The receiver refuses whatever it is sent: nothing is set aside, the batch is read again later.
    async fn doubt(&mut self) -> Result<(), Stopped> {
        let work = self.work()?;
        let alone = work.batch.len() == 1;
        work.next = Next::Unsettled;
        work.batch.give_up();
        let text = if alone && self.control.is_none() {
            "it has accepted nothing else since the start, so the next record will tell whether this one is bad or the \
             output's `url` or `format` is wrong"
        } else {
            "it accepted no other record either, so none is quarantined: check the output's `url` and `format`"
        };
        let text = format!("{}; {text}", self.said);
        self.trouble(Reason::Held, text, None).await
    }

    async fn settle(&mut self) -> Result<(), Stopped> {
        let provisional = self.sender.is_provisional();
        let work = self.work()?;
        if let Some(settled) = work.batch.settle() {
            if provisional {
                work.settled = Some(settled.cursor);
                let bytes = std::mem::take(&mut self.written);
                self.unconfirmed.push(settled, bytes, Instant::now().into_std());
            } else {
                work.backlog.advance(settled);
            }
            if self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
                self.saved = Some(Instant::now());
                self.save().await;
            }
        }
        Ok(())
    }

    /// The cursor moves over records that count as arrived by now. If their connection broke: why.
    fn confirm(&mut self) -> Result<Option<Again>, Stopped> {
        if !self.sender.is_provisional() {
            return Ok(None);
        }
        if let Some(again) = self.sender.broken() {
            // if nothing waits, the connection was idle and simply made anew
            return Ok((!self.unconfirmed.is_empty()).then_some(again));
        }
        let now = Instant::now().into_std();
        while let Some(settled) = self.unconfirmed.arrived(now) {
            self.rested = false;
            self.work()?.backlog.advance(settled);
        }
        Ok(None)
    }

    /// A connection broke that may have lost what it carried: everything behind the cursor is sent again.
    async fn send_again(&mut self, again: Again) -> Result<(), Stopped> {
        let records = self.unconfirmed.lost();
        let work = self.work()?;
        work.batch.clear();
        work.next = Next::Unsettled;
        let text = format!("{}; {records} record(s) that it may not have read are sent again", again.text);
        self.trouble(again.reason, text, again.after).await
    }

    /// The last thing: a connection that ends in order confirms what it carried.
    async fn end(&mut self) {
        // who acknowledged everything is only told good-bye
        let grace = if self.unconfirmed.is_empty() { CLOSE_GRACE } else { STOP_GRACE };
        if let Ok(true) = timeout(grace, self.sender.close()).await {
            for settled in self.unconfirmed.all_arrived() {
                if let Some(work) = &mut self.work {
                    work.backlog.advance(settled);
                }
            }
        }
        self.save().await;
    }

    /// A cursor that cannot be saved stops nothing: it is tried again, and costs duplicates after a crash.
    async fn save(&mut self) -> bool {
        // Before the first acknowledgement there is next to nothing to save, and that one must not wait for it.
        self.saved = self.saved.map(|_| Instant::now());
        let saved = self.blocking(|work| work.backlog.save()).await;
        if let Ok(Err(error)) = &saved {
            self.reporter.not_saved(error);
        }
        matches!(saved, Ok(Ok(())))
    }

    /// Sends, unless the agent stops. A request under way gets its grace.
    async fn send(&mut self, lines: Lines) -> Result<Outcome, Stopped> {
        if *self.stop.borrow() {
            return Err(Stopped);
        }
        let mut sending = std::pin::pin!(self.sender.send(lines));
        let sent = async {
            tokio::select! {
                biased;
                outcome = &mut sending => Ok(outcome),
                () = stopped(&mut self.stop) => timeout(STOP_GRACE, sending).await.map_err(|_| Stopped),
            }
        };
        self.pulse.waiting(sent).await
    }

    async fn trouble(
        &mut self,
        reason: Reason,
        text: String,
        after: Option<Duration>,
    ) -> Result<(), Stopped> {
        let backoff = if reason == Reason::Held { &mut self.hold } else { &mut self.retry };
        let wait = backoff.next(fastrand::u64(..), after);
        self.reporter.trouble(reason, text, wait);
        self.save().await;
        let pulse = self.pulse.clone();
        pulse.waiting(self.pause(wait)).await
    }

    /// Waits before the next try, unless the spool wants room meanwhile.
    async fn pause(&mut self, wait: Duration) -> Result<(), Stopped> {
        let mut waited = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = &mut waited => return Ok(()),
                () = stopped(&mut self.stop) => return Err(Stopped),
                Ok(()) = self.skips.changed() => self.skips.mark_changed(),
            }
            if self.is_asked_to_skip()? {
                return Ok(());
            }
        }
    }

    fn work(&mut self) -> Result<&mut Work<B>, Stopped> {
        self.work.as_mut().ok_or(Stopped)
    }

    /// One hop to a thread that may block. It fails only when the runtime is going away.
    async fn blocking<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut Work<B>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let mut work = self.work.take().ok_or(Stopped)?;
        self.pulse.working();
        let done = tokio::task::spawn_blocking(move || {
            let value = step(&mut work);
            (work, value)
        });
        let (work, value) = done.await.map_err(|_| Stopped)?;
        self.work = Some(work);
        Ok(value)
    }
}

impl<B: Backlog> Work<B> {
    /// Reads the next batch. What was read before a failure is a batch too; the failure shows again after it.
    fn fill(&mut self) -> Result<(), String> {
        let Work { backlog, batch, lines, batch_bytes, requests, next, .. } = self;
        batch.clear();
        lines.begin(*batch_bytes * *requests);
        match *next {
            Next::Here => Ok(()),
            Next::At(cursor) => backlog.seek(cursor),
            Next::Unsettled => backlog.rewind(),
        }
        .map_err(|error| error.to_string())?;
        *next = Next::Here;
        self.whole = false;
        self.read_on()
    }

    /// Reads more of the batch.
    fn read_on(&mut self) -> Result<(), String> {
        let Work { backlog, batch, lines, encoding, requests, whole, .. } = self;
        let read = backlog.read(&mut |object, index, bytes, after| {
            let draft = encoding.draft(Record { object, index, bytes });
            let bytes = draft.len();
            let next_request =
                |batch: &mut Batch<B::Cursor>| batch.requests() < *requests && batch.begin_request();
            if !batch.has_room(bytes) && !next_request(batch) {
                *whole = true;
                return ControlFlow::Break(());
            }
            lines.push(draft.name(), |out| draft.append(out));
            batch.push(bytes, after);
            *whole = !batch.has_room(1) && batch.requests() == *requests;
            ControlFlow::Continue(())
        });
        if batch.is_empty() { read.map_err(|error| error.to_string()) } else { Ok(()) }
    }

    /// Quarantines the first unsettled record, with its bytes as they stand in the spool.
    fn set_aside(&mut self, name: Name, refusal: &Refusal) -> Result<Quarantined, String> {
        let text = |error: B::Error| error.to_string();
        self.next = self.batch.end().map_or(Next::Unsettled, Next::At);
        match self.settled {
            Some(cursor) => self.backlog.seek(cursor),
            None => self.backlog.rewind(),
        }
        .map_err(text)?;
        let mut first = None;
        let read = self.backlog.read(&mut |object, index, record, _| {
            if first.is_some() {
                return ControlFlow::Break(());
            }
            first = Some((object.clone(), index, record.to_vec()));
            ControlFlow::Continue(())
        });
        let Some((object, index, bytes)) = first else {
            self.next = Next::Unsettled;
            return read.map(|()| Quarantined::Changed).map_err(text);
        };
        if self.encoding.name(Record { object: &object, index, bytes: &bytes }) != name {
            self.next = Next::Unsettled;
            return Ok(Quarantined::Changed);
        }
        let Refusal { reason, text: detail } = refusal;
        self.backlog
            .set_aside(&Refused { object: &object, index, reason, detail, bytes: &bytes })
            .map_err(|error| format!("cannot quarantine a record that the receiver refused: {error}"))?;
        Ok(Quarantined::As(format!("record {index} of s3://{}/{}", object.bucket, object.key.escape_debug())))
    }
}

/// An answer to the records at these `places` of a request, as an answer to the whole request of `count` records.
fn spread(outcome: Outcome, places: &[usize], count: usize) -> Outcome {
    let lone = |refusal| Items { fates: vec![Fate::Refused], refusals: vec![(0, refusal)], again: None };
    let items = match outcome {
        Outcome::Accepted => Items { fates: vec![Fate::Accepted; places.len()], ..Items::default() },
        Outcome::TooLarge(text) if places.len() == 1 => lone(Refusal { reason: "too-large", text }),
        Outcome::Rejected(text) | Outcome::RejectedAt(_, text) if places.len() == 1 => {
            lone(Refusal { reason: "rejected", text })
        }
        Outcome::RejectedAt(bad, text) => {
            return match places.get(bad) {
                Some(&bad) => Outcome::RejectedAt(bad, text),
                None => Outcome::Rejected(text),
            };
        }
        Outcome::Items(items) => *items,
        other => return other,
    };
    let mut fates = vec![Fate::Again; count];
    for (&place, fate) in places.iter().zip(items.fates) {
        fates[place] = fate;
    }
    let refusals = items.refusals.into_iter();
    let refusals = refusals.filter_map(|(at, refusal)| Some((*places.get(at)?, refusal))).collect();
    Outcome::Items(Box::new(Items { fates, refusals, again: items.again }))
}

fn no_reason() -> Refusal {
    Refusal { reason: "rejected", text: String::new() }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // a sender that is gone is a stop too
    let _ = stop.wait_for(|stop| *stop).await;
}

mod again;
#[cfg(test)]
mod tests;
