//! What the configuration bounds, whatever comes in: the agent's memory and the size of its spool.

mod common;

use std::time::Duration;

use common::agent::{Finished, Home, Setup, file_output, http_output};
use common::bucket::{Bucket, Fate, Object, Plan, truth, yesterday};
use common::receiver::{Moods, Receiver};
use common::s3_server::{Faults, S3Server};

const MIB: u64 = 1024 * 1024;

fn nothing(_: &[u8]) -> bool {
    false
}

/// An object under a key of yesterday, of records that inflate to about `bytes`.
fn object(number: usize, bytes: u64) -> Object {
    let day = yesterday();
    let (year, month, date) = (day.year(), u8::from(day.month()), day.day());
    let key = format!(
        "AWSLogs/111122223333/CloudTrail/us-east-1/{year}/{month:02}/{date:02}/\
         111122223333_CloudTrail_us-east-1_{year}{month:02}{date:02}T0005Z_{number:016}.json.gz"
    );
    let record = |index: u64| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"{number}-{index}","eventName":"PutObject","requestParameters":{{"key":"{}"}}}}"#,
            "x".repeat(900)
        )
    };
    let records: Vec<String> = (0..bytes.div_ceil(1000)).map(record).collect();
    Object::native(key, &records, "of a given size")
}

fn bucket(objects: Vec<Object>) -> Bucket {
    Bucket { name: "acme-cloudtrail".into(), prefix: String::new(), objects }
}

/// Collects a bucket into a file; the books are those of the bucket.
fn collect(bucket: &Bucket) -> Finished {
    let server = S3Server::start(bucket, Faults::default());
    let home = Home::new();
    home.configure(&Setup::new(&server, &bucket.name, file_output("file", &home.path("out.ndjson"))));
    let end = home.once().expect_code(0);
    assert_eq!(end.books().faults(&truth(&bucket.objects, &nothing)), Vec::<String>::new());
    end
}

/// fluent-plugin-s3#294: 7 GB of memory for one 70 MB object; elastic/integrations#9463: 10 GB when polling.
#[test]
fn one_large_object_and_many_small_ones_take_the_same_memory() {
    let small = collect(&bucket(vec![object(0, MIB)])).peak_kib;
    let large = collect(&bucket(vec![object(0, 48 * MIB)])).peak_kib;
    let many = collect(&bucket((0..3000).map(|number| object(number, 3000)).collect())).peak_kib;
    println!("peak memory, KiB: a 1 MiB object {small}, a 48 MiB object {large}, 3,000 small objects {many}");
    // What differs is what the allocator and the page tables make of it; an object kept whole would be 48 MiB.
    let most = small + 4 * 1024;
    assert!(large < most && many < most, "small {small}, large {large}, many {many} KiB");
}

/// elastic/elastic-agent#3490, and every collector that drops when a disk fills: full is a state (invariant 8).
#[test]
fn a_full_spool_pauses_fetching_and_loses_nothing() {
    const SPOOL: u64 = 32 * MIB;
    let bucket = bucket((0..64).map(|number| object(number, MIB)).collect());
    let truth = truth(&bucket.objects, &nothing);
    let server = S3Server::start(&bucket, Faults::default());
    let receiver = Receiver::start(Moods { down: true, ..Moods::default() });
    let home = Home::new();
    let outputs = format!("{}[spool]\nmax_bytes = {SPOOL}\n", http_output("siem", &receiver.url()));
    home.configure(&Setup::new(&server, &bucket.name, outputs));

    let mut run = home.start(&["--once", "--timeout", "100"]);
    run.until("the spool is full", |run| run.log().contains("the spool is full"));
    let (collected, bytes) = (server.stats().get_count(), spooled(&home));
    assert!(collected < bucket.objects.len() as u64, "fetching has paused");
    assert!(bytes <= SPOOL, "{bytes} bytes in the spool");

    receiver.set_moods(Moods::default());
    let end = run.wait(Duration::from_secs(120)).expect_code(0);
    assert!(end.stderr.contains("has room again"), "{}", end.stderr);
    assert_eq!(end.books().faults(&truth), Vec::<String>::new());
    assert_eq!(receiver.distinct() as u64, truth.kept);
    assert!(bucket.objects.iter().all(|object| object.fate == Fate::Collected));
}

/// Bytes of the segment files.
fn spooled(home: &Home) -> u64 {
    let entries = std::fs::read_dir(home.state_dir().join("spool")).expect("the spool's folder");
    entries.map(|entry| entry.expect("an entry").metadata().map_or(0, |data| data.len())).sum()
}

#[test]
fn a_record_of_the_longest_length_is_no_exception() {
    let mut plan = Plan::small(7, yesterday());
    plan.overlong = Some(trailspool::limits::RECORD_BYTES);
    let bucket = Bucket::generate(&plan);
    collect(&bucket);
}
