//! `cargo run --release --example soak [SECONDS]`: the real agent, for as long as one likes, between an S3 server, a queue
//! and receivers that fail at random. First it is killed with SIGKILL at random moments, its state is verified, and it is
//! started again; then it runs through, and its memory and its file descriptors are watched. Then everything is drained,
//! and what arrived is compared with what was in the bucket.
//!
//! Ends with 1 when a record was lost or invented, when the books are not those of the bucket, when a kill left damage,
//! when memory grows, or when descriptors do not come back to what they were.

#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::agent::{Home, Run, Setup, file_output, http_output};
use common::bucket::{Bucket, Object, Plan, Truth, expected, truth, yesterday};
use common::collectors::{Api, Collector, TOKEN};
use common::growth::growth;
use common::receiver::{Receiver, lines};
use common::s3_server::{Faults, S3Server};
use common::sqs_server::{SqsFaults, SqsServer};
use common::{collectors, receiver};

/// Objects that the bucket gets, at most: they are all held in memory.
const MOST: u64 = 40_000;
/// Objects a second that arrive; the server's latency lets a few times as many through.
const ARRIVE: u64 = 40;
/// How often objects arrive, and the agent is looked at.
const BEAT: Duration = Duration::from_millis(250);
/// Nothing arrives for so long before descriptors are counted: the agent keeps a connection for fifteen seconds.
const QUIET: Duration = Duration::from_secs(18);
/// How long descriptors may take to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// Resident KiB that are no growth: a batch of each output, and the window of duplicates, which fills meanwhile.
const MEMORY_SLACK: f64 = 3072.0;
/// Descriptors that are none either: runs of the ledger stay open when they were asked, a connection may be at work.
const DESCRIPTOR_SLACK: f64 = 12.0;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "agent").is_some() {
        return trailspool::cli::main(arguments, trailspool::service::run::main);
    }
    let seconds = arguments.next().map_or(Some(120), |word| word.to_str()?.parse::<u64>().ok());
    let Some(seconds) = seconds.filter(|seconds| *seconds >= 60) else {
        eprintln!("usage: soak [SECONDS], at least 60");
        return ExitCode::from(64);
    };
    let faults = soak(Duration::from_secs(seconds));
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Everything around the agent.
struct Place {
    home: Home,
    server: S3Server,
    queue: SqsServer,
    siem: Receiver,
    elastic: Collector,
    name: String,
}

impl Place {
    fn new(bucket: &Bucket) -> Place {
        let latency = Duration::from_millis(20);
        let server = S3Server::start(bucket, Faults { latency, ..Faults::rough(3) });
        let queue = SqsServer::start(SqsFaults::rough(5));
        let siem = Receiver::start(receiver::Moods::rough(4));
        let moods =
            collectors::Moods { unavailable_every: 15, busy_every: 3000, ..collectors::Moods::default() };
        let elastic = Collector::start(Api::Bulk, moods);
        let home = Home::new();
        let token = home.path("token");
        fs::write(&token, TOKEN).expect("the token's file");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("its mode");
        // What is sent again after a kill would otherwise fill more than one file.
        let archive = file_output("archive", &home.path("archive.ndjson")) + "rotate_bytes = \"64GiB\"\n";
        let bulk = format!(
            "preset = \"elastic-bulk\"\nindex = \"cloudtrail\"\napi_key_file = {token:?}\ncompression = \"gzip\"\n\
             batch_bytes = \"64KiB\"\nconcurrency = 4\n"
        );
        let outputs =
            http_output("siem", &siem.url()) + &archive + &http_output("elastic", &elastic.url()) + &bulk;
        let mut setup = Setup::new(&server, &bucket.name, outputs);
        let url = queue.url();
        setup.source += &format!("method = \"sqs+sweep\"\nqueue_url = \"{url}\"\nrefresh_minutes = 1\n");
        home.configure(&setup);
        Place { home, server, queue, siem, elastic, name: bucket.name.clone() }
    }

    /// An object arrives. Of every tenth the queue says nothing.
    fn add(&self, object: &Object, number: u64) {
        self.server.add(object);
        if !number.is_multiple_of(10) {
            self.queue
                .send(format!("{{\"s3Bucket\":\"{}\",\"s3ObjectKey\":[\"{}\"]}}", self.name, object.key));
        }
    }

