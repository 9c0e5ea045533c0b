//! The program from end to end: a bucket on one side, receivers on the other, `run --once` between them,
//! and what it leaves behind, prints and exits with.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use common::agent::{Home, Setup, file_output, http_output};
use common::bucket::{Bucket, Fate, Object, Plan, Truth, expected, line_of, truth, yesterday};
use common::receiver::{Moods, Receiver, lines};
use common::s3_server::{ACCESS_KEY, Denied, Faults, S3Server};
use nix::sys::signal::Signal;
use trailspool::limits::RECORD_BYTES;
use trailspool::spool::quarantine::{Quarantine, Stored};
use trailspool::spool::std_disk::StdDisk;

/// No rule removes anything.
fn nothing(_: &[u8]) -> bool {
    false
}

/// A bucket, its server, and an agent that writes everything into one file.
struct Bench {
    bucket: Bucket,
    server: S3Server,
    home: Home,
    setup: Setup,
}

impl Bench {
    fn new(plan: &Plan) -> Bench {
        Bench::with_faults(plan, Faults::default())
    }

    fn with_faults(plan: &Plan, faults: Faults) -> Bench {
        let bucket = Bucket::generate(plan);
        let server = S3Server::start(&bucket, faults);
        let home = Home::new();
        let folder = bucket.prefix.trim_end_matches('/');
        let name = if folder.is_empty() { bucket.name.clone() } else { format!("{}/{folder}", bucket.name) };
        let setup = Setup::new(&server, &name, file_output("file", &home.path("out.ndjson")));
        home.configure(&setup);
        Bench { bucket, server, home, setup }
    }

    fn written(&self) -> Vec<Bytes> {
        lines(&std::fs::read(self.home.path("out.ndjson")).unwrap_or_default().into())
    }

    fn log_objects(&self) -> impl Iterator<Item = &Object> {
        self.bucket.objects.iter().filter(|o| o.fate != Fate::Ignored)
    }
}

fn plan(seed: u64) -> Plan {
    Plan::small(seed, yesterday())
}

/// The output is made of the readable records of each object, together and in order, each object once.
#[track_caller]
fn assert_whole_objects<'a>(written: &[Bytes], objects: impl IntoIterator<Item = &'a Object>) {
    let mut blocks: Vec<Vec<Bytes>> = objects
        .into_iter()
        .map(|o| o.readable().map(|r| line_of(r)).collect())
        .filter(|b: &Vec<_>| !b.is_empty())
        .collect();
    // Duplicates begin alike: the longer block is tried first.
    blocks.sort_by_key(Vec::len);
    let mut by_first: HashMap<Bytes, Vec<Vec<Bytes>>> = HashMap::new();
    blocks.into_iter().for_each(|block| by_first.entry(block[0].clone()).or_default().push(block));
    let mut at = 0;
    while at < written.len() {
        let candidates = by_first.get_mut(&written[at]).unwrap_or_else(|| {
            panic!("line {at} does not begin an object: {}", String::from_utf8_lossy(&written[at]))
        });
        let found = candidates.iter().rposition(|block| written[at..].starts_with(block));
        let block =
            candidates.remove(found.unwrap_or_else(|| panic!("the object at line {at} is not whole")));
        at += block.len();
    }
    let missing = by_first.values().flatten().count();
    assert_eq!(missing, 0, "objects that are not in the output");
}

#[track_caller]
fn assert_books(end: &common::agent::Finished, truth: &Truth) {
    let books = end.books();
    assert_eq!(books.faults(truth), Vec::<String>::new(), "{books:#?}");
    assert!(
        books.outputs.iter().all(|o| o.delivered == truth.kept && o.rejected + o.waiting == 0),
        "{books:#?}"
    );
}

#[track_caller]
fn assert_well_behaved(server: &S3Server) {
    assert_eq!(server.wrongly_fetched(), [""; 0], "no log objects");
    assert_eq!(server.stats().refused, [""; 0], "requests that S3 would refuse");
}

