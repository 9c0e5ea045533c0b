//! The loop of one output: fill a batch from the spool, send it, move the cursor.
//!
//! What holds, at every await (so that a crash or a stop may come anywhere):
//! * the cursor only moves over records that the receiver accepted, or that are durably in the quarantine;
//! * the cursor is made durable before the loop waits for anything, at the first acknowledgement after the start, and
//!   once in [`SAVE_EVERY`] while it moves: that much is sent again after a crash, no more; and a process that dies
//!   again and again comes on with each life that lasts for one batch;
//! * a stop lets the request under way end, but waits no longer than [`STOP_GRACE`]; then the cursor is saved.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backlog::{Backlog, Refused};
use super::batch::{Answer, Batch, Step};
use super::format;
use super::sender::{Outcome, Reason, Sender};
use super::status::{OutputStatus, Reporter};
use crate::config::{Format, Output};
use crate::limits;
use crate::net::Backoff;

/// How often a moving cursor is made durable.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for the request under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// First and longest wait after something that passes.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// First and longest wait after something that wants a change of the configuration, here or there.
const HOLD: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(120));

/// Delivers until `stop` turns true or its sender is gone. `committed` wakes when there may be new records.
pub(super) async fn run<S: Sender, B: Backlog, P: Send + Sync>(
    config: &Output,
    sender: S,
    backlog: B,
    committed: watch::Receiver<P>,
    stop: watch::Receiver<bool>,
    status: Arc<OutputStatus>,
) {
    let work = Work {
        backlog,
        batch: Batch::new(config.batch_bytes, config.batch_records),
        lines: Vec::new(),
        format: config.format,
        batch_bytes: config.batch_bytes,
        next: Next::Here,
    };
    let mut output = Loop {
        work: Some(work),
        sender,
        committed,
        stop,
        reporter: Reporter::new(&config.name, status),
        control: None,
        refusals: VecDeque::new(),
        said: String::new(),
        retry: Backoff::new(RETRY.0, RETRY.1),
        hold: Backoff::new(HOLD.0, HOLD.1),
        saved: None,
        rested: false,
    };
    while let Ok(()) = output.turn().await {}
    output.save().await;
}

/// The agent is stopping.
struct Stopped;

/// What belongs to the blocking side.
struct Work<B: Backlog> {
    backlog: B,
    batch: Batch<B::Cursor>,
    /// The lines of the batch.
    lines: Vec<u8>,
    format: Format,
    batch_bytes: usize,
    /// Where the next batch begins.
    next: Next<B::Cursor>,
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
    committed: watch::Receiver<P>,
    stop: watch::Receiver<bool>,
    reporter: Reporter,
    /// A line that the receiver accepted once, to find out whether it accepts anything.
    control: Option<Bytes>,
    /// Why the records were refused that are not set aside yet, in their order.
    refusals: VecDeque<Refusal>,
    /// What the receiver said when it refused something last.
    said: String,
    retry: Backoff,
    hold: Backoff,
    /// When the cursor was made durable last; `None` before the first acknowledgement.
    saved: Option<Instant>,
    /// It was, since there is nothing more to do.
    rested: bool,
}

struct Refusal {
    reason: &'static str,
    text: String,
}

enum Quarantined {
    /// Under this name.
    As(String),
    /// It failed and will be tried again.
    NotYet,
    /// The spool's file was damaged since the batch was read; the reader deals with that.
    Changed,
}

impl<S: Sender, B: Backlog, P: Send + Sync> Loop<S, B, P> {
    /// One batch, or a wait for one.
    async fn turn(&mut self) -> Result<(), Stopped> {
        self.committed.mark_unchanged();
        self.rested = false;
        if let Err(text) = self.blocking(Work::fill).await? {
            return self.trouble(Reason::Storage, text, None).await;
        }
        if self.work()?.batch.is_empty() {
            self.reporter.idle();
            return self.wait_for_records().await;
        }
        self.reporter.begin();
        let lines = Bytes::from(std::mem::take(&mut self.work()?.lines));
        let delivered = self.deliver(&lines).await;
        self.work()?.take_back(lines);
        delivered
    }

    /// The cursor is saved on the way when that is due, not at once: commits may come every moment.
    async fn wait_for_records(&mut self) -> Result<(), Stopped> {
        loop {
            let due = self.saved.unwrap_or_else(Instant::now) + SAVE_EVERY;
            tokio::select! {
                changed = self.committed.changed() => return changed.map_err(|_| Stopped),
                () = stopped(&mut self.stop) => return Err(Stopped),
                () = sleep_until(due), if !self.rested => {}
            }
            self.rested = self.save().await;
        }
    }

    /// Brings a batch to its end, or gives it up in doubt.
    async fn deliver(&mut self, lines: &Bytes) -> Result<(), Stopped> {
        self.refusals.clear();
        loop {
            let control = self.control.clone();
            match self.work()?.batch.step(control.is_some()) {
                Step::Send(records) => {
                    let bytes = self.work()?.batch.bytes(records.clone());
                    let outcome = self.send(lines.slice(bytes)).await?;
                    self.answered(outcome, records, lines).await?;
                }
                Step::Probe => {
                    let outcome = self.send(control.unwrap_or_default()).await?;
                    self.probed(outcome).await?;
                }
                Step::SetAside(record) => {
                    let bytes = self.work()?.batch.bytes(record..record + 1);
                    if let Quarantined::Changed = self.set_aside(lines.slice(bytes)).await? {
                        return Ok(());
                    }
                }
                Step::Doubt => return self.doubt().await,
                Step::Done => return Ok(()),
            }
            self.settle().await?;
        }
    }

