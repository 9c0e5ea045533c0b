//! The bounded queue between discovery and the fetch workers, and the tickets that come back.
//!
//! Every object in work has one [`Ticket`], from before the ledger is asked until it is settled; a second
//! ticket for the same object is refused in between. So, provided that whoever collects an object enters it
//! into the ledger *before* settling its ticket, no object is fetched twice by two discoverers that see it
//! at the same time. A ticket has exactly one outcome: one that is dropped unanswered (a worker that was
//! cancelled, a queue that was closed) counts as a transient failure, and the object comes again.
//!
//! Each source has a lane of its own with an equal share of the room, and the lanes are served in turn: a
//! source with a large backlog does not hold up the others.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::{Date, PrimitiveDateTime};
use tokio::sync::Notify;

use super::answers::Answers;
use super::key::LogKey;
use super::slice::{Days, Slice, SliceSet};
use super::status::{SourceStatus, Trouble};
use crate::aws::{Class, Fault};
use crate::net::Gate;
use crate::net::gate::Permit;
use crate::record::ObjectId;

/// An object to fetch.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub object: ObjectId,
    /// Bytes, as listed or told, where that is known.
    pub size: Option<u64>,
    /// Its day partition, under which the ledger files it.
    pub day: Date,
    /// To be settled when it is durable, or cannot be.
    pub ticket: Ticket,
}

/// What became of a ticket's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In the spool and in the ledger.
    Done,
    /// Set aside, and in the ledger.
    Quarantined,
    /// Neither.
    Failed(FailKind),
}

/// Why an object could not be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailKind {
    /// May work when tried again.
    Transient,
    /// An operator has to act first.
    Denied,
    /// It is not there any more.
    Gone,
}

impl From<&Fault> for FailKind {
    fn from(fault: &Fault) -> FailKind {
        match fault.class {
            Class::Retry | Class::Restart | Class::ClockSkew(_) => FailKind::Transient,
            Class::Denied | Class::WrongRegion(_) | Class::Config => FailKind::Denied,
            Class::Gone => FailKind::Gone,
        }
    }
}

/// The queue. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    hasher: RandomState,
    lane_bound: usize,
    arrived: Notify,
    room: Box<[Notify]>,
    /// An object's ticket came back.
    freed: Notify,
}

#[derive(Debug)]
struct Inner {
    lanes: Box<[VecDeque<Wanted>]>,
    /// Of each lane how many of its objects may be fetched at once; `None`: any number.
    gates: Box<[Option<(Gate, usize)>]>,
    turn: usize,
    closed: bool,
    /// Hashes of the objects that have a ticket. Two that collide are taken for one, and the second waits for
    /// the next pass.
    in_work: HashSet<u64>,
}

