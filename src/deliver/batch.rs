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
//! **Sizes.** A request that was too large teaches a limit, so that the next batches fit at once; the limit
//! doubles again after [`GROW_AFTER`] accepted requests. A request that keeps breaking on the way (a slow
//! link, a proxy that hangs up) is halved too, but never below [`BROKEN_FLOOR`] bytes, and no record is ever
//! set aside for it.

use std::collections::VecDeque;
use std::ops::Range;

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
}

#[derive(Debug)]
struct Entry<C> {
    /// Offset in the batch's bytes behind the record.
    end: usize,
    /// Where the cursor stands behind the record.
    after: C,
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
    }

    /// Whether one more record of `bytes` belongs into this batch.
    pub fn has_room(&self, bytes: usize) -> bool {
        let count = self.records.len();
        let total = self.bytes(0..count).end.saturating_add(bytes);
        match self.doubts {
            0 => count == 0 || (count < self.max_records && total <= self.limit.now),
            _ => count < 2 || (count < self.max_records.max(DOUBT_RECORDS) && total <= self.limit.max),
        }
    }

    /// Adds a record of `bytes`; `after` is where the cursor stands behind it.
    pub fn push(&mut self, bytes: usize, after: C) {
        let end = self.bytes(0..self.records.len()).end + bytes;
        self.records.push(Entry { end, after });
        self.bounds.clear();
        self.bounds.push(self.records.len());
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
            Answer::TooLarge | Answer::Rejected if self.doubts > 0 => self.try_alone(),
            Answer::TooLarge | Answer::Rejected if count > 1 => {
                if answer == Answer::TooLarge {
                    self.limit.too_large(bytes);
                }
                self.evidence = false;
                self.halve(bound);
            }
            Answer::TooLarge | Answer::Rejected => {
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

    /// The answer to [`Step::Probe`].
    pub fn probed(&mut self, accepted: bool) {
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
    }

    fn halve(&mut self, bound: usize) {
        self.bounds.push(self.next + (bound - self.next) / 2);
        self.broken = 0;
    }

    fn believe(&mut self) {
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
            Answer::TooLarge | Answer::Rejected => {
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A receiver that knows which records it cannot take, and how large a request may be.
    #[derive(Default)]
    struct Receiver {
        poison: Vec<bool>,
        sizes: Vec<usize>,
        max_bytes: usize,
        /// One per request, while they last.
        faults: VecDeque<Fault>,
        accepted: Vec<usize>,
        requests: usize,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// The request never arrived.
        Lost,
        /// The records arrived, the answer did not.
        AnswerLost,
    }

    impl Receiver {
        fn bad(&self, record: usize) -> bool {
            self.poison[record] || self.sizes[record] > self.max_bytes
        }

        fn post(&mut self, records: Range<usize>) -> Answer {
            self.requests += 1;
            let fault = self.faults.pop_front().unwrap_or(Fault::None);
            let answer = if self.sizes[records.clone()].iter().sum::<usize>() > self.max_bytes {
                Answer::TooLarge
            } else if self.poison[records.clone()].contains(&true) {
                Answer::Rejected
            } else {
                Answer::Accepted
            };
            if fault == Fault::Lost {
                return Answer::Broken;
            }
            if answer == Answer::Accepted {
                self.accepted.extend(records);
            }
            if fault == Fault::AnswerLost { Answer::Broken } else { answer }
        }
    }

    struct Delivery {
        cursor: usize,
        aside: Vec<usize>,
        doubts: usize,
        batches: usize,
        probes: usize,
    }

    /// Delivers a whole stream; the cursor is the number of settled records. Gives up after a dozen doubts,
    /// when every record of every batch was tried alone.
    fn deliver(receiver: &mut Receiver, batch: &mut Batch<usize>) -> Delivery {
        let mut control = None;
        let mut done = Delivery { cursor: 0, aside: Vec::new(), doubts: 0, batches: 0, probes: 0 };
        let total = receiver.sizes.len();
        while done.cursor < total && done.doubts < 12 {
            batch.clear();
            done.batches += 1;
            let first = done.cursor;
            for record in first..total {
                if !batch.has_room(receiver.sizes[record]) {
                    break;
                }
                batch.push(receiver.sizes[record], record + 1);
            }
            assert!(!batch.is_empty());
            loop {
                match batch.step(control.is_some()) {
                    Step::Send(range) => {
                        let sent = first + range.start..first + range.end;
                        let answer = receiver.post(sent.clone());
                        if answer == Answer::Accepted {
                            control = Some(sent.start);
                        }
                        batch.answered(answer);
                    }
                    Step::Probe => {
                        done.probes += 1;
                        let record = control.unwrap();
                        batch.probed(receiver.post(record..record + 1) == Answer::Accepted);
                    }
                    Step::SetAside(record) => {
                        assert_eq!(first + record, done.cursor, "the first unsettled record");
                        done.aside.push(first + record);
                        batch.set_aside();
                    }
                    Step::Doubt => {
                        done.doubts += 1;
                        batch.give_up();
                        break;
                    }
                    Step::Done => break,
                }
                if let Some(settled) = batch.settle() {
                    let moved = settled.cursor - done.cursor;
                    assert_eq!(moved as u64, settled.accepted + settled.set_aside);
                    for record in done.cursor..settled.cursor {
                        assert!(receiver.accepted.contains(&record) || done.aside.contains(&record));
                    }
                    done.cursor = settled.cursor;
                }
            }
        }
        done
    }

    fn receiver(poison: &[usize], total: usize) -> Receiver {
        let mut all = vec![false; total];
        poison.iter().for_each(|&record| all[record] = true);
        Receiver { poison: all, sizes: vec![10; total], max_bytes: usize::MAX, ..Receiver::default() }
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_and_records_but_never_empty() {
        let mut batch = Batch::new(25, 3);
        assert!(batch.has_room(1000));
        batch.push(10, 1);
        assert!(!batch.has_room(16));
        assert!(batch.has_room(15));
        batch.push(5, 2);
        batch.push(5, 3);
        assert!(!batch.has_room(1), "three records");
        assert_eq!(batch.bytes(1..3), 10..20);
        assert_eq!(batch.end(), Some(3));
    }

    #[test]
    fn one_bad_record_is_found_in_logarithmic_requests() {
        for bad in [0, 1, 511, 512, 1023] {
            let mut receiver = receiver(&[bad], 1024);
            let done = deliver(&mut receiver, &mut Batch::new(1 << 20, 1024));
            assert_eq!(done.aside, [bad]);
            assert_eq!(receiver.accepted.len(), 1023);
            assert!(receiver.requests <= 2 * 10 + 2, "{} requests", receiver.requests);
        }
    }

    #[test]
    fn a_wrong_receiver_gets_nothing_set_aside_and_few_requests() {
        let all: Vec<usize> = (0..1000).collect();
        let mut wrong = receiver(&all, 1000);
        let mut batch = Batch::new(1 << 20, 1000);
        all.iter().for_each(|record| batch.push(10, record + 1));
        while let Step::Send(range) = batch.step(false) {
            batch.answered(wrong.post(range));
        }
        assert_eq!(batch.step(false), Step::Doubt);
        assert!(wrong.requests <= 2 * PATIENCE + 10, "down one side, then {PATIENCE} records");

        wrong.requests = 0;
        let done = deliver(&mut wrong, &mut Batch::new(1 << 20, 1000));
        assert_eq!((done.cursor, done.aside.len(), done.doubts), (0, 0, 12));
        assert!(
            wrong.requests <= 1000 + 2 * 12 + 2 * PATIENCE + 10,
            "each record alone once: {}",
            wrong.requests
        );
    }

    #[test]
    fn a_long_run_of_bad_records_at_the_head_is_passed() {
        let bad: Vec<usize> = (0..700).collect();
        let mut receiver = receiver(&bad, 1000);
        let done = deliver(&mut receiver, &mut Batch::new(1 << 20, 800));
        assert_eq!((done.aside, done.cursor), (bad, 1000));
    }

    #[test]
    fn a_receiver_put_right_gets_every_record() {
        let all: Vec<usize> = (0..300).collect();
        let mut receiver = receiver(&all, 300);
        let mut batch = Batch::new(1 << 20, 300);
        assert_eq!(deliver(&mut receiver, &mut batch).doubts, 12);
        receiver.poison = (0..300).map(|record| record == 150).collect();
        let done = deliver(&mut receiver, &mut batch);
        assert_eq!((done.aside, done.cursor), (vec![150], 300));
    }

    #[test]
    fn a_receiver_that_turns_wrong_is_unmasked_by_the_control() {
        let mut receiver = receiver(&(10..20).collect::<Vec<_>>(), 20);
        let mut batch = Batch::new(100, 1000);
        // the control stands for record 0, which this receiver refuses from now on
        let mut control_refused = false;
        for (first, poison) in [(0, false), (10, true)] {
            batch.clear();
            (first..first + 10).for_each(|record| batch.push(10, record + 1));
            loop {
                match batch.step(true) {
                    Step::Send(range) => {
                        let answer = receiver.post(first + range.start..first + range.end);
                        batch.answered(answer);
                    }
                    Step::Probe => {
                        control_refused = true;
                        batch.probed(false);
                    }
                    Step::Doubt => {
                        assert!(poison && control_refused);
                        assert_eq!(batch.settle(), None, "nothing is set aside");
                        break;
                    }
                    Step::Done => break assert!(!poison),
                    Step::SetAside(record) => panic!("{record} was good"),
                }
                batch.settle();
            }
        }
    }

    #[test]
    fn a_lone_bad_record_is_set_aside_once_the_control_is_accepted() {
        let mut receiver = receiver(&[1], 2);
        let done = deliver(&mut receiver, &mut Batch::new(10, 1));
        assert_eq!(done.aside, [1]);
        assert_eq!((done.cursor, done.probes), (2, 1));
    }

    #[test]
    fn a_bad_record_at_the_head_waits_for_a_second_record_even_in_batches_of_one() {
        let mut receiver = receiver(&[0], 3);
        let done = deliver(&mut receiver, &mut Batch::new(10, 1));
        assert_eq!(done.aside, [0]);
        assert_eq!((done.cursor, done.doubts), (3, 1));
    }

    #[test]
    fn the_size_limit_is_learned_and_forgotten_again() {
        let mut receiver = receiver(&[], 20_000);
        receiver.max_bytes = 300;
        let mut batch = Batch::new(1000, 1000);
        let done = deliver(&mut receiver, &mut batch);
        assert_eq!(done.cursor, 20_000);
        // 250 bytes fit: 25 records a request, and one refusal in GROW_AFTER
        assert!(receiver.requests < 20_000 / 25 * 11 / 10, "{}", receiver.requests);
        receiver.max_bytes = usize::MAX;
        (receiver.requests, receiver.accepted) = (0, Vec::new());
        deliver(&mut receiver, &mut batch);
        assert!(receiver.requests < 20_000 / 100 + 2 * GROW_AFTER as usize, "{}", receiver.requests);
    }

    #[test]
    fn a_request_that_keeps_breaking_is_halved_but_no_record_is_set_aside_for_it() {
        let mut batch = Batch::new(1 << 20, 1000);
        (0..4).for_each(|record| batch.push(BROKEN_FLOOR, record));
        let mut sent = Vec::new();
        for _ in 0..40 {
            let Step::Send(range) = batch.step(true) else { panic!("still sending") };
            sent.push(range.len());
            batch.answered(Answer::Broken);
        }
        assert_eq!(sent[..7], [4, 4, 4, 2, 2, 2, 1]);
        assert_eq!(sent.last(), Some(&1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn every_good_record_arrives_in_order_and_exactly_the_bad_ones_are_set_aside(
            records in proptest::collection::vec((1usize..400, proptest::bool::weighted(0.03)), 1..600),
            max_bytes in prop_oneof![Just(usize::MAX), 300usize..2000],
            (batch_bytes, batch_records) in (1usize..20_000, 1usize..300),
            faults in proptest::collection::vec(
                prop_oneof![6 => Just(Fault::None), 1 => Just(Fault::Lost), 1 => Just(Fault::AnswerLost)], 0..200),
        ) {
            let (sizes, poison): (Vec<usize>, Vec<bool>) = records.into_iter().unzip();
            let total = sizes.len();
            let mut receiver = Receiver { poison, sizes, max_bytes, faults: faults.into(), ..Receiver::default() };
            let faults = receiver.faults.len();
            let done = deliver(&mut receiver, &mut Batch::new(batch_bytes, batch_records));
            let bad: Vec<usize> = (0..total).filter(|&record| receiver.bad(record)).collect();

            // in doubt for ever only while nothing but bad records was ever tried
            let stuck = done.cursor < total;
            prop_assert!(!stuck || receiver.accepted.is_empty());
            prop_assert!(!stuck || receiver.bad(0));
            prop_assert_eq!(&done.aside, if stuck { &[][..] } else { &bad[..] });

            if !stuck {
                let mut first_deliveries = Vec::new();
                let mut seen = vec![false; total];
                for &record in &receiver.accepted {
                    if !std::mem::replace(&mut seen[record], true) {
                        first_deliveries.push(record);
                    }
                }
                let good: Vec<usize> = (0..total).filter(|&record| !receiver.bad(record)).collect();
                prop_assert_eq!(first_deliveries, good);
            }

            // a bad record costs two requests a halving and at most one control
            if max_bytes == usize::MAX && done.doubts == 0 {
                let a_bad_record = 2 * (batch_records.ilog2() as usize + 1) + 3;
                // a request that broke twice is halved: at most one request more for each fault
                prop_assert!(receiver.requests <= done.batches + bad.len() * a_bad_record + 2 * faults);
            }
        }
    }
}
