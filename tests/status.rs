//! What a running agent shows of itself, from outside: the real binary, a faulty S3 server, a faulty receiver.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::agent::{Home, Run, Setup, http_output};
use common::bucket::{Bucket, Plan, truth, yesterday};
use common::receiver::{Moods, Receiver};
use common::s3_server::{Denied, Faults, S3Server};
use nix::sys::signal::Signal;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_trailspool");
const TOKEN: &str = "a-token-that-nobody-may-see-0123";

struct Bench {
    bucket: Bucket,
    server: S3Server,
    receiver: Receiver,
    home: Home,
}

/// An agent whose status server listens on a port of the system's choice.
fn bench(faults: Faults, moods: Moods, listen: &str) -> Bench {
    let bucket = Bucket::generate(&Plan::small(7, yesterday()));
    let server = S3Server::start(&bucket, faults);
    let receiver = Receiver::start(moods);
    let home = Home::new();
    let folder = bucket.prefix.trim_end_matches('/');
    let name = if folder.is_empty() { bucket.name.clone() } else { format!("{}/{folder}", bucket.name) };
    home.configure(&Setup::new(&server, &name, http_output("siem", &receiver.url())));
    home.edit_config("status_listen = \"\"", listen);
    Bench { bucket, server, receiver, home }
}

/// The address that the log names `count` times or more, of the last time.
fn address(run: &mut Run, count: usize) -> SocketAddr {
    let said = |run: &Run| -> Vec<SocketAddr> {
        let log = run.log();
        let lines = log.lines().filter_map(|line| line.split_once("status page: http://"));
        lines.filter_map(|(_, rest)| rest.strip_suffix('/')?.parse().ok()).collect()
    };
    run.until("its status page is there", |run| said(run).len() >= count);
    said(run).pop().expect("an address")
}

/// Status, head and body of an answer.
fn get(at: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(at).expect("a connection to the status server");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

const LOCAL: &str = "Host: localhost\r\n";

fn status(at: SocketAddr) -> Value {
    let (code, _, body) = get(at, "/status.json", LOCAL);
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|fault| panic!("{fault}: {body}"))
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} is no number in {value}"))
}

