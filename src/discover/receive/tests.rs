//! A queue, a ledger and a fetch worker in memory, while time is the test's.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use time::Date;
use tokio::sync::watch;

use super::*;
use crate::config::{Method, Start};
use crate::discover::queue::{FailKind, Outcome};
use crate::discover::testing;
use crate::discover::window::Progress;
use crate::fault_disk::FaultDisk;

/// A queue as SQS has them. Clones are the same.
#[derive(Clone, Default)]
struct Post(Arc<Mutex<Letters>>);

#[derive(Default)]
struct Letters {
    letters: Vec<Letter>,
    sent: u64,
    receipts: u64,
    /// What the next requests of each kind meet.
    receive_faults: VecDeque<Fault>,
    delete_faults: VecDeque<Fault>,
    /// Bodies whose deletion fails so many times.
    undeletable: BTreeMap<String, u32>,
    hide_fails: u32,
    receives: u64,
    hidden: Vec<(Instant, String, Duration)>,
    deleted: Vec<String>,
}

struct Letter {
    id: Box<str>,
    body: String,
    receipt: u64,
    visible_at: Option<Instant>,
    receives: u32,
}

fn fault(class: Class, cause: &'static str) -> Fault {
    Fault::new(class, cause, format!("a {cause} fault"))
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap()
    }

    fn send(&self, keys: &[&str]) {
        self.send_text(&serde_json::json!({"s3Bucket": "bucket", "s3ObjectKey": keys}).to_string());
    }

    fn send_text(&self, text: &str) {
        let mut inner = self.lock();
        inner.sent += 1;
        let (id, body) = (format!("m{}", inner.sent).into(), text.to_owned());
        inner.letters.push(Letter { id, body, receipt: 0, visible_at: None, receives: 0 });
    }

    /// As if all of them had come so often, and were there again.
    fn received_before(&self, times: u32) {
        for letter in &mut self.lock().letters {
            (letter.receives, letter.visible_at) = (times, None);
        }
    }

    fn left(&self) -> usize {
        self.lock().letters.len()
    }
}

impl Letters {
    fn find(&mut self, receipt: &str) -> Result<usize, Fault> {
        let found = self.letters.iter().position(|letter| letter.receipt.to_string() == receipt);
        found.ok_or_else(|| fault(Class::Gone, "gone"))
    }
}

