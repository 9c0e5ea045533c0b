//! `cargo run --release --example demo`: the whole program without an AWS account. An S3 server on loopback
//! is filled with a generated bucket; the real agent, as a process of its own, collects it twice, and what
//! came out is compared with what was put in. Ends with 1 when anything does not add up.

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use common::agent::{Books, Finished, Home, Setup, stdout_output};
use common::bucket::{Bucket, Fate, Object, Plan, filtered, yesterday};
use common::receiver::lines;
use common::s3_server::{Faults, S3Server, Stats};
use trailspool::spool::quarantine::Quarantine;
use trailspool::spool::std_disk::StdDisk;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "agent").is_some() {
        return agent(arguments.collect());
    }
    let faults = demo();
    if faults.is_empty() {
        println!("\nEverything adds up.");
        return ExitCode::SUCCESS;
    }
    println!("\nThis does not add up:");
    faults.iter().for_each(|fault| println!("  - {fault}"));
    ExitCode::FAILURE
}

/// The program itself: this example started again, so that the agent is a process of its own.
fn agent(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    trailspool::cli::main(arguments, trailspool::service::run::main)
}

const PLAN: Plan = Plan {
    seed: 20_260_203,
    bucket: "acme-cloudtrail",
    prefix: "",
    organisation: "",
    accounts: 3,
    regions: 3,
    days: 3,
    last_day: time::Date::MIN,
    objects: 2000,
    max_records: 884,
    duplicates: 150,
    late: 40,
    damaged: 1,
    overlong: None,
    rewritten: true,
    neighbours: true,
};

/// What the rule below removes, beside the baseline filter.
fn dropped(record: &[u8]) -> bool {
    memchr::memmem::find(record, br#""eventName":"Describe"#).is_some()
}

fn demo() -> Vec<String> {
    let plan = Plan { last_day: yesterday(), ..PLAN };
    let bucket = Bucket::generate(&plan);
    describe(&plan, &bucket);

    let latency = Duration::from_millis(2);
    let server =
        S3Server::start(&bucket, Faults { latency, slow_down: 0.01, short_body: 0.005, ..Faults::default() });
    let home = Home::new();
    let mut setup = Setup::new(&server, &bucket.name, stdout_output("stdout"));
    setup.source = "exclude = ['\"eventName\":\"Describe']\n".into();
    home.configure(&setup);
    println!("\nThe agent runs as a process of its own: trailspool run --once, with the output \"stdout\".");
    println!("One rule is set: exclude = ['\"eventName\":\"Describe'].");
    println!(
        "The baseline filter is on: other successful reads that do not matter to security are dropped as well,"
    );
    println!("and of events that stand in two objects one copy is kept; the rest are the books' duplicates.");

    let mut faults = Vec::new();
    println!("\nFirst pass");
    let first = pass(&home, &server, bucket.early(), &mut faults);
    show_records(&first.0);

    let late = bucket.late().count();
    println!(
        "\nNow {late} objects appear whose labels are older than what was collected, as CloudTrail does."
    );
    bucket.late().for_each(|object| server.add(object));
    let before = server.stats().gets;
    println!("\nSecond pass");
    let second = pass(&home, &server, &bucket.objects, &mut faults);
    let again = bucket.early().filter(|o| server.stats().gets.get(&o.key) != before.get(&o.key)).count();
    if again > 0 {
        faults.push(format!("{again} objects of the first pass were fetched again in the second"));
    }

    set_aside(&bucket, &home, &mut faults);
    compare(&bucket, &server, [first.0, second.0].concat(), &mut faults);
    faults
}

fn describe(plan: &Plan, bucket: &Bucket) {
    let count = |test: &dyn Fn(&&Object) -> bool| bucket.objects.iter().filter(test).count();
    let logs = || bucket.objects.iter().filter(|o| o.fate != Fate::Ignored);
    let records: usize = logs().map(|o| o.records.len()).sum();
    let bytes: usize = logs().map(|o| o.body.len()).sum();
    println!("A bucket as CloudTrail fills it, on an S3 server inside this program (127.0.0.1):");
    println!(
        "  {:>6} log objects of {} accounts, {} regions and {} days",
        logs().count(),
        plan.accounts,
        plan.regions,
        plan.days
    );
    println!("  {records:>6} records in them, {:.1} MB compressed", bytes as f64 / 1e6);
    println!(
        "  {:>6} of the objects repeat the events of another one, as a second trail does",
        count(&|o| o.what.starts_with("duplicate"))
    );
    println!(
        "  {:>6} appear late, {} is damaged, {} were rewritten by other tools",
        plan.late,
        plan.damaged,
        logs().filter(|o| !known(o)).count()
    );
    println!(
        "  {:>6} objects beside them that are no logs: digests, flow logs, configuration history",
        count(&|o| o.fate == Fate::Ignored)
    );
}

fn known(object: &Object) -> bool {
    ["ordinary", "duplicate", "late", "damaged"].iter().any(|what| object.what.starts_with(what))
}

/// One run of the agent; its output lines and its log.
fn pass<'a>(
    home: &Home,
    server: &S3Server,
    objects: impl IntoIterator<Item = &'a Object>,
    faults: &mut Vec<String>,
) -> (Vec<Bytes>, Finished) {
    let before = server.stats();
    let end = home.once();
    let written = lines(&Bytes::copy_from_slice(&end.stdout));
    let Stats { lists, .. } = server.stats();
    let (gets, injected) =
        (server.stats().get_count() - before.get_count(), server.stats().faults() - before.faults());
    println!("  {:>6} records forwarded, {:.1} MB", written.len(), end.stdout.len() as f64 / 1e6);
    println!(
        "  {gets:>6} objects fetched with {} listings; {injected} requests were made to fail and tried again",
        lists - before.lists
    );
    let seconds = end.elapsed.as_secs_f64();
    println!(
        "  {seconds:>6.2} s, {:.0} records/s; peak memory {:.1} MiB",
        written.len() as f64 / seconds,
        end.peak_kib as f64 / 1024.0
    );
    if end.code() != Some(0) {
        faults.push(format!("the agent ended with {}; its log:\n{}", end.status, end.stderr));
        return (written, end);
    }
    match Books::parse(&end.stderr) {
        Ok(books) => {
            show_books(&books);
            faults.extend(books.faults(&filtered(objects, &dropped).0));
        }
        Err(why) => faults.push(format!("{why}; the log:\n{}", end.stderr)),
    }
    (written, end)
}

