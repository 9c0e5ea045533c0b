//! A disk that refuses something, in every way: the state is shown, nothing is taken meanwhile, and when the cause is
//! gone everything is in the spool once, without anybody's doing.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use time::{PrimitiveDateTime, macros::datetime};
use tokio::runtime;

use super::status::advice;
use super::*;
use crate::config::{Agent, Config, Format, Output, OutputKind};
use crate::discover::key::LogKey;
use crate::discover::queue::{Pass, Queue, Tally};
use crate::discover::status::SourceStatus;
use crate::discover::testing;
use crate::fault_disk::{EIO, ENOSPC, EROFS, Fault as DiskFault, FaultDisk, Op, Survive};
use crate::spool::{self, Compression, Position};

/// Bytes of one body that are read here.
const BODY_BYTES: usize = 4 * limits::CHUNK_BYTES;

const NOW: PrimitiveDateTime = datetime!(2026-11-23 12:00);

fn config() -> Config {
    Config {
        agent: Agent {
            state_dir: PathBuf::new(),
            status_listen: None,
            status_token: None,
            log_level: log::LevelFilter::Off,
            fetches_in_flight: 1,
        },
        spool: config::Spool {
            max_bytes: 1 << 20,
            quarantine_max_bytes: 1 << 20,
            max_record_bytes: 4096,
            max_object_bytes: 1 << 20,
            compression: Compression::None,
        },
        sources: vec![testing::source("prod")],
        outputs: vec![Output {
            name: "siem".into(),
            kind: OutputKind::Stdout,
            format: Format::Raw,
            batch_bytes: 4096,
            batch_records: 10,
            batch_wait: Duration::ZERO,
            on_full: config::OnFull::Hold,
            concurrency: 1,
        }],
        directory: None,
        warnings: Vec::new(),
    }
}

fn options(config: &Config) -> spool::Options {
    spool::Options {
        max_bytes: config.spool.max_bytes,
        segment_bytes: 64 * 1024,
        max_record_bytes: config.spool.max_record_bytes,
        compression: config.spool.compression,
        outputs: vec!["siem".into()],
    }
}

/// A storekeeper at work on a disk, and what it says.
struct Place {
    disk: FaultDisk,
    spool: Arc<Spool<FaultDisk>>,
    ledger: Arc<Ledger<FaultDisk>>,
    quarantine: Quarantine<FaultDisk>,
    status: Arc<StoreStatus>,
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    queue: Queue,
    pass: Arc<Pass>,
}

fn place(disk: FaultDisk) -> Place {
    let ledger = Ledger::open(disk.clone()).unwrap();
    place_with(disk, ledger)
}

fn place_with(disk: FaultDisk, ledger: Ledger<FaultDisk>) -> Place {
    let config = config();
    let ledger = Arc::new(ledger);
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let options = options(&config);
    let from = ledger.checkpoint();
    let (writer, spool, _) =
        spool::open(disk.clone(), options, quarantine.clone(), from, &mut |_, _, _, _| {}).unwrap();
    let remembered = Remembered::open(disk.clone(), &config.sources, (&spool, true), from, 1).unwrap();
    let status = Arc::new(StoreStatus::default());
    let stop = Arc::new(AtomicBool::new(false));
    let pulse: Arc<Pulse> = Arc::default();
    let keeper = Storekeeper::new(
        &config,
        (writer, spool.clone()),
        ledger.clone(),
        quarantine.clone(),
        remembered,
        (stop.clone(), status.clone()),
    )
    .watched(pulse.clone());
    let keeper = Storekeeper { body_bytes: BODY_BYTES as u64, ..keeper };
    let (jobs, work) = mpsc::channel();
    let thread = thread::spawn(move || keeper.run(&work));
    let pass = Pass::new(Arc::new(SourceStatus::new("prod")), NOW);
    let queue = Queue::new(1, 16);
    let (jobs, thread) = (Some(jobs), Some(thread));
    Place { disk, spool, ledger, quarantine, status, stop, pulse, jobs, thread, queue, pass }
}

fn key(n: u32) -> LogKey {
    let text = format!(
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/23/\
         111122223333_CloudTrail_us-east-1_20261123T1155Z_{n:016}.json.gz"
    );
    LogKey::parse(&text).unwrap()
}

fn body(n: u32) -> Vec<u8> {
    format!("{{\"Records\":[{{\"n\":{n}}},{{\"n\":{n},\"second\":true}}]}}").into_bytes()
}

impl Place {
    /// Hands an object over, as a fetch worker does, and waits until it has been read.
    fn hand_over(&self, n: u32, bytes: &[u8], purpose: Purpose) -> Option<Read> {
        let size = bytes.len() as u64;
        self.hand_over_body(n, (Some(size), BodyReader::of(bytes)), purpose, &self.pass)
    }