/// The value of a series in `/metrics`.
fn metric(page: &str, series: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn the_status_while_collecting_adds_up_and_at_the_end_agrees_with_the_books() {
    let bench = bench(Faults::rough(7), Moods::rough(7), "status_listen = \"127.0.0.1:0\"");
    let truth = truth(&bench.bucket.objects, &|_| false);
    let mut run = bench.home.start(&[]);
    let at = address(&mut run, 1);
    let (mut last, mut reads) = (0, 0);
    run.until("everything is delivered", |_| {
        let shown = status(at);
        let records = number(&shown, "/sources/0/records/total");
        let parts = ["kept", "dropped", "duplicate", "quarantined"];
        let sum: u64 = parts.iter().map(|part| number(&shown, &format!("/sources/0/records/{part}"))).sum();
        assert_eq!(records, sum, "{shown}");
        assert!(records >= last, "{shown}");
        let kept = number(&shown, "/sources/0/records/kept");
        let seen =
            number(&shown, "/outputs/0/records/delivered") + number(&shown, "/outputs/0/records/rejected");
        assert!(seen <= kept, "{shown}");
        (last, reads) = (records, reads + 1);
        let objects =
            number(&shown, "/sources/0/objects/collected") + number(&shown, "/sources/0/objects/quarantined");
        objects == truth.objects && number(&shown, "/outputs/0/records/waiting") == 0 && seen == truth.kept
    });
    assert!(reads > 1);
    let shown = status(at);
    assert_eq!(number(&shown, "/sources/0/objects/collected"), truth.collected);
    assert_eq!(number(&shown, "/sources/0/records/kept"), truth.kept);
    assert_eq!(number(&shown, "/sources/0/records/quarantined"), truth.quarantined);
    assert_eq!(number(&shown, "/spool/oldest_seconds"), 0);
    assert!(number(&shown, "/sources/0/lag_seconds") > 0);
    let recent = shown["sources"][0]["recent"]["records"].as_array().expect("spans");
    assert!(recent.iter().filter_map(Value::as_u64).sum::<u64>() <= truth.records);

    let (_, _, metrics) = get(at, "/metrics", LOCAL);
    let series = |series: &str| metric(&metrics, series).unwrap_or_else(|| panic!("{series}:\n{metrics}"));
    assert_eq!(series("trailspool_records_total{source=\"prod\",fate=\"kept\"}"), truth.kept);
    assert_eq!(
        series("trailspool_objects_total{source=\"prod\",fate=\"quarantined\"}"),
        truth.quarantined_objects
    );
    let delivered = series("trailspool_delivered_records_total{output=\"siem\"}");
    let rejected = series("trailspool_rejected_records_total{output=\"siem\"}");
    assert_eq!(delivered + rejected, truth.kept);

    // The command, with the port that the system chose.
    let config = std::fs::read_to_string(bench.home.path("trailspool.toml")).expect("the configuration");
    let asking = bench.home.path("asking.toml");
    std::fs::write(&asking, config.replace("127.0.0.1:0", &at.to_string())).expect("a configuration");
    let ask = |words: &[&str]| {
        Command::new(BINARY)
            .arg("status")
            .arg("--config")
            .arg(&asking)
            .args(words)
            .output()
            .expect("the command")
    };
    let text = ask(&[]);
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.status.success() && said.contains(&format!("delivered {delivered}")), "{text:?}");
    let json: Value = serde_json::from_slice(&ask(&["--json"]).stdout).expect("JSON");
    assert_eq!(number(&json, "/sources/0/records/kept"), truth.kept);

    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(60)).expect_code(0);
    let silent = ask(&[]);
    assert_eq!(silent.status.code(), Some(69), "{silent:?}");

    // The books of the same state directory.
    bench.home.edit_config("status_listen = \"127.0.0.1:0\"", "status_listen = \"\"");
    let faults = bench.home.drain().books().faults(&truth);
    assert!(faults.is_empty(), "{faults:?}");
    drop(bench.receiver);
}

#[test]
fn the_lag_is_known_again_after_a_restart_that_collects_nothing() {
    let bench = bench(Faults::default(), Moods::default(), "status_listen = \"127.0.0.1:0\"");
    let lag = |shown: &Value| shown["sources"][0]["lag_seconds"].as_u64();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut run = bench.home.start(&[]);
        let at = address(&mut run, 1);
        run.until("a pass has ended and everything is done", |_| {
            let shown = status(at);
            let passes = shown["sources"][0]["counters"].as_array().expect("counters").iter();
            let passes = passes.filter(|counter| counter["name"] == "trailspool_passes_total");
            let done = number(&shown, "/spool/objects_in_work") == 0
                && number(&shown, "/outputs/0/records/waiting") == 0;
            passes.map(|counter| number(counter, "/value")).sum::<u64>() > 0 && done
        });
        seen.push(lag(&status(at)).expect("a lag"));
        run.signal(Signal::SIGTERM);
        run.wait(Duration::from_secs(60)).expect_code(0);
    }
    assert!(seen[1] >= seen[0], "{seen:?}");
}

