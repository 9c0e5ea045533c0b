//! Collection by messages of a queue, from end to end: the real binary between a bucket, its queue and a file, with what
//! queues do to those who read them.

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::agent::{Home, Run, Setup, file_output};
use common::bucket::{Bucket, Fate, Object, Plan, expected, truth, yesterday};
use common::receiver::lines;
use common::s3_server::{Denied, Faults, S3Server};
use common::sqs_server::{SqsFaults, SqsServer};
use nix::sys::signal::Signal;
use serde_json::json;
use trailspool::spool::quarantine::{Quarantine, Stored};
use trailspool::spool::std_disk::StdDisk;

fn nothing(_: &[u8]) -> bool {
    false
}

/// A bucket, its queue, and an agent that writes everything into one file.
struct Bench {
    bucket: Bucket,
    server: S3Server,
    queue: SqsServer,
    home: Home,
}

const MESSAGES: &str = "method = \"sqs\"";

impl Bench {
    fn new(plan: &Plan) -> Bench {
        Bench::with(plan, Faults::default(), SqsFaults::default())
    }

    fn with(plan: &Plan, faults: Faults, of_queue: SqsFaults) -> Bench {
        let bucket = Bucket::generate(plan);
        let (server, queue) = (S3Server::start(&bucket, faults), SqsServer::start(of_queue));
        let home = Home::new();
        let setup = Setup {
            key_prefix: plan.prefix.trim_end_matches('/').into(),
            source: format!("unfiltered = true\n{MESSAGES}\nqueue_url = {:?}\n", queue.url()),
            ..Setup::new(&server, &bucket.name, file_output("file", &home.path("out.ndjson")))
        };
        home.configure(&setup);
        Bench { bucket, server, queue, home }
    }

    /// A message for each of these objects, in every shape there is.
    fn tell<'a>(&self, objects: impl IntoIterator<Item = &'a Object>) {
        for (number, object) in objects.into_iter().enumerate() {
            self.queue.send(message(number, &self.bucket.name, &[object]));
        }
    }

    /// What stands in the source's folders: logs and what lies beside them.
    fn objects(&self) -> impl Iterator<Item = &Object> {
        let folder = format!("{}AWSLogs/", self.bucket.prefix);
        self.bucket.objects.iter().filter(move |object| object.key.starts_with(&folder))
    }

    fn logs(&self) -> Vec<&Object> {
        self.bucket.objects.iter().filter(|object| object.fate != Fate::Ignored).collect()
    }

    fn written(&self) -> BTreeMap<Bytes, u64> {
        let mut counts = BTreeMap::new();
        for line in lines(&std::fs::read(self.home.path("out.ndjson")).unwrap_or_default().into()) {
            *counts.entry(line).or_default() += 1;
        }
        counts
    }

    /// Each record of these objects arrived once for each object that holds it.
    #[track_caller]
    fn assert_written<'a>(&self, objects: impl IntoIterator<Item = &'a Object>) {
        assert!(self.written() == expected(objects, &nothing), "what arrived is not what was told");
        assert_eq!(self.server.wrongly_fetched(), [""; 0], "no log objects");
        assert_eq!(self.queue.stats().refused, [""; 0], "requests that SQS would refuse");
    }

    fn quarantined(&self) -> Vec<(Stored, Vec<u8>)> {
        let disk = StdDisk::open(&self.home.state_dir()).expect("the state directory");
        let quarantine = Quarantine::open(disk, u64::MAX).expect("the quarantine");
        let mut names = Vec::new();
        quarantine.list(&mut |name, _| names.push(name.to_owned())).expect("its entries");
        let entries = names.iter().map(|name| {
            let mut raw = Vec::new();
            let stored = quarantine.read(name, &mut |part| {
                raw.extend_from_slice(part);
                Ok(())
            });
            (stored.expect("an entry"), raw)
        });
        entries.collect()
    }

    /// Runs as a service until this holds.
    fn run_until(&self, what: &str, holds: impl Fn() -> bool) -> Run {
        let mut run = self.home.start(&[]);
        run.until(what, |_| holds());
        run
    }
}

fn plan(seed: u64) -> Plan {
    Plan { objects: 30, max_records: 60, ..Plan::small(seed, yesterday()) }
}

