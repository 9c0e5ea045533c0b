//! Batches against a receiver that knows which records it cannot take.

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
    /// The same, by record.
    arrived: Vec<bool>,
    requests: usize,
    /// Answers record by record, and wants some of them again.
    each: Option<fastrand::Rng>,
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

    /// An answer record by record.
    fn sort(&mut self, records: Range<usize>) -> Vec<Fate> {
        self.requests += 1;
        let mut random = self.each.take().expect("a receiver of this kind");
        let fates = records
            .map(|record| {
                if random.u8(..) < 50 {
                    return Fate::Again;
                }
                if self.bad(record) {
                    return Fate::Refused;
                }
                self.arrived.resize(self.sizes.len(), false);
                self.arrived[record] = true;
                self.accepted.push(record);
                Fate::Accepted
            })
            .collect();
        self.each = Some(random);
        fates
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
            self.arrived.resize(self.sizes.len(), false);
            self.arrived[records.clone()].fill(true);
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
                    if receiver.each.is_some() {
                        let fates = receiver.sort(sent.clone());
                        if let Some(at) = fates.iter().position(|&fate| fate == Fate::Accepted) {
                            control = Some(sent.start + at);
                        }
                        batch.answered_each(&fates);
                        if let Some(settled) = batch.settle() {
                            done.cursor = settled.cursor;
                        }
                        continue;
                    }
                    let answer = receiver.post(sent.clone());
                    if answer == Answer::Accepted {
                        control = Some(sent.start);
                    }
                    batch.answered(answer);
                }
                Step::Probe => {
                    done.probes += 1;
                    let record = control.unwrap();
                    match receiver.post(record..record + 1) {
                        Answer::Broken => {}
                        answer => batch.probed(answer == Answer::Accepted),
                    }
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
                    assert!(receiver.arrived[record] || done.aside.contains(&record));
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
fn what_is_unfit_is_set_aside_in_doubt_too() {
    let mut batch = Batch::new(1000, 10);
    let fill = |batch: &mut Batch<usize>, from: usize| {
        batch.clear();
        (from..from + 4).for_each(|record| batch.push(10, record + 1));
    };
    fill(&mut batch, 0);
    while let Step::Send(_) = batch.step(false) {
        batch.answered(Answer::Rejected);
    }
    assert_eq!(batch.step(false), Step::Doubt);
    batch.give_up();
    fill(&mut batch, 0);
    assert_eq!(batch.step(false), Step::Send(0..4));
    batch.answered_each(&[Fate::Unfit, Fate::Unfit, Fate::Again, Fate::Unfit]);
    for record in 0..2 {
        assert_eq!(batch.step(false), Step::SetAside(record));
        batch.set_aside();
        assert_eq!(batch.settle(), Some(Settled { cursor: record + 1, accepted: 0, set_aside: 1 }));
    }
    assert_eq!(batch.step(false), Step::Send(2..3));
    batch.answered(Answer::Accepted);
    assert_eq!(batch.step(false), Step::SetAside(3));
    batch.set_aside();
    assert_eq!(batch.settle(), Some(Settled { cursor: 4, accepted: 1, set_aside: 1 }));
    assert_eq!(batch.step(false), Step::Done);
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

    #[test]
    fn an_answer_record_by_record_settles_the_same_records(
        poison in proptest::collection::vec(proptest::bool::weighted(0.1), 1..400),
        (batch_bytes, batch_records) in (100usize..5000, 2usize..300), seed in any::<u64>(),
    ) {
        let total = poison.len();
        let each = Some(fastrand::Rng::with_seed(seed));
        let mut receiver =
            Receiver { poison, sizes: vec![10; total], max_bytes: usize::MAX, each, ..Receiver::default() };
        let done = deliver(&mut receiver, &mut Batch::new(batch_bytes, batch_records));
        let bad: Vec<usize> = (0..total).filter(|&record| receiver.poison[record]).collect();
        let stuck = done.cursor < total;
        prop_assert!(!stuck || receiver.accepted.is_empty());
        prop_assert_eq!(&done.aside, if stuck { &[][..] } else { &bad[..] });
        prop_assert!(stuck || (0..total).all(|record| receiver.poison[record] || receiver.arrived[record]));
    }
}
