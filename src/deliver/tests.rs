//! The loop on a real spool, with power cuts, and a whole output into a file.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::Format;
use crate::fault_disk::{Cuts, FaultDisk, Survive};
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::spool::{Compression, Options, Position, Writer};

const OBJECTS: usize = 40;
const RECORDS: usize = 3 * OBJECTS;
/// Not the last one: after a restart, a bad record that is alone waits for another.
const BAD: [usize; 4] = [0, 50, 51, 118];

struct Place {
    writer: Writer<FaultDisk>,
    spool: Arc<Spool<FaultDisk>>,
    quarantine: Quarantine<FaultDisk>,
}

fn open(disk: &FaultDisk) -> Place {
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let options = Options {
        max_bytes: 1 << 20,
        segment_bytes: 4096,
        max_record_bytes: 1024,
        compression: Compression::None,
        outputs: vec!["siem".into()],
    };
    let (writer, spool, _) = crate::spool::open(
        disk.clone(),
        options,
        quarantine.clone(),
        Position::default(),
        &mut |_, _, _, _| {},
    )
    .unwrap();
    Place { writer, spool, quarantine }
}

fn record(number: usize) -> String {
    let word = if BAD.contains(&number) { "bad" } else { "good" };
    format!("{{\"n\":{number},\"word\":\"{word}\",\"padding\":\"{}\"}}", "x".repeat(60))
}

impl Place {
    fn collect(&mut self, objects: std::ops::Range<usize>) {
        for object in objects {
            let id = ObjectId { source: "s".into(), bucket: "b".into(), key: format!("k{object}").into() };
            self.writer.begin(&id).unwrap();
            for index in 0..3 {
                self.writer.record(index, record(3 * object + index as usize).as_bytes()).unwrap();
            }
            let counts = Counts { records: 3, kept: 3, ..Counts::default() };
            self.writer.end(ObjectFate::Collected, &counts).unwrap();
        }
        let _ = self.writer.commit().unwrap();
    }

    fn quarantined(&self) -> BTreeSet<usize> {
        let mut numbers = BTreeSet::new();
        self.quarantine
            .list(&mut |_, stored| {
                let stored = stored.unwrap();
                assert_eq!((stored.output.as_deref(), &*stored.reason), (Some("siem"), "rejected"));
                let object: usize = stored.object.key[1..].parse().unwrap();
                numbers.insert(3 * object + stored.index.unwrap() as usize);
            })
            .unwrap();
        numbers
    }

