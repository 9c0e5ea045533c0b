//! HTTP outputs against receivers that hold them to the documented contract of each API: every record arrives byte for
//! byte, with and without gzip, with failures of whole requests and of single records, and over restarts.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::agent::{Home, Setup};
use common::bucket::{Bucket, Object, Plan, expected, yesterday};
use common::collectors::{Api, Collector, Moods, TOKEN};
use common::http_script::{mutual_tls, tls_file};
use common::s3_server::{Faults, S3Server};

struct Bench {
    home: Home,
    server: S3Server,
    bucket: Bucket,
}

impl Bench {
    /// A bucket with some 20 records an object.
    fn new(objects: usize) -> Bench {
        Bench::of(Bench::bucket(objects))
    }

    fn bucket(objects: usize) -> Bucket {
        let plan = Plan { objects, duplicates: 0, neighbours: false, ..Plan::small(7, yesterday()) };
        Bucket::generate(&plan)
    }

    fn of(bucket: Bucket) -> Bench {
        let server = S3Server::start(&bucket, Faults::default());
        let home = Home::new();
        std::fs::write(home.path("token"), TOKEN).unwrap();
        std::fs::set_permissions(home.path("token"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        Bench { home, server, bucket }
    }

    fn configure(&self, output: &str) {
        self.home.configure(&Setup::new(&self.server, &self.bucket.name, output));
    }

    /// Every record once.
    fn records(&self) -> BTreeMap<Vec<u8>, u64> {
        let all = expected(&self.bucket.objects, &|_| false);
        all.into_iter().map(|(record, count)| (record.to_vec(), count)).collect()
    }
}

/// The `[[output]]` of a receiver of this API.
fn output(api: Api, url: &str, token: &Path, more: &str) -> String {
    let keys = match api {
        Api::Ndjson => format!("url = \"{url}/in\"\nbearer_token_file = {token:?}"),
        Api::JsonArray => {
            format!("preset = \"json-array\"\nurl = \"{url}/in\"\nbearer_token_file = {token:?}")
        }
        Api::Hec => format!("preset = \"splunk-hec\"\nurl = \"{url}\"\nsplunk_token_file = {token:?}"),
        Api::HecAck => format!(
            "preset = \"splunk-hec\"\nurl = \"{url}\"\nsplunk_token_file = {token:?}\nack = true\nack_timeout_seconds = 2"
        ),
        Api::HecRaw => format!(
            "preset = \"splunk-hec\"\nurl = \"{url}/services/collector/raw\"\nsplunk_token_file = {token:?}\nindex = \"aws\""
        ),
        Api::Bulk => format!(
            "preset = \"elastic-bulk\"\nurl = \"{url}\"\napi_key_file = {token:?}\nindex = \"cloudtrail\""
        ),
        Api::Loki => format!(
            "preset = \"loki\"\nurl = \"{url}\"\nusername = \"audit\"\npassword_file = {token:?}\nlabels = {{ job = \"cloudtrail\" }}"
        ),
    };
    format!("[[output]]\nname = \"siem\"\nkind = \"http\"\n{keys}\n{more}\n")
}

const ALL: [Api; 7] = [Api::Ndjson, Api::JsonArray, Api::Hec, Api::HecAck, Api::HecRaw, Api::Bulk, Api::Loki];

#[test]
fn every_preset_delivers_ten_thousand_records_byte_for_byte() {
    let mut bench = Bench::new(560);
    let records = bench.records();
    assert!(records.len() >= 10_000, "{}", records.len());
    for api in ALL {
        let collector = Collector::start(api, Moods::default());
        // what another output has delivered is nothing to this one
        bench.home = Bench::new(0).home;
        let more = if api == Api::HecAck {
            "concurrency = 4\ncompression = \"gzip\""
        } else {
            "compression = \"gzip\""
        };
        bench.configure(&output(api, &collector.url(), &bench.home.path("token"), more));
        let end = bench.home.once().expect_code(0);
        let guard = collector.received();
        let received = &guard.1;
        assert_eq!(received.wrong, Vec::<String>::new(), "{api:?}");
        assert!(received.records == records, "{api:?}: {} of {}", received.records.len(), records.len());
        assert_eq!(end.books().outputs[0].delivered, records.values().sum::<u64>(), "{api:?}");
    }
}

#[test]
fn failing_requests_and_restarts_delay_but_lose_nothing() {
    for api in ALL {
        let bench = Bench::new(60);
        let records = bench.records();
        let collector =
            Collector::start(api, Moods { unavailable_every: 5, lost_acks: 1, ..Moods::default() });
        let more = "batch_records = 100\nconcurrency = 3\nidempotency_header = \"Idempotency-Key\"";
        bench.configure(&output(api, &collector.url(), &bench.home.path("token"), more));
        for _ in 0..2 {
            let mut run = bench.home.start(&[]);
            let before = collector.received().1.requests;
            run.until("some requests", |_| collector.received().1.requests > before + 3);
            run.kill();
        }
        bench.home.drain();
        let guard = collector.received();
        let received = &guard.1;
        assert_eq!(received.wrong, Vec::<String>::new(), "{api:?}");
        for record in records.keys() {
            assert!(received.records.contains_key(record), "{api:?}: a record is missing");
        }
        assert_eq!(received.records.len(), records.len(), "{api:?}: nothing is invented");
        if api == Api::Bulk {
            assert!(received.records.values().all(|&count| count == 1), "ids make repetitions harmless");
        }
        assert!(!received.keys.is_empty());
        for (key, bodies) in &received.keys {
            assert!(bodies.iter().all(|body| body == &bodies[0]), "{api:?}: {key} names one batch");
        }
    }
}

#[test]
fn a_bad_record_is_set_aside_alone_and_busy_items_are_sent_again() {
    for api in [Api::Ndjson, Api::JsonArray, Api::Hec, Api::Bulk] {
        let bench = Bench::new(40);
        let records = bench.records();
        let id = b"\"eventID\":\"";
        let victim = records.keys().nth(records.len() / 2).unwrap();
        let at = memchr::memmem::find(victim, id).expect("an id");
        let poison: &'static [u8] = victim[at..at + 47].to_vec().leak();
        let collector =
            Collector::start(api, Moods { poison: Some(poison), busy_every: 7, ..Moods::default() });
        bench.configure(&output(api, &collector.url(), &bench.home.path("token"), "batch_records = 200"));
        let end = bench.home.drain();
        let guard = collector.received();
        assert_eq!(guard.1.wrong, Vec::<String>::new(), "{api:?}");
        assert_eq!(guard.1.records.len(), records.len() - 1, "{api:?}");
        assert!(!guard.1.records.contains_key(victim));
        let books = &end.books().outputs[0];
        assert_eq!((books.rejected, books.waiting), (1, 0), "{api:?}");
        assert_eq!(books.delivered, records.values().sum::<u64>() - 1, "{api:?}");
    }
}

/// Somebody rewrote a record and left its `eventID` as it was: both are evidence.
#[test]
fn elasticsearch_gets_two_records_of_one_event_whose_bytes_differ() {
    let mut bucket = Bench::bucket(10);
    let object = bucket.objects.iter().find(|object| !object.records.is_empty()).expect("an object");
    let record = String::from_utf8(object.records[0].to_vec()).expect("UTF-8");
    let rewritten = record.replacen('{', "{\"tampered\":true,", 1);
    let stem = &object.key[..object.key.len() - "0123456789abcdef.json.gz".len()];
    let key = format!("{stem}fedcba9876543210.json.gz");
    bucket.objects.push(Object::native(key, &[&rewritten, &record], "a record rewritten, and its copy"));
    let bench = Bench::of(bucket);
    let records = bench.records();
    let collector = Collector::start(Api::Bulk, Moods::default());
    bench.configure(&output(Api::Bulk, &collector.url(), &bench.home.path("token"), ""));
    let end = bench.home.once().expect_code(0);
    let received = &collector.received().1;
    assert_eq!(received.wrong, Vec::<String>::new());
    assert!(received.records.contains_key(rewritten.as_bytes()), "the rewritten one");
    assert!(received.records.contains_key(record.as_bytes()), "the first one");
    assert!(received.records.keys().eq(records.keys()), "every record is there");
    assert!(received.records.values().all(|&count| count == 1), "a copy is the same document");
    assert_eq!(end.books().outputs[0].delivered, records.values().sum::<u64>());
}

#[test]
fn what_loki_finds_too_old_is_set_aside_in_few_requests() {
    let bench = Bench::new(60);
    let records = bench.records();
    let oldest = yesterday().midnight().assume_utc().unix_timestamp();
    let is_old = |record: &Vec<u8>| {
        let value: serde_json::Value = serde_json::from_slice(record).unwrap();
        value["eventTime"].as_str().unwrap() < &*format!("{}T00:00:00Z", yesterday())
    };
    let old = records.keys().filter(|record| is_old(record)).count();
    assert!(old > 50 && old < records.len());
    let collector = Collector::start(Api::Loki, Moods { oldest: Some(oldest), ..Moods::default() });
    bench.configure(&output(Api::Loki, &collector.url(), &bench.home.path("token"), ""));
    let end = bench.home.drain();
    let guard = collector.received();
    assert_eq!(guard.1.wrong, Vec::<String>::new());
    assert_eq!(guard.1.records.len(), records.len() - old);
    assert_eq!(end.books().outputs[0].rejected, old as u64);
    assert!(guard.1.requests < 60, "{} requests for {old} old records", guard.1.requests);
}

/// As after a week without power: the first batches hold nothing that Loki takes, and no record was accepted before.
#[test]
fn a_backlog_that_is_all_too_old_for_loki_is_set_aside() {
    let bench = Bench::new(40);
    let records = bench.records().values().sum::<u64>();
    assert!(records > 200, "{records}");
    let oldest = (yesterday() + time::Duration::days(3)).midnight().assume_utc().unix_timestamp();
    let collector = Collector::start(Api::Loki, Moods { oldest: Some(oldest), ..Moods::default() });
    bench.configure(&output(Api::Loki, &collector.url(), &bench.home.path("token"), "batch_records = 20"));
    let books = bench.home.drain().books();
    assert_eq!(collector.received().1.wrong, Vec::<String>::new());
    let output = &books.outputs[0];
    assert_eq!((output.rejected, output.delivered, output.waiting), (records, 0, 0));
}

#[test]
fn a_single_run_does_not_wait_for_records_that_cannot_come() {
    let bench = Bench::new(3);
    let records = bench.records();
    let collector = Collector::start(Api::Ndjson, Moods::default());
    // an hour is more than the run is given
    let more = "batch_seconds = 3600";
    bench.configure(&output(Api::Ndjson, &collector.url(), &bench.home.path("token"), more));
    bench.home.once().expect_code(0);
    assert!(collector.received().1.records == records);
}

#[test]
fn an_output_that_is_down_holds_no_other_and_may_give_up_records() {
    let bench = Bench::new(1500);
    let mut lines = std::collections::HashSet::new();
    let down =
        "[[output]]\nname = \"down\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/\"\non_full = \"skip\"\n";
    let file = bench.home.path("out.ndjson");
    let outputs = format!("{down}{}", common::agent::file_output("file", &file));
    bench.configure(&outputs);
    bench
        .home
        .edit_config("status_listen = \"\"\n", "status_listen = \"\"\n[spool]\nmax_bytes = \"32MiB\"\n");
    let records = bench.records();
    let total: usize = records.keys().map(Vec::len).sum();
    assert!(total > (34 << 20), "{total} bytes do not fill the spool");
    let mut run = bench.home.start(&[]);
    run.until("every record in the file", |_| {
        std::fs::metadata(&file).is_ok_and(|meta| meta.len() >= total as u64 + records.len() as u64)
    });
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait(std::time::Duration::from_secs(60)).expect_code(0);
    for line in std::fs::read(&file).unwrap().split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        lines.insert(line.to_vec());
    }
    assert!(records.keys().all(|record| lines.contains(record)));
    let receiver = common::receiver::Receiver::start(common::receiver::Moods::default());
    bench.home.edit_config("http://127.0.0.1:9/", &receiver.url());
    let books = bench.home.drain().books();
    let down = books.outputs.iter().find(|output| output.name == "down").unwrap();
    assert!(down.skipped > 0 && down.delivered > 0 && down.waiting == 0, "{down:?}");
    assert_eq!(down.skipped + down.delivered, down.kept, "each record is counted once");
    assert_eq!(down.kept, records.values().sum::<u64>());
    assert_eq!(receiver.received().lines(), down.delivered, "and what was not given up has arrived");
}

/// The findings of a check of the output, and its exit code.
fn check(bench: &Bench) -> (i32, Vec<serde_json::Value>) {
    let end = bench.home.check(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&end.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    (end.code().expect("a code"), findings.iter().filter(|found| found["name"] == "siem").cloned().collect())
}

#[track_caller]
fn expect(findings: &[serde_json::Value], probe: &str, level: &str, key: &str, words: &str) {
    let found = findings.iter().find(|found| found["probe"] == probe);
    let found = found.unwrap_or_else(|| panic!("no {probe} in {findings:?}"));
    assert_eq!(found["level"], level, "{found}");
    assert!(found[key].as_str().expect("a text").contains(words), "{words:?} is not in {key} of {found}");
}

#[test]
fn a_check_asks_each_receiver_how_it_is_and_sends_no_record() {
    let bench = Bench::new(3);
    let token = bench.home.path("token");
    for api in ALL {
        let has_health = !matches!(api, Api::Ndjson | Api::JsonArray);
        let collector = Collector::start(api, Moods::default());
        bench.configure(&output(api, &collector.url(), &token, ""));
        let (code, findings) = check(&bench);
        assert_eq!(code, 0, "{api:?}: {findings:?}");
        if has_health {
            let words = match api {
                Api::Bulk => "is version 8.15.3",
                Api::Loki => "is ready",
                _ => "the collector is well",
            };
            expect(&findings, "health", "ok", "what", words);
            // A token that it does not know.
            std::fs::write(&token, "another-token-than-it-knows").unwrap();
            let (code, findings) = check(&bench);
            assert_eq!(code, 77, "{api:?}: {findings:?}");
            let key = match api {
                Api::Bulk => "`api_key_file`",
                Api::Loki => "`password_file`",
                _ => "`splunk_token_file`",
            };
            expect(&findings, "health", "fail", "fix", key);
            std::fs::write(&token, TOKEN).unwrap();
            let unwell = Collector::start(api, Moods { unwell: true, ..Moods::default() });
            bench.configure(&output(api, &unwell.url(), &token, ""));
            let (code, findings) = check(&bench);
            assert_eq!(code, 0, "it may be well again: {findings:?}");
            expect(&findings, "health", "warn", "why", "not well");
        }
        let received = &collector.received().1;
        assert_eq!((received.records.len(), &received.wrong), (0, &Vec::new()), "{api:?}");
        assert_eq!(received.requests, if has_health { 2 } else { 0 }, "{api:?}");
    }
    // Another API than the preset's.
    let collector = Collector::start(Api::Loki, Moods::default());
    bench.configure(&output(Api::Bulk, &collector.url(), &token, ""));
    let (code, findings) = check(&bench);
    assert_eq!(code, 78, "{findings:?}");
    expect(&findings, "health", "fail", "fix", "`preset`");
}

#[test]
fn a_receiver_that_demands_a_client_certificate_gets_the_right_one_and_otherwise_it_is_said_what_to_do() {
    let bench = Bench::new(8);
    let (records, token) = (bench.records(), bench.home.path("token"));
    let key = bench.home.path("client.key");
    std::fs::copy(tls_file("server.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let ca = format!("ca_file = {:?}\n", tls_file("ca.pem"));
    let identity = |name| format!("client_cert_file = {:?}\nclient_key_file = {key:?}\n", tls_file(name));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let collector = Collector::start_with(Some(mutual_tls(version)), Api::Ndjson, Moods::default());
        for (lines, code, kind, words) in [
            (ca.clone(), 77, "`client_cert_file`", "set `client_cert_file` and `client_key_file`"),
            // signed by somebody whom the receiver does not trust, and over
            (ca.clone() + &identity("expired.pem"), 77, "`client_cert_file`", "whether the server trusts"),
            (identity("server.pem"), 78, "`ca_file`", "`ca_file`"),
        ] {
            bench.configure(&output(Api::Ndjson, &collector.secure_url(), &token, &lines));
            let (found, findings) = check(&bench);
            assert_eq!(found, code, "{version:?} {lines}: {findings:?}");
            expect(&findings, "tls", "fail", "fix", words);
            let end = bench.home.start(&["--once", "--timeout", "2"]);
            let end = end.wait(std::time::Duration::from_secs(60)).expect_code(75);
            assert!(end.stderr.contains(kind), "{version:?}: {kind} is not in\n{}", end.stderr);
        }
        assert_eq!(collector.received().1.requests, 0, "nobody else was let in");
        bench.configure(&output(
            Api::Ndjson,
            &collector.secure_url(),
            &token,
            &(ca.clone() + &identity("server.pem")),
        ));
        let (code, findings) = check(&bench);
        assert_eq!(code, 0, "{findings:?}");
        expect(&findings, "tls", "ok", "what", "is accepted");
        bench.home.once().expect_code(0);
        let received = &collector.received().1;
        assert_eq!(received.wrong, Vec::<String>::new());
        assert!(received.records == records, "{version:?}: {} of {}", received.records.len(), records.len());
        // The next version begins anew.
        std::fs::remove_dir_all(bench.home.state_dir()).unwrap();
    }
}
