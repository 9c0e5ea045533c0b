//! What a million objects cost the ledger: bytes on disk, bytes written, look-ups, memory. Two histories:
//! days in their order, as polling brings them; and a backfill of small streams, where every save touches
//! every day.
//!
//! `cargo bench --bench ledger [-- OBJECTS]`

#![allow(clippy::disallowed_methods)] // It measures time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use time::{Date, Duration, Month};
use trailspool::discover::ledger::{Entry, Ledger};
use trailspool::record::{Counts, ObjectFate};
use trailspool::spool::disk::Synced;
use trailspool::spool::position::{Committed, Position};
use trailspool::spool::std_disk::StdDisk;

const DAYS: u64 = 30;
const COMMIT: u64 = 64;

fn main() {
    let objects = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    measure("days in order", objects, |number| number * DAYS / objects);
    measure("backfill of small streams", objects, |number| number % DAYS);
}

fn measure(what: &str, objects: u64, day: impl Fn(u64) -> u64) {
    let folder = tempfile::tempdir().expect("a folder for the ledger");
    let ledger = Ledger::open(StdDisk::open(folder.path()).expect("a disk")).expect("a ledger");
    let first = Date::from_calendar_date(2026, Month::January, 1).expect("a date");
    let day = |number| first + Duration::days(day(number) as i64);
    let counts = Counts { records: 5, kept: 5, ..Counts::default() };

    let (written, begin, mut most) = (written(), Instant::now(), 0.0_f64);
    for from in (0..objects).step_by(COMMIT as usize) {
        let numbers = from..objects.min(from + COMMIT);
        let keys: Vec<String> = numbers.clone().map(|number| key(number, day(number))).collect();
        let entry = |(number, key)| Entry {
            source: "prod",
            day: day(number),
            key,
            fate: ObjectFate::Collected,
            counts,
        };
        let entries: Vec<Entry<'_>> =
            numbers.clone().zip(keys.iter().map(String::as_str)).map(entry).collect();
        let through = Position { segment: 1, offset: numbers.end };
        ledger.insert(&Committed::new(through, Synced::after_ok_sync()), &entries).expect("an insert");
        if from % (COMMIT * 512) == 0 && from > objects / 2 {
            most = most.max(used(folder.path()).0 as f64 / from as f64);
        }
    }
    ledger.save().expect("a save");
    let seconds = begin.elapsed().as_secs_f64();
    let (bytes, blocks, files) = used(folder.path());
    let each = |bytes: u64| bytes as f64 / objects as f64;
    println!("{what}: {objects} objects, {DAYS} days, {files} files");
    println!(
        "  on disk       {:7.1} bytes an object ({:.1} in blocks of the file system)",
        each(bytes),
        each(blocks)
    );
    println!("  at most       {most:7.1} bytes an object, seen in the second half");
    println!("  written       {:7.1} bytes an object", each(self::written() - written));
    println!("  inserts       {:7.0} a second, with saves and merges", objects as f64 / seconds);

    let asked = objects.min(200_000);
    let step = objects / asked;
    for (kind, suffix, expected) in [("known", "", true), ("new", "x", false)] {
        let begin = Instant::now();
        for number in (0..asked).map(|at| at * step) {
            let day = day(number);
            let found = ledger.contains("prod", day, &(key(number, day) + suffix)).expect("a look-up");
            assert_eq!(found, expected, "{number}");
        }
        println!("  look-ups      {:7.0} a second, {kind}", asked as f64 / begin.elapsed().as_secs_f64());
    }
    println!(
        "  memory        {:7} KiB, the highest of the process so far",
        status("/proc/self/status", "VmHWM:")
    );
}

fn key(number: u64, day: Date) -> String {
    format!(
        "AWSLogs/123456789012/CloudTrail/us-west-2/{}/{:02}/{:02}/{number:016x}.json.gz",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

/// Bytes, bytes of blocks, and files of the ledger.
fn used(folder: &std::path::Path) -> (u64, u64, usize) {
    let entries = fs::read_dir(folder.join("ledger")).expect("a folder");
    let metadata = entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file's data"));
    metadata.fold((0, 0, 0), |sum, data| (sum.0 + data.len(), sum.1 + data.blocks() * 512, sum.2 + 1))
}

/// Bytes that the process handed to write calls.
fn written() -> u64 {
    status("/proc/self/io", "wchar:")
}

fn status(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
