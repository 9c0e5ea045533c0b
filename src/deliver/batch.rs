//! One batch on its way: what is sent next, and what an answer means for the records that were sent.
//!
//! A batch is a run of records from the spool. It is sent whole; what the receiver refuses is halved, left
//! half first, until the refused record stands alone. So records are accepted in the spool's order, and
//! the cursor only ever moves over a prefix of settled records ([`Batch::settle`]). A bad record among `n`
//! costs at most `2 * log2(n) + 2` requests.
//!
//! **When a refusal is believed.** A receiver that refuses a record may mean the record, or it may be the
//! wrong receiver (wrong path, wrong format), which refuses everything. A record refused alone is set
//! aside only if the receiver accepted *another* record after it had refused a request that held the bad
//! one. Until then the record is a *suspect*, and the records behind it are tried. If [`PATIENCE`] of them
//! are refused too, or there are no more, one record that the receiver accepted earlier is sent again (the
//! *control*, a duplicate, [`Step::Probe`]). If that is refused as well, or if this process has not seen one
//! accepted yet, the batch ends in [`Step::Doubt`]: nothing is set aside, the cursor stays, the operator is
//! told, and later the batch is read again ([`Batch::give_up`]).
//!
//! **In doubt** an attempt sends the batch whole, for the receiver may have been put right. If it is refused,
//! single records are tried that were not tried before, twice as many each time, then one a time. The first
//! that is accepted is a control, and the isolation begins anew with it. So a wrong receiver sees few
//! requests, and a run of bad records at the head of the spool is passed. What still waits for the operator
//! is a batch of nothing but bad records (or a lone one) when nothing was accepted since the start.
//!
//! **Answers record by record** ([`Batch::answered_each`]): what the receiver accepted beside a refused record is the
//! proof that it means the record; what is unfit needs none, also in doubt. What is known of records stays known while others are sent again ([`Batch::pending`]).
//!
//! **Several requests at once.** A batch may be filled for several requests ([`Batch::begin_request`]); those behind the
//! next one may be sent ahead of its answer ([`Batch::ahead`]). Their answers are taken in the order of the records, so
//! everything above holds as if they had been sent one after the other, but for one thing: an answer that may be older
//! than a refusal is no proof of it ([`Batch::set_earlier`]).
//!
//! **Sizes.** A request that was too large teaches a limit, so that the next batches fit at once; the limit
//! doubles again after [`GROW_AFTER`] accepted requests. A request that keeps breaking on the way (a slow
//! link, a proxy that hangs up) is halved too, but never below [`BROKEN_FLOOR`] bytes, and no record is ever
//! set aside for it.

use std::collections::VecDeque;
use std::ops::Range;

use super::sender::Fate;

/// Accepted requests after which a learned size limit doubles.
pub const GROW_AFTER: u32 = 64;
/// Requests of this many bytes or fewer are not halved for breaking on the way: size is not the reason.
pub const BROKEN_FLOOR: usize = 16 * 1024;
/// Times one request breaks on the way before it is halved.
const BROKEN_BEFORE_HALVING: u32 = 3;
/// Suspects after which a batch stops trying further records.
const PATIENCE: usize = 16;
/// A batch read in doubt has at least this many records, even where batches are of one, if they fit; two in any case:
/// a suspect and another.
const DOUBT_RECORDS: usize = 16;

/// How the receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Every record of the request is the receiver's now.
    Accepted,
    /// The request is too large (413).
    TooLarge,
    /// Something in the request is bad (400, 422).
    Rejected,
    /// The same, and this one of its records is said to be it.
    RejectedAt(usize),
    /// There was no answer: a time-out, or the connection broke after it had been made.
    Broken,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these records, then call [`Batch::answered`].
    Send(Range<usize>),
    /// Send the control, then call [`Batch::probed`].
    Probe,
    /// Set this record aside durably, then call [`Batch::set_aside`]. It is the first unsettled one.
    SetAside(usize),
    /// The receiver refuses everything: wait, and read the batch again from the cursor.
    Doubt,
    /// Every record is settled.
    Done,
}

/// Records that were settled since the last [`Batch::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled<C> {
    /// Where the cursor stands now.
    pub cursor: C,
    /// How many the receiver accepted.
    pub accepted: u64,
    /// How many were set aside.
    pub set_aside: u64,
}