    async fn drained(&self) {
        let patience = Instant::now() + Duration::from_secs(3600);
        while !self.spool.drained("siem") {
            assert!(Instant::now() < patience, "stuck at {:?}", self.spool.cursor("siem"));
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Notes what it accepts; refuses what has a bad record in it.
struct Strict(Arc<Mutex<Vec<usize>>>);

impl Sender for Strict {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let lines = lines.bytes();
        sleep(Duration::from_millis(200)).await;
        let text = std::str::from_utf8(&lines).unwrap();
        if text.contains("bad") {
            return Outcome::Rejected("400".into());
        }
        let numbers = text.lines().map(|line| {
            let number = line.split([':', ',']).nth(1).unwrap().parse().unwrap();
            assert_eq!(line, record(number));
            number
        });
        self.0.lock().unwrap().extend(numbers);
        Outcome::Accepted
    }
}

fn config(kind: OutputKind) -> Output {
    Output {
        name: "siem".into(),
        kind,
        format: Format::Raw,
        batch_bytes: 1500,
        batch_records: 100,
        batch_wait: Duration::ZERO,
        on_full: OnFull::Hold,
        concurrency: 1,
    }
}

/// Runs the loop until it is drained and stopped, or for some virtual time at most.
async fn run(place: &Place, accepted: &Arc<Mutex<Vec<usize>>>, at_most: Duration) {
    let (stop, stopping) = watch::channel(false);
    let backlog = Spooled::new("siem", place.spool.clone(), place.quarantine.clone()).unwrap();
    let status = Arc::new(OutputStatus::default());
    let config = config(OutputKind::Stdout);
    let sender = Strict(accepted.clone());
    let (committed, skips) = (place.spool.subscribe(), place.spool.subscribe_skips());
    let complete = watch::channel(false).1;
    let wakes = output::Wakes { committed, skips, stop: stopping, complete };
    let running = output::run(&config, Arc::default(), sender, backlog, wakes, (status, Arc::default()));
    let _ = timeout(at_most, async {
        tokio::join!(running, async {
            place.drained().await;
            stop.send_replace(true);
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn power_cuts_anywhere_lose_nothing_and_the_counts_agree_with_the_place() {
    let whole_run = {
        let disk = FaultDisk::new().with_cuts(Cuts::Coarse);
        let mut place = open(&disk);
        place.collect(0..OBJECTS);
        let before = disk.steps();
        run(&place, &Arc::default(), Duration::from_secs(3600)).await;
        disk.steps() - before
    };
    assert!(whole_run > 50);
    for cut in (0..whole_run).step_by((whole_run / 60).max(1) as usize) {
        let disk = FaultDisk::new().with_cuts(Cuts::Coarse);
        let mut place = open(&disk);
        place.collect(0..OBJECTS);
        disk.cut_after(cut);
        let accepted = Arc::default();
        run(&place, &accepted, Duration::from_secs(20)).await;

        let disk = disk.reboot(Survive::Random(cut));
        let mut place = open(&disk);
        run(&place, &accepted, Duration::from_secs(3600)).await;
        assert!(place.spool.drained("siem"), "cut {cut}");
        let accepted: BTreeSet<usize> = accepted.lock().unwrap().iter().copied().collect();
        let bad = BTreeSet::from(BAD);
        assert_eq!(place.quarantined(), bad, "cut {cut}");
        assert_eq!(&accepted | &bad, (0..RECORDS).collect(), "cut {cut}");
        assert!(accepted.is_disjoint(&bad));
        let cursor = place.spool.cursor("siem").unwrap();
        assert_eq!((cursor.delivered, cursor.rejected), (RECORDS as u64 - 4, 4), "cut {cut}");

        // the cursor is saved, so that nothing but the last segment is needed any more
        let committed = place.spool.committed();
        place.writer.reclaim(committed).unwrap();
        assert!(place.spool.used_bytes() <= 4096 + 1024, "{} bytes", place.spool.used_bytes());
    }
}

#[tokio::test]
async fn an_output_into_a_file_follows_the_commits_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    let disk = FaultDisk::new();
    for half in [0..OBJECTS / 2, OBJECTS / 2..OBJECTS] {
        let mut place = open(&disk);
        let (stop, stopping) = watch::channel(false);
        let status = Arc::new(OutputStatus::default());
        let kind = OutputKind::File(crate::config::File {
            path: path.clone(),
            rotate_bytes: u64::MAX,
            rotate_age: None,
            rotate_keep: 1,
            gzip: false,
        });
        let task = output(
            config(kind),
            Arc::default(),
            place.spool.clone(),
            place.quarantine.clone(),
            (stopping, watch::channel(false).1),
            status.clone(),
            Arc::default(),
        )
        .unwrap();
        let task = tokio::spawn(task);
        for object in half.clone() {
            place.collect(object..object + 1);
            tokio::task::yield_now().await;
        }
        timeout(Duration::from_secs(60), place.drained()).await.unwrap();
        stop.send_replace(true);
        task.await.unwrap();
        assert_eq!(status.delivered_records(), 3 * half.len() as u64);
    }
    let all: String = (0..RECORDS).map(|number| record(number) + "\n").collect();
    assert_eq!(std::fs::read_to_string(path).unwrap(), all);
    assert_eq!(open(&disk).spool.cursor("siem").unwrap().delivered, RECORDS as u64);
}