    /// Whatever a kill left has to check out.
    fn verify(&self, faults: &mut Vec<String>) {
        let end = self.home.command(&["spool", "verify"]);
        if end.code() != Some(0) {
            let said = String::from_utf8_lossy(&end.stdout);
            let damage: Vec<&str> = said.lines().filter(|line| line.starts_with("DAMAGED")).collect();
            faults.push(format!(
                "after a kill, verify ends with {:?}: {damage:?} {}",
                end.code(),
                end.stderr
            ));
        }
    }
}

/// Objects that arrive one after the other, while they do.
struct Arrivals<'a> {
    place: &'a Place,
    late: Box<dyn Iterator<Item = &'a Object> + 'a>,
    due: f64,
    arrived: u64,
}

impl Arrivals<'_> {
    /// A little time goes by, and what is due in it arrives.
    fn beat(&mut self, time: Duration) {
        std::thread::sleep(time);
        self.due += ARRIVE as f64 * time.as_secs_f64();
        while (self.arrived as f64) < self.due {
            let Some(object) = self.late.next() else { return };
            self.arrived += 1;
            self.place.add(object, self.arrived);
        }
    }

    fn rest(&mut self) {
        for object in self.late.by_ref() {
            self.arrived += 1;
            self.place.add(object, self.arrived);
        }
    }
}

fn soak(time: Duration) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(20_261_125);
    let objects = (ARRIVE * time.as_secs() + 500).min(MOST) as usize;
    let mut bucket = Bucket::generate(&Plan {
        accounts: 4,
        regions: 3,
        objects,
        max_records: 60,
        duplicates: objects / 20,
        damaged: 4,
        ..Plan::small(7, yesterday())
    });
    rng.shuffle(&mut bucket.objects);
    bucket.objects.iter_mut().skip(500).for_each(|object| object.late = true);
    let place = Place::new(&bucket);
    let mut arrivals = Arrivals { place: &place, late: Box::new(bucket.late()), due: 0.0, arrived: 0 };
    let mut faults = Vec::new();

    let half = time.saturating_sub(2 * QUIET) / 2;
    let kills = killed(half, &mut arrivals, &mut rng, &mut faults);
    let peak = watched(half, &mut arrivals, &mut faults);
    arrivals.rest();
    let truth = truth(&bucket.objects, &|_| false);
    let expected = expected(&bucket.objects, &|_| false);
    println!("{} s, {kills} kills, peak {peak} KiB", time.as_secs());
    arrived(&place, &truth, &expected, &mut faults);
    faults
}

/// Starts the agent and kills it, again and again. Returns how often.
#[allow(clippy::disallowed_methods, reason = "the test's own clock")]
fn killed(
    time: Duration,
    arrivals: &mut Arrivals<'_>,
    rng: &mut fastrand::Rng,
    faults: &mut Vec<String>,
) -> u64 {
    let until = Instant::now() + time;
    let mut kills = 0;
    while Instant::now() < until {
        let run = arrivals.place.home.start(&[]);
        let life = Duration::from_millis(rng.u64(20..4000));
        let dies = until.min(Instant::now() + life);
        while Instant::now() < dies {
            arrivals.beat(BEAT.min(dies.saturating_duration_since(Instant::now())));
        }
        let (alive, end) = run.kill();
        match alive {
            true => kills += 1,
            false => {
                faults.push(format!("the agent ended by itself: {}; its log:\n{}", end.status, end.stderr))
            }
        }
        arrivals.place.verify(faults);
    }
    kills
}