    fn hand_over_body(
        &self,
        n: u32,
        (size, body): (Option<u64>, BodyReader),
        purpose: Purpose,
        pass: &Arc<Pass>,
    ) -> Option<Read> {
        let key = key(n);
        let ticket = self.queue.ticket(pass, &key)?;
        let object = ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.as_str().into() };
        let (read, answer) = oneshot::channel();
        let wanted = Wanted { object, size, day: key.day(), ticket };
        self.jobs.as_ref()?.send(Job { wanted, body, purpose, read }).unwrap();
        answer.blocking_recv().ok()
    }

    fn settled(&self) -> Tally {
        runtime::Builder::new_current_thread().build().unwrap().block_on(self.pass.settled())
    }

    fn stop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn delivered(spool: &Arc<Spool<FaultDisk>>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut reader = spool.reader("siem").unwrap();
    reader
        .read(&mut |_, _, record, _| {
            seen.push(String::from_utf8_lossy(record).into_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
    seen
}

/// Hands objects over while `fault` is on the disk and after it was healed. Nothing may be lost or doubled.
fn passes(what: &str, word: &str, fault: impl Fn(&FaultDisk), heal: impl Fn(&FaultDisk) + Sync) {
    let mut place = place(FaultDisk::new());
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    assert_eq!(place.settled().collected, 1, "{what}");
    fault(&place.disk);
    let before = place.settled();
    // The thread does not come back to this one before the disk is healed.
    let failed = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let text = loop {
                if let Some(text) = place.status.fault() {
                    break text;
                }
                thread::yield_now();
            };
            assert!(place.status.fault().is_some(), "{what}: it lasts as long as its cause");
            heal(&place.disk);
            text
        });
        let _ = place.hand_over(1, &body(1), Purpose::Collect);
        watcher.join().unwrap()
    });
    assert!(failed.contains(word), "{what}: {failed}");
    let tally = place.settled();
    let again = tally.failed_transient - before.failed_transient;
    assert_eq!((tally.collected - before.collected, again), (0, 1), "{what}: it is not said to be durable");
    for n in 1..20 {
        let _ = place.hand_over(n, &body(n), Purpose::Collect);
    }
    assert_eq!(place.settled().collected, 20, "{what}");
    assert_eq!(place.status.fault(), None, "{what}: it is over");
    let expected: Vec<String> =
        (0..20).flat_map(|n| [format!("{{\"n\":{n}}}"), format!("{{\"n\":{n},\"second\":true}}")]).collect();
    assert_eq!(delivered(&place.spool), expected, "{what}");
    assert_eq!(place.ledger.books("prod").counts.kept, 40, "{what}");
    place.stop();

    // And so after a power cut.
    let disk = place.disk.reboot(Survive::Nothing);
    let ledger = Ledger::open(disk.clone()).unwrap();
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let options = options(&config());
    let opened = spool::open(disk, options, quarantine, Position::default(), &mut |_, _, _, _| {});
    let (_, spool, recovery) = opened.unwrap();
    assert_eq!((delivered(&spool), recovery.damaged), (expected, 0), "{what}: after a power cut");
    assert_eq!(ledger.books("prod").counts.kept, 40, "{what}: after a power cut");
}

/// All of these operations fail until they are healed.
fn every(ops: &'static [Op], errno: i32) -> impl Fn(&FaultDisk) {
    move |disk| {
        for &op in ops {
            disk.fail(DiskFault { op, errno, path: String::new(), skip: 0, times: u64::MAX });
        }
    }
}

#[test]
fn a_disk_without_room_pauses_and_loses_nothing() {
    let full = |disk: &FaultDisk| disk.set_capacity(Some(disk.used()));
    passes("full", "make room", full, |disk| disk.set_capacity(None));
    passes("no inodes", "df -i", every(&[Op::Create, Op::Write], ENOSPC), FaultDisk::heal);
}

#[test]
fn errors_of_the_medium_pause_and_lose_nothing() {
    passes("write", "kernel's log", every(&[Op::Write], EIO), FaultDisk::heal);
    // Guards against a sync that failed being taken for done when it is called again.
    passes("fsync", "kernel's log", every(&[Op::Sync], EIO), FaultDisk::heal);
}

#[test]
fn a_file_system_that_turns_read_only_pauses_and_loses_nothing() {
    let ops = &[Op::Create, Op::Write, Op::SetLen, Op::Sync, Op::Rename, Op::Remove, Op::SyncDir];
    passes("read-only", "remount", every(ops, EROFS), FaultDisk::heal);
}

