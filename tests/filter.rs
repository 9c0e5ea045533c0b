//! The baseline filter and the removal of duplicates by the real agent: over whole buckets, over restarts, and over
//! SIGKILLs at random moments. What must be left is told by another reader (serde_json) and a map of all records.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
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

/// The bucket's objects as files below a folder.
fn write_out(bucket: &Bucket, folder: &Path) {
    for object in bucket.objects.iter().filter(|object| object.fate != Fate::Ignored) {
        let path = folder.join(&object.key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, &object.body).expect("an object");
    }
    std::fs::write(folder.join("README"), "no object").expect("a file");
}

fn dry_run(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_trailspool"))
        .args(["filter", "--config"])
        .arg(home.path("trailspool.toml"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_dry_run_over_files_tells_what_a_collection_would_do() {
    let mut bench = Bench::new(&plan(3));
    bench
        .home
        .edit_config("start = \"all\"", "start = \"all\"\nexclude = ['\"eventName\":\"Describe', 'nowhere']");
    bench.bucket.objects.sort_by(|a, b| a.key.cmp(&b.key));
    let described = |record: &[u8]| memchr::memmem::find(record, b"\"eventName\":\"Describe").is_some();
    let (truth, _) = filtered(&bench.bucket.objects, &described);
    let folder = bench.home.path("objects");
    write_out(&bench.bucket, &folder);

    let (code, text, said) = dry_run(&bench.home, &["--json", folder.to_str().expect("text")]);
    assert_eq!((code, &*said), (Some(65), ""), "damaged objects are bad data");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    assert_eq!(number(&found["files"]), truth.objects);
    assert_eq!(number(&found["files_set_aside"]), truth.quarantined_objects);
    assert_eq!(found["set_aside"].as_array().map(Vec::len), Some(truth.quarantined_objects as usize));
    assert_eq!(number(&found["records"]), truth.records);
    assert_eq!(number(&found["kept"]["records"]), truth.kept);
    assert_eq!(number(&found["duplicate"]["records"]), truth.duplicate);
    let dropped = found["dropped"].as_array().expect("a list");
    assert_eq!(dropped.iter().map(|rule| number(&rule["records"])).sum::<u64>(), truth.dropped);
    let labels: Vec<_> = dropped.iter().map(|rule| rule["rule"].as_str().unwrap_or_default()).collect();
    assert_eq!(labels, ["exclude-1", "exclude-2", "baseline"]);
    assert_eq!(number(&dropped[1]["records"]), 0);
    assert_eq!(dropped[0]["examples"].as_array().map(Vec::len), Some(3));
    // What it says is what the agent does.
    assert_eq!(bench.home.once().expect_code(0).books().faults(&truth), [""; 0]);

    let (code, text, _) = dry_run(&bench.home, &[folder.to_str().expect("text")]);
    assert_eq!(code, Some(65));
    let kept = text.lines().find(|line| line.starts_with("  kept ")).expect("a line");
    assert!(kept.split_whitespace().nth(1) == Some(&*truth.kept.to_string()), "{text}");
    assert!(text.contains("the record matches \"eventName\":\"Describe"), "{text}");
}

#[test]
fn a_dry_run_says_what_it_cannot_do_and_escapes_what_it_shows() {
    let bench = Bench::new(&Plan::small(4, yesterday()));
    let file = bench.home.path("evil\u{1b}[2J.json");
    std::fs::write(&file, r#"{"eventName":"\u001b[31mred","eventSource":"x","eventTime":"t"}"#)
        .expect("a file");
    let (code, text, _) = dry_run(&bench.home, &[file.to_str().expect("text")]);
    assert_eq!(code, Some(0));
    assert!(!text.contains('\u{1b}') && text.contains(r"t x \u{1b}[31mred"), "{text}");
    let (code, _, said) = dry_run(&bench.home, &["/nowhere/at/all"]);
    assert!(code == Some(74) && said.contains("/nowhere/at/all: cannot be read"), "{said}");
    let (code, _, said) = dry_run(&bench.home, &["--source", "lab", file.to_str().expect("text")]);
    assert!(code == Some(64) && said.contains("--source names one of the sources: prod"), "{said}");
    let empty = bench.home.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let (code, _, said) = dry_run(&bench.home, &[empty.to_str().expect("text")]);
    assert!(code == Some(64) && said.contains("there is no .json"), "{said}");
    let list = Command::new(env!("CARGO_BIN_EXE_trailspool")).args(["filter", "--baseline"]).output();
    assert!(list.expect("the binary runs").stdout.starts_with(b"# trailspool baseline 1\n"));
}