/// Lets the agent run through: quiet, at work, quiet again. Returns its peak, KiB.
#[allow(clippy::disallowed_methods, reason = "the test's own clock")]
fn watched(time: Duration, arrivals: &mut Arrivals<'_>, faults: &mut Vec<String>) -> u64 {
    let mut run = arrivals.place.home.start(&[]);
    let (mut memory, mut most) = (Vec::new(), 0.0_f64);
    let begun = Instant::now();
    let mut level = f64::INFINITY;
    while begun.elapsed() < QUIET {
        std::thread::sleep(BEAT);
        level = level.min(look(&run).map_or(level, |(_, open)| open));
    }
    while begun.elapsed() < QUIET + time {
        arrivals.beat(BEAT);
        if let Some((kib, open)) = look(&run) {
            memory.push(kib);
            most = most.max(open);
        }
    }
    let (rested, mut end) = (Instant::now(), f64::INFINITY);
    while rested.elapsed() < PATIENCE && end > level + DESCRIPTOR_SLACK {
        std::thread::sleep(BEAT);
        end = look(&run).map_or(end, |(_, open)| open);
    }
    let took = rested.elapsed().as_secs();
    if let Some(status) = run.ended() {
        faults.push(format!("the agent ended by itself: {status}; its log:\n{}", run.log()));
    }
    match growth(&memory) {
        Some(found) => {
            let a_minute = found.slope * 60.0 / BEAT.as_secs_f64();
            println!(
                "memory {:.0} KiB in the first third, {:.0} in the last ({a_minute:+.0} KiB a minute)",
                found.first, found.last
            );
            if found.last > found.first + MEMORY_SLACK {
                faults.push(format!("memory grows: from {:.0} to {:.0} KiB", found.first, found.last));
            }
        }
        None => faults.push("the agent was not at work for long enough to judge its memory".to_owned()),
    }
    println!("descriptors {level} before, {most} at most, {end} within {took} s after");
    if end > level + DESCRIPTOR_SLACK {
        faults.push(format!("descriptors do not come back: {level} at first, {end} at last"));
    }
    run.kill().1.peak_kib
}

/// Drains, and holds what arrived against what was there.
fn arrived(place: &Place, truth: &Truth, expected: &BTreeMap<Bytes, u64>, faults: &mut Vec<String>) {
    // A pass over the queue would wait for what the killed ones hid; everything is in the bucket.
    place.home.edit_config("method = \"sqs+sweep\"", "method = \"poll\"");
    let books = place.home.drain().books();
    place.verify(faults);
    let siem = place.siem.received();
    let mut archive: HashMap<Bytes, u64> = HashMap::new();
    let written = fs::read(place.home.path("archive.ndjson")).expect("the archive");
    lines(&written.into()).into_iter().for_each(|line| *archive.entry(line).or_default() += 1);
    let elastic = place.elastic.received();
    // A document has one id, however often its record stands in the bucket.
    let documents: HashMap<Bytes, u64> =
        elastic.1.records.keys().map(|record| (Bytes::copy_from_slice(record), u64::MAX)).collect();
    let mut losses = 0;
    for (name, arrived) in [("siem", &siem.acknowledged), ("archive", &archive), ("elastic", &documents)] {
        // The same line may stand in the bucket more than once.
        let times = |line: &Bytes| arrived.get(line).copied().unwrap_or(0);
        let lost = expected.iter().filter(|&(line, &wanted)| times(line) < wanted).count();
        let invented = arrived.keys().filter(|line| !expected.contains_key(*line)).count();
        losses += lost;
        if lost + invented > 0 {
            faults.push(format!("{name}: {lost} records lost, {invented} invented"));
        }
    }
    let wrong = siem.wrong.iter().chain(&elastic.1.wrong).take(3);
    faults.extend(wrong.map(|wrong| format!("a request that no sender should send: {wrong}")));
    faults.extend(books.faults(truth));
    let waiting = books.outputs.iter().filter(|output| output.waiting > 0);
    faults.extend(waiting.map(|output| format!("{} waits", output.name)));
    let times = |line: &Bytes| siem.acknowledged.get(line).copied().unwrap_or(0);
    let delivered: u64 = expected.iter().map(|(line, &wanted)| times(line).min(wanted)).sum();
    println!(
        "{} objects in, {} records in, {delivered} delivered, {} duplicates, {losses} losses; {} faults of the server, {} of \
         the receiver",
        truth.objects,
        truth.kept,
        siem.lines().saturating_sub(delivered),
        place.server.stats().faults(),
        siem.faults(),
    );
}

/// Resident KiB, and open descriptors.
fn look(run: &Run) -> Option<(f64, f64)> {
    let process = format!("/proc/{}", run.id());
    let status = fs::read_to_string(format!("{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib, fs::read_dir(format!("{process}/fd")).ok()?.count() as f64))
}
