//! The real binary, built as it is released, between an S3 server and a receiver on this machine: what it takes, against
//! what the same bytes take at the least.
//!
//! `cargo bench --bench collect [-- PART...]`, with the parts `latency`, `nothing`, `small`, `large`, `idle`, `writes`, `memory`
//! (all but the last when none is named; `memory` takes minutes and 3 GB, since it holds a gigabyte as an object).

#![allow(clippy::disallowed_methods)] // It measures time.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use nix::time::{ClockId, clock_gettime};

use common::agent::{Home, Run, Setup, file_output, http_output};
use common::bucket::{Bucket, Object, yesterday};
use common::receiver::{Moods, Receiver};
use common::s3_server::{ACCESS_KEY, Faults, REGION, S3Server};

/// As the agent has by default.
const IN_FLIGHT: usize = 16;
/// Median of real objects.
const RECORDS: usize = 5;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [part, endpoint, keys] = &arguments[..]
        && part == "get"
    {
        return get_all(endpoint, Path::new(keys));
    }
    let wants = |part: &str| arguments.iter().any(|argument| argument == part);
    let all = arguments.is_empty();
    for (part, measure) in [
        ("latency", latency as fn()),
        ("nothing", nothing),
        ("small", small),
        ("large", large),
        ("idle", idle),
        ("writes", writes),
    ] {
        if all || wants(part) {
            measure();
        }
    }
    if wants("memory") {
        memory();
    }
}

/// Small objects a second against the bound of so many in flight at that latency.
fn latency() {
    for (millis, objects) in [(0, 4000), (20, 3000), (50, 2000)] {
        let faults = Faults { latency: Duration::from_millis(millis), ..Faults::default() };
        let server = S3Server::start(&bucket(small_objects(objects)), faults);
        let home = Home::new();
        home.configure(&Setup::new(&server, "acme-cloudtrail", file_output("file", &home.path("out"))));
        let mut run = home.start(&["--once"]);
        // From a tenth to nine tenths: neither the start nor the end is what is measured.
        let mut marks = Vec::new();
        for part in [1, 9] {
            run.until("objects are fetched", |_| server.stats().get_count() >= (objects * part / 10) as u64);
            marks.push((Instant::now(), server.stats().get_count()));
        }
        run.wait(Duration::from_secs(60)).expect_code(0);
        let (span, count) = (marks[1].0 - marks[0].0, marks[1].1 - marks[0].1);
        let rate = count as f64 / span.as_secs_f64();
        match millis {
            0 => println!("latency  0 ms: {rate:.0} small objects a second"),
            _ => {
                let bound = IN_FLIGHT as f64 * 1000.0 / millis as f64;
                println!(
                    "latency {millis:>2} ms: {rate:.0} small objects a second, {:.0} % of {IN_FLIGHT} in flight / latency (budget: 90)",
                    100.0 * rate / bound
                );
            }
        }
    }
}

/// CPU that a run takes which finds nothing: a part of each of the other figures.
fn nothing() {
    let server = S3Server::start(&bucket(Vec::new()), Faults::default());
    println!("an empty bucket: {:.2} s of CPU", collect(&server).as_secs_f64());
}

/// CPU for small objects, against a bare loop of GETs.
fn small() {
    let objects = small_objects(20_000);
    let server = S3Server::start(&bucket(objects.clone()), Faults::default());
    let agent = collect(&server);
    let got = server.stats().get_count();
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    fs::write(&keys, objects.iter().map(|object| format!("{}\n", object.key)).collect::<String>())
        .expect("a file");
    let before = children();
    let this = std::env::current_exe().expect("this program");
    let status = Command::new(this).arg("get").arg(server.endpoint()).arg(&keys).status().expect("a child");
    assert!(status.success());
    let bare = children() - before;
    assert_eq!(server.stats().get_count(), got + objects.len() as u64, "both got all of them");
    report("20,000 small objects", agent, "a bare hyper GET loop", bare, 2.0);
}

/// CPU for a large object, against its bare inflate.
fn large() {
    let object = object(0, 256 * 1024 * 1024);
    let body = object.body.clone();
    let server = S3Server::start(&bucket(vec![object]), Faults::default());
    let agent = collect(&server);
    let (mut state, mut window) = (Box::<DecompressorOxide>::default(), vec![0; 64 * 1024]);
    let begin = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    inflate(&body[10..], &mut state, &mut window);
    let end = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    report("an object of 256 MiB", agent, "its bare inflate", (end - begin).into(), 1.8);
}

