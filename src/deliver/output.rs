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

mod again;
mod answers;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backlog::Backlog;
use super::batch::Batch;
use super::encoding::Encoding;
use super::lines::{Buffer, Lines};
use super::sender::{Again, Outcome, Reason, Refusal, Sender};
use super::status::{OutputStatus, Reporter};
use super::unconfirmed::{Arrived, Unconfirmed, WINDOW};
use crate::config::Output;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::select::Attributors;
use crate::service::wedge;
use answers::Ahead;
use work::{Next, Work};

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

/// A connection that ends after this time without a record was closed because it was idle.
const IDLE: Duration = Duration::from_secs(1);
/// How often in a row that may happen before somebody has to change something.
const IDLE_ENDS: u32 = 3;

/// What an output waits for.
pub(super) struct Wakes<P> {
    /// There may be new records.
    pub(super) committed: watch::Receiver<P>,
    /// Some output is asked to give up records.
    pub(super) skips: watch::Receiver<()>,
    /// The agent is stopping.
    pub(super) stop: watch::Receiver<bool>,
    /// No more records come.
    pub(super) complete: watch::Receiver<bool>,
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
    let Wakes { committed, skips, stop, complete } = wakes;
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
        complete,
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
        idle_ends: 0,
        written: 0,
    };
    while let Ok(()) = output.turn().await {}
    output.end().await;
}

/// The agent is stopping.
struct Stopped;

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
    complete: watch::Receiver<bool>,
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
    /// How often in a row its connection was closed as idle before they counted as arrived.
    idle_ends: u32,
    /// Bytes accepted since they were counted last.
    written: usize,
}

impl<S: Sender + 'static, B: Backlog, P: Send + Sync> Loop<S, B, P> {
    /// One batch, or a wait for one.
    async fn turn(&mut self) -> Result<(), Stopped> {
        self.committed.mark_unchanged();
        self.rested = false;
        self.pulse.working();
        wedge::pending(&self.stage).await;
        if let Some(again) = self.confirm().await? {
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
            self.unconfirmed.unsettle();
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

    /// Waits for more records while the batch is neither full nor old enough, if any may come.
    async fn gather(&mut self) -> Result<(), Stopped> {
        let until = Instant::now() + self.batch_wait;
        if self.batch_wait.is_zero() || self.work()?.whole || *self.complete.borrow() {
            return Ok(());
        }
        self.save().await;
        // a record that is wanted again comes between two batches
        while !self.work()?.whole && self.wanted_again()?.is_none() {
            self.pulse.idle();
            tokio::select! {
                changed = self.committed.changed() => changed.map_err(|_| Stopped)?,
                () = stopped(&mut self.stop) => return Err(Stopped),
                () = told(&mut self.complete) => {}
                () = sleep_until(until) => {
                    self.pulse.working();
                    return Ok(());
                }
            }
            self.pulse.working();
            if *self.complete.borrow() {
                return Ok(());
            }
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
        // what was sent and is not confirmed is given up or sent again: each record is counted once
        self.unconfirmed.unsettle();
        let work = self.work()?;
        work.settled = None;
        work.next = Next::Unsettled;
        match self.blocking(|work| work.backlog.skip()).await? {
            Ok(0) => Ok(()),
            Ok(count) => {
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
    async fn confirm(&mut self) -> Result<Option<Again>, Stopped> {
        if !self.sender.is_provisional() {
            return Ok(None);
        }
        let now = Instant::now().into_std();
        if let Some(again) = self.sender.broken() {
            // if nothing waits, the connection was idle and simply made anew
            return Ok(self.unconfirmed.last().map(|last| self.idle_ended(again, now - last)));
        }
        while let Some(arrived) = self.unconfirmed.arrived(now) {
            self.rested = false;
            self.well();
            self.arrived(arrived).await?;
        }
        Ok(None)
    }

    /// The receiver has records: whatever was wrong has passed.
    fn well(&mut self) {
        self.reporter.well();
        self.idle_ends = 0;
        self.retry.reset();
        self.hold.reset();
    }

    /// A receiver that closes idle connections before their records count as arrived would get the same ones for ever.
    fn idle_ended(&mut self, again: Again, idle: Duration) -> Again {
        self.idle_ends = if idle < IDLE { 0 } else { self.idle_ends + 1 };
        if self.idle_ends < IDLE_ENDS {
            return again;
        }
        let text = format!(
            "{}, {} times in a row within {} seconds after the last record, and so confirms none: if its idle time-out, or              that of a balancer before it, is that short, make it a minute",
            again.text,
            self.idle_ends,
            WINDOW.as_secs()
        );
        Again { reason: Reason::Held, text, ..again }
    }

    async fn arrived(&mut self, arrived: Arrived<B::Cursor>) -> Result<(), Stopped> {
        if let Some(settled) = arrived.settled {
            self.work()?.backlog.advance(settled);
        }
        for id in arrived.again {
            self.delivered_again(id).await?;
        }
        Ok(())
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
            for arrived in self.unconfirmed.all_arrived() {
                // what of it fails is sent again by the next run
                let _ = self.arrived(arrived).await;
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

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // a sender that is gone is a stop too
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn told(complete: &mut watch::Receiver<bool>) {
    // a sender that is gone says nothing any more
    if complete.wait_for(|complete| *complete).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
