//! `trailspool check` from end to end: the real binary against a bucket that is wrong in one way at a time, what
//! it finds, the fix that it proposes, and what it leaves alone.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use common::agent::{Home, Setup, file_output, http_output};
use common::bucket::{Bucket, Fate, Object, Plan, yesterday};
use common::receiver::{Moods, Receiver};
use common::s3_server::{ACCESS_KEY, CALLER, Denied, Elsewhere, Faults, KMS_KEY, S3Server, SECRET_KEY};
use common::sqs_server::{QUEUE_ACCOUNT, SqsFaults, SqsServer};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A bucket, its server, and a configuration that is right unless a test changes it.
struct Bench {
    bucket: Bucket,
    server: S3Server,
    home: Home,
}

impl Bench {
    fn new(plan: &Plan) -> Bench {
        let mut bucket = Bucket::generate(plan);
        bucket.objects.push(fresh(&bucket));
        let server = S3Server::start(&bucket, Faults::default());
        let home = Home::new();
        home.configure(&Setup {
            key_prefix: plan.prefix.trim_end_matches('/').into(),
            rules: format!("sts_endpoint = \"{}\"\n", server.endpoint()),
            ..Setup::new(&server, &bucket.name, file_output("file", &home.path("out.ndjson")))
        });
        Bench { bucket, server, home }
    }

    fn check(&self) -> Checked {
        check(&self.home)
    }
}

fn plan(seed: u64) -> Plan {
    Plan { objects: 12, max_records: 20, ..Plan::small(seed, yesterday()) }
}

/// A log that was delivered just now, beside one of the bucket's.
fn fresh(bucket: &Bucket) -> Object {
    let log = bucket.objects.iter().find(|o| o.fate == Fate::Collected).expect("a log");
    let parts: Vec<&str> = log.key.split('/').collect();
    let [stream @ .., _, _, _, file] = &parts[..] else { panic!("{}", log.key) };
    let [account, kind, region, ..] = file.split('_').collect::<Vec<_>>()[..] else { panic!("{file}") };
    let now = time::OffsetDateTime::from(now());
    let (date, hour, minute) = (now.date(), now.hour(), now.minute() / 5 * 5);
    let day = format!("{:04}/{:02}/{:02}", date.year(), u8::from(date.month()), date.day());
    let stamp = format!("{}T{hour:02}{minute:02}Z", day.replace('/', ""));
    let key =
        format!("{}/{day}/{account}_{kind}_{region}_{stamp}_Fr3shFr3shFr3sh0.json.gz", stream.join("/"));
    Object::native(key, &["{\"eventName\":\"A\"}", "{\"eventName\":\"B\"}"], "delivered just now")
}

#[allow(clippy::disallowed_methods, reason = "the test's own clock")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// The findings of one check.
#[derive(Debug)]
struct Checked {
    code: i32,
    findings: Vec<Value>,
    text: String,
}

/// Checks twice, as JSON and as text; both must agree, and neither may hold a secret.
#[track_caller]
fn check(home: &Home) -> Checked {
    let json = home.check(&["--json"]);
    let text = home.check(&[]);
    let code = json.code().expect("an exit code");
    assert_eq!(text.code(), Some(code), "both ways end alike");
    let shown = [String::from_utf8_lossy(&json.stdout), String::from_utf8_lossy(&text.stdout)];
    for output in shown.iter().map(|s| &**s).chain([&*json.stderr, &*text.stderr]) {
        assert!(!output.contains(SECRET_KEY), "a secret is shown:\n{output}");
    }
    let report: Value =
        serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{error}: {}", json.stderr));
    assert_eq!((&report["version"], &report["exit"]), (&1.into(), &code.into()));
    let findings = report["findings"].as_array().expect("findings").clone();
    for finding in &findings {
        // What was found may differ between the two: ages, times to answer, free space.
        let fix = finding["fix"].as_str().expect("a string");
        assert!(shown[1].contains(fix), "{fix} is not in the text:\n{}", shown[1]);
    }
    Checked { code, findings, text: shown[1].clone().into_owned() }
}