/// What the agent does between two polls.
fn idle() {
    let server = S3Server::start(&bucket(small_objects(50)), Faults::default());
    let receiver = Receiver::start(Moods::default());
    let home = Home::new();
    home.configure(&Setup::new(&server, "acme-cloudtrail", http_output("siem", &receiver.url())));
    let mut run = home.start(&[]);
    run.until("all is delivered", |_| receiver.distinct() >= 50 * RECORDS);
    std::thread::sleep(Duration::from_secs(12)); // its threads of the moment end
    let (cpu, wakes) = (cpu_of(run.id()), wakes_of(run.id()));
    let seconds = 20;
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = cpu_of(run.id()) - cpu;
    println!(
        "idle: {:.3} % of a core (budget: 0.1), {:.2} wake-ups a second (budget: 1), over {seconds} s",
        100.0 * spent.as_secs_f64() / seconds as f64,
        (wakes_of(run.id()) - wakes) as f64 / seconds as f64
    );
    end(run);
}

/// Bytes written to the disk, against the bytes that the spool holds when no output takes anything.
fn writes() {
    for (what, objects) in [
        ("4,000 small objects", small_objects(4000)),
        ("4 objects of 8 MiB", (0..4).map(|n| object(n, 8 << 20)).collect()),
    ] {
        let server = S3Server::start(&bucket(objects.clone()), Faults::default());
        let home = Home::new();
        home.configure(&Setup::new(&server, "acme-cloudtrail", http_output("siem", "http://127.0.0.1:9/")));
        let mut run = home.start(&[]);
        run.until("all objects are fetched", |_| server.stats().get_count() >= objects.len() as u64);
        std::thread::sleep(Duration::from_secs(2));
        let written = field(&format!("/proc/{}/io", run.id()), "write_bytes:");
        let spool = size_of(&home.state_dir().join("spool"));
        println!(
            "writes: {what}: {written} bytes written to the disk for {spool} in the spool: {:.2} times (budget: 1.1)",
            written as f64 / spool as f64
        );
        end(run);
    }
}

/// The highest resident memory for objects of very different sizes, and for very many; with the filter the window of
/// duplicates fills as well.
fn memory() {
    for (what, objects) in [
        ("an object of 1 MB", vec![object(0, 1_000_000)]),
        ("100,000 small objects", small_objects(100_000)),
        ("an object of 100 MB", vec![object(0, 100_000_000)]),
        ("an object of 1 GB", vec![object(0, 1_000_000_000)]),
    ] {
        let server = S3Server::start(&bucket(objects), Faults::default());
        for (filter, source) in [("filter off", "unfiltered = true\n"), ("filter on", "")] {
            let receiver = Receiver::start(Moods::default());
            let home = Home::new();
            let setup = Setup::new(&server, "acme-cloudtrail", http_output("siem", &receiver.url()));
            home.configure(&Setup { source: source.into(), ..setup });
            let ended = home.start(&["--once"]).wait(Duration::from_secs(900)).expect_code(0);
            println!("memory: {what}, {filter}: {} KiB at the most (budget: 12288)", ended.peak_kib);
        }
    }
}

fn collect(server: &S3Server) -> Duration {
    let receiver = Receiver::start(Moods::default());
    let home = Home::new();
    home.configure(&Setup::new(server, "acme-cloudtrail", http_output("siem", &receiver.url())));
    let before = children();
    home.start(&["--once"]).wait(Duration::from_secs(120)).expect_code(0);
    children() - before
}

fn report(what: &str, agent: Duration, least: &str, bare: Duration, budget: f64) {
    println!(
        "{what}: {:.2} s of CPU from S3 to the acknowledged output, {:.2} s for {least}: {:.2} times (budget: {budget})",
        agent.as_secs_f64(),
        bare.as_secs_f64(),
        agent.as_secs_f64() / bare.as_secs_f64()
    );
}

fn end(run: Run) {
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait(Duration::from_secs(60));
}

fn bucket(objects: Vec<Object>) -> Bucket {
    Bucket { name: "acme-cloudtrail".into(), prefix: String::new(), objects }
}