impl Queue {
    /// A queue for `sources` sources which holds up to `bound` objects, at least one for each.
    pub fn new(sources: usize, bound: usize) -> Queue {
        let lanes = sources.max(1);
        Queue {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner {
                    lanes: (0..lanes).map(|_| VecDeque::new()).collect(),
                    gates: (0..lanes).map(|_| None).collect(),
                    turn: 0,
                    closed: false,
                    in_work: HashSet::new(),
                }),
                hasher: RandomState::new(),
                lane_bound: (bound / lanes).max(1),
                arrived: Notify::new(),
                room: (0..lanes).map(|_| Notify::new()).collect(),
                freed: Notify::new(),
            }),
        }
    }

    /// From now on as many objects of a lane are handed out at once as its gate lets in, and the lane leaves some of the
    /// `workers` to each of the others: one that waits for its service holds up nobody else.
    pub fn pace(&self, lane: usize, gate: Gate, workers: usize) {
        let lanes = self.lanes();
        let left_to_others = (lanes - 1) * (workers / (2 * lanes)).max(1);
        self.shared.lock().gates[lane] = Some((gate, workers.saturating_sub(left_to_others).max(1)));
    }

    /// Sources that share the queue.
    pub fn lanes(&self) -> usize {
        self.shared.room.len()
    }

    /// The ticket for an object, unless it has one already.
    pub fn ticket(&self, pass: &Arc<Pass>, key: &LogKey) -> Option<Ticket> {
        let id = self.shared.hasher.hash_one((pass.status.name(), key.as_str()));
        if !self.shared.lock().in_work.insert(id) {
            return None;
        }
        pass.lock().waiting += 1;
        Some(Ticket {
            shared: Arc::clone(&self.shared),
            pass: Arc::clone(pass),
            id,
            day: key.day(),
            slice: Slice::of(key.stream()),
            stamp: key.stamp(),
            again: false,
            answers: None,
            outcome: Some(Outcome::Failed(FailKind::Transient)),
        })
    }

    /// The ticket for an object; waits until nobody else has it. Nothing is lost when the call is cancelled.
    pub async fn ticket_in_turn(&self, pass: &Arc<Pass>, key: &LogKey) -> Ticket {
        loop {
            let freed = self.shared.freed.notified(); // made before the try, so that no notice is missed
            if let Some(ticket) = self.ticket(pass, key) {
                return ticket;
            }
            freed.await;
        }
    }

    /// Queues an object in the lane of its source; waits for room. Once the queue is closed the object is
    /// dropped, and with it its ticket. The same holds when the call is cancelled.
    pub async fn push(&self, lane: usize, wanted: Wanted) {
        loop {
            let room = self.shared.room[lane].notified(); // made before the look, so that no notice is missed
            {
                let mut inner = self.shared.lock();
                if inner.closed {
                    drop(inner); // before `wanted`, whose ticket takes the lock
                    return;
                }
                if inner.lanes[lane].len() < self.shared.lane_bound {
                    wanted.ticket.pass.status.count_queued();
                    inner.lanes[lane].push_back(wanted);
                    if inner.lanes[lane].len() < self.shared.lane_bound {
                        self.shared.room[lane].notify_one();
                    }
                    break;
                }
            }
            room.await;
        }
        self.shared.arrived.notify_one();
    }

    /// The next object, from each source in turn, as if it were fetched at once.
    pub async fn pop(&self) -> Option<Wanted> {
        self.take().await.map(|(wanted, _)| wanted)
    }

    /// The next object, from each source in turn, as far as their gates let in another; `None` once the queue is closed.
    /// Nothing is lost when the call is cancelled.
    pub async fn take(&self) -> Option<(Wanted, Flight)> {
        loop {
            let arrived = self.shared.arrived.notified();
            {
                let mut inner = self.shared.lock();
                if inner.closed {
                    return None;
                }
                if let Some((lane, wanted, permit)) = inner.take_turn() {
                    let flight = Flight { permit, shared: Arc::clone(&self.shared) };
                    self.shared.room[lane].notify_one();
                    if inner.lanes.iter().any(|lane| !lane.is_empty()) {
                        self.shared.arrived.notify_one(); // one notice may stand for several arrivals
                    }
                    return Some((wanted, flight));
                }
            }
            arrived.await;
        }
    }

    /// Ends the queue: what waits in it is dropped (it comes again after a restart), and `pop` returns `None`.
    pub fn close(&self) {
        let waiting: Vec<_> = {
            let mut inner = self.shared.lock();
            inner.closed = true;
            inner.lanes.iter_mut().map(std::mem::take).collect()
        };
        drop(waiting); // their tickets take the lock
        self.shared.arrived.notify_waiters();
        self.shared.room.iter().for_each(Notify::notify_waiters);
    }

    /// Objects waiting to be fetched.
    pub fn len(&self) -> usize {
        self.shared.lock().lanes.iter().map(VecDeque::len).sum()
    }

    /// Whether nothing waits to be fetched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects that have a ticket: being looked up, waiting, being fetched, or waiting for the commit.
    pub fn in_work(&self) -> usize {
        self.shared.lock().in_work.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_turn(&mut self) -> Option<(usize, Wanted, Option<Permit>)> {
        let lanes = self.lanes.len();
        let in_turn = (0..lanes).map(|n| (self.turn + n) % lanes);
        let mut ready = in_turn.filter(|&lane| !self.lanes[lane].is_empty());
        let (lane, permit) = ready.find_map(|lane| match &self.gates[lane] {
            Some((gate, most)) => Some((lane, Some(gate.try_enter(*most)?))),
            None => Some((lane, None)),
        })?;
        self.turn = (lane + 1) % lanes;
        Some((lane, self.lanes[lane].pop_front()?, permit))
    }
}

/// An object that is being fetched, to be dropped when it no longer is.
#[derive(Debug)]
pub struct Flight {
    permit: Option<Permit>,
    shared: Arc<Shared>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.permit = None; // before others look
        self.shared.arrived.notify_one();
    }
}

/// The right and the duty to say what became of one object.
#[derive(Debug)]
#[must_use = "dropping a ticket reports a transient failure"]
pub struct Ticket {
    shared: Arc<Shared>,
    pass: Arc<Pass>,
    id: u64,
    day: Date,
    slice: Slice,
    stamp: PrimitiveDateTime,
    /// The object was quarantined, and is in the books so.
    again: bool,
    /// Where the outcome is told besides.
    answers: Option<Arc<Answers>>,
    /// What the drop reports; `None`: there was nothing to do.
    outcome: Option<Outcome>,
}