/// A message that names these objects; the number decides its shape.
fn message(shape: usize, bucket: &str, objects: &[&Object]) -> String {
    let form =
        |key: &str| key.replace('%', "%25").replace('+', "%2B").replace(' ', "+").replace('ü', "%C3%BC");
    let records: Vec<_> = objects
        .iter()
        .map(|object| {
            let object = json!({"key": form(&object.key), "size": object.body.len()});
            json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": object}})
        })
        .collect();
    let s3 = json!({"Records": records}).to_string();
    let keys: Vec<_> = objects.iter().map(|object| &*object.key).collect();
    let cloudtrail = json!({"s3Bucket": bucket, "s3ObjectKey": keys}).to_string();
    let sns =
        |message: &str| json!({"Type": "Notification", "TopicArn": "arn:x", "Message": message}).to_string();
    match (shape % 5, objects) {
        (0, _) => s3,
        (1, _) => sns(&s3),
        (2, [object]) => json!({
            "detail-type": "Object Created", "source": "aws.s3",
            "detail": {"bucket": {"name": bucket}, "object": {"key": object.key, "size": object.body.len()}},
        })
        .to_string(),
        (3, _) => cloudtrail,
        _ => sns(&cloudtrail),
    }
}

#[test]
fn every_object_that_messages_name_in_any_shape_is_collected_once_and_every_message_deleted() {
    let bench = Bench::new(&Plan { prefix: "a b+c%41 ü/", damaged: 4, rewritten: true, ..plan(1) });
    bench.tell(bench.objects());
    bench.queue.send("{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\"}");
    bench.queue.send("CloudTrail validation message.");
    let end = bench.home.once().expect_code(0);
    bench.assert_written(&bench.bucket.objects);
    assert_eq!(end.books().faults(&truth(&bench.bucket.objects, &nothing)), Vec::<String>::new());
    assert_eq!((bench.queue.left(), bench.server.stats().lists), (0, 0), "all deleted, nothing listed");

    // Told again, by all of them at once, as after a redrive: known.
    let gets = bench.server.stats().get_count();
    for batch in bench.logs().chunks(7) {
        bench.queue.send(message(3, &bench.bucket.name, batch));
    }
    bench.home.once().expect_code(0);
    assert_eq!((bench.queue.left(), bench.server.stats().get_count()), (0, gets));
    bench.assert_written(&bench.bucket.objects);
}

/// Of Wazuh and fluentd: only `Records[0]` is read.
#[test]
fn all_records_of_one_message_are_collected() {
    let bench = Bench::new(&plan(2));
    let logs = bench.logs();
    for (shape, batch) in logs.chunks(12).enumerate() {
        bench.queue.send(message([0, 1, 3][shape % 3], &bench.bucket.name, batch));
    }
    bench.home.once().expect_code(0);
    bench.assert_written(logs);
    assert_eq!(bench.queue.left(), 0);
}

/// Requests fail, entries of batches fail, receipts go out of date, messages come twice, objects come slowly.
#[test]
fn on_a_bad_day_nothing_is_lost_and_nothing_comes_twice() {
    let of_s3 = Faults { slow_down: 0.05, reset_in_body: 0.05, ..Faults { seed: 3, ..Faults::default() } };
    let bench = Bench::with(&Plan { damaged: 2, ..plan(3) }, of_s3, SqsFaults::rough(3));
    bench.tell(bench.objects());
    bench.home.drain();
    bench.assert_written(&bench.bucket.objects);
    bench.queue.set_faults(SqsFaults::default());
    bench.home.drain();
    assert_eq!(bench.queue.left(), 0);
    bench.assert_written(&bench.bucket.objects);
}

/// opentelemetry-collector-contrib#45153: a message was deleted after a part of it had failed.
#[test]
fn a_message_stays_as_long_as_one_of_its_objects_cannot_be_read() {
    let bench = Bench::new(&plan(4));
    let logs = bench.logs();
    bench.queue.send(message(0, &bench.bucket.name, &logs[..2]));
    bench.server.deny(Denied::Get);
    bench.home.once().expect_code(77);
    let stats = bench.queue.stats();
    assert_eq!(
        (bench.queue.left(), bench.queue.visible(), stats.deleted.len()),
        (1, 0, 0),
        "it comes again later"
    );
    assert!(stats.visibilities.iter().any(|(_, seconds)| *seconds >= 150), "{:?}", stats.visibilities);

    bench.server.deny(Denied::Nothing);
    bench.queue.expire_receipts();
    bench.home.once().expect_code(0);
    bench.assert_written(logs[..2].iter().copied());
    assert_eq!(bench.queue.left(), 0);
}