/// A batch. One is kept for an output's whole life: it remembers the receiver's size limit.
#[derive(Debug)]
pub struct Batch<C> {
    records: Vec<Entry<C>>,
    max_records: usize,
    limit: Limit,
    /// First record that was neither accepted nor refused alone.
    next: usize,
    /// Right bounds of the ranges still to send, the nearest last. The first range begins at `next`.
    bounds: Vec<usize>,
    /// Records refused alone and not set aside yet, in order; all before `next`.
    suspects: VecDeque<usize>,
    /// How many of the first suspects are believed to be bad.
    believed: usize,
    /// A record was accepted after the last refusal of a range.
    evidence: bool,
    /// The control was refused, or every record that this attempt was to try.
    doubted: bool,
    /// Attempts that ended in doubt since something was accepted.
    doubts: u32,
    /// Records tried alone in these attempts.
    tried: usize,
    /// How many more are tried alone in this one.
    canaries: usize,
    /// How often the current range broke on the way.
    broken: u32,
    /// Records that [`Batch::settle`] has reported.
    settled: usize,
    /// Records set aside that `settle` has not reported.
    aside: u64,
    /// Where the requests begin that were filled to the limit, but for the first; the last of them is being filled.
    starts: Vec<usize>,
    /// The next record begins a request of its own.
    full: bool,
    /// The answers that come now were given before something was refused.
    earlier: bool,
}

#[derive(Debug)]
struct Entry<C> {
    /// Offset in the batch's bytes behind the record.
    end: usize,
    /// Where the cursor stands behind the record.
    after: C,
    /// What an answer record by record said of it.
    known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Accepted,
    Refused,
    /// Refused, and that is believed.
    Bad,
}

impl<C: Copy> Batch<C> {
    /// For batches of at most this many bytes (unless one record is longer) and records.
    pub fn new(max_bytes: usize, max_records: usize) -> Batch<C> {
        Batch {
            records: Vec::new(),
            max_records: max_records.max(1),
            limit: Limit::new(max_bytes.max(1)),
            next: 0,
            bounds: Vec::new(),
            suspects: VecDeque::new(),
            believed: 0,
            evidence: false,
            doubted: false,
            doubts: 0,
            tried: 0,
            canaries: 0,
            broken: 0,
            settled: 0,
            aside: 0,
            starts: Vec::new(),
            full: false,
            earlier: false,
        }
    }