impl Ticket {
    /// Reports what became of the object. [`Outcome::Done`] and [`Outcome::Quarantined`] only after the
    /// ledger holds it.
    pub fn settle(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Reports a fetch that failed, and shows why in the source's status.
    pub fn fail(mut self, fault: &Fault) {
        self.outcome = Some(Outcome::Failed(FailKind::from(fault)));
        if fault.class != Class::Gone {
            self.pass.raise(fault.cause, &fault.text, fault.is_transient());
        }
    }

    /// Gives the ticket back: the ledger holds the object already.
    pub fn release(mut self) {
        self.outcome = None;
    }

    /// The same ticket, for an object that was quarantined and is tried again: the books hold it already.
    pub fn again(mut self) -> Ticket {
        self.again = true;
        self
    }

    /// The same ticket, whose outcome is told to whoever lists the stream, too.
    pub(super) fn told_to(mut self, answers: &Arc<Answers>) -> Ticket {
        answers.expect();
        self.answers = Some(Arc::clone(answers));
        self
    }

    /// Whether the object is in the books as quarantined.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Stamp of the object's name, UTC.
    pub fn stamp(&self) -> PrimitiveDateTime {
        self.stamp
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.lock().in_work.remove(&self.id);
        self.shared.freed.notify_waiters();
        if matches!(self.outcome, Some(Outcome::Done | Outcome::Quarantined)) {
            self.pass.status.collected(self.stamp);
        }
        let mut tally = self.pass.lock();
        match self.outcome {
            None => {}
            Some(Outcome::Done) => tally.collected += 1,
            Some(Outcome::Quarantined) => tally.quarantined += 1,
            Some(Outcome::Failed(FailKind::Gone)) => tally.gone += 1,
            Some(Outcome::Failed(kind)) => {
                match kind {
                    FailKind::Denied => tally.failed_denied += 1,
                    _ => {
                        tally.failed_transient += 1;
                        tally.transient.add(self.slice);
                    }
                }
                tally.failed.note(self.slice, self.day);
            }
        }
        tally.waiting -= 1;
        if tally.waiting == 0 {
            self.pass.answered.notify_one();
        }
        drop(tally);
        if let Some(answers) = &self.answers {
            answers.answer(self.outcome);
        }
    }
}

/// One pass of one source: where its tickets report to.
#[derive(Debug)]
pub struct Pass {
    begun: PrimitiveDateTime,
    status: Arc<SourceStatus>,
    tally: Mutex<Tally>,
    answered: Notify,
}

/// What the tickets of a pass have reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tickets not answered yet.
    pub waiting: u64,
    /// [`Outcome::Done`].
    pub collected: u64,
    /// [`Outcome::Quarantined`].
    pub quarantined: u64,
    /// [`FailKind::Transient`], and tickets that were dropped.
    pub failed_transient: u64,
    /// [`FailKind::Denied`].
    pub failed_denied: u64,
    /// [`FailKind::Gone`].
    pub gone: u64,
    /// Of each slice the oldest day partition with a failed object; one that is gone does not count.
    pub failed: Days,
    /// Slices with objects that failed for now.
    pub transient: SliceSet,
    /// What the pass shows in the status: the first trouble, or the first that needs an operator.
    pub trouble: Option<Trouble>,
}

impl Pass {
    /// A pass that begins at `now`.
    pub fn new(status: Arc<SourceStatus>, now: PrimitiveDateTime) -> Arc<Pass> {
        Arc::new(Pass { begun: now, status, tally: Mutex::default(), answered: Notify::new() })
    }

    /// What the tickets have reported so far.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// Objects so far that an operator has to act for.
    pub(super) fn denied(&self) -> u64 {
        self.lock().failed_denied
    }

    /// Waits until all tickets given out so far are answered.
    pub async fn settled(&self) -> Tally {
        loop {
            let tally = self.tally();
            if tally.waiting == 0 {
                return tally;
            }
            self.answered.notified().await;
        }
    }

    pub(super) fn status(&self) -> &SourceStatus {
        &self.status
    }