#[test]
fn a_clean_run_forwards_every_record_byte_for_byte_and_once() {
    let bench = Bench::new(&Plan {
        accounts: 3,
        regions: 3,
        objects: 120,
        rewritten: true,
        overlong: Some(RECORD_BYTES),
        ..plan(1)
    });
    let truth = truth(&bench.bucket.objects, &nothing);
    let end = bench.home.once().expect_code(0);
    assert_whole_objects(&bench.written(), &bench.bucket.objects);
    assert_books(&end, &truth);
    assert_well_behaved(&bench.server);
    let (kept, long) =
        (quarantined(&bench), bench.log_objects().find(|o| !o.overlong.is_empty()).expect("one"));
    assert!(
        kept.len() == 1 && kept[0].0.index == Some(1) && *kept[0].0.object.key == *long.key,
        "the overlong record"
    );
    assert!(long.records[1].starts_with(&kept[0].1) && kept[0].0.given == long.records[1].len() as u64);
    let stats = bench.server.stats();
    assert!(stats.gets.values().all(|&times| times == 1), "each object is fetched once");

    let again = bench.home.once().expect_code(0);
    assert_books(&again, &truth);
    assert_eq!(bench.server.stats().get_count(), stats.get_count(), "nothing is fetched again");
    assert_eq!(bench.written().len() as u64, truth.kept, "nothing is written again");
}

/// wazuh/wazuh#33108: files of an older label that arrived after a newer one were lost.
#[test]
fn late_objects_of_older_labels_are_collected_by_the_next_run() {
    let bench = Bench::new(&Plan { late: 12, ..plan(2) });
    let early = truth(bench.bucket.early(), &nothing);
    assert_books(&bench.home.once().expect_code(0), &early);
    bench.bucket.late().for_each(|object| bench.server.add(object));
    let all = truth(&bench.bucket.objects, &nothing);
    assert_books(&bench.home.once().expect_code(0), &all);
    assert_whole_objects(&bench.written(), &bench.bucket.objects);
}

#[test]
fn a_damaged_object_is_set_aside_with_its_bytes_and_the_rest_goes_on() {
    let bench = Bench::new(&Plan { damaged: 4, ..plan(3) });
    let truth = truth(&bench.bucket.objects, &nothing);
    assert_eq!(truth.quarantined_objects, 4);
    assert_books(&bench.home.once().expect_code(0), &truth);
    assert_whole_objects(&bench.written(), &bench.bucket.objects);
    let mut damaged: Vec<_> = bench.log_objects().filter(|o| o.fate == Fate::Quarantined).collect();
    damaged.sort_by_key(|o| &o.key);
    let kept = quarantined(&bench);
    assert_eq!(kept.len(), damaged.len());
    for ((entry, raw), object) in kept.iter().zip(damaged) {
        assert_eq!((&*entry.object.key, entry.index, &*entry.object.source), (&*object.key, None, "prod"));
        assert!(*raw == object.body, "the quarantine holds the body of: {}", object.what);
    }
    let gets = bench.server.stats().get_count();
    assert_books(&bench.home.once().expect_code(0), &truth);
    assert_eq!(bench.server.stats().get_count(), gets, "what was set aside is not fetched again");
}

/// What the agent set aside, with the raw bytes, by key.
fn quarantined(bench: &Bench) -> Vec<(Stored, Vec<u8>)> {
    let disk = StdDisk::open(&bench.home.state_dir()).expect("the state folder");
    let quarantine = Quarantine::open(disk, u64::MAX).expect("the quarantine");
    let mut ids = Vec::new();
    quarantine
        .list(&mut |_, entry| ids.push(entry.expect("an entry that can be read").id))
        .expect("its entries");
    let read = |id: String| {
        let mut raw = Vec::new();
        let mut take = |part: &[u8]| {
            raw.extend_from_slice(part);
            Ok(())
        };
        let entry = quarantine.read(&id, &mut take).expect("a whole entry");
        (entry, raw)
    };
    let mut entries: Vec<_> = ids.into_iter().map(read).collect();
    entries.sort_by(|(a, _), (b, _)| a.object.key.cmp(&b.object.key));
    entries
}