    /// Forgets the records, keeps what was learned of the receiver.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bounds.clear();
        self.suspects.clear();
        self.next = 0;
        self.believed = 0;
        self.evidence = false;
        self.doubted = false;
        self.canaries = 0;
        self.broken = 0;
        self.settled = 0;
        self.aside = 0;
        self.starts.clear();
        self.full = false;
        self.earlier = false;
    }

    /// Begins the next request: it can be filled as the one before, and be on its way at the same time. Not in doubt,
    /// where one is enough: then `false`.
    pub fn begin_request(&mut self) -> bool {
        self.full = self.doubts == 0 && !self.records.is_empty();
        self.full
    }

    /// Whether one more record of `bytes` belongs into the request that is being filled.
    pub fn has_room(&self, bytes: usize) -> bool {
        let start = if self.full { self.records.len() } else { self.starts.last().copied().unwrap_or(0) };
        let count = self.records.len() - start;
        let total = self.bytes(start..self.records.len()).len().saturating_add(bytes);
        match self.doubts {
            0 => count == 0 || (count < self.max_records && total <= self.limit.now),
            _ => count < 2 || (count < self.max_records.max(DOUBT_RECORDS) && total <= self.limit.max),
        }
    }

    /// Adds a record of `bytes`; `after` is where the cursor stands behind it.
    pub fn push(&mut self, bytes: usize, after: C) {
        let end = self.bytes(0..self.records.len()).end + bytes;
        if std::mem::take(&mut self.full) {
            self.starts.push(self.records.len());
            self.bounds.insert(0, 0);
        }
        self.records.push(Entry { end, after, known: Known::Nothing });
        match self.bounds.first_mut() {
            Some(last) => *last = self.records.len(),
            None => self.bounds.push(self.records.len()),
        }
    }

    /// Records in the batch.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// No records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Where the cursor stands behind the last record.
    pub fn end(&self) -> Option<C> {
        self.records.last().map(|last| last.after)
    }

    /// Where the bytes of these records stand.
    pub fn bytes(&self, records: Range<usize>) -> Range<usize> {
        let end_of = |count: usize| count.checked_sub(1).map_or(0, |last| self.records[last].end);
        end_of(records.start)..end_of(records.end)
    }

    /// Requests that the batch is filled for so far.
    pub fn requests(&self) -> usize {
        self.starts.len() + 1
    }

    /// Where the cursor stands behind a record.
    pub fn after(&self, record: usize) -> Option<C> {
        self.records.get(record).map(|entry| entry.after)
    }

    /// The records of these that nothing is known of, counted from the first of them. `None`: all.
    pub fn pending(&self, records: Range<usize>) -> Option<Vec<usize>> {
        let entries = &self.records[records];
        let is_pending = |entry: &Entry<C>| entry.known == Known::Nothing;
        if entries.len() == 1 || entries.iter().all(is_pending) {
            return None;
        }
        Some((0..entries.len()).filter(|&at| is_pending(&entries[at])).collect())
    }

    /// The requests behind the next one, nearest first, which may be sent before it is answered. None while something
    /// is to be found out.
    pub fn ahead(&self) -> impl Iterator<Item = Range<usize>> {
        let clear = self.doubts == 0 && self.suspects.is_empty();
        let count = if clear { self.bounds.len() } else { 0 };
        (1..count).rev().map(|at| self.bounds[at]..self.bounds[at - 1])
    }

    /// Whether the next answer was given before something was refused that is answered already: it proves nothing then.
    pub fn set_earlier(&mut self, earlier: bool) {
        self.earlier = earlier;
    }

    /// Records refused alone and not set aside yet.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// What to do next. `control`: there is a record that the receiver accepted earlier.
    pub fn step(&self, control: bool) -> Step {
        if self.believed > 0 {
            return Step::SetAside(self.suspects[0]);
        }
        if self.doubted {
            return Step::Doubt;
        }
        if self.canaries > 0 {
            let record = self.tried % self.records.len();
            return Step::Send(record..record + 1);
        }
        match self.bounds.last() {
            Some(&bound) if self.suspects.len() < PATIENCE => Step::Send(self.next..bound),
            None if self.suspects.is_empty() => Step::Done,
            _ if control => Step::Probe,
            _ => Step::Doubt,
        }
    }

    /// The answer to [`Step::Send`].
    pub fn answered(&mut self, answer: Answer) {
        let Some(&bound) = self.bounds.last() else { return };
        let count = bound - self.next;
        let bytes = self.bytes(self.next..bound).len();
        match answer {
            _ if self.canaries > 0 => self.canary(answer, bound),
            Answer::Accepted => {
                self.settle_range(bound);
                self.limit.accepted();
                self.believe();
            }
            Answer::TooLarge | Answer::Rejected | Answer::RejectedAt(_) if self.doubts > 0 => {
                self.try_alone()
            }
            Answer::RejectedAt(bad) if count > 1 && bad < count => {
                self.evidence = false;
                self.part(bound, self.next + bad);
            }
            Answer::TooLarge | Answer::Rejected | Answer::RejectedAt(_) if count > 1 => {
                if answer == Answer::TooLarge {
                    self.limit.too_large(bytes);
                }
                self.evidence = false;
                self.halve(bound);
            }
            Answer::TooLarge | Answer::Rejected | Answer::RejectedAt(_) => {
                self.suspects.push_back(self.next);
                if self.evidence {
                    self.believed = self.suspects.len();
                    self.evidence = false;
                }
                self.settle_range(bound);
            }
            Answer::Broken => {
                self.broken += 1;
                if self.broken >= BROKEN_BEFORE_HALVING && count > 1 && bytes > BROKEN_FLOOR {
                    self.limit.too_large(bytes);
                    self.halve(bound);
                }
            }
        }
    }

    /// The answer to [`Step::Send`], record by record; those that `fates` does not reach are to be sent again.
    pub fn answered_each(&mut self, fates: &[Fate]) {
        let Some(&bound) = self.bounds.last() else { return };
        let accepted = fates.contains(&Fate::Accepted);
        let refused = fates.iter().any(|fate| matches!(fate, Fate::Refused | Fate::Unfit));
        match fates {
            _ if !accepted && !refused => return,
            [fate] if self.canaries > 0 => {
                let accepted = *fate == Fate::Accepted;
                return self.answered(if accepted { Answer::Accepted } else { Answer::Rejected });
            }
            // what is unfit needs no proof: without it the others are fewer, and are sent again
            _ if self.doubts > 0 && fates.contains(&Fate::Refused) && !accepted => return self.try_alone(),
            _ => {}
        }
        if accepted {
            self.believe();
        }
        let sent = &mut self.records[self.next..bound];
        for (entry, fate) in sent.iter_mut().zip(fates) {
            entry.known = match (entry.known, fate) {
                (Known::Accepted, _) | (_, Fate::Accepted) => Known::Accepted,
                (Known::Bad, _) | (_, Fate::Unfit) => Known::Bad,
                (Known::Refused, _) | (_, Fate::Refused) if accepted => Known::Bad,
                (Known::Refused, _) | (_, Fate::Refused) => Known::Refused,
                (Known::Nothing, Fate::Again) => Known::Nothing,
            };
        }
        // a record that is sent again was not refused yet: what was accepted so far proves nothing of it
        self.evidence = false;
        self.broken = 0;
        if let Some(last) = sent.iter().rposition(|entry| entry.known == Known::Nothing)
            && self.next + last + 1 < bound
        {
            self.bounds.push(self.next + last + 1);
        }
        self.pass();
    }

    /// The answer to [`Step::Probe`].
    pub fn probed(&mut self, accepted: bool) {
        self.earlier = false;
        if accepted {
            self.believe();
        } else {
            self.doubted = true;
        }
    }

    /// Gives the batch up at [`Step::Doubt`]: the records are forgotten, the next attempt tries others.
    pub fn give_up(&mut self) {
        self.clear();
        self.doubts = self.doubts.saturating_add(1);
    }

    /// The record named by [`Step::SetAside`] is durably set aside.
    pub fn set_aside(&mut self) {
        if self.believed > 0 {
            self.believed -= 1;
            self.suspects.pop_front();
            self.aside += 1;
        }
    }

    /// Where the cursor goes, if it moves: over the accepted and set-aside records before the first other one.
    pub fn settle(&mut self) -> Option<Settled<C>> {
        let through = self.suspects.front().copied().unwrap_or(self.next);
        if through == self.settled {
            return None;
        }
        let moved = (through - self.settled) as u64;
        let set_aside = std::mem::take(&mut self.aside);
        self.settled = through;
        let cursor = self.records[through - 1].after;
        Some(Settled { cursor, accepted: moved - set_aside, set_aside })
    }

    fn settle_range(&mut self, bound: usize) {
        self.next = bound;
        self.bounds.pop();
        self.broken = 0;
        self.pass();
    }

    /// Goes on over records that an answer record by record has settled.
    fn pass(&mut self) {
        while let Some(&bound) = self.bounds.last() {
            while self.next < bound {
                match self.records[self.next].known {
                    Known::Nothing => return,
                    Known::Accepted => {}
                    Known::Bad if self.believed == self.suspects.len() => {
                        self.suspects.push_back(self.next);
                        self.believed += 1;
                    }
                    Known::Bad | Known::Refused => self.suspects.push_back(self.next),
                }
                self.next += 1;
            }
            self.bounds.pop();
        }
    }

    fn halve(&mut self, bound: usize) {
        self.bounds.push(self.next + (bound - self.next) / 2);
        self.broken = 0;
    }

    /// The records before `bad`, it alone, those behind it.
    fn part(&mut self, bound: usize, bad: usize) {
        if bad + 1 < bound {
            self.bounds.push(bad + 1);
        }
        if bad > self.next {
            self.bounds.push(bad);
        }
        self.broken = 0;
    }

    fn believe(&mut self) {
        if self.earlier {
            return;
        }
        self.evidence = true;
        self.believed = self.suspects.len();
        self.hope();
    }

    fn hope(&mut self) {
        self.doubts = 0;
        self.tried = 0;
        self.canaries = 0;
    }

    /// In doubt, the batch was refused again.
    fn try_alone(&mut self) {
        let count = self.records.len();
        let untried = count.saturating_sub(self.tried);
        let most = PATIENCE.saturating_mul(1 << self.doubts.min(20));
        self.canaries = untried.min(most).max(1);
        self.doubted = count == 1;
    }

    /// A record tried alone was answered. If it was accepted it is sent once more, in its turn.
    fn canary(&mut self, answer: Answer, bound: usize) {
        match answer {
            Answer::Accepted => {
                self.hope();
                if bound - self.next > 1 {
                    self.halve(bound);
                }
            }
            Answer::TooLarge | Answer::Rejected | Answer::RejectedAt(_) => {
                self.tried += 1;
                self.canaries -= 1;
                self.doubted = self.canaries == 0;
            }
            Answer::Broken => {}
        }
    }
}

/// The most bytes of a request that the receiver is known, or hoped, to take.
#[derive(Debug)]
struct Limit {
    max: usize,
    now: usize,
    accepted: u32,
}

impl Limit {
    fn new(max: usize) -> Limit {
        Limit { max, now: max, accepted: 0 }
    }

    fn too_large(&mut self, bytes: usize) {
        self.now = self.now.min((bytes / 2).max(1));
        self.accepted = 0;
    }

    fn accepted(&mut self) {
        self.accepted += 1;
        if self.accepted >= GROW_AFTER {
            self.accepted = 0;
            self.now = self.now.saturating_mul(2).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests;
