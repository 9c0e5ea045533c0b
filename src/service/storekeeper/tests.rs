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

/// A storekeeper at work on a disk, and what it says.
struct Place {
    disk: FaultDisk,
    spool: Arc<Spool<FaultDisk>>,
    ledger: Arc<Ledger<FaultDisk>>,
    quarantine: Quarantine<FaultDisk>,
    status: Arc<StoreStatus>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    queue: Queue,
    pass: Arc<Pass>,
}

fn place(disk: FaultDisk) -> Place {
    let config = config();
    let ledger = Arc::new(Ledger::open(disk.clone()).unwrap());
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let options = spool::Options {
        max_bytes: config.spool.max_bytes,
        segment_bytes: 64 * 1024,
        max_record_bytes: config.spool.max_record_bytes,
        compression: config.spool.compression,
        outputs: vec!["siem".into()],
    };
    let from = ledger.checkpoint();
    let (writer, spool, _) =
        spool::open(disk.clone(), options, quarantine.clone(), from, &mut |_, _, _, _| {}).unwrap();
    let remembered = Remembered::open(disk.clone(), &config.sources, (&spool, true), from, 1).unwrap();
    let status = Arc::new(StoreStatus::default());
    let stop = Arc::new(AtomicBool::new(false));
    let keeper = Storekeeper::new(
        &config,
        (writer, spool.clone()),
        ledger.clone(),
        quarantine.clone(),
        remembered,
        (stop, status.clone()),
    );
    let (jobs, work) = mpsc::channel();
    let thread = thread::spawn(move || keeper.run(&work));
    let pass = Pass::new(Arc::new(SourceStatus::new("prod")), NOW);
    let queue = Queue::new(1, 16);
    Place { disk, spool, ledger, quarantine, status, jobs: Some(jobs), thread: Some(thread), queue, pass }
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
        let key = key(n);
        let ticket = self.queue.ticket(&self.pass, &key)?;
        let object = ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.as_str().into() };
        let (read, answer) = oneshot::channel();
        let wanted = Wanted { object, size: Some(bytes.len() as u64), day: key.day(), ticket };
        self.jobs.as_ref()?.send(Job { wanted, body: BodyReader::of(bytes), purpose, read }).unwrap();
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
    let options = spool::Options {
        max_bytes: 1 << 20,
        segment_bytes: 64 * 1024,
        max_record_bytes: 4096,
        compression: Compression::None,
        outputs: vec!["siem".into()],
    };
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