#[test]
fn a_source_in_trouble_is_unhealthy_and_says_why() {
    let bench = bench(Faults::default(), Moods::default(), "status_listen = \"127.0.0.1:0\"");
    bench.server.deny(Denied::List);
    let mut run = bench.home.start(&[]);
    let at = address(&mut run, 1);
    run.until("the trouble shows", |_| get(at, "/healthz", LOCAL).0 == 503);
    let (_, _, why) = get(at, "/healthz", LOCAL);
    assert!(why.starts_with("source prod: "), "{why}");
    let (_, _, metrics) = get(at, "/metrics", LOCAL);
    assert_eq!(metric(&metrics, "trailspool_healthy"), Some(0));
    assert!(metrics.contains("trailspool_source_error{source=\"prod\",cause="), "{metrics}");
    let (code, head, page) = get(at, "/", LOCAL);
    assert_eq!(code, 200);
    assert!(head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    assert!(page.contains("Needs attention") && page.contains("in trouble"), "{page}");
}

#[test]
fn a_port_that_is_taken_is_warned_of_and_collecting_goes_on() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("its address");
    let bench = bench(Faults::default(), Moods::default(), &format!("status_listen = \"{address}\""));
    let truth = truth(&bench.bucket.objects, &|_| false);
    let mut run = bench.home.start(&[]);
    run.until("everything is delivered", |_| bench.receiver.received().lines() >= truth.kept);
    assert!(run.log().contains("another program listens there"), "{}", run.log());
}

#[test]
fn another_address_is_listened_on_when_the_configuration_is_read_again() {
    let bench = bench(Faults::default(), Moods::default(), "status_listen = \"127.0.0.1:0\"");
    let mut run = bench.home.start(&[]);
    let before = address(&mut run, 1);
    bench.home.edit_config("127.0.0.1:0", "127.0.0.2:0");
    run.signal(Signal::SIGHUP);
    let after = address(&mut run, 2);
    assert_eq!(after.ip(), Ipv4Addr::new(127, 0, 0, 2));
    status(after);
    assert!(TcpStream::connect(before).is_err(), "the old address is still listened on");
    bench.home.edit_config("status_listen = \"127.0.0.2:0\"", "status_listen = \"\"");
    run.signal(Signal::SIGHUP);
    run.until("nobody listens", |_| TcpStream::connect(after).is_err());
}

#[test]
fn without_the_token_nothing_is_shown_and_the_token_shows_nowhere() {
    let listen = "status_listen = \"0.0.0.0:0\"\nstatus_token_file = \"@TOKEN@\"\nlog_level = \"trace\"";
    let bench = bench(Faults::default(), Moods::default(), listen);
    let file = bench.home.path("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("the token's file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    bench.home.edit_config("@TOKEN@", file.to_str().expect("a path"));
    let mut run = bench.home.start(&[]);
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address(&mut run, 1).port());
    let mut shown = String::new();
    for path in ["/", "/status.json", "/status.txt", "/metrics", "/healthz"] {
        let (code, head, body) = get(at, path, "Host: box.example\r\n");
        assert_eq!(code, 401, "{path}");
        assert!(head.contains("WWW-Authenticate: Bearer") && !body.contains("prod"), "{path}: {body}");
        let (code, head, body) = get(at, path, &format!("Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"));
        assert_eq!(code, 200, "{path}: {body}");
        shown.push_str(&head);
        shown.push_str(&body);
    }
    run.signal(Signal::SIGTERM);
    let end = run.wait(Duration::from_secs(60)).expect_code(0);
    assert!(!shown.contains(TOKEN) && !end.stderr.contains(TOKEN));
}

#[test]
fn requests_under_a_foreign_name_and_endless_heads_are_refused() {
    let bench = bench(Faults::default(), Moods::default(), "status_listen = \"127.0.0.1:0\"");
    let mut run = bench.home.start(&[]);
    let at = address(&mut run, 1);
    assert_eq!(get(at, "/status.json", "Host: evil.example\r\n").0, 421);
    assert_eq!(get(at, "/other", LOCAL).0, 404);
    let long = format!("{LOCAL}X: {}\r\n", "x".repeat(trailspool::limits::STATUS_HEAD_BYTES));
    assert_eq!(get(at, "/", &long).0, 431);
    // More connections that say nothing than there are places: those that speak are answered once these are too slow.
    let idle: Vec<_> = (0..trailspool::limits::STATUS_CONNECTIONS + 4)
        .map(|_| TcpStream::connect(at).expect("a connection"))
        .collect();
    assert_eq!(get(at, "/healthz", LOCAL).0, 200);
    drop(idle);
}