#[test]
fn keys_may_have_blanks_signs_and_umlauts_and_an_organisation() {
    let bench =
        Bench::new(&Plan { prefix: "lögs a+b %41/", organisation: "o-abc123def4/", objects: 12, ..plan(4) });
    assert_books(&bench.home.once().expect_code(0), &truth(&bench.bucket.objects, &nothing));
    assert_whole_objects(&bench.written(), &bench.bucket.objects);
    assert_well_behaved(&bench.server);
}

#[test]
fn only_the_chosen_accounts_and_regions_are_collected() {
    let mut bench = Bench::new(&Plan { accounts: 3, regions: 3, ..plan(5) });
    let accounts: BTreeSet<String> =
        bench.log_objects().map(|o| o.key.split('/').nth(1).expect("an account").to_owned()).collect();
    let account = accounts.first().expect("an account");
    bench.setup.source += &format!("accounts = [{account:?}]\nregions = [\"eu-central-1\"]\n");
    bench.home.configure(&bench.setup);
    let chosen = |o: &&Object| o.key.contains(&format!("/{account}/")) && o.key.contains("/eu-central-1/");
    let objects: Vec<&Object> = bench.log_objects().filter(chosen).collect();
    assert!(!objects.is_empty() && objects.len() < bench.log_objects().count());
    assert_books(&bench.home.once().expect_code(0), &truth(objects.iter().copied(), &nothing));
    assert_whole_objects(&bench.written(), objects.iter().copied());
    assert_eq!(bench.server.stats().get_count(), objects.len() as u64);
}

/// The bucket named `127` at the host `0.0.1` is at `127.0.0.1`: a virtual host that needs no name server.
#[test]
fn the_bucket_can_be_part_of_the_host_name() {
    let mut bench = Bench::new(&Plan { bucket: "127", objects: 12, ..plan(6) });
    bench.setup.endpoint = format!("http://0.0.1:{}", bench.server.port());
    bench.setup.path_style = false;
    bench.home.configure(&bench.setup);
    assert_books(&bench.home.once().expect_code(0), &truth(&bench.bucket.objects, &nothing));
    assert_whole_objects(&bench.written(), &bench.bucket.objects);
}

#[test]
fn an_envelope_says_where_a_record_comes_from_and_holds_its_bytes() {
    use serde_json::value::RawValue;
    let mut bench = Bench::new(&Plan { objects: 12, prefix: "a \"b\"/", ..plan(7) });
    bench.setup.outputs += "format = \"envelope\"\n";
    bench.home.configure(&bench.setup);
    bench.home.once().expect_code(0);
    let mut left: BTreeSet<(String, usize)> =
        bench.log_objects().flat_map(|o| (0..o.records.len()).map(|i| (o.key.clone(), i))).collect();
    let by_key: HashMap<&str, &Object> = bench.log_objects().map(|o| (o.key.as_str(), o)).collect();
    for line in bench.written() {
        let envelope: HashMap<&str, &RawValue> = serde_json::from_slice(&line).expect("a JSON object");
        let text = |name: &str| serde_json::from_str::<String>(envelope[name].get()).expect("a string");
        let index: usize = envelope["index"].get().parse().expect("a number");
        assert_eq!((text("source").as_str(), text("bucket").as_str()), ("prod", "acme-cloudtrail"));
        assert_eq!(envelope["record"].get().as_bytes(), &by_key[text("key").as_str()].records[index]);
        assert!(left.remove(&(text("key"), index)), "once");
    }
    assert!(left.is_empty());
}