fn small_objects(count: usize) -> Vec<Object> {
    (0..count).map(|number| object(number, RECORDS as u64 * 1000)).collect()
}

/// An object of records of 1,000 bytes, as varied as real ones are: they deflate to about a seventh.
fn object(number: usize, bytes: u64) -> Object {
    let day = yesterday();
    let (year, month, date) = (day.year(), u8::from(day.month()), day.day());
    let key = format!(
        "AWSLogs/111122223333/CloudTrail/us-east-1/{year}/{month:02}/{date:02}/\
         111122223333_CloudTrail_us-east-1_{year}{month:02}{date:02}T0005Z_{number:016}.json.gz"
    );
    let mut dice = fastrand::Rng::with_seed(number as u64);
    let records: Vec<String> = (0..bytes / 1000)
        .map(|index| {
            let arn = format!("arn:aws:iam::111122223333:user/trail-{}", dice.u8(..));
            let mut record = format!(
                r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","principalId":"{:032x}","arn":"{arn}"}},"eventTime":"{year}-{month:02}-{date:02}T00:05:{:02}Z","eventSource":"s3.amazonaws.com","eventName":"PutObject","eventID":"{number}-{index}","requestID":"{:032x}","requestParameters":{{"key":""#,
                dice.u128(..),
                dice.u8(0..60),
                dice.u128(..),
            );
            while record.len() < 990 {
                record.push_str(["logs/", "2026/", "prod-", "index.", "json", "a7f3", "bucket/", "us-east-1/"][dice.usize(0..8)]);
            }
            record.push_str("\"}}");
            record
        })
        .collect();
    Object::native(key, &records, "of a given size")
}

fn inflate(mut input: &[u8], state: &mut DecompressorOxide, window: &mut [u8]) {
    state.init();
    let mut at = 0;
    loop {
        let (status, read, written) =
            decompress(state, input, window, at, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT);
        (input, at) = (&input[read..], (at + written) & (window.len() - 1));
        if status == miniz_oxide::inflate::TINFLStatus::Done {
            return;
        }
    }
}

/// The bare loop, as a process of its own: the same keys, as many at once, and nothing done with them.
fn get_all(endpoint: &str, keys: &Path) {
    let text = fs::read_to_string(keys).expect("keys");
    let keys = Arc::new(Mutex::new(text.lines().map(str::to_owned).collect::<Vec<_>>()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (client, keys, endpoint) = (client.clone(), keys.clone(), endpoint.to_owned());
            tasks.spawn(async move {
                loop {
                    let Some(key) = keys.lock().expect("no panic").pop() else { return };
                    let request = http::Request::get(format!("{endpoint}/acme-cloudtrail/{key}"))
                        .header(
                            "authorization",
                            format!(
                                "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/s3/aws4_request"
                            ),
                        )
                        .header("x-amz-date", "20260101T000000Z")
                        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
                        .body(Empty::new())
                        .expect("a request");
                    let answer = client.request(request).await.expect("an answer");
                    assert_eq!(answer.status(), 200, "{key}");
                    let mut body = answer.into_body();
                    while let Some(frame) = body.frame().await {
                        std::hint::black_box(frame.expect("a frame"));
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

/// CPU time of the children that have ended.
fn children() -> Duration {
    ticks("/proc/self/stat", [13, 14])
}

fn cpu_of(process: u32) -> Duration {
    ticks(&format!("/proc/{process}/stat"), [11, 12])
}

/// Times of a process, at their place behind its name: 100 to the second on Linux.
fn ticks(file: &str, places: [usize; 2]) -> Duration {
    let text = fs::read_to_string(file).expect("/proc");
    let (_, rest) = text.rsplit_once(") ").expect("a name");
    let fields: Vec<&str> = rest.split(' ').collect();
    let sum: u64 = places.iter().map(|place| fields[*place].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(sum * 10)
}

/// Times that any of its threads went to sleep: it woke as often.
fn wakes_of(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("/proc");
    let files = tasks.map(|task| task.expect("a thread").path().join("status"));
    files.map(|file| field(&file.to_string_lossy(), "voluntary_ctxt_switches:")).sum()
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| entry.metadata().map_or(0, |data| data.len())).sum()
}