fn show_books(books: &Books) {
    println!("  Its books, over all passes:");
    for b in &books.sources {
        println!(
            "    objects {} = collected {} + set aside {}",
            b.objects, b.collected, b.quarantined_objects
        );
        println!(
            "    records {} = kept {} + dropped {} + duplicate {} + set aside {}",
            b.records, b.kept, b.dropped, b.duplicate, b.quarantined
        );
    }
    for b in &books.outputs {
        println!(
            "    kept {} = delivered {} + rejected {} + waiting {}",
            b.kept, b.delivered, b.rejected, b.waiting
        );
    }
}

#[allow(clippy::disallowed_methods, reason = "the width of the terminal, for the display alone")]
fn show_records(written: &[Bytes]) {
    let width =
        std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100usize).clamp(40, 200);
    println!("  Some of the records, byte for byte as CloudTrail wrote them (shortened here):");
    for line in written.iter().step_by((written.len() / 4).max(1)).take(4) {
        let text: String = String::from_utf8_lossy(line).chars().take(width - 6).collect();
        println!("    {text}…");
    }
}

/// What the agent put into its quarantine, and whether that is what the bucket has of damaged objects.
fn set_aside(bucket: &Bucket, home: &Home, faults: &mut Vec<String>) {
    println!("\nSet aside, with the raw bytes, for somebody to look at:");
    let found = quarantined(home).unwrap_or_else(|error| {
        faults.push(format!("the quarantine cannot be read: {error}"));
        Vec::new()
    });
    found.iter().for_each(|(key, why)| println!("  {key}\n    {why}"));
    let mut damaged: Vec<&str> =
        bucket.objects.iter().filter(|o| o.fate == Fate::Quarantined).map(|o| o.key.as_str()).collect();
    damaged.sort_unstable();
    if found.iter().map(|(key, _)| key.as_str()).ne(damaged.iter().copied()) {
        faults.push(format!("set aside are {found:?}, damaged are {damaged:?}"));
    }
}

/// Key and reason of each entry of the quarantine.
fn quarantined(home: &Home) -> std::io::Result<Vec<(String, String)>> {
    let quarantine = Quarantine::open(StdDisk::open(&home.state_dir())?, u64::MAX)?;
    let mut found = Vec::new();
    quarantine.list(&mut |id, entry| {
        found.push(match entry {
            Ok(entry) => (
                entry.object.key.to_string(),
                format!("{}: {} ({} bytes)", entry.reason, entry.detail, entry.kept),
            ),
            Err(error) => (id.to_owned(), format!("cannot be read: {error}")),
        });
    })?;
    found.sort();
    Ok(found)
}

fn compare(bucket: &Bucket, server: &S3Server, written: Vec<Bytes>, faults: &mut Vec<String>) {
    let mut arrived: BTreeMap<Bytes, u64> = BTreeMap::new();
    written.into_iter().for_each(|line| *arrived.entry(line).or_default() += 1);
    let (_, wanted) = filtered(&bucket.objects, &dropped);
    let lost = wanted.iter().filter(|&(line, times)| arrived.get(line).is_none_or(|n| n < times)).count();
    let repeated =
        wanted.iter().filter(|&(line, times)| arrived.get(line).is_some_and(|n| n > times)).count();
    let invented = arrived.keys().filter(|&line| !wanted.contains_key(line)).count();
    println!("\nCompared byte for byte with what was put into the bucket:");
    println!(
        "  {lost} of the {} wanted records lost, {repeated} forwarded more than once, {invented} invented",
        wanted.len()
    );
    for (count, what) in [(lost, "lost"), (repeated, "repeated without a crash"), (invented, "invented")] {
        if count > 0 {
            faults.push(format!("{count} records were {what}"));
        }
    }
    let wrong = server.wrongly_fetched();
    println!("  {} objects fetched that are no logs", wrong.len());
    faults.extend(wrong.into_iter().map(|key| format!("fetched, though no log: {key}")));
    faults.extend(server.stats().refused.into_iter().map(|text| format!("refused by S3: {text}")));
}