    async fn answered(
        &mut self,
        outcome: Outcome,
        records: Range<usize>,
        lines: &Bytes,
    ) -> Result<(), Stopped> {
        let batch = &mut self.work()?.batch;
        let (answer, refusal) = match outcome {
            Outcome::Accepted => {
                let last = batch.bytes(records.end - 1..records.end);
                let bytes = batch.bytes(records.clone()).len();
                batch.answered(Answer::Accepted);
                if last.len() <= limits::CONTROL_BYTES || self.control.is_none() {
                    self.control = Some(Bytes::copy_from_slice(&lines[last]));
                }
                self.reporter.delivered(records.len(), bytes);
                self.retry.reset();
                self.hold.reset();
                return Ok(());
            }
            Outcome::TooLarge(text) => (Answer::TooLarge, Refusal { reason: "too-large", text }),
            Outcome::Rejected(text) => (Answer::Rejected, Refusal { reason: "rejected", text }),
            Outcome::Retry { reason, text, after } => {
                if matches!(reason, Reason::Timeout | Reason::Broken) {
                    batch.answered(Answer::Broken);
                }
                return self.trouble(reason, text, after).await;
            }
            Outcome::Hold(text) => return self.trouble(Reason::Held, text, None).await,
        };
        batch.answered(answer);
        let suspects = batch.suspects();
        self.said.clone_from(&refusal.text);
        if suspects > self.refusals.len() {
            self.refusals.push_back(refusal);
        }
        Ok(())
    }

    async fn probed(&mut self, outcome: Outcome) -> Result<(), Stopped> {
        match outcome {
            Outcome::Accepted => self.work()?.batch.probed(true),
            Outcome::TooLarge(_) | Outcome::Rejected(_) => self.work()?.batch.probed(false),
            Outcome::Retry { reason, text, after } => return self.trouble(reason, text, after).await,
            Outcome::Hold(text) => return self.trouble(Reason::Held, text, None).await,
        }
        Ok(())
    }

    /// Quarantines the first unsettled record, whose line this is.
    async fn set_aside(&mut self, line: Bytes) -> Result<Quarantined, Stopped> {
        let none = Refusal { reason: "rejected", text: String::new() };
        let refusal = self.refusals.pop_front().unwrap_or(none);
        let (refusal, stored) = self
            .blocking(move |work| {
                let stored = work.set_aside(&line, &refusal);
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
                self.refusals.push_front(refusal);
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
        let work = self.work()?;
        if let Some(settled) = work.batch.settle() {
            work.backlog.advance(settled);
            if self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
                self.saved = Some(Instant::now());
                self.save().await;
            }
        }
        Ok(())
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
    async fn send(&mut self, lines: Bytes) -> Result<Outcome, Stopped> {
        if *self.stop.borrow() {
            return Err(Stopped);
        }
        let mut sending = std::pin::pin!(self.sender.send(lines));
        tokio::select! {
            biased;
            outcome = &mut sending => Ok(outcome),
            () = stopped(&mut self.stop) => timeout(STOP_GRACE, sending).await.map_err(|_| Stopped),
        }
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
        tokio::select! {
            () = sleep(wait) => Ok(()),
            () = stopped(&mut self.stop) => Err(Stopped),
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
        let Work { backlog, batch, lines, format, batch_bytes, next } = self;
        batch.clear();
        lines.clear();
        match *next {
            Next::Here => Ok(()),
            Next::At(cursor) => backlog.seek(cursor),
            Next::Unsettled => backlog.rewind(),
        }
        .map_err(|error| error.to_string())?;
        *next = Next::Here;
        lines.reserve_exact(*batch_bytes);
        let read = backlog.read(&mut |object, index, record, after| {
            let bytes = format::encoded_len(*format, object, index, record);
            if !batch.has_room(bytes) {
                return ControlFlow::Break(());
            }
            format::append(*format, object, index, record, lines);
            batch.push(bytes, after);
            ControlFlow::Continue(())
        });
        if batch.is_empty() { read.map_err(|error| error.to_string()) } else { Ok(()) }
    }

    /// Quarantines the first unsettled record, with its bytes as they stand in the spool.
    fn set_aside(&mut self, line: &[u8], refusal: &Refusal) -> Result<Quarantined, String> {
        let text = |error: B::Error| error.to_string();
        self.next = self.batch.end().map_or(Next::Unsettled, Next::At);
        self.backlog.rewind().map_err(text)?;
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
        let mut again = Vec::new();
        format::append(self.format, &object, index, &bytes, &mut again);
        if again != line {
            self.next = Next::Unsettled;
            return Ok(Quarantined::Changed);
        }
        let Refusal { reason, text: detail } = refusal;
        self.backlog
            .set_aside(&Refused { object: &object, index, reason, detail, bytes: &bytes })
            .map_err(|error| format!("cannot quarantine a record that the receiver refused: {error}"))?;
        Ok(Quarantined::As(format!("record {index} of s3://{}/{}", object.bucket, object.key.escape_debug())))
    }

    /// The buffer is used again, unless a single huge record made it grow or the sender still has a part of it.
    fn take_back(&mut self, lines: Bytes) {
        if let Ok(lines) = lines.try_into_mut() {
            let lines = Vec::from(lines);
            if lines.capacity() <= self.batch_bytes {
                self.lines = lines;
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // a sender that is gone is a stop too
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