impl Checked {
    #[track_caller]
    fn expect_code(self, code: i32) -> Checked {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    /// The finding of a probe; the name is that of the source or output, or empty.
    #[track_caller]
    fn of(&self, name: &str, probe: &str) -> &Value {
        let found = self.findings.iter().find(|f| f["name"] == name && f["probe"] == probe);
        found.unwrap_or_else(|| panic!("no finding of {name:?} {probe}:\n{}", self.text))
    }

    #[track_caller]
    fn expect(&self, name: &str, probe: &str, level: &str) -> &Value {
        let finding = self.of(name, probe);
        assert_eq!((&finding["level"], &finding["tested"]), (&level.into(), &true.into()), "{}", self.text);
        finding
    }

    #[track_caller]
    fn expect_untested(&self, name: &str, probes: &[&str]) {
        for probe in probes {
            let finding = self.of(name, probe);
            assert_eq!(finding["tested"], false, "{probe}:\n{}", self.text);
            let what = finding["what"].as_str().expect("a string");
            assert!(what.starts_with("not tested, because ") && what.len() > 25, "{what}");
        }
    }

    /// Probes with this level.
    fn with_level(&self, level: &str) -> Vec<&str> {
        self.findings.iter().filter(|f| f["level"] == level).filter_map(|f| f["probe"].as_str()).collect()
    }
}

#[track_caller]
fn says(finding: &Value, part: &str, words: &str) {
    let text = finding[part].as_str().expect("a string");
    assert!(text.contains(words), "{words} is not in: {text}");
}

/// Every file below a folder, with its size.
fn files(folder: &Path) -> BTreeSet<(std::path::PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.metadata().expect("its data") {
            meta if meta.is_dir() => found.append(&mut files(&entry.path())),
            meta => drop(found.insert((entry.path(), meta.len()))),
        }
    }
    found
}

#[test]
fn a_sound_set_up_is_well_in_every_point() {
    let bench = Bench::new(&plan(1));
    let checked = bench.check().expect_code(0);
    assert_eq!(checked.with_level("fail"), [""; 0], "{}", checked.text);
    let probes: Vec<_> = checked.findings.iter().filter_map(|f| f["probe"].as_str()).collect();
    let (agent, source, output) = (
        ["state-dir", "space", "inodes", "agent"],
        [
            "dns",
            "tcp",
            "tls",
            "answer",
            "clock",
            "credentials",
            "list",
            "region",
            "objects",
            "key-prefix",
            "polling",
            "newest",
            "get",
            "decode",
        ],
        ["file", "space"],
    );
    assert_eq!(probes, [&["config"][..], &agent, &source, &output].concat());
    // How much room the disk has is not this test's business.
    for probe in source {
        checked.expect("prod", probe, "ok");
    }
    says(
        checked.of("prod", "credentials"),
        "what",
        &format!("access key {ACCESS_KEY} is accepted: {CALLER}"),
    );
    says(checked.of("prod", "decode"), "what", "2 records");
    assert!(checked.text.contains("\nsource prod\n  ok    dns "), "{}", checked.text);
    assert!(!bench.home.state_dir().exists() && !bench.home.path("out.ndjson").exists(), "nothing is made");
    assert_eq!(bench.server.wrongly_fetched(), [""; 0], "no log objects");
    assert_eq!(bench.server.stats().refused, [""; 0], "requests that S3 would refuse");
}

/// "Check the policy": listing is not allowed.
#[test]
fn a_policy_without_list_is_named_with_the_statement_to_add() {
    let bench = Bench::new(&plan(2));
    bench.server.deny(Denied::List);
    let checked = bench.check().expect_code(77);
    let list = checked.expect("prod", "list", "fail");
    says(list, "why", "HTTP 403 AccessDenied");
    says(list, "fix", &format!("the IAM policy of {CALLER}: "));
    says(
        list,
        "fix",
        r#"{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-cloudtrail"}"#,
    );
    checked.expect("prod", "credentials", "ok");
    checked.expect_untested("prod", &["objects", "key-prefix", "polling", "newest", "get", "decode"]);
    assert_eq!(checked.with_level("fail"), ["list"]);
}

