//! SIGKILL at random moments, a hundred times during one collection, between a server and a receiver that
//! both fail at random. Afterwards every selected record has arrived, none was invented, and the books are
//! those of the bucket. Guards invariants 1 to 4, and against elastic/beats#39065 (an object that failed
//! once was later skipped) and vector#25639 (a buffer that a crash corrupts).

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::agent::{Home, Setup, file_output, http_output};
use common::bucket::{Bucket, Plan, expected, truth, yesterday};
use common::receiver::{Moods, Receiver, lines};
use common::s3_server::{Faults, S3Server};
use trailspool::limits::RECORD_BYTES;

const KILLS: usize = 100;
/// Objects that appear after each kill, so that there is work at every moment.
const PORTION: usize = 14;

/// What the configuration below removes, told independently of the agent's own scanner.
fn dropped(record: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(record, text.as_bytes()).is_some();
    has(r#""eventName":"Describe"#) || has(r#""userIdentity":{"type":"AWSService""#)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test's own clock, for what it prints")]
fn a_hundred_kills_lose_nothing_and_invent_nothing() {
    let started = Instant::now();
    let mut rng = fastrand::Rng::with_seed(20_260_203);
    let mut bucket = Bucket::generate(&Plan {
        accounts: 4,
        regions: 3,
        objects: 2200,
        max_records: 40,
        duplicates: 200,
        damaged: 4,
        overlong: Some(RECORD_BYTES),
        ..Plan::small(1, yesterday())
    });
    rng.shuffle(&mut bucket.objects);
    bucket.objects.iter_mut().skip(700).for_each(|object| object.late = true);
    let truth = truth(&bucket.objects, &dropped);
    let expected = expected(&bucket.objects, &dropped);

    let server = S3Server::start(&bucket, Faults { latency: Duration::from_millis(2), ..Faults::rough(2) });
    let receiver = Receiver::start(Moods::rough(3));
    let home = Home::new();
    let archive = home.path("archive.ndjson");
    // What is sent again after a kill would otherwise fill more than one file.
    let whole = "rotate_bytes = \"1GiB\"\n";
    let outputs = http_output("siem", &receiver.url()) + &file_output("archive", &archive) + whole;
    let mut setup = Setup::new(&server, &bucket.name, outputs);
    setup.source += "exclude = ['\"eventName\":\"Describe']\n";
    setup.rules =
        "[[source.rule]]\nfield = \"userIdentity.type\"\nregex = \"^AWSService$\"\naction = \"drop\"\n"
            .into();
    home.configure(&setup);

    let mut later = bucket.late().peekable();
    let (mut kills, mut peak_kib) = (0, 0);
    // How long the longest run lasts: so that as much arrives between two kills as leaves work for all of them.
    let mut longest = Duration::from_millis(400);
    while kills < KILLS {
        let run = home.start(&["--once", "--timeout", "100"]);
        std::thread::sleep(longest.mul_f64(rng.f64().max(0.01)));
        let (killed, end) = run.kill();
        peak_kib = peak_kib.max(end.peak_kib);
        if killed {
            kills += 1;
        } else {
            assert!(matches!(end.code(), Some(0 | 75)), "exit {}; the log:\n{}", end.status, end.stderr);
            assert!(later.peek().is_some(), "everything was collected after {kills} kills already");
        }
        let (arrived, goal) = (receiver.distinct(), expected.len() * kills / KILLS);
        longest = match arrived < goal {
            true if killed => (longest * 10 / 9).min(Duration::from_millis(1500)),
            _ => (longest * 9 / 10).max(Duration::from_millis(30)),
        };
        later.by_ref().take(PORTION).for_each(|object| server.add(object));
    }
    let at_last_kill = receiver.distinct();
    later.for_each(|object| server.add(object));
    let end = home.drain();
    peak_kib = peak_kib.max(end.peak_kib);

    let received = receiver.received();
    let stats = server.stats();
    println!(
        "{kills} kills in {:.0?}; {} objects, {} records kept, {at_last_kill} of them delivered between the kills; \
         {} duplicates received, {} lines in requests that were never answered; \
         {} faults of the server, {} of the receiver; {} GETs; peak memory {peak_kib} KiB",
        started.elapsed(),
        truth.objects,
        truth.kept,
        received.lines().saturating_sub(truth.kept),
        received.unanswered.values().sum::<u64>(),
        stats.faults(),
        received.faults(),
        stats.get_count(),
    );

    let books = end.books();
    assert_eq!(books.faults(&truth), Vec::<String>::new(), "the books are those of the bucket: {books:#?}");
    assert!(books.outputs.iter().all(|o| o.delivered == truth.kept && o.waiting == 0), "{books:#?}");

    let written = lines(&std::fs::read(&archive).expect("the archive").into());
    println!("{} lines in the archive", written.len());
    let mut archived: HashMap<Bytes, u64> = HashMap::new();
    written.into_iter().for_each(|line| *archived.entry(line).or_default() += 1);
    for (name, arrived) in [("siem", &received.acknowledged), ("archive", &archived)] {
        let lost =
            expected.iter().filter(|&(line, &times)| arrived.get(line).copied().unwrap_or(0) < times).count();
        assert_eq!(lost, 0, "records that never arrived at {name}");
    }
    for (name, arrived) in
        [("siem", &received.acknowledged), ("siem", &received.unanswered), ("archive", &archived)]
    {
        let invented = arrived.keys().find(|&line| !expected.contains_key(line));
        assert!(invented.is_none(), "{name} got what no object holds: {invented:?}");
    }
    assert_eq!(received.wrong, [""; 0]);
    assert_eq!(stats.refused, [""; 0]);
    assert_eq!(server.wrongly_fetched(), [""; 0]);
    assert!(at_last_kill > expected.len() / 4, "the kills did not fall into the work");

    let again = home.once().expect_code(0);
    assert_eq!(again.books(), books, "a further run finds nothing new");
    assert_eq!(server.stats().get_count(), stats.get_count(), "a further run fetches nothing");
    assert_eq!(receiver.received().lines(), received.lines(), "a further run delivers nothing");
}