/// opentelemetry-collector-contrib#47045, redpanda connect#3221: the message for an object that was gone came again for
/// ever.
#[test]
fn messages_for_objects_that_are_gone_and_for_what_is_no_log_end() {
    let bench = Bench::new(&plan(5));
    let logs = bench.logs();
    bench.server.vanish(&logs[0].key);
    bench.queue.send(message(0, &bench.bucket.name, &logs[..2]));
    bench.tell(bench.objects().filter(|object| object.fate == Fate::Ignored));
    bench.queue.send(json!({"Records": [{"eventName": "ObjectRemoved:Delete", "s3": {}}]}).to_string());
    bench.home.once().expect_code(0);
    assert_eq!(bench.queue.left(), 0);
    bench.assert_written([logs[1]]);
}

#[test]
fn messages_of_others_are_left_to_them_unless_they_are_to_be_deleted() {
    let bench = Bench::new(&Plan { prefix: "ours/", ..plan(6) });
    let (log, body) = (bench.logs()[0], Bytes::new());
    let other = Object { key: log.key.replace("ours/", "theirs/"), body, ..log.clone() };
    bench.queue.send(message(0, &bench.bucket.name, &[&other]));
    bench.queue.send(message(3, "another-bucket", &[log]));
    bench.queue.send(message(0, &bench.bucket.name, &[&other, log]));
    bench.home.once().expect_code(0);
    assert_eq!((bench.queue.left(), bench.queue.stats().deleted.len()), (3, 0));
    bench.assert_written([log]);

    bench.home.edit_config(MESSAGES, &format!("{MESSAGES}\ndelete_foreign = true"));
    bench.queue.expire_receipts();
    bench.home.once().expect_code(0);
    assert_eq!(bench.queue.left(), 0);
    bench.assert_written([log]);
}

#[test]
fn a_message_that_cannot_be_read_is_set_aside_with_its_text_and_ends() {
    let bench = Bench::new(&plan(7));
    let bodies = ["hello, ü", "{\"Records\":", "{\"Type\":\"SubscriptionConfirmation\",\"Message\":\"x\"}"];
    bodies.iter().for_each(|body| bench.queue.send(*body));
    bench.tell([bench.logs()[0]]);
    bench.home.once().expect_code(0);
    assert_eq!(bench.queue.left(), 0);
    bench.assert_written([bench.logs()[0]]);
    let mut kept = bench.quarantined();
    kept.sort_by(|a, b| a.0.object.key.cmp(&b.0.object.key));
    let texts: Vec<_> = kept.iter().map(|(_, raw)| String::from_utf8_lossy(raw)).collect();
    assert_eq!(texts, bodies);
    assert!(kept.iter().all(
        |(stored, _)| &*stored.reason == "unreadable-message" && &*stored.object.bucket == "trail-queue"
    ));
}

/// As after days in which nothing could be read.
#[test]
fn a_message_that_came_often_is_collected_once_that_is_possible() {
    let bench = Bench::new(&plan(8));
    let log = bench.logs()[0];
    bench.tell([log]);
    bench.queue.received_before(u64::from(trailspool::limits::MESSAGE_RECEIVES));
    bench.home.once().expect_code(0);
    assert_eq!((bench.queue.left(), bench.quarantined().len()), (0, 0));
    bench.assert_written([log]);
}

/// A kill between the fsync that covers an object and the deletion of its message.
#[test]
fn what_is_durable_but_not_deleted_when_the_agent_is_killed_is_known_when_it_comes_again() {
    let bench = Bench::with(&plan(9), Faults::default(), SqsFaults { entry: 1.0, ..SqsFaults::default() });
    bench.tell(bench.objects());
    let truth = truth(&bench.bucket.objects, &nothing);
    let run =
        bench.run_until("everything is forwarded", || bench.written().values().sum::<u64>() == truth.kept);
    let (killed, _) = run.kill();
    assert!(killed && bench.queue.stats().deleted.is_empty());

    let gets = bench.server.stats().get_count();
    bench.queue.set_faults(SqsFaults::default());
    bench.queue.expire_receipts();
    let end = bench.home.once().expect_code(0);
    assert_eq!((bench.queue.left(), bench.server.stats().get_count()), (0, gets), "nothing is fetched again");
    assert_eq!(end.books().faults(&truth), Vec::<String>::new());
}

