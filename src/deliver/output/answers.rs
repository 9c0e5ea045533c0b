//! One batch brought to its end: its requests are sent, and what the receiver answers is taken in the order of the records.

use std::ops::Range;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::work::{Next, Quarantined};
use super::{Loop, STOP_GRACE, Stopped, stopped};
use crate::deliver::backlog::Backlog;
use crate::deliver::batch::{Answer, Step};
use crate::deliver::lines::Lines;
use crate::deliver::sender::{Again, Fate, Items, Outcome, Reason, Refusal, Sender};
use crate::limits;

/// A request that is sent before its turn.
pub(super) struct Ahead<S> {
    /// Of the batch.
    pub(super) records: Range<usize>,
    pub(super) task: JoinHandle<(S, Outcome)>,
    /// Something was refused since it was sent.
    pub(super) earlier: bool,
}

impl<S> Drop for Ahead<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Sender + 'static, B: Backlog, P: Send + Sync> Loop<S, B, P> {
    /// Brings a batch to its end, or gives it up in doubt.
    pub(super) async fn deliver(&mut self, lines: &Lines) -> Result<(), Stopped> {
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
                    if let Some(again) = self.confirm().await? {
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
    pub(super) fn accepted(&mut self, records: usize, bytes: usize, last: &[u8]) {
        if last.len() <= limits::CONTROL_BYTES || self.control.is_none() {
            self.control = Some(Bytes::copy_from_slice(last));
        }
        self.written += bytes;
        self.reporter.delivered(records, bytes);
        // what a connection took may be lost: that it stood is told later
        if !self.sender.is_provisional() {
            self.well();
        }
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