    /// Shows a trouble in the source's status, unless this pass shows one that weighs as much.
    pub(super) fn raise(&self, cause: &'static str, text: &str, transient: bool) {
        let trouble = {
            let mut tally = self.lock();
            if tally.trouble.as_ref().is_some_and(|shown| transient || !shown.transient) {
                return;
            }
            let trouble = Trouble { cause, text: text.to_owned(), transient, since: self.begun };
            tally.trouble.insert(trouble).clone()
        };
        self.status.raise(trouble);
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now() -> PrimitiveDateTime {
        key(0).stamp()
    }

    fn key(n: u32) -> LogKey {
        LogKey::parse(&format!(
            "AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/{:02}/\
             111122223333_CloudTrail_us-east-2_20261123T1200Z_{n}.json.gz",
            n % 30 + 1
        ))
        .unwrap()
    }

    fn pass(source: &str) -> Arc<Pass> {
        Pass::new(Arc::new(SourceStatus::new(source)), now())
    }

    fn wanted(queue: &Queue, pass: &Arc<Pass>, n: u32) -> Wanted {
        let key = key(n);
        let ticket = queue.ticket(pass, &key).expect("not in work");
        let object =
            ObjectId { source: pass.status.name().into(), bucket: "b".into(), key: key.as_str().into() };
        Wanted { object, size: Some(1), day: key.day(), ticket }
    }

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn an_object_has_one_ticket_until_it_is_settled() {
        let queue = Queue::new(2, 8);
        let (a, b) = (pass("a"), pass("b"));
        let ticket = queue.ticket(&a, &key(1)).unwrap();
        assert!(queue.ticket(&a, &key(1)).is_none());
        assert!(queue.ticket(&pass("a"), &key(1)).is_none(), "another pass of the same source");
        assert!(queue.ticket(&b, &key(1)).is_some(), "another source has its own ledger entries");
        ticket.settle(Outcome::Done);
        assert!(queue.ticket(&a, &key(1)).is_some());
        assert_eq!(queue.in_work(), 0);
    }

    #[test]
    fn who_waits_for_a_ticket_gets_it_when_it_comes_back() {
        let queue = Queue::new(1, 8);
        let (first, second) = (pass("a"), pass("a"));
        let ticket = queue.ticket(&first, &key(1)).unwrap();
        let other_key = key(1);
        let mut waiting = pin!(queue.ticket_in_turn(&second, &other_key));
        let poll =
            |waiting: std::pin::Pin<&mut _>| Future::poll(waiting, &mut Context::from_waker(Waker::noop()));
        assert!(poll(waiting.as_mut()).is_pending());
        drop(queue.ticket(&first, &key(2)).unwrap());
        assert!(poll(waiting.as_mut()).is_pending(), "another object's");
        ticket.settle(Outcome::Done);
        let Poll::Ready(ticket) = poll(waiting) else { panic!("it came back") };
        ticket.release();
        assert_eq!(queue.in_work(), 0);
    }

    #[test]
    fn every_ticket_has_exactly_one_outcome() {
        let queue = Queue::new(1, 8);
        let pass = pass("a");
        let mut tickets: Vec<_> = (0..8).map(|n| queue.ticket(&pass, &key(n)).unwrap()).collect();
        assert!(ready(pass.settled()).is_none());
        tickets.pop().unwrap().settle(Outcome::Done);
        tickets.pop().unwrap().settle(Outcome::Quarantined);
        tickets.pop().unwrap().settle(Outcome::Failed(FailKind::Transient));
        tickets.pop().unwrap().settle(Outcome::Failed(FailKind::Denied)); // day 5
        tickets.pop().unwrap().settle(Outcome::Failed(FailKind::Gone));
        tickets.pop().unwrap().release();
        drop(tickets.pop()); // day 2
        assert!(ready(pass.settled()).is_none());
        let fault = Fault {
            class: Class::Denied,
            cause: "kms",
            text: "no kms:Decrypt".to_owned(),
            said: Box::default(),
            retry_after: None,
        };
        tickets.pop().unwrap().fail(&fault); // day 1
        let tally = ready(pass.settled()).unwrap();
        assert_eq!(
            (tally.collected, tally.quarantined, tally.failed_transient, tally.failed_denied, tally.gone),
            (1, 1, 2, 2, 1)
        );
        assert_eq!(tally.failed.of(Slice::of(key(0).stream())), Some(key(0).day()));
        assert_eq!(tally.failed.oldest(), Some(key(0).day()));
        assert_eq!(tally.transient.len(), 1);
        assert_eq!(pass.status.trouble().unwrap().cause, "kms");
        assert_eq!(pass.status.newest_collected(), Some(now()));
    }

    #[test]
    fn trouble_that_needs_an_operator_is_not_hidden_by_what_passes() {
        let pass = pass("a");
        for (cause, transient) in [("network", true), ("slow-down", true), ("denied", false), ("kms", false)]
        {
            pass.raise(cause, cause, transient);
        }
        assert_eq!(pass.status.trouble().unwrap().cause, "denied");
    }

    #[test]
    fn sources_take_turns_and_a_full_lane_holds_up_its_own_source_alone() {
        let queue = Queue::new(2, 4);
        let (a, b) = (pass("a"), pass("b"));
        for n in 0..2 {
            assert!(ready(queue.push(0, wanted(&queue, &a, n))).is_some());
        }
        let mut third = pin!(queue.push(0, wanted(&queue, &a, 2)));
        assert!(ready(third.as_mut()).is_none());
        for n in 0..2 {
            assert!(ready(queue.push(1, wanted(&queue, &b, n))).is_some());
        }
        let mut order = Vec::new();
        let first = ready(queue.pop()).flatten().unwrap();
        order.push(first.object.source);
        assert!(ready(third).is_some(), "room was made");
        while let Some(Some(wanted)) = ready(queue.pop()) {
            order.push(wanted.object.source);
        }
        assert_eq!(order.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b", "a", "b", "a"]);
    }

    /// A bucket that asks to slow down holds few workers, and none that another source needs.
    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_slowed_down_does_not_hold_up_another_one() {
        let queue = Queue::new(2, 400);
        let (slow, quick) = (pass("slow"), pass("quick"));
        let gates = [Gate::new(16), Gate::new(16)];
        for (lane, gate) in gates.iter().enumerate() {
            queue.pace(lane, gate.clone(), 16);
        }
        for n in 0..200 {
            queue.push(0, wanted(&queue, &slow, n)).await;
            queue.push(1, wanted(&queue, &quick, n)).await;
        }
        let begun = tokio::time::Instant::now();
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (queue, gates) = (queue.clone(), gates.clone());
            workers.spawn(async move {
                while let Some((wanted, _flight)) = queue.take().await {
                    let sent = tokio::time::Instant::now();
                    let is_slow = &*wanted.object.source == "slow";
                    let millis = if is_slow { 5000 } else { 10 };
                    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                    match is_slow {
                        true => _ = gates[0].slowed(sent),
                        false => gates[1].answered(sent),
                    }
                    wanted.ticket.settle(Outcome::Done);
                }
            });
        }
        quick.settled().await;
        // Even while the slow one had not answered at all the quick one had four workers: 200 objects in 0.5 s.
        assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(gates[0].size(), 1);
        slow.settled().await;
        queue.close();
        workers.join_all().await;
    }

    #[test]
    fn a_closed_queue_answers_everything_that_waits() {
        let queue = Queue::new(1, 1);
        let pass = pass("a");
        assert!(ready(queue.push(0, wanted(&queue, &pass, 0))).is_some());
        let mut stuck = pin!(queue.push(0, wanted(&queue, &pass, 1)));
        assert!(ready(stuck.as_mut()).is_none());
        queue.close();
        assert!(ready(stuck).is_some());
        assert!(ready(queue.push(0, wanted(&queue, &pass, 2))).is_some());
        assert!(ready(queue.pop()).unwrap().is_none());
        let tally = ready(pass.settled()).unwrap();
        assert_eq!((tally.failed_transient, queue.in_work(), queue.len()), (3, 0, 0));
    }

    /// Workers and producers of several sources at once: nothing is lost, nothing twice, no one sleeps on.
    #[tokio::test]
    async fn many_workers_empty_the_queue() {
        let queue = Queue::new(3, 6);
        let passes = ["a", "b", "c"].map(pass);
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let queue = queue.clone();
            workers.spawn(async move {
                let mut done = 0u32;
                while let Some(wanted) = queue.pop().await {
                    tokio::task::yield_now().await;
                    wanted.ticket.settle(Outcome::Done);
                    done += 1;
                }
                done
            });
        }
        let mut producers = tokio::task::JoinSet::new();
        for (lane, pass) in passes.iter().cloned().enumerate() {
            let queue = queue.clone();
            producers.spawn(async move {
                for n in 0..100 {
                    queue.push(lane, wanted(&queue, &pass, n)).await;
                }
            });
        }
        producers.join_all().await;
        for pass in &passes {
            assert_eq!(pass.settled().await.collected, 100);
        }
        queue.close();
        assert_eq!(workers.join_all().await.iter().sum::<u32>(), 300);
        assert_eq!(queue.in_work(), 0);
    }
}
