//! Several requests at once, answers record by record, waits for a full batch, and records given up.

use super::*;

/// A receiver that several senders may use at once; it answers record by record.
#[derive(Clone)]
struct Crowd {
    store: Shared,
    /// How many are being sent, and the most there were.
    sending: Arc<Mutex<(usize, usize)>>,
    answer: fn(&[u8], u64) -> (u64, Outcome),
    requests: Arc<Mutex<u64>>,
}

impl Sender for Crowd {
    async fn send(&mut self, lines: Lines) -> Outcome {
        {
            let mut sending = self.sending.lock().unwrap();
            sending.0 += 1;
            sending.1 = sending.1.max(sending.0);
        }
        let request = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        let bytes = lines.bytes();
        let (millis, outcome) = (self.answer)(&bytes, request);
        sleep(Duration::from_millis(millis)).await;
        self.sending.lock().unwrap().0 -= 1;
        let fates = match &outcome {
            Outcome::Accepted => vec![Fate::Accepted; lines.count()],
            Outcome::Items(items) => items.fates.clone(),
            _ => Vec::new(),
        };
        let taken = numbers(&bytes).into_iter().zip(fates).filter(|(_, fate)| *fate == Fate::Accepted);
        self.store.lock().unwrap().accepted.extend(taken.map(|(number, _)| number));
        outcome
    }

    fn another(&self) -> Option<Crowd> {
        Some(self.clone())
    }
}

fn crowd(store: &Shared, answer: fn(&[u8], u64) -> (u64, Outcome)) -> Crowd {
    Crowd { store: store.clone(), sending: Arc::default(), answer, requests: Arc::default() }
}

fn parallel(batch_records: usize, concurrency: usize) -> Output {
    Output { concurrency, ..config(1000, batch_records) }
}

#[tokio::test(start_paused = true)]
async fn several_requests_are_on_their_way_at_once_and_no_more_than_allowed() {
    let store = store(1000, &[]);
    let sender = crowd(&store, |_, _| (100, Outcome::Accepted));
    let sending = sender.sending.clone();
    let begun = Instant::now();
    start_with(&store, &parallel(10, 4), sender).drain().await;
    assert_eq!(sending.lock().unwrap().1, 4);
    assert!(begun.elapsed() < Duration::from_millis(100 * 100 / 3), "{:?}", begun.elapsed());
    let mut accepted = store.lock().unwrap().accepted.clone();
    accepted.sort_unstable();
    assert_eq!(accepted, (0..1000).collect::<Vec<_>>(), "each once");
}

#[tokio::test(start_paused = true)]
async fn the_cursor_waits_for_the_first_of_several_requests() {
    let store = store(40, &[]);
    // the first takes longest
    let slow: fn(&[u8], u64) -> (u64, Outcome) = |lines, _| match number(lines) {
        0 => (5000, Outcome::Accepted),
        _ => (1, Outcome::Accepted),
    };
    let running = start_with(&store, &parallel(10, 4), crowd(&store, slow));
    running.after(2).await;
    assert_eq!(store.lock().unwrap().accepted.len(), 30);
    assert_eq!(store.lock().unwrap().cursor, 0, "nothing before the first is settled");
    running.drain().await;
    let store = store.lock().unwrap();
    assert_eq!((store.cursor, store.accepted.len()), (40, 40));
}