#[test]
fn a_single_failed_fsync_is_not_taken_for_a_good_one() {
    let mut place = place(FaultDisk::new());
    place.disk.fail(DiskFault { op: Op::Sync, errno: EIO, path: "spool/".to_owned(), skip: 0, times: 1 });
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    let tally = place.settled();
    assert_eq!((tally.collected, tally.failed_transient), (0, 1));
    assert_eq!(delivered(&place.spool), [""; 0]);
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    assert_eq!(place.settled().collected, 1);
    assert_eq!(delivered(&place.spool).len(), 2, "once");
    place.stop();
}

#[test]
fn a_removed_state_directory_is_shown_and_nothing_is_said_to_be_durable_in_it() {
    let mut place = place(FaultDisk::new());
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    assert_eq!(place.settled().collected, 1);
    place.disk.remove_everything();
    let stopped = place.status.clone();
    let sender = place.jobs.clone();
    let text = thread::scope(|scope| {
        let place = &place;
        scope.spawn(move || place.hand_over(1, &body(1), Purpose::Collect));
        let text = loop {
            if let Some(text) = stopped.fault() {
                break text;
            }
            thread::yield_now();
        };
        // As a start does in an empty one.
        for dir in ["spool", "cursors", "ledger", "quarantine"] {
            place.disk.create_dir(dir).unwrap();
        }
        text
    });
    drop(sender);
    assert!(text.contains("removed or unmounted"), "{text}");
    assert_eq!(place.settled().collected, 1, "the second one is not");
    place.stop();
}

#[test]
fn a_quarantine_that_cannot_be_written_is_a_fault_of_the_disk() {
    let mut place = place(FaultDisk::new());
    place.disk.fail(DiskFault {
        op: Op::Create,
        errno: ENOSPC,
        path: "quarantine/".to_owned(),
        skip: 0,
        times: 1,
    });
    let unfit = Unfit { slug: "not-gzip", why: "it is not".to_owned() };
    let _ = place.hand_over(0, b"<html>", Purpose::SetAside(unfit.clone()));
    let tally = place.settled();
    assert_eq!((tally.quarantined, tally.failed_transient), (0, 1));
    let _ = place.hand_over(0, b"<html>", Purpose::SetAside(unfit));
    assert_eq!(place.settled().quarantined, 1);
    assert_eq!(place.ledger.books("prod").objects_quarantined, 1);
    place.stop();
}

/// What the ledger could not take at a stop is in front of its checkpoint, whatever comes afterwards: the next start
/// finds it in the spool.
#[test]
fn an_insert_that_is_given_up_at_a_stop_is_overtaken_by_nothing() {
    let disk = FaultDisk::new();
    // The ledger saves before each object but the first.
    let ledger = Ledger::open_bounded(disk.clone(), 1).unwrap();
    let mut place = place_with(disk, ledger);
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    assert_eq!(place.settled().collected, 1);
    place.disk.fail(DiskFault {
        op: Op::Create,
        errno: ENOSPC,
        path: "ledger/".to_owned(),
        skip: 0,
        times: u64::MAX,
    });
    let _ = place.hand_over(1, &body(1), Purpose::Collect);
    while place.status.fault().is_none() {
        thread::yield_now();
    }
    place.stop.store(true, Ordering::Relaxed);
    // It waits no more: the object is in the spool, and not in the ledger.
    assert_eq!(place.settled().collected, 2);
    assert_eq!(place.ledger.books("prod").objects_collected, 1);

    place.disk.heal();
    let _ = place.hand_over(2, &body(2), Purpose::Collect);
    let tally = place.settled();
    assert_eq!((tally.collected, tally.failed_transient), (2, 1));
    place.stop();

    let disk = place.disk.reboot(Survive::Nothing);
    let ledger = Ledger::open(disk.clone()).unwrap();
    let mut in_spool = Vec::new();
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let options = options(&config());
    let opened =
        spool::open(disk, options, quarantine, Position::default(), &mut |object, fate, counts, end| {
            let key = LogKey::parse(&object.key).unwrap();
            let entry = Entry { source: "prod", day: key.day(), key: &object.key, fate, counts };
            ledger.replay(&entry, end).unwrap();
            in_spool.push(key);
        });
    drop(opened.unwrap());
    assert_eq!(in_spool, [key(0), key(1)]);
    for key in in_spool {
        assert!(ledger.contains("prod", key.day(), key.as_str()).unwrap(), "{}", key.as_str());
    }
    assert_eq!(ledger.books("prod").objects_collected, 2, "each once");
}