/// "Check the policy": reading is not allowed.
#[test]
fn a_policy_without_get_is_named_with_the_statement_to_add() {
    let bench = Bench::new(&plan(3));
    bench.server.deny(Denied::Get);
    let checked = bench.check().expect_code(77);
    let statement =
        r#"{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-cloudtrail/AWSLogs/*"}"#;
    says(checked.expect("prod", "get", "fail"), "fix", statement);
    checked.expect("prod", "newest", "ok");
    checked.expect_untested("prod", &["decode"]);
}

/// wazuh/wazuh#13885, boto/boto3#2952, aws/aws-cli#6713: a KMS denial looks like a plain AccessDenied.
#[test]
fn a_kms_key_that_may_not_be_used_is_told_apart_and_named() {
    let bench = Bench::new(&plan(4));
    bench.server.deny(Denied::Kms);
    let checked = bench.check().expect_code(77);
    let get = checked.expect("prod", "get", "fail");
    says(get, "what", "KMS");
    says(get, "fix", &format!(r#""Action":"kms:Decrypt","Resource":"{KMS_KEY}""#));
}

#[test]
fn a_place_without_credentials_is_told_before_anything_is_asked_for() {
    let bench = Bench::new(&plan(22));
    let user = format!("method = \"iam-user\"\n  access_key_id = \"{ACCESS_KEY}\"\n  secret_key_file = ");
    let text = fs::read_to_string(bench.home.path("trailspool.toml")).expect("the configuration");
    let (before, after) = text.split_once(&user).expect("the credentials");
    let after = after.split_once('\n').map_or("", |(_, rest)| rest);
    bench.home.write_config(&format!("{before}method = \"profile\"\n  profile = \"nobody\"\n{after}"));
    let checked = bench.check();
    assert!(matches!(checked.code, 77 | 78), "{}", checked.text);
    says(checked.expect("prod", "credentials", "fail"), "why", "nobody");
    checked.expect_untested(
        "prod",
        &["list", "region", "objects", "key-prefix", "polling", "newest", "get", "decode"],
    );
    assert_eq!(bench.server.stats().lists, 0);
}

#[test]
fn credentials_that_are_not_known_are_no_matter_of_policies() {
    let bench = Bench::new(&plan(5));
    bench.home.edit_config(ACCESS_KEY, "AKIAI44QH8DHBEXAMPLE");
    let checked = bench.check().expect_code(77);
    says(checked.expect("prod", "credentials", "fail"), "why", "InvalidAccessKeyId");
    checked.expect_untested(
        "prod",
        &["list", "region", "objects", "key-prefix", "polling", "newest", "get", "decode"],
    );
}

/// "Check the region", and "301 Moved Permanently": whoever answers, and whether or not the server tells the region
/// to strangers, the right one is proposed, and the rest is tested there.
#[test]
fn a_wrong_region_is_named_with_the_line_to_write_and_the_rest_is_tested_in_the_right_one() {
    for (seed, elsewhere, hidden) in
        [(6, Elsewhere::Malformed, true), (7, Elsewhere::Redirect, true), (8, Elsewhere::Redirect, false)]
    {
        let bench = Bench::new(&plan(seed));
        bench.server.set_region("eu-west-1", elsewhere);
        if hidden {
            bench.server.hide_region();
        }
        let checked = bench.check().expect_code(0);
        let region = checked.expect("prod", "region", "warn");
        says(region, "what", "bucket acme-cloudtrail is in region eu-west-1, not in us-east-1");
        says(region, "fix", "`region = \"eu-west-1\"`");
        checked.expect("prod", "decode", "ok");

        bench.home.edit_config("region = \"us-east-1\"", "region = \"eu-west-1\"");
        bench.check().expect_code(0).expect("prod", "region", "ok");
    }
}

/// "No logs": nothing was ever delivered.
#[test]
fn an_empty_bucket_is_told_from_a_wrong_prefix() {
    let bench = Bench::new(&plan(9));
    bench.server.clear();
    let checked = bench.check().expect_code(78);
    let objects = checked.expect("prod", "objects", "fail");
    says(objects, "what", "bucket acme-cloudtrail is empty");
    says(objects, "fix", "get-trail-status");
    checked.expect("prod", "list", "ok");
    checked.expect_untested("prod", &["key-prefix", "polling", "newest", "get", "decode"]);
}

/// "Check the key prefix": the proposed lines are written into the configuration, and all is well.
#[test]
fn a_wrong_key_prefix_is_answered_with_the_lines_that_are_right() {
    for (seed, prefix, bucket, key_prefix, proposed) in [
        (10, "trail/", "acme-cloudtrail", "", "`key_prefix = \"trail\"`"),
        (11, "a b/deep/er/", "acme-cloudtrail", "", "`key_prefix = \"a b/deep/er\"`"),
        (
            12,
            "trail/",
            "acme-cloudtrail/folder",
            "trial",
            "`bucket = \"acme-cloudtrail\"` and `key_prefix = \"trail\"`",
        ),
        (13, "", "acme-cloudtrail", "trail", "`bucket = \"acme-cloudtrail\"` and `key_prefix = \"\"`"),
    ] {
        let bench = Bench::new(&Plan { prefix, ..plan(seed) });
        let outputs = file_output("file", &bench.home.path("out.ndjson"));
        let wrong = Setup { key_prefix: key_prefix.into(), ..Setup::new(&bench.server, bucket, outputs) };
        bench.home.configure(&wrong);
        let checked = bench.check().expect_code(78);
        let finding = checked.expect("prod", "key-prefix", "fail");
        says(finding, "fix", proposed);
        checked.expect("prod", "objects", "ok");
        checked.expect_untested("prod", &["polling", "newest", "get", "decode"]);

        for line in proposed.split('`').filter(|line| line.contains(" = ")) {
            let key = line.split(' ').next().expect("a key");
            let old = if key == "bucket" { format!("{bucket:?}") } else { format!("{key_prefix:?}") };
            bench.home.edit_config(&format!("{key} = {old}"), line);
        }
        let checked = bench.check().expect_code(0);
        checked.expect("prod", "decode", "ok");
    }
}

#[test]
fn a_bucket_without_any_awslogs_says_what_is_there_instead() {
    let bench = Bench::new(&plan(14));
    bench.server.clear();
    let log = &bench.bucket.objects[0];
    for place in ["elb", "backups/AWSLogs", "AWSLogs/123"] {
        bench.server.add(&Object { key: format!("{place}/file.gz"), ..log.clone() });
    }
    let checked = bench.check().expect_code(78);
    let finding = checked.expect("prod", "key-prefix", "fail");
    says(finding, "why", "\"AWSLogs\", \"backups\", \"elb\"");
    says(finding, "fix", "Storage location");
}

#[test]
fn the_level_of_an_organisation_is_understood_and_accounts_that_are_not_there_are_named() {
    let bench = Bench::new(&Plan { organisation: "o-abc123def4/", ..plan(15) });
    let checked = bench.check().expect_code(0);
    says(checked.expect("prod", "key-prefix", "ok"), "what", "2 account(s) of organisation o-abc123def4");
    bench.home.edit_config("start = ", "accounts = [\"000000000000\"]\nstart = ");
    let checked = bench.check().expect_code(78);
    says(checked.expect("prod", "key-prefix", "fail"), "why", "\"000000000000\"");
    checked.expect_untested("prod", &["polling", "newest", "get", "decode"]);
}

#[test]
fn a_trail_that_stopped_is_a_warning() {
    let bucket = Bucket::generate(&plan(16));
    let server = S3Server::start(&bucket, Faults::default());
    let home = Home::new();
    home.configure(&Setup::new(&server, &bucket.name, file_output("file", &home.path("out.ndjson"))));
    let checked = check(&home).expect_code(0);
    says(checked.expect("prod", "newest", "warn"), "fix", "get-trail-status");
    checked.expect("prod", "get", "ok");
}

#[test]
fn a_faulty_configuration_shows_every_fault_and_the_rest_is_tested() {
    let bench = Bench::new(&plan(17));
    let text = fs::read_to_string(bench.home.path("trailspool.toml")).expect("the configuration");
    let bad = "[[source]]\nname = \"bad\"\nbucket = \"Not A Bucket\"\nregion = \"mars\"\n\n[[output]]\nname = \"worse\"\n";
    bench.home.write_config(&text.replace("[[source]]", &format!("{bad}\n[[source]]")));
    let checked = bench.check().expect_code(78);
    let faults: Vec<_> = checked.findings.iter().filter(|f| f["part"] == "config").collect();
    for word in ["bucket", "region", "credentials", "kind"] {
        assert!(
            faults.iter().any(|f| f["what"].as_str().is_some_and(|what| what.ends_with(word))),
            "{word}: {}",
            checked.text
        );
    }
    checked.expect_untested("bad", &["config"]);
    checked.expect_untested("worse", &["config"]);
    checked.expect("prod", "decode", "ok");
    checked.expect("", "state-dir", "ok");

    // What stands in a broken line may be what matters: nothing is tested on a guess.
    bench.home.write_config(&text.replace("region = \"us-east-1\"", "region = us-east-1"));
    let checked = bench.check().expect_code(78);
    checked.expect("", "config", "fail");
    checked.expect_untested("", &["state-dir"]);
    assert!(!checked.findings.iter().any(|f| f["part"] == "source"), "{}", checked.text);
}

#[test]
fn an_output_that_cannot_be_reached_is_told_without_its_secrets() {
    let bench = Bench::new(&plan(18));
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let token = bench.home.path("token");
    fs::write(&token, "bearer-token-of-the-siem").expect("the token's file");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("its mode");
    let url = format!("http://{closed}/collector/4f3c2b1a09876543/in?key=query-secret");
    let output = format!("{}bearer_token_file = {token:?}\n", http_output("siem", &url));
    bench.home.configure(&Setup::new(&bench.server, &bench.bucket.name, output));
    let checked = bench.check().expect_code(69);
    says(checked.expect("siem", "tcp", "fail"), "why", "refused");
    checked.expect_untested("siem", &["tls"]);
    checked.expect("prod", "decode", "ok");
    for secret in ["bearer-token-of-the-siem", "4f3c2b1a09876543", "query-secret"] {
        let found = checked.text.contains(secret) || format!("{:?}", checked.findings).contains(secret);
        assert!(!found, "{secret} is shown:\n{}", checked.text);
    }
}

#[test]
fn an_output_that_can_be_reached_gets_nothing() {
    let bench = Bench::new(&plan(19));
    let receiver = Receiver::start(Moods::default());
    let output = http_output("siem", &receiver.url());
    bench.home.configure(&Setup::new(&bench.server, &bench.bucket.name, output));
    let checked = bench.check().expect_code(0);
    checked.expect("siem", "tcp", "ok");
    let received = receiver.received();
    assert_eq!((received.requests, received.wrong), (0, Vec::new()));
}

#[test]
fn a_state_directory_that_cannot_be_made_is_told() {
    let bench = Bench::new(&plan(20));
    let file = bench.home.path("in-the-way");
    fs::write(&file, "").expect("a file");
    bench.home.edit_config(&format!("{:?}", bench.home.state_dir()), &format!("{:?}", file.join("state")));
    let checked = bench.check().expect_code(74);
    says(checked.expect("", "state-dir", "fail"), "fix", "another folder");
    checked.expect_untested("", &["space", "inodes", "agent"]);
    checked.expect("prod", "decode", "ok");
}

#[test]
fn a_running_agent_notices_nothing() {
    let bench = Bench::new(&plan(21));
    let mut run = bench.home.start(&[]);
    let kept = bench.bucket.objects.iter().map(|o| o.readable().count()).sum::<usize>();
    let out = bench.home.path("out.ndjson");
    let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    run.until("everything is collected", |_| lines() == kept);
    // What it still writes by itself would look like the check's doing.
    run.until("everything that it remembers is saved", |_| {
        let found = files(&bench.home.state_dir());
        let has = |end: &str| found.iter().any(|(path, _)| path.to_string_lossy().ends_with(end));
        has("cursors/file.cur") && has("prod.state") && has("ledger/checkpoint") && !has(".tmp")
    });
    let (log, before) = (run.log(), files(&bench.home.state_dir()));
    let checked = bench.check().expect_code(0);
    says(checked.expect("", "agent", "ok"), "what", "an agent is at work on it (process ");
    assert_eq!(files(&bench.home.state_dir()), before);
    assert_eq!((run.log(), lines()), (log, kept));
    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(30)).expect_code(0);
}

/// A queue of another account, beside a bucket that is well.
fn with_queue(seed: u64) -> (Bench, SqsServer) {
    let (bench, queue) = (Bench::new(&plan(seed)), SqsServer::start(SqsFaults::default()));
    bench.home.edit_config("unfiltered = true", &format!("unfiltered = true\nqueue_url = {:?}", queue.url()));
    (bench, queue)
}

#[test]
fn a_queue_is_looked_at_and_left_as_it_is() {
    let (bench, queue) = with_queue(30);
    queue.send("{}");
    let checked = bench.check().expect_code(0);
    let found = checked.expect("prod", "queue", "ok");
    says(found, "what", "of account 444455556666 in us-east-1: about 1 messages wait");
    says(checked.expect("prod", "queue-set-up", "ok"), "what", "kept for 14 d and hidden for 120 s");
    let stats = queue.stats();
    assert_eq!(stats.requests.keys().collect::<Vec<_>>(), ["GetQueueAttributes"], "nothing is received");
    assert_eq!(stats.refused, [""; 0]);
}

#[test]
fn what_listings_cost_is_not_told_where_nothing_is_listed() {
    let (bench, _queue) = with_queue(32);
    says(bench.check().expect("prod", "polling", "ok"), "what", " LIST requests, ");
    bench.home.edit_config("unfiltered = true", "unfiltered = true\nmethod = \"sqs\"");
    says(bench.check().expect("prod", "polling", "ok"), "what", "nothing is listed");
}

#[test]
fn each_fault_of_a_queue_is_told_with_its_fix_and_the_bucket_is_tested_all_the_same() {
    let (bench, queue) = with_queue(31);
    for (code, exit, fix) in [
        ("QueueDoesNotExist", 78, "aws sqs get-queue-url --queue-name trail-queue"),
        ("AccessDenied", 77, "\"Resource\":\"arn:aws:sqs:us-east-1:444455556666:trail-queue\""),
        ("KmsAccessDenied", 77, "kms:Decrypt"),
        ("SignatureDoesNotMatch", 77, "`credentials`"),
    ] {
        queue.deny(code, "");
        let checked = bench.check().expect_code(exit);
        says(checked.expect("prod", "queue", "fail"), "fix", fix);
        checked.expect_untested("prod", &["queue-set-up"]);
        checked.expect("prod", "decode", "ok");
        assert_eq!(checked.with_level("fail"), ["queue"]);
    }
    queue.deny("AccessDenied", "");
    says(bench.check().expect("prod", "queue", "fail"), "fix", &format!("the IAM policy of {CALLER}: "));
}

#[test]
fn what_an_operator_should_know_of_a_queue_is_a_warning() {
    let (bench, queue) = with_queue(32);
    queue.set("VisibilityTimeout", "5");
    queue.set("MessageRetentionPeriod", "3600");
    let checked = bench.check().expect_code(0);
    let set_up: Vec<_> = checked.findings.iter().filter(|f| f["probe"] == "queue-set-up").collect();
    assert_eq!(set_up.len(), 2, "{}", checked.text);
    says(set_up[0], "fix", "MessageRetentionPeriod=1209600");
    says(set_up[1], "fix", "VisibilityTimeout=120");
}

#[test]
fn a_queue_that_cannot_be_reached_or_is_none_is_told_apart() {
    let bench = Bench::new(&plan(33));
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let queue_url = |port| format!("queue_url = \"http://127.0.0.1:{port}/{QUEUE_ACCOUNT}/q\"");
    bench.home.edit_config("unfiltered = true", &format!("unfiltered = true\n{}", queue_url(unused)));
    let checked = bench.check().expect_code(69);
    says(checked.expect("prod", "queue", "fail"), "fix", "let this machine reach it");
    checked.expect("prod", "decode", "ok");

    // The S3 server: it serves no queue.
    bench.home.edit_config(&queue_url(unused), &queue_url(bench.server.port()));
    says(
        bench.check().expect_code(77).expect("prod", "queue", "fail"),
        "what",
        "credentials are not accepted",
    );
}