#[test]
fn an_agent_that_stops_lets_go_of_what_is_in_work_and_deletes_nothing_early() {
    let bench = Bench::new(&plan(10));
    bench.server.set_faults(Faults { latency: Duration::from_secs(600), ..Faults::default() });
    bench.tell(bench.objects());
    let all = bench.queue.left();
    // Who asks again has taken in the last answer: one that is still on its way is not let go of.
    let asked = Cell::new(None);
    let run = bench.run_until("all messages are received", || {
        let all = bench.queue.visible() == 0;
        let requests = bench.queue.stats().requests.get("ReceiveMessage").copied().unwrap_or(0);
        if all && asked.get().is_none() {
            asked.set(Some(requests));
        }
        all && asked.get().is_some_and(|asked| requests > asked)
    });
    run.signal(Signal::SIGTERM);
    run.wait(Duration::from_secs(30)).expect_code(0);
    let stats = bench.queue.stats();
    let kept = all - stats.deleted.len();
    assert_eq!((bench.queue.left(), bench.queue.visible()), (kept, kept), "they are there again at once");
    let ignored = bench.objects().filter(|object| object.fate == Fate::Ignored).count();
    assert!(stats.deleted.len() <= ignored, "logs are not deleted");
}

/// vector#22947: a refused request was sent again at once, for ever.
#[test]
fn a_queue_that_may_not_be_read_ends_one_pass_and_is_asked_with_pauses() {
    let bench = Bench::new(&plan(11));
    bench.queue.deny("AccessDeniedException", "not authorized to perform: sqs:receivemessage");
    let end = bench.home.once().expect_code(77);
    assert!(
        end.stderr.contains("allow sqs:ReceiveMessage on arn:aws:sqs:us-east-1:444455556666:trail-queue")
    );
    bench.queue.deny("QueueDoesNotExist", "");
    bench.home.once().expect_code(78);
    assert_eq!(bench.queue.stats().requests["ReceiveMessage"], 2);

    let run = bench.run_until("three tries", || bench.queue.stats().requests["ReceiveMessage"] >= 5);
    let said = run.log().matches("there is no queue").count();
    assert_eq!(said, 1, "it is said once, not with each try");
    bench.queue.allow();
    bench.tell(bench.objects());
    drop(run);
    bench.home.once().expect_code(0);
    bench.assert_written(&bench.bucket.objects);
}

#[test]
fn a_sweep_finds_what_no_message_named_and_nothing_comes_twice() {
    let bench = Bench::with(&plan(12), Faults::default(), SqsFaults::rough(12));
    bench.home.edit_config(MESSAGES, "method = \"sqs+sweep\"");
    // Every second notification is lost.
    bench.tell(bench.objects().step_by(2));
    let end = bench.home.drain();
    bench.assert_written(&bench.bucket.objects);
    assert_eq!(end.books().faults(&truth(&bench.bucket.objects, &nothing)), Vec::<String>::new());
    let log = bench.logs().len() as u64;
    assert!(
        bench.server.stats().gets.values().all(|times| *times == 1)
            && bench.server.stats().get_count() == log
    );
    bench.queue.set_faults(SqsFaults::default());
    bench.home.drain();
    assert_eq!(bench.queue.left(), 0);
}

/// What accounts and regions select holds for messages, `start` does not.
#[test]
fn accounts_and_regions_select_and_start_does_not() {
    let bench = Bench::new(&plan(13));
    let account = bench.logs()[0].key.split('/').nth(1).expect("an account").to_owned();
    bench.home.edit_config(MESSAGES, &format!("{MESSAGES}\naccounts = [{account:?}]"));
    bench.home.edit_config("start = \"all\"", "start = \"now\"");
    bench.tell(bench.objects());
    let end = bench.home.once().expect_code(0);
    assert!(end.stderr.contains("start: has no effect with method = \"sqs\""), "{}", end.stderr);
    let selected = bench.bucket.objects.iter().filter(|object| object.key.contains(&format!("/{account}/")));
    bench.assert_written(selected);
    assert_eq!(bench.queue.left(), 0);
}
