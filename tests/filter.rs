//! The baseline filter and the removal of duplicates by the real agent: over whole buckets, over restarts, and over
//! SIGKILLs at random moments. What must be left is told by another reader (serde_json) and a map of all records.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::agent::{Home, Setup, file_output};
use common::bucket::{Bucket, Fate, Object, Plan, filtered, yesterday};
use common::receiver::lines;
use common::s3_server::{Faults, S3Server};

/// No rules.
fn nothing(_: &[u8]) -> bool {
    false
}

struct Bench {
    bucket: Bucket,
    server: S3Server,
    home: Home,
}

impl Bench {
    fn new(plan: &Plan) -> Bench {
        let bucket = Bucket::generate(plan);
        let server = S3Server::start(&bucket, Faults::default());
        let home = Home::new();
        let outputs = file_output("archive", &home.path("out.ndjson")) + "rotate_bytes = \"1GiB\"\n";
        let setup = Setup { source: String::new(), ..Setup::new(&server, &bucket.name, outputs) };
        home.configure(&setup);
        Bench { bucket, server, home }
    }

    /// How often each line was written.
    fn written(&self) -> BTreeMap<Bytes, u64> {
        let mut times = BTreeMap::new();
        let text = std::fs::read(self.home.path("out.ndjson")).unwrap_or_default();
        lines(&text.into()).into_iter().for_each(|line| *times.entry(line).or_default() += 1);
        times
    }

    #[track_caller]
    fn assert_each_arrived(&self, expected: &BTreeMap<Bytes, u64>) {
        let written = self.written();
        let lost = expected.keys().filter(|line| !written.contains_key(*line)).count();
        assert_eq!(lost, 0, "records that never arrived");
        assert!(written.keys().all(|line| expected.contains_key(line)), "nothing else arrives");
    }
}

fn plan(seed: u64) -> Plan {
    Plan { objects: 240, duplicates: 60, damaged: 4, max_records: 60, ..Plan::small(seed, yesterday()) }
}

#[test]
fn each_event_that_is_no_noise_arrives_once_also_from_a_second_trail_and_after_a_restart() {
    let bench = Bench::new(&Plan { late: 40, rewritten: true, ..plan(1) });
    let (truth, early) = filtered(bench.bucket.early(), &nothing);
    assert_eq!(bench.home.once().expect_code(0).books().faults(&truth), [""; 0]);
    bench.assert_each_arrived(&early);

    // Copies of what the first process collected come to the second one.
    bench.bucket.late().for_each(|object| bench.server.add(object));
    let copies: Vec<Object> = bench.bucket.early().step_by(7).filter_map(copy).collect();
    copies.iter().for_each(|object| bench.server.add(object));
    let (truth, all) = filtered(bench.bucket.objects.iter().chain(&copies), &nothing);
    assert!(truth.duplicate > 200 && truth.dropped > 100 && truth.kept > 500, "{truth:?}");
    assert_eq!(bench.home.once().expect_code(0).books().faults(&truth), [""; 0]);
    bench.assert_each_arrived(&all);
    assert!(bench.written().values().all(|times| *times == 1), "and nothing twice");
}

/// The same records under another suffix, as a second trail writes them.
fn copy(object: &Object) -> Option<Object> {
    let stem = object.key.strip_suffix(".json.gz").filter(|_| object.fate == Fate::Collected)?;
    let key = format!("{}zzzzzzzz.json.gz", &stem[..stem.len() - 8]);
    Some(Object { key, ..object.clone() })
}

/// Guards invariants 1, 2 and 4 where duplicates are removed: what a kill takes back is no original, what was kept
/// before a kill stays known.
#[test]
fn kills_lose_no_event_and_let_no_duplicate_through() {
    const KILLS: usize = 25;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut bench = Bench::new(&plan(2));
    rng.shuffle(&mut bench.bucket.objects);
    let (truth, expected) = filtered(&bench.bucket.objects, &nothing);
    let mut kills = 0;
    let mut longest = Duration::from_millis(150);
    while kills < KILLS {
        let run = bench.home.start(&["--once", "--timeout", "100"]);
        std::thread::sleep(longest.mul_f64(rng.f64().max(0.05)));
        let (killed, end) = run.kill();
        match killed {
            true => kills += 1,
            false => assert_eq!(end.code(), Some(0), "the log:\n{}", end.stderr),
        }
        longest = if killed { longest * 10 / 9 } else { longest * 9 / 10 };
        if bench.server.stats().get_count() as usize >= bench.bucket.objects.len() * 2 {
            break;
        }
    }
    let end = bench.home.once().expect_code(0);
    println!("{kills} kills, {} GETs, {truth:?}", bench.server.stats().get_count());
    assert_eq!(end.books().faults(&truth), [""; 0]);
    bench.assert_each_arrived(&expected);
}
