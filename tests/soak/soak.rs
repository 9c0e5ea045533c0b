//! `cargo run --release --example soak [SECONDS]`: the real agent, for as long as one likes, between an S3 server and a
//! receiver that fail at random. In the first half it is killed with SIGKILL at random moments and started again; in the
//! second half it runs through, and its memory and its file descriptors are watched. Then everything is drained, and
//! what arrived is compared with what was in the bucket.
//!
//! Ends with 1 when a record was lost or invented, when the books are not those of the bucket, or when memory or
//! descriptors grow.

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::agent::{Home, Run, Setup, file_output, http_output};
use common::bucket::{Bucket, Object, Plan, expected, truth, yesterday};
use common::receiver::{Moods, Receiver, lines};
use common::s3_server::{Faults, S3Server};

/// Objects that the bucket gets, at most: they are all held in memory.
const MOST: u64 = 40_000;
/// Objects a second that arrive; the server's latency lets a few times as many through.
const ARRIVE: u64 = 40;
/// How often objects arrive, and the agent is looked at.
const BEAT: Duration = Duration::from_millis(250);
/// Growth that is none: resident KiB, and descriptors, between the first and the last third of the second half.
const SLACK: (f64, f64) = (2048.0, 8.0);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "agent").is_some() {
        return trailspool::cli::main(arguments, trailspool::service::run::main);
    }
    let seconds = arguments.next().map_or(Some(120), |word| word.to_str()?.parse::<u64>().ok());
    let Some(seconds) = seconds.filter(|seconds| *seconds >= 20) else {
        eprintln!("usage: soak [SECONDS], at least 20");
        return ExitCode::from(64);
    };
    let faults = soak(seconds);
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Objects that arrive one after the other.
struct Arrivals<'a> {
    late: std::iter::Peekable<Box<dyn Iterator<Item = &'a Object> + 'a>>,
    began: Instant,
    arrived: u64,
}

impl Arrivals<'_> {
    /// Those that are due by now.
    fn due(&mut self, server: &S3Server) {
        let due = self.began.elapsed().as_millis() as u64 * ARRIVE / 1000;
        while self.arrived < due {
            let Some(object) = self.late.next() else { return };
            server.add(object);
            self.arrived += 1;
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the test's own clock")]
fn soak(seconds: u64) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(20_261_125);
    let objects = (ARRIVE * seconds + 500).min(MOST) as usize;
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
    let truth = truth(&bucket.objects, &|_| false);
    let expected = expected(&bucket.objects, &|_| false);

    let latency = Duration::from_millis(20);
    let server = S3Server::start(&bucket, Faults { latency, ..Faults::rough(3) });
    let receiver = Receiver::start(Moods::rough(4));
    let home = Home::new();
    let archive = home.path("archive.ndjson");
    // What is sent again after a kill would otherwise fill more than one file.
    let outputs = http_output("siem", &receiver.url())
        + &file_output("archive", &archive)
        + "rotate_bytes = \"64GiB\"\n";
    let mut setup = Setup::new(&server, &bucket.name, outputs);
    setup.source += "refresh_minutes = 1\n";
    home.configure(&setup);

    let began = Instant::now();
    let all: Box<dyn Iterator<Item = &Object>> = Box::new(bucket.late());
    let mut arrivals = Arrivals { late: all.peekable(), began, arrived: 0 };
    let half = Duration::from_secs(seconds / 2);
    let mut kills = 0;
    while began.elapsed() < half {
        let run = home.start(&[]);
        let life = Duration::from_millis(rng.u64(20..4000)).min(half.saturating_sub(began.elapsed()));
        let until = Instant::now() + life;
        while Instant::now() < until {
            arrivals.due(&server);
            std::thread::sleep(BEAT.min(until.saturating_duration_since(Instant::now())));
        }
        kills += u64::from(run.kill().0);
    }

    let mut run = home.start(&[]);
    let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
    let mut faults = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        arrivals.due(&server);
        std::thread::sleep(BEAT);
        match look(&run) {
            Some((kib, open)) => {
                memory.push(kib);
                descriptors.push(open);
            }
            None => {
                let status = run.ended();
                faults.push(format!("the agent ended by itself: {status:?}; its log:\n{}", run.log()));
                break;
            }
        }
    }
    let (_, last) = run.kill();
    arrivals.late.by_ref().for_each(|object| server.add(object));
    let end = home.drain();
    let books = end.books();

    let received = receiver.received();
    let mut archived: HashMap<Bytes, u64> = HashMap::new();
    let written = lines(&fs::read(&archive).expect("the archive").into());
    written.into_iter().for_each(|line| *archived.entry(line).or_default() += 1);
    let mut losses = 0;
    // The same line may stand in the bucket more than once.
    let times = |line: &Bytes| received.acknowledged.get(line).copied().unwrap_or(0);
    let delivered: u64 = expected.iter().map(|(line, &wanted)| times(line).min(wanted)).sum();
    for (name, arrived) in [("siem", &received.acknowledged), ("archive", &archived)] {
        let lost =
            expected.iter().filter(|&(line, &times)| arrived.get(line).copied().unwrap_or(0) < times).count();
        let invented = arrived.keys().filter(|line| !expected.contains_key(*line)).count();
        losses += lost;
        if lost + invented > 0 {
            faults.push(format!("{name}: {lost} records lost, {invented} invented"));
        }
    }
    faults.extend(books.faults(&truth));
    faults.extend(
        books.outputs.iter().filter(|output| output.waiting > 0).map(|o| format!("{} waits", o.name)),
    );
    let (first_kib, last_kib) = thirds(&memory);
    let (first_open, last_open) = thirds(&descriptors);
    println!(
        "{seconds} s, {kills} kills; {} objects in, {} records in, {} delivered, {} duplicates, {losses} losses; {} faults of \
         the server, {} of the receiver",
        truth.objects,
        truth.kept,
        delivered,
        received.lines().saturating_sub(truth.kept),
        server.stats().faults(),
        received.faults(),
    );
    println!(
        "memory {first_kib:.0} KiB in the first third, {last_kib:.0} in the last ({:+.0} KiB a minute), peak {} KiB; \
         descriptors {first_open:.1}, {last_open:.1}",
        slope(&memory) * 60.0 / BEAT.as_secs_f64(),
        last.peak_kib.max(end.peak_kib),
    );
    if last_kib > first_kib + SLACK.0 {
        faults.push(format!("memory grows: from {first_kib:.0} to {last_kib:.0} KiB"));
    }
    if last_open > first_open + SLACK.1 {
        faults.push(format!("descriptors grow: from {first_open:.1} to {last_open:.1}"));
    }
    faults
}

/// Resident KiB, and open descriptors.
fn look(run: &Run) -> Option<(f64, f64)> {
    let process = format!("/proc/{}", run.id());
    let status = fs::read_to_string(format!("{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib, fs::read_dir(format!("{process}/fd")).ok()?.count() as f64))
}

/// Means of the first and the last third, the first tenth left out: it is the start.
fn thirds(values: &[f64]) -> (f64, f64) {
    let values = &values[values.len() / 10..];
    let third = (values.len() / 3).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    (mean(&values[..third.min(values.len())]), mean(&values[values.len().saturating_sub(third)..]))
}

/// Growth by value, by least squares, the first tenth left out.
fn slope(values: &[f64]) -> f64 {
    let values = &values[values.len() / 10..];
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count.max(1.0));
    let (mut up, mut down) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        up += (x as f64 - mean_x) * (y - mean_y);
        down += (x as f64 - mean_x).powi(2);
    }
    if down > 0.0 { up / down } else { 0.0 }
}