#[tokio::test(start_paused = true)]
async fn bad_records_among_several_requests_are_set_aside_alone() {
    for bad in [vec![0], vec![3, 17, 18, 39], (10..20).collect()] {
        let store = store(100, &bad);
        let strict: fn(&[u8], u64) -> (u64, Outcome) = |lines, n| (n % 7, strict(lines, usize::MAX));
        let status = start_with(&store, &parallel(10, 4), crowd(&store, strict)).drain().await;
        let store = store.lock().unwrap();
        assert_eq!(store.aside, bad);
        assert_eq!((store.delivered, store.rejected), (100 - bad.len() as u64, bad.len() as u64));
        assert_eq!(status.set_aside_records(), bad.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_gets_one_request_at_a_time() {
    let store = store(1000, &[]);
    let down: fn(&[u8], u64) -> (u64, Outcome) = |_, _| (1, busy(0));
    let sender = crowd(&store, down);
    let requests = sender.requests.clone();
    let running = start_with(&store, &parallel(10, 8), sender);
    running.after(300).await;
    let requests = *requests.lock().unwrap();
    assert!((9..40).contains(&requests), "{requests}: the first eight, then one after each wait");
    assert_eq!(store.lock().unwrap().cursor, 0);
}

#[tokio::test(start_paused = true)]
async fn only_records_that_were_not_taken_are_sent_again() {
    // each record is taken at its second try, bad ones never
    let picky: fn(&[u8], u64) -> (u64, Outcome) = |lines, request| {
        let lines: Vec<&[u8]> = lines.split_inclusive(|&byte| byte == b'\n').collect();
        let fates = lines.iter().enumerate().map(|(at, line)| match () {
            () if memchr::memmem::find(line, b"bad").is_some() => Fate::Refused,
            () if (at as u64 + request).is_multiple_of(3) => Fate::Again,
            () => Fate::Accepted,
        });
        let fates: Vec<Fate> = fates.collect();
        let again = Again { reason: Reason::Busy, text: "429".into(), after: None };
        let again = fates.contains(&Fate::Again).then_some(again);
        (1, Outcome::Items(Box::new(Items { fates, refusals: Vec::new(), again })))
    };
    for concurrency in [1, 3] {
        let fresh = store(60, &[7, 31]);
        start_with(&fresh, &parallel(20, concurrency), crowd(&fresh, picky)).drain().await;
        let fresh = fresh.lock().unwrap();
        let mut accepted = fresh.accepted.clone();
        accepted.sort_unstable();
        let good: Vec<usize> = (0..60).filter(|n| ![7, 31].contains(n)).collect();
        assert_eq!(accepted, good, "each once");
        assert_eq!((&fresh.aside[..], fresh.delivered, fresh.rejected), (&[7, 31][..], 58, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_named_record_is_tried_alone_and_costs_three_requests() {
    let store = store(100, &[40]);
    let names: fn(&[u8], u64) -> (u64, Outcome) = |lines, _| {
        let bad = lines.split(|&byte| byte == b'\n').position(|line| line.ends_with(b"bad"));
        (1, bad.map_or(Outcome::Accepted, |bad| Outcome::RejectedAt(bad, "code 6".into())))
    };
    let sender = crowd(&store, names);
    let requests = sender.requests.clone();
    start_with(&store, &config(10_000, 100), sender).drain().await;
    assert_eq!(store.lock().unwrap().aside, [40]);
    assert_eq!(*requests.lock().unwrap(), 4, "all, those before it, it alone, those behind it");
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_more_records_but_not_for_ever() {
    let store = store(1, &[]);
    let waiting = Output { batch_wait: Duration::from_secs(10), ..config(1000, 3) };
    let sender = crowd(&store, |_, _| (0, Outcome::Accepted));
    let requests = sender.requests.clone();
    let running = start_with(&store, &waiting, sender);
    running.after(5).await;
    assert_eq!(*requests.lock().unwrap(), 0);
    running.after(6).await;
    assert_eq!(store.lock().unwrap().accepted, [0], "ten seconds are over");
    for (seconds, records) in [(3, 1), (3, 2)] {
        {
            let records_now = &mut store.lock().unwrap().records;
            let from = records_now.len();
            records_now.extend((from..from + records).map(|n| format!("{n} good")));
        }
        running.committed.send_modify(|commits| *commits += 1);
        running.after(seconds).await;
    }
    assert_eq!(*requests.lock().unwrap(), 2, "the second batch was full after three seconds");
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_asked_gives_up_its_oldest_records_and_goes_on() {
    let store = store(100, &[]);
    let opens = Instant::now() + Duration::from_secs(3600);
    let running = start(&store, &config(1000, 10), move |_| match Instant::now() < opens {
        true => (1, busy(0)),
        false => ok(),
    });
    running.after(100).await;
    store.lock().unwrap().skip_to = Some(30);
    running.skip.send_replace(());
    running.after(1).await;
    assert_eq!(store.lock().unwrap().cursor, 30, "without waiting for the next try");
    let status = running.drain().await;
    let store = store.lock().unwrap();
    assert_eq!((store.skipped.len(), status.skipped_records()), (30, 30));
    assert_eq!(store.accepted, (30..100).collect::<Vec<_>>());
}

/// A receiver with something to do every ten seconds though nothing comes.
struct Tended {
    inner: Crowd,
    tended: Arc<Mutex<Vec<u64>>>,
    begun: Instant,
}

impl Sender for Tended {
    async fn send(&mut self, lines: Lines) -> Outcome {
        self.inner.send(lines).await
    }

    async fn tend(&mut self) -> Option<Duration> {
        self.tended.lock().unwrap().push(self.begun.elapsed().as_secs());
        Some(Duration::from_secs(10))
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_receiver_is_tended_when_it_asked_for_it_and_commits_do_not_put_that_off() {
    let store = store(0, &[]);
    let tended = Arc::default();
    let inner = crowd(&store, |_, _| (100, Outcome::Accepted));
    let sender = Tended { inner, tended: Arc::clone(&tended), begun: Instant::now() };
    let running = start_with(&store, &config(1000, 10), sender);
    running.after(25).await;
    for _ in 0..6 {
        // objects without records, and one with
        running.committed.send_modify(|count| *count += 1);
        running.after(3).await;
    }
    store.lock().unwrap().records.push("0 good".into());
    running.committed.send_modify(|count| *count += 1);
    running.after(10).await;
    running.drain().await;
    assert_eq!(*tended.lock().unwrap(), [0, 10, 20, 30, 40, 50]);
    assert_eq!(store.lock().unwrap().accepted, [0]);
}

#[tokio::test(start_paused = true)]
async fn trouble_that_comes_under_several_names_has_one_beginning() {
    let store = store(10, &[]);
    let mut tries = 0;
    let running = start(&store, &config(1000, 10), move |_| {
        tries += 1;
        let reason = [Reason::Connect, Reason::Timeout, Reason::Unavailable][tries % 3];
        (1, Outcome::Retry { reason, text: "no".into(), after: None })
    });
    running.after(1).await;
    let first = running.status.standing();
    assert!(matches!(first.state, State::Retrying { .. }), "{first:?}");
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..120 {
        running.after(60).await;
        let standing = running.status.standing();
        assert_eq!(standing.since, first.since);
        let State::Retrying { reason, .. } = standing.state else { panic!("{standing:?}") };
        names.insert(reason.label());
    }
    assert_eq!(names.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_for_records_that_cannot_come() {
    let store = store(2, &[]);
    let waiting = Output { batch_wait: Duration::from_secs(3600), ..config(1000, 10) };
    let running = start(&store, &waiting, |_| ok());
    running.after(60).await;
    assert!(store.lock().unwrap().accepted.is_empty(), "a third one may come");
    running.complete.send_replace(true);
    running.after(1).await;
    assert_eq!(store.lock().unwrap().accepted, [0, 1]);
    store.lock().unwrap().records.push("2 good".into());
    running.committed.send_replace(1);
    running.after(1).await;
    assert_eq!(store.lock().unwrap().accepted, [0, 1, 2], "what came all the same");
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_wanted_again_does_not_wait_for_a_full_batch() {
    let store = store(2, &[]);
    let waiting = Output { batch_wait: Duration::from_secs(3600), ..config(1000, 10) };
    let running = start(&store, &waiting, |_| ok());
    running.after(60).await;
    store.lock().unwrap().wanted.push(1000);
    running.committed.send_replace(1);
    running.after(1).await;
    assert_eq!(store.lock().unwrap().accepted, [0, 1, 1000]);
    running.drain().await;
}