#[test]
fn many_broken_records_of_one_object_leave_room_in_the_quarantine_for_others() {
    let mut place = place(FaultDisk::new());
    let many = 5000;
    let nulls = format!("{{\"Records\":[{}]}}", vec!["null"; many as usize].join(","));
    let _ = place.hand_over(0, nulls.as_bytes(), Purpose::Collect);
    assert_eq!(place.settled().collected, 1);
    let Counts { records, quarantined, .. } = place.ledger.books("prod").counts;
    assert_eq!((records, quarantined), (many, many), "the books balance");
    let totals = place.quarantine.totals();
    let kept = limits::QUARANTINE_RECORDS;
    assert_eq!((totals.entries, totals.only_counted), (kept, many - kept));
    let _ = place.hand_over(1, b"{\"Records\":[null]}", Purpose::Collect);
    assert_eq!(place.settled().collected, 2);
    assert_eq!(place.quarantine.totals().entries, kept + 1);
    place.stop();
}

fn too_large() -> Purpose {
    Purpose::SetAside(Unfit { slug: "object-too-large", why: "it is".to_owned() })
}

#[test]
fn what_is_too_large_is_not_read_to_its_end_to_be_set_aside() {
    let mut place = place(FaultDisk::new());
    let (chunks, body) = mpsc::sync_channel(1);
    let body = BodyReader::coming(body);
    let size = 1 << 40;
    let sent = thread::scope(|scope| {
        let sent = scope.spawn(move || {
            // It would go on for long.
            (0..10_000).take_while(|_| chunks.send(vec![0; limits::CHUNK_BYTES]).is_ok()).count()
        });
        let _ = place.hand_over_body(0, (Some(size), body), too_large(), &place.pass);
        sent.join().unwrap()
    });
    // One is in the channel, one with the sender, and the fetch's own.
    let most = BODY_BYTES / limits::CHUNK_BYTES + 3 + limits::CHUNKS_PER_FETCH;
    assert!(sent <= most, "{sent}");
    assert_eq!(place.settled().quarantined, 1);
    let mut given = Vec::new();
    place.quarantine.list(&mut |_, stored| given.push(stored.unwrap().given)).unwrap();
    assert_eq!(given, [size]);
    place.stop();
}

#[test]
fn what_has_ended_is_committed_while_a_slow_body_is_set_aside() {
    let mut place = place(FaultDisk::new());
    let _ = place.hand_over(0, &body(0), Purpose::Collect);
    let (chunks, slow) = mpsc::sync_channel(1);
    let slow = BodyReader::coming(slow);
    let later = Pass::new(Arc::new(SourceStatus::new("prod")), NOW);
    thread::scope(|scope| {
        scope.spawn(|| place.hand_over_body(1, (None, slow), too_large(), &later));
        chunks.send(vec![0; limits::CHUNK_BYTES]).unwrap();
        thread::sleep(COMMIT_AFTER);
        chunks.send(vec![0; limits::CHUNK_BYTES]).unwrap();
        let waited =
            runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
                tokio::time::timeout(Duration::from_secs(30), place.pass.settled()).await
            });
        drop(chunks);
        assert_eq!(waited.unwrap().collected, 1, "it does not wait for the end of the other one");
    });
    place.stop();
    assert_eq!((later.tally().quarantined, place.quarantine.totals().entries), (1, 1));
}

#[test]
fn a_long_save_shows_that_it_comes_on() {
    let mut place = place(FaultDisk::new());
    let days = 2000;
    let first = datetime!(2020-01-01 0:00).date();
    for n in 0..days {
        let entry = Entry {
            source: "prod",
            day: first + time::Duration::days(n),
            key: &n.to_string(),
            fate: ObjectFate::Collected,
            counts: Counts::default(),
        };
        place.ledger.replay(&entry, Position { segment: 1, offset: 1 }).unwrap();
    }
    let before = place.pulse.beats();
    place.stop();
    let runs = place.disk.list("ledger").unwrap().iter().filter(|(name, _)| name.ends_with(".run")).count();
    let beats = place.pulse.beats() - before;
    assert_eq!(runs, days as usize, "a file for each day");
    assert!(beats >= runs as u64, "{beats} beats");
}

#[test]
fn every_kind_of_error_has_its_advice() {
    for (kind, word) in [
        (ErrorKind::StorageFull, "df"),
        (ErrorKind::ReadOnlyFilesystem, "remount"),
        (ErrorKind::NotFound, "unmounted"),
        (ErrorKind::PermissionDenied, "user"),
        (ErrorKind::Other, "kernel"),
    ] {
        assert!(advice(Some(kind)).contains(word), "{kind:?}");
    }
}