#[test]
fn rules_and_exclusions_decide_in_order_and_are_counted() {
    let mut bench = Bench::new(&Plan { objects: 150, ..plan(8) });
    bench.setup.source += "exclude = ['\"eventName\":\"Describe', '\"readOnly\":true']\n";
    bench.setup.rules = r#"
[[source.rule]]
field = "eventName"
regex = "^AssumeRole$"
action = "keep"
[[source.rule]]
field = "userIdentity.type"
regex = "^AWSService$"
action = "drop"
"#
    .into();
    bench.home.configure(&bench.setup);
    let dropped = |record: &[u8]| {
        let has = |text: &str| memchr::memmem::find(record, text.as_bytes()).is_some();
        !has(r#""eventName":"AssumeRole""#)
            && (has(r#""userIdentity":{"type":"AWSService""#)
                || has(r#""readOnly":true"#)
                || has("\"eventName\":\"Describe"))
    };
    let truth = truth(&bench.bucket.objects, &dropped);
    assert!(truth.dropped > 0 && truth.kept > 0);
    assert_books(&bench.home.once().expect_code(0), &truth);
    assert_arrived(&bench.written(), &expected(&bench.bucket.objects, &dropped));
}

/// Each line exactly as often as expected.
#[track_caller]
fn assert_arrived(written: &[Bytes], expected: &std::collections::BTreeMap<Bytes, u64>) {
    let mut arrived = std::collections::BTreeMap::new();
    written.iter().for_each(|line| *arrived.entry(line.clone()).or_default() += 1);
    assert!(arrived == *expected, "{} lines, {} expected", arrived.len(), expected.len());
}

#[test]
fn a_receiver_with_a_size_limit_and_a_dislike_gets_all_but_one_record() {
    let mut bench = Bench::new(&Plan { duplicates: 0, ..plan(9) });
    let disliked = bench.bucket.objects[20].records[0].clone();
    let at = memchr::memmem::find(&disliked, b"\"eventID\":").expect("an eventID");
    let poison: &'static [u8] = disliked[at..at + 48].to_vec().leak();
    let receiver =
        Receiver::start(Moods { max_bytes: Some(40_000), poison: Some(poison), ..Moods::default() });
    bench.setup.outputs = http_output("siem", &receiver.url());
    bench.home.configure(&bench.setup);
    let truth = truth(&bench.bucket.objects, &nothing);
    let end = bench.home.once().expect_code(0);
    let books = end.books();
    assert_eq!(books.faults(&truth), Vec::<String>::new());
    assert_eq!((books.outputs[0].delivered, books.outputs[0].rejected), (truth.kept - 1, 1));
    let received = receiver.received();
    let mut wanted = expected(&bench.bucket.objects, &nothing);
    wanted.remove(&disliked).expect("the record that is refused");
    assert!(wanted.keys().all(|line| received.acknowledged.contains_key(line)), "all others arrived");
    assert!(received.injected["413"] > 0 && received.injected["400"] > 0);
    let kept = quarantined(&bench);
    assert!(kept.len() == 1 && kept[0].1 == disliked, "the refused record is kept");
    assert_eq!(
        (&*kept[0].0.object.key, kept[0].0.output.as_deref()),
        (&*bench.bucket.objects[20].key, Some("siem"))
    );
}

/// elastic/beats#39065: an object that failed once was later skipped.
#[test]
fn a_failing_server_and_a_failing_receiver_delay_but_lose_nothing() {
    let mut bench = Bench::with_faults(&Plan { objects: 150, ..plan(10) }, Faults::rough(4));
    let receiver = Receiver::start(Moods::rough(5));
    bench.setup.outputs = http_output("siem", &receiver.url()) + "batch_bytes = 65536\n";
    bench.home.configure(&bench.setup);
    assert_books(&bench.home.drain(), &truth(&bench.bucket.objects, &nothing));
    let (received, wanted) = (receiver.received(), expected(&bench.bucket.objects, &nothing));
    assert!(wanted.iter().all(|(line, times)| received.acknowledged.get(line) >= Some(times)), "all arrived");
    assert!(received.acknowledged.keys().all(|line| wanted.contains_key(line)), "nothing was invented");
    assert!(bench.server.stats().faults() > 0 && received.faults() > 0);
    assert_well_behaved(&bench.server);
}

#[test]
fn a_missing_permission_ends_with_77_and_names_it() {
    for (denied, permission) in [(Denied::List, "s3:ListBucket"), (Denied::Get, "s3:GetObject")] {
        let bench = Bench::new(&Plan { objects: 5, duplicates: 0, ..plan(11) });
        bench.server.deny(denied);
        let end = bench.home.once().expect_code(77);
        assert!(end.stderr.contains("acme-cloudtrail") && end.stderr.contains(permission), "{}", end.stderr);
        bench.server.deny(Denied::Nothing);
        assert_books(&bench.home.once().expect_code(0), &truth(&bench.bucket.objects, &nothing));
    }
}

#[test]
fn an_unknown_access_key_ends_with_77_and_the_secret_is_not_shown() {
    let bench = Bench::new(&Plan { objects: 5, duplicates: 0, ..plan(12) });
    let path = bench.home.path("trailspool.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    bench.home.write_config(&text.replace(ACCESS_KEY, "AKIAI44QH8DHBEXAMPLE"));
    let end = bench.home.once().expect_code(77);
    assert!(end.stderr.contains("InvalidAccessKeyId"), "{}", end.stderr);
    assert!(!end.stderr.contains(common::s3_server::SECRET_KEY));
}

#[test]
fn an_object_that_is_deleted_before_its_fetch_holds_nothing_up() {
    let bench = Bench::new(&Plan { duplicates: 0, ..plan(19) });
    let gone = bench.log_objects().next().expect("an object").key.clone();
    bench.server.vanish(&gone);
    let left: Vec<&Object> = bench.log_objects().filter(|o| o.key != gone).collect();
    assert_books(&bench.home.once().expect_code(0), &truth(left.iter().copied(), &nothing));
    assert_whole_objects(&bench.written(), left.iter().copied());
}

#[test]
fn an_output_that_is_down_ends_with_75_and_gets_everything_later() {
    let mut bench = Bench::new(&plan(13));
    let receiver = Receiver::start(Moods { down: true, ..Moods::default() });
    bench.setup.outputs += &http_output("siem", &receiver.url());
    bench.home.configure(&bench.setup);
    let truth = truth(&bench.bucket.objects, &nothing);
    let end = bench.home.start(&["--once", "--timeout", "3"]).wait(Duration::from_secs(30)).expect_code(75);
    let books = end.books();
    let siem = books.outputs.iter().find(|o| o.name == "siem").expect("its books");
    assert_eq!((siem.delivered, siem.waiting), (0, truth.kept));
    assert_eq!(bench.written().len() as u64, truth.kept, "one output does not hold up another");
    let gets = bench.server.stats().get_count();

    receiver.set_moods(Moods::default());
    assert_books(&bench.home.once().expect_code(0), &truth);
    assert_eq!(bench.server.stats().get_count(), gets, "it came from the spool");
    let wanted = expected(&bench.bucket.objects, &nothing);
    assert!(
        receiver.received().acknowledged.into_iter().collect::<std::collections::BTreeMap<_, _>>() == wanted
    );
}

#[test]
fn an_empty_bucket_is_no_fault() {
    let bench = Bench::new(&Plan { objects: 0, duplicates: 0, neighbours: false, ..plan(14) });
    assert_books(&bench.home.once().expect_code(0), &Truth::default());
    assert!(bench.written().is_empty());
}

#[test]
fn faults_of_the_configuration_are_told_all_at_once_with_78() {
    let bench = Bench::new(&Plan { objects: 1, duplicates: 0, ..plan(15) });
    let path = bench.home.path("trailspool.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let broken = text
        .replace("start = \"all\"", "start = \"yesteryear\"")
        .replace("region = \"us-east-1\"", "regoin = \"x\"");
    bench.home.write_config(&broken);
    let end = bench.home.once().expect_code(78);
    for (word, line) in [("yesteryear", "start ="), ("regoin", "regoin =")] {
        let number = 1 + broken.lines().position(|l| l.starts_with(line)).expect("the line");
        assert!(end.stderr.contains(word), "{word}: {}", end.stderr);
        assert!(end.stderr.contains(&format!("{number}")), "line {number}: {}", end.stderr);
    }
    assert_eq!(bench.server.stats().lists, 0);
}

#[test]
fn sigterm_ends_a_busy_agent_cleanly_and_nothing_is_lost() {
    let faults = Faults { latency: Duration::from_millis(20), ..Faults::default() };
    let bench = Bench::with_faults(&Plan { objects: 300, max_records: 20, ..plan(16) }, faults);
    let mut run = bench.home.start(&[]);
    run.until("some records are written", |_| bench.written().len() > 10);
    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(30)).expect_code(0);
    bench.server.set_faults(Faults::default());
    assert_books(&bench.home.once().expect_code(0), &truth(&bench.bucket.objects, &nothing));
    assert_arrived(&bench.written(), &expected(&bench.bucket.objects, &nothing));
}

#[test]
fn sighup_takes_up_a_good_configuration_and_refuses_a_broken_one() {
    let bench = Bench::new(&Plan { objects: 10, ..plan(17) });
    let first = truth(&bench.bucket.objects, &nothing).kept as usize;
    let other = Bucket::generate(&Plan { objects: 10, ..plan(18) });
    let other_server = S3Server::start(&other, Faults::default());
    let second = truth(&other.objects, &nothing).kept as usize;

    let mut run = bench.home.start(&[]);
    run.until("the first bucket is collected", |_| bench.written().len() == first);
    let before = run.log().len();
    bench.home.write_config("[agent]\nnonsense = true\n");
    run.signal(Signal::SIGHUP);
    run.until("the broken configuration is refused", |run| run.log()[before..].contains("nonsense"));

    let setup = Setup {
        name: "second".into(),
        ..Setup::new(&other_server, &other.name, bench.setup.outputs.clone())
    };
    bench.home.configure(&setup);
    run.signal(Signal::SIGHUP);
    run.until("the second bucket is collected", |_| bench.written().len() == first + second);
    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(30)).expect_code(0);
}

/// What only the start finds out, here that a file of certificates holds none that can be read, refuses a
/// configuration as well. Nothing of the old one may be gone by then: not how far its output had come.
#[test]
fn a_configuration_that_is_refused_at_its_start_costs_the_old_one_nothing() {
    let mut bench = Bench::new(&Plan { objects: 10, ..plan(20) });
    let truth = truth(&bench.bucket.objects, &nothing);
    let mut run = bench.home.start(&[]);
    run.until("everything is written", |_| bench.written().len() as u64 == truth.kept);

    let file = bench.home.path("ca.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n").expect("a file");
    let renamed = http_output("renamed", "https://127.0.0.1:9/") + &format!("ca_file = {file:?}\n");
    let old = std::mem::replace(&mut bench.setup.outputs, renamed);
    bench.home.configure(&bench.setup);
    run.signal(Signal::SIGHUP);
    run.until("the configuration is refused", |run| run.log().contains("the old configuration stays"));
    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(60)).expect_code(0);

    bench.setup.outputs = old;
    bench.home.configure(&bench.setup);
    assert_books(&bench.home.once().expect_code(0), &truth);
    assert_eq!(bench.written().len() as u64, truth.kept, "nothing is written again");
}