impl Mailbox for Post {
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, Fault> {
        let until = Instant::now() + wait;
        self.lock().receives += 1;
        if let Some(fault) = self.lock().receive_faults.pop_front() {
            return Err(fault);
        }
        loop {
            let now = Instant::now();
            let mut messages = Vec::new();
            {
                let mut inner = self.lock();
                let Letters { letters, receipts, .. } = &mut *inner;
                let visible =
                    letters.iter_mut().filter(|letter| letter.visible_at.is_none_or(|at| at <= now));
                for letter in visible.take(most) {
                    *receipts += 1;
                    letter.receipt = *receipts;
                    letter.receives += 1;
                    letter.visible_at = Some(now + hidden);
                    messages.push(Message {
                        id: letter.id.clone(),
                        receipt: receipts.to_string().into(),
                        receives: letter.receives,
                        body: letter.body.clone().into_bytes(),
                    });
                }
            }
            if !messages.is_empty() || now >= until {
                return Ok(messages);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn delete(&self, receipts: &[Box<str>]) -> Result<Vec<Result<(), Fault>>, Fault> {
        assert!((1..=BATCH).contains(&receipts.len()));
        let mut inner = self.lock();
        if let Some(fault) = inner.delete_faults.pop_front() {
            return Err(fault);
        }
        Ok(receipts
            .iter()
            .map(|receipt| {
                let at = inner.find(receipt)?;
                let body = inner.letters[at].body.clone();
                if let Some(left) = inner.undeletable.get_mut(&body).filter(|left| **left > 0) {
                    *left -= 1;
                    return Err(fault(Class::Retry, "server"));
                }
                inner.letters.remove(at);
                inner.deleted.push(body);
                Ok(())
            })
            .collect())
    }

    async fn hide(&self, receipts: &[Box<str>], time: Duration) -> Result<Vec<Result<(), Fault>>, Fault> {
        assert!((1..=BATCH).contains(&receipts.len()));
        let mut inner = self.lock();
        if inner.hide_fails > 0 {
            inner.hide_fails -= 1;
            return Err(fault(Class::Retry, "server"));
        }
        let now = Instant::now();
        Ok(receipts
            .iter()
            .map(|receipt| {
                let at = inner.find(receipt)?;
                inner.letters[at].visible_at = Some(now + time);
                let body = inner.letters[at].body.clone();
                inner.hidden.push((now, body, time));
                Ok(())
            })
            .collect())
    }

    fn name(&self) -> &str {
        "trail-queue"
    }
}

#[derive(Clone, Default)]
struct Entries(Arc<Mutex<(BTreeSet<String>, Vec<Date>)>>);

impl Entries {
    fn insert(&self, key: &str) {
        assert!(self.0.lock().unwrap().0.insert(key.to_owned()), "{key} is collected twice");
    }

    fn keys(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().0.clone()
    }
}

impl Known for Entries {
    fn contains(&self, _: &str, _: Date, key: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(self.0.lock().unwrap().0.contains(key))
    }

    fn expire(&self, _: &str, before: Date) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.lock().unwrap().1.push(before);
        Ok(())
    }
}

fn now() -> UtcDateTime {
    UtcDateTime::from_unix_timestamp(1_795_440_000).unwrap() // 2026-11-23
}

fn key_of(day: &str, n: u32) -> String {
    let plain = day.replace('/', "");
    format!(
        "AWSLogs/111122223333/CloudTrail/us-east-2/{day}/111122223333_CloudTrail_us-east-2_{plain}T1200Z_{n}.json.gz"
    )
}

fn key(n: u32) -> String {
    key_of("2026/11/23", n)
}

/// Everything around one receiver.
struct World {
    mail: Post,
    entries: Entries,
    queue: Queue,
    status: Arc<SourceStatus>,
    disk: FaultDisk,
    /// Its bounds: entries, and bytes.
    quarantine: (u64, u64),
    stop: watch::Sender<bool>,
    fetched: Arc<AtomicU64>,
}

impl World {
    fn new() -> World {
        World {
            mail: Post::default(),
            entries: Entries::default(),
            queue: Queue::new(1, 64),
            status: Arc::new(SourceStatus::new("prod")),
            disk: FaultDisk::new(),
            quarantine: (limits::QUARANTINE_ENTRIES, 1 << 20),
            stop: watch::Sender::new(false),
            fetched: Arc::default(),
        }
    }

    fn receiver(&self, method: Method) -> Receiver<Post, Entries, FaultDisk> {
        let source = crate::config::Source { method, ..testing::source("prod") };
        let (entries, bytes) = self.quarantine;
        let quarantine = Quarantine::bounded(self.disk.clone(), bytes, entries).unwrap();
        Receiver::new(
            &source,
            self.mail.clone(),
            self.entries.clone(),
            (self.disk.clone(), quarantine),
            (self.queue.clone(), 0),
            self.status.clone(),
            now,
        )
    }

    fn start(&self, method: Method, once: bool) -> tokio::task::JoinHandle<Option<Trouble>> {
        let mut stopping = self.stop.subscribe();
        let stop = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        tokio::spawn(self.receiver(method).run(once, stop))
    }

    /// A worker to whom each object takes this long, and which ends as `end` says: `None`, in the spool.
    fn worker(&self, takes: Duration, end: impl Fn(&str, u64) -> Option<FailKind> + Send + 'static) {
        let (queue, entries, fetched) = (self.queue.clone(), self.entries.clone(), self.fetched.clone());
        tokio::spawn(async move {
            while let Some(wanted) = queue.pop().await {
                tokio::time::sleep(takes).await;
                match end(&wanted.object.key, fetched.fetch_add(1, Relaxed)) {
                    None => {
                        entries.insert(&wanted.object.key);
                        wanted.ticket.settle(Outcome::Done);
                    }
                    Some(kind) => wanted.ticket.settle(Outcome::Failed(kind)),
                }
            }
        });
    }

    fn told(&self, what: Told) -> u64 {
        self.status.told(what)
    }
}

/// vector#4910, data-prepper#4812, redpanda connect#4469: a message came again while it was in work.
#[tokio::test(start_paused = true)]
async fn a_message_stays_hidden_as_long_as_its_objects_are_in_work() {
    let world = World::new();
    world.worker(Duration::from_secs(1800), |_, _| None);
    world.mail.send(&[&key(1), &key(2)]);
    world.mail.lock().hide_fails = 1;
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!(
        (world.told(Told::Received), world.told(Told::Deleted)),
        (1, 1),
        "an hour's work, received once"
    );
    assert_eq!(world.entries.keys().len(), 2);
    let hidden = &world.mail.lock().hidden;
    let gaps = hidden.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(
        hidden.len() > 60
            && gaps.max().unwrap() < HIDDEN
            && hidden.iter().all(|(_, _, time)| *time == HIDDEN)
    );
}

/// opentelemetry-collector-contrib#45153: deleted after a part had failed.
#[tokio::test(start_paused = true)]
async fn a_message_is_deleted_when_its_last_object_is_done_and_not_before() {
    let world = World::new();
    let bad = key(2);
    world.worker(Duration::from_secs(1), move |key, n| (key == bad && n < 4).then_some(FailKind::Transient));
    world.mail.send(&[&key(1), &key(2), &key(3)]);
    let mail = world.mail.clone();
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!(world.entries.keys().len(), 3);
    assert_eq!((mail.left(), world.told(Told::Deleted), world.told(Told::Again)), (0, 1, 2));
    // Known when the message came again: not queued once more.
    assert_eq!((world.told(Told::Known), world.fetched.load(Relaxed)), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_deletion_that_fails_is_tried_again_and_the_message_stays_hidden() {
    let world = World::new();
    world.worker(Duration::ZERO, |_, _| None);
    (0..15).for_each(|n| world.mail.send(&[&key(n)]));
    let stubborn: Vec<String> =
        world.mail.lock().letters[3..5].iter().map(|letter| letter.body.clone()).collect();
    for body in stubborn {
        world.mail.lock().undeletable.insert(body, 8);
    }
    world.mail.lock().delete_faults.push_back(fault(Class::Retry, "server"));
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!((world.mail.left(), world.told(Told::Received), world.told(Told::Deleted)), (0, 15, 15));
    assert_eq!(world.status.trouble(), None);
}

/// A receipt that is out of date deletes nothing; the message comes again and is known.
#[tokio::test(start_paused = true)]
async fn a_receipt_out_of_date_is_counted_and_the_message_deleted_when_it_comes_again() {
    let world = World::new();
    let (mail, first) = (world.mail.clone(), AtomicU64::new(0));
    world.worker(Duration::from_secs(5), move |_, _| {
        if first.fetch_add(1, Relaxed) == 0 {
            let mut inner = mail.lock();
            inner.letters[0].receipt = u64::MAX;
            inner.letters[0].visible_at = None;
        }
        None
    });
    world.mail.send(&[&key(1)]);
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!((world.told(Told::Stale), world.told(Told::Deleted), world.fetched.load(Relaxed)), (1, 1, 1));
}

/// What other agents are to take, or an operator has to permit first, is in the queue as long as the queue keeps it.
#[tokio::test(start_paused = true)]
async fn a_message_for_others_or_of_refused_objects_stays_however_often_it_came() {
    let world = World::new();
    world.worker(Duration::ZERO, |_, n| (n == 0).then_some(FailKind::Denied));
    world.mail.send(&[&key(1)]);
    world.mail.send_text(&serde_json::json!({"s3Bucket": "others", "s3ObjectKey": [key(2)]}).to_string());
    for (collected, left) in [(0, 2), (1, 1)] {
        world.mail.received_before(250);
        assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
        assert_eq!((world.entries.keys().len(), world.mail.left()), (collected, left));
        assert_eq!(world.told(Told::SetAside), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_objects_fail_again_and_again_is_set_aside_when_it_came_too_often() {
    let world = World::new();
    let bad = key(2);
    world.worker(Duration::ZERO, move |key, _| (key == bad).then_some(FailKind::Transient));
    (1..3).for_each(|n| world.mail.send(&[&key(n)]));
    world.mail.received_before(limits::MESSAGE_RECEIVES);
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!((world.mail.left(), world.told(Told::Deleted), world.told(Told::SetAside)), (0, 2, 1));
    assert_eq!(world.entries.keys(), BTreeSet::from([key(1)]), "what can be collected is, however late");
}

#[tokio::test(start_paused = true)]
async fn a_message_for_whose_text_the_quarantine_has_no_room_is_not_deleted() {
    for (entries, bytes) in [(1, 1 << 20), (limits::QUARANTINE_ENTRIES, 4000)] {
        let world = World { quarantine: (entries, bytes), ..World::new() };
        for (text, trouble) in [("hello".to_owned(), None), ("again ".repeat(400), Some("quarantine-full"))] {
            world.mail.send_text(&text);
            let left = world.start(Method::Sqs, true).await.unwrap();
            assert_eq!(left.map(|left| left.cause), trouble);
        }
        assert_eq!((world.mail.left(), world.told(Told::SetAside)), (1, 1));
    }
}

/// SQS delivers at least once: the second finds the first at work, waits for it, and finds the object known.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_there_twice_has_its_object_collected_once() {
    let world = World::new();
    world.worker(Duration::from_secs(60), |_, _| None);
    world.mail.send(&[&key(1), &key(1)]);
    world.mail.send(&[&key(1)]);
    assert_eq!(world.start(Method::Sqs, true).await.unwrap(), None);
    assert_eq!((world.fetched.load(Relaxed), world.told(Told::Known), world.told(Told::Deleted)), (1, 2, 2));
}

/// vector#22947: no back-off on receive errors was a hot loop.
#[tokio::test(start_paused = true)]
async fn failing_requests_are_tried_again_with_growing_pauses_and_the_trouble_ends() {
    let world = World::new();
    for _ in 0..40 {
        world.mail.lock().receive_faults.push_back(fault(Class::Denied, "queue-denied"));
    }
    let run = world.start(Method::Sqs, false);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let tries = world.mail.lock().receives;
    assert!((5..=30).contains(&tries), "{tries} requests in five minutes");
    let trouble = world.status.trouble().expect("it is shown");
    assert!(trouble.cause == "queue-denied" && !trouble.transient);
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert_eq!(world.status.trouble(), None);
    world.stop.send_replace(true);
    assert_eq!(run.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_to_mend_ends_one_pass_and_is_told() {
    let world = World::new();
    world.mail.lock().receive_faults.push_back(fault(Class::Config, "no-queue"));
    assert_eq!(world.start(Method::Sqs, true).await.unwrap().unwrap().cause, "no-queue");

    let world = World::new();
    world.worker(Duration::ZERO, |_, _| None);
    world.mail.send(&[&key(1)]);
    for _ in 0..100 {
        world.mail.lock().delete_faults.push_back(fault(Class::Denied, "queue-denied"));
    }
    assert_eq!(world.start(Method::Sqs, true).await.unwrap().unwrap().cause, "queue-denied");
    let last = world.mail.lock().hidden.last().cloned().unwrap();
    assert_eq!((world.mail.left(), last.2), (1, Duration::ZERO), "let go of");
}

/// What a message names is bounded by number and bytes in work, whatever the backlog.
#[tokio::test(start_paused = true)]
async fn no_more_messages_are_held_than_the_bound() {
    let world = World::new();
    (0..400).for_each(|n| world.mail.send(&[&key(n)]));
    let run = world.start(Method::Sqs, false);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let received = world.told(Told::Received) as usize;
    assert!(
        received <= limits::MESSAGES_IN_WORK && received + BATCH > limits::MESSAGES_IN_WORK - BATCH,
        "{received}"
    );
    world.worker(Duration::ZERO, |_, _| None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((world.mail.left(), world.entries.keys().len()), (0, 400));
    world.stop.send_replace(true);
    run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_deletes_what_is_done_and_lets_go_of_the_rest() {
    let world = World::new();
    let slow = key(2);
    let (queue, entries) = (world.queue.clone(), world.entries.clone());
    tokio::spawn(async move {
        while let Some(wanted) = queue.pop().await {
            if *wanted.object.key == *slow {
                std::mem::forget(wanted); // for ever in work
                continue;
            }
            entries.insert(&wanted.object.key);
            wanted.ticket.settle(Outcome::Done);
        }
    });
    world.mail.send(&[&key(1)]);
    world.mail.send(&[&key(2)]);
    let run = world.start(Method::Sqs, false);
    tokio::time::sleep(Duration::from_millis(50)).await; // before deletions are sent
    assert_eq!(world.mail.left(), 2);
    world.stop.send_replace(true);
    run.await.unwrap();
    let mail = world.mail.lock();
    assert_eq!((mail.deleted.len(), mail.letters.len()), (1, 1));
    assert!(mail.deleted[0].contains(&key(1)) && mail.letters[0].visible_at == Some(Instant::now()));
}

/// Days that the ledger has forgotten: a sweep's progress knows that they are collected, and without a sweep what a message
/// names is collected.
#[tokio::test(start_paused = true)]
async fn a_message_for_a_day_that_the_ledger_forgot_is_known_by_the_sweeps_progress_alone() {
    for (method, collected) in [(Method::Sqs, true), (Method::SqsSweep, false)] {
        let world = World::new();
        world.worker(Duration::ZERO, |_, _| None);
        let old = key_of("2026/06/01", 1);
        if method.sweeps() {
            let day = |month, day| Date::from_calendar_date(2026, month, day).unwrap();
            let at = PrimitiveDateTime::new(now().date(), now().time());
            let mut progress = Progress::first(Start::Date(day(time::Month::January, 1)), 0, at);
            progress.floor = day(time::Month::October, 1);
            state::save(&world.disk, "prod", &progress).unwrap();
        }
        world.mail.send(&[&old]);
        assert_eq!(world.start(method, true).await.unwrap(), None);
        assert_eq!((world.entries.keys().contains(&old), world.mail.left()), (collected, 0), "{method:?}");
        let expired = world.entries.0.lock().unwrap().1.clone();
        let before = Date::from_calendar_date(2026, time::Month::October, 17).unwrap();
        assert_eq!(expired, if method.sweeps() { vec![] } else { vec![before] });
    }
}

#[test]
fn messages_come_again_after_growing_times_within_bounds() {
    let seconds = |receives, denied, random| again_after(receives, denied, random).as_secs();
    let waits: Vec<u64> = (1..9).map(|receives| seconds(receives, false, u64::MAX)).collect();
    assert_eq!(waits, [15, 30, 60, 120, 240, 480, 900, 900]);
    assert_eq!((seconds(1, false, 0), seconds(1, true, 0), seconds(1, true, u64::MAX)), (7, 150, 300));
    assert_eq!(seconds(u32::MAX, true, u64::MAX), 900);
}
