//! The commands `spool` and `quarantine` on the state of the real agent: beside it while it runs, after it has ended, and
//! on what somebody damaged.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use common::agent::{Home, Setup, http_output};
use common::bucket::{Bucket, Damage, Object, Plan, expected, line_of, truth, yesterday};
use common::receiver::{Moods, Receiver, lines};
use common::s3_server::{Faults, S3Server};
use nix::sys::signal::Signal;
use serde_json::Value;

struct Place {
    home: Home,
    bucket: Bucket,
    server: S3Server,
    receiver: Receiver,
}

fn bucket(seed: u64) -> Bucket {
    Bucket::generate(&Plan {
        objects: 60,
        max_records: 20,
        neighbours: false,
        ..Plan::small(seed, yesterday())
    })
}

fn place(bucket: Bucket, moods: Moods) -> Place {
    let server = S3Server::start(&bucket, Faults::default());
    let receiver = Receiver::start(moods);
    let home = Home::new();
    home.configure(&Setup::new(&server, &bucket.name, http_output("siem", &receiver.url())));
    Place { home, bucket, server, receiver }
}

fn down() -> Moods {
    Moods { down: true, ..Moods::default() }
}

impl Place {
    fn json(&self, words: &[&str]) -> Value {
        let end = self.home.command(words).expect_code(0);
        serde_json::from_slice(&end.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn segments(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.home.state_dir().join("spool")).expect("a spool");
        let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    }

    fn entries(&self) -> Vec<Value> {
        self.json(&["quarantine", "ls", "--json"])["entries"].as_array().expect("a list").clone()
    }
}

fn count(all: impl IntoIterator<Item = Bytes>) -> BTreeMap<Bytes, u64> {
    let mut counted = BTreeMap::new();
    all.into_iter().for_each(|line| *counted.entry(line).or_default() += 1);
    counted
}

/// Every line of the bucket, as often as it stands there.
fn wanted(bucket: &Bucket) -> BTreeMap<Bytes, u64> {
    expected(&bucket.objects, &|_| false).into_iter().collect()
}

#[test]
fn the_spool_can_be_looked_into_beside_a_running_agent_and_after_it() {
    let place = place(bucket(1), down());
    let truth = truth(&place.bucket.objects, &|_| false);
    let mut run = place.home.start(&[]);
    let listed = || place.json(&["spool", "ls", "--json"]);
    run.until("everything is in the spool", |_| {
        place.home.state_dir().join("spool").exists()
            && listed()["outputs"][0]["waiting_records"].as_u64() == Some(truth.kept)
    });
    for running in [true, false] {
        let found = listed();
        assert_eq!(found["segments"].as_array().expect("a list").len(), 1);
        assert_eq!(found["segments"][0]["objects"].as_u64(), Some(truth.objects));
        assert_eq!(found["segments"][0]["records"].as_u64(), Some(truth.kept));
        assert_eq!(found["outputs"][0]["output"], "siem");
        let table = String::from_utf8(place.home.command(&["spool", "ls"]).expect_code(0).stdout).unwrap();
        assert!(table.contains("SEGMENT") && table.contains("siem"), "{table}");
        // All of them, byte for byte.
        let all = place.home.command(&["spool", "cat"]).expect_code(0);
        assert_eq!(count(lines(&all.stdout.clone().into())), wanted(&place.bucket));
        let waiting = place.home.command(&["spool", "cat", "--output", "siem"]).expect_code(0);
        assert!(waiting.stdout == all.stdout, "nothing was acknowledged");
        let first =
            place.home.command(&["spool", "cat", "--limit", "3", "--format", "envelope"]).expect_code(0);
        let first = lines(&first.stdout.into());
        let envelope: Value = serde_json::from_slice(&first[0]).expect("an envelope");
        assert_eq!((first.len(), &envelope["source"], &envelope["index"]), (3, &"prod".into(), &0.into()));
        let verified = place.home.command(&["spool", "verify"]).expect_code(0);
        assert!(String::from_utf8_lossy(&verified.stdout).contains("nothing is damaged"));
        if running {
            run.signal(Signal::SIGTERM);
            place.receiver.set_moods(down());
            while run.ended().is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    place.receiver.set_moods(Moods::default());
    let end = place.home.once().expect_code(0);
    assert_eq!(end.books().faults(&truth), Vec::<String>::new());
    assert_eq!(place.receiver.received().lines(), truth.kept, "the looks moved nothing");
    let waiting = place.home.command(&["spool", "cat", "--output", "siem"]).expect_code(0);
    assert!(waiting.stdout.is_empty(), "everything is acknowledged");
}

#[test]
fn damage_is_named_with_its_place_and_ends_with_65() {
    let place = place(bucket(2), down());
    place.home.start(&["--once", "--timeout", "3"]).wait(Duration::from_secs(60)).expect_code(75);
    let clean = place.home.command(&["spool", "cat"]).expect_code(0);
    // In the middle of the log, and of a record.
    let segment = place.segments().remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&segment, bytes).expect("the same, damaged");
    fs::write(place.home.state_dir().join("cursors/siem.cur"), b"TRLCURSR").expect("a damaged cursor");
    let run = fs::read_dir(place.home.state_dir().join("ledger")).expect("a ledger");
    let run = run.map(|entry| entry.expect("an entry").path()).find(|path| path.extension().is_some());
    let run = run.expect("a run");
    let mut bytes = fs::read(&run).expect("a run");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&run, bytes).expect("the same, damaged");

    let verified = place.home.command(&["spool", "verify"]).expect_code(65);
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    for part in [
        "DAMAGED  spool/0000000000000001.seg from byte",
        "cursors/siem.cur",
        "ledger/prod.",
        "places are damaged",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let json: Value =
        serde_json::from_slice(&place.home.command(&["spool", "verify", "--json"]).expect_code(65).stdout)
            .unwrap();
    assert_eq!(json["damaged"].as_array().expect("a list").len(), 3, "{json}");
    let cat = place.home.command(&["spool", "cat"]).expect_code(65);
    assert!(cat.stderr.contains("is damaged from byte"), "{}", cat.stderr);
    assert!(cat.stdout.len() < clean.stdout.len() && cat.stdout.len() > clean.stdout.len() / 2);
}

#[test]
fn every_file_has_a_line_and_damage_to_any_of_them_is_found_and_changes_nothing() {
    let place = place(bucket(8), Moods::default());
    place.home.edit_config("unfiltered = true", "unfiltered = false");
    place.home.once().expect_code(0);
    let state = place.home.state_dir();
    let mut files = BTreeMap::new();
    for folder in ["spool", "cursors", "ledger", "sources", "marks"] {
        for entry in fs::read_dir(state.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = format!("{folder}/{}", path.file_name().expect("a name").to_string_lossy());
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
    for kind in [".seg", ".cur", ".run", "checkpoint", ".state", ".marks"] {
        assert!(files.keys().any(|name| name.ends_with(kind)), "no {kind} in {:?}", files.keys());
    }
    let verify = |code| {
        let end = place.home.command(&["spool", "verify"]).expect_code(code);
        String::from_utf8(end.stdout).expect("text")
    };
    let text = verify(0);
    for name in files.keys() {
        let lines = text.lines().filter(|line| line.starts_with(&format!("ok       {name}: "))).count();
        assert_eq!(lines, 1, "{name} in\n{text}");
    }
    assert_eq!(text.lines().count(), files.len() + 1, "{text}");
    for (name, bytes) in &files {
        let damaged = || {
            let mut damaged = bytes.clone();
            // Of a segment, what was acknowledged long ago is damage all the same.
            let at = damaged.len() * 2 / 3;
            damaged[at] ^= 0x10;
            damaged
        };
        fs::write(state.join(name), damaged()).expect("the same, damaged");
        let text = verify(65);
        let line = text.lines().find(|line| line.starts_with(&format!("DAMAGED  {name}")));
        assert!(line.is_some(), "{name}:\n{text}");
        assert!(!text.contains(&format!("ok       {name}:")), "{text}");
        assert_eq!(fs::read(state.join(name)).expect("the file"), damaged(), "it only looks");
        fs::write(state.join(name), bytes).expect("the file as it was");
    }
    // Marks that were saved ahead of the ledger cannot be: somebody put an older ledger in their place.
    fs::remove_file(state.join("ledger/checkpoint")).expect("a checkpoint");
    let text = verify(65);
    assert!(text.contains(".marks: it is ahead of the ledger"), "{text}");
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let place = place(bucket(3), Moods::default());
    let end = place.home.command(&["spool", "ls"]).expect_code(74);
    assert!(end.stderr.contains("is `state_dir` right, and has the agent run?"), "{}", end.stderr);
    place.home.once().expect_code(0);
    let end = place.home.command(&["spool", "cat", "--output", "sime"]).expect_code(64);
    assert!(end.stderr.contains("no output \"sime\", but siem"), "{}", end.stderr);
    let end = place.home.command(&["quarantine", "show", "12345"]).expect_code(64);
    assert!(end.stderr.contains("nothing is set aside under"), "{}", end.stderr);
    let end = place.home.command(&["quarantine", "ls"]).expect_code(0);
    assert_eq!(end.stdout, b"nothing is set aside\n");
    place.home.edit_config("kind = \"http\"", "kind = \"htpp\"");
    place.home.command(&["spool", "ls"]).expect_code(78);
}

/// A bucket in which two objects are damaged, and what they were before.
fn with_damage(seed: u64) -> (Bucket, Vec<Object>) {
    let mut bucket = bucket(seed);
    let mut good = Vec::new();
    for (at, damage) in [(7, Damage::Crc), (20, Damage::Json)] {
        good.push(bucket.objects[at].clone());
        bucket.objects[at].damage(damage);
    }
    (bucket, good)
}

#[test]
fn an_object_that_was_set_aside_is_collected_when_it_is_asked_for_again() {
    for running in [false, true] {
        let (bucket, good) = with_damage(4);
        let place = place(bucket, Moods::default());
        let before = place.home.once().expect_code(0);
        assert_eq!(before.books().faults(&truth(&place.bucket.objects, &|_| false)), Vec::<String>::new());
        let entries = place.entries();
        assert_eq!(entries.len(), 2, "{entries:?}");
        let id = entries[0]["id"].as_str().expect("an id").to_owned();
        let shown =
            String::from_utf8(place.home.command(&["quarantine", "show", &id[..8]]).expect_code(0).stdout);
        let shown = shown.unwrap();
        for part in ["reason", "the whole object", &format!("trailspool quarantine retry {id}")] {
            assert!(shown.contains(part), "{shown}");
        }
        let key = entries[0]["key"].as_str().expect("a key");
        let object = place.bucket.objects.iter().find(|object| object.key == key).expect("an object");
        let raw = place.home.command(&["quarantine", "show", &id, "--raw"]).expect_code(0);
        assert_eq!(raw.stdout, object.body, "evidence");

        // Still damaged: it stays, and the books with it.
        place.home.command(&["quarantine", "retry", &id]).expect_code(0);
        assert_eq!(place.json(&["quarantine", "ls", "--json"])["entries"][0]["retry"], true);
        let again = place.home.once().expect_code(0);
        assert_eq!(again.books(), before.books());
        assert_eq!((place.entries().len(), place.entries()[0]["retry"].as_bool()), (2, Some(false)));

        // Mended.
        good.iter().for_each(|object| place.server.add(object));
        let mut mended = Bucket { objects: place.bucket.objects.clone(), ..self::bucket(4) };
        for object in &good {
            let at = mended.objects.iter().position(|known| known.key == object.key).expect("it");
            mended.objects[at] = object.clone();
        }
        if running {
            let mut run = place.home.start(&[]);
            run.until("it is up", |_| place.home.command(&["spool", "ls"]).code() == Some(0));
            place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
            run.until("both are collected", |run| run.log().matches("collected after all").count() == 2);
            run.signal(Signal::SIGTERM);
            run.wait(Duration::from_secs(60)).expect_code(0);
        } else {
            place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
        }
        let end = place.home.once().expect_code(0);
        let truth = truth(&mended.objects, &|_| false);
        assert_eq!(end.books().faults(&truth), Vec::<String>::new(), "as if it had never been damaged");
        assert_eq!(place.entries(), [] as [Value; 0]);
        let received = place.receiver.received();
        assert_eq!(
            received.acknowledged.into_iter().collect::<BTreeMap<_, _>>(),
            wanted(&mended),
            "each once"
        );
    }
}

#[test]
fn what_is_mended_or_damaged_anew_may_have_another_length() {
    let (bucket, good) = with_damage(6);
    let place = place(bucket, Moods::default());
    place.home.once().expect_code(0);
    assert_eq!(place.entries().len(), 2);
    let [plain, cut] = &good[..] else { panic!("two objects") };
    let records: Vec<_> = plain.records.iter().map(|record| String::from_utf8_lossy(record)).collect();
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    place.server.add(&Object { body: text.into(), ..plain.clone() });
    let mut cut = cut.clone();
    cut.damage(Damage::Cut);
    place.server.add(&cut);
    place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
    let end = place.home.once().expect_code(0);
    assert!(end.stderr.contains("collected after all"), "{}", end.stderr);
    assert!(end.stderr.contains("set aside again"), "{}", end.stderr);
    let entries = place.entries();
    assert_eq!((entries.len(), entries[0]["retry"].as_bool()), (1, Some(false)), "{entries:?}");
    let id = entries[0]["id"].as_str().expect("an id");
    let raw = place.home.command(&["quarantine", "show", id, "--raw"]).expect_code(0);
    assert_eq!(raw.stdout, cut.body, "what it is now");
}

#[test]
fn a_request_that_outlives_a_crash_collects_nothing_twice() {
    let (bucket, good) = with_damage(5);
    let place = place(bucket, Moods::default());
    place.home.once().expect_code(0);
    let folder = place.home.state_dir().join("quarantine");
    let saved: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&folder)
        .expect("a quarantine")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(path).expect("an entry")))
        .collect();
    good.iter().for_each(|object| place.server.add(object));
    place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
    let end = place.home.once().expect_code(0);
    assert_eq!(place.entries(), [] as [Value; 0]);
    let gets = place.server.stats().get_count();
    // As if the power had gone between the commit and the removal of entry and request.
    for (path, bytes) in saved {
        fs::write(&path, bytes).expect("the entry again");
        fs::write(path.with_extension("retry"), b"").expect("the request again");
    }
    let again = place.home.once().expect_code(0);
    assert_eq!(again.books(), end.books());
    assert_eq!(place.server.stats().get_count(), gets, "nothing is fetched");
    assert_eq!(place.entries(), [] as [Value; 0], "it is only tidied up");
}

#[test]
fn a_refused_record_is_delivered_when_it_is_asked_for_again() {
    let mut bucket = bucket(6);
    bucket.objects.truncate(3);
    let victim = line_of(bucket.objects.iter().find_map(|object| object.records.first()).expect("a record"));
    // The text of one record, found nowhere else.
    let id = victim.windows(11).position(|window| window == b"\"eventID\":\"").expect("an id");
    let id: &'static [u8] = Vec::leak(victim[id + 11..id + 11 + 36].to_vec());
    let place = place(bucket, Moods { poison: Some(id), ..Moods::default() });
    let truth = truth(&place.bucket.objects, &|_| false);
    let end = place.home.once().expect_code(0);
    let books = end.books();
    assert!(books.outputs[0].rejected >= 1, "{books:?}");
    let entries = place.entries();
    assert_eq!(entries.len() as u64, books.outputs[0].rejected);
    assert_eq!((&entries[0]["output"], &entries[0]["reason"]), (&"siem".into(), &"rejected".into()));
    let name = entries[0]["id"].as_str().expect("an id");
    let raw = place.home.command(&["quarantine", "show", name, "--raw"]).expect_code(0);
    assert_eq!(raw.stdout, victim);

    // Refused again: it stays.
    place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
    let again = place.home.once().expect_code(0);
    assert_eq!((again.books(), place.entries().len()), (books, entries.len()));

    place.receiver.set_moods(Moods::default());
    place.home.command(&["quarantine", "retry", "--all"]).expect_code(0);
    let end = place.home.once().expect_code(0);
    let books = end.books();
    assert_eq!((books.outputs[0].delivered, books.outputs[0].rejected), (truth.kept, 0), "{books:?}");
    assert_eq!(place.entries(), [] as [Value; 0]);
    let received = place.receiver.received();
    assert_eq!(
        received.acknowledged.into_iter().collect::<BTreeMap<_, _>>(),
        wanted(&place.bucket),
        "each once"
    );
}
