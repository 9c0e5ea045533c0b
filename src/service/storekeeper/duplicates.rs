//! The storekeeper on a disk whose power is cut at every step: what duplicates are found by shares the fate of the
//! objects that brought it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc;

use time::macros::datetime;

use super::*;
use crate::discover::key::LogKey;
use crate::discover::queue::{Pass, Queue};
use crate::discover::status::SourceStatus;
use crate::fault_disk::{Cuts, EIO, Fault, FaultDisk, Op, Survive};
use crate::spool::{Compression, Options};

/// Objects that come in one life of the process each: their records, by number.
const LIVES: &[&[&[u32]]] = &[
    &[&[1, 2], &[2, 3], &[3, 3, 4]],
    &[&[4, 5], BROKEN, &[6, 1]],
    &[&[7]],
    &[BROKEN, &[8, 6], &[9, 10, 9], &[2, 11]],
    &[&[10, 12], &[5, 1]],
];
/// Its text ends in the middle: record 6 stands in it, but is not kept with it.
const BROKEN: &[u32] = &[6, 0];
const RECORDS: u32 = 12;

/// Everything durable that a life opens.
struct Place {
    ledger: Arc<Ledger<FaultDisk>>,
    quarantine: Quarantine<FaultDisk>,
    spool: Arc<Spool<FaultDisk>>,
    writer: Writer<FaultDisk>,
    remembered: Remembered<FaultDisk>,
}

fn config() -> config::Config {
    let text = "[[source]]\nname = 'prod'\nbucket = 'b12'\nregion = 'us-east-1'\n[source.credentials]\nmethod = 'default'\n\
                [spool]\nmax_record_bytes = '64KiB'\n[[output]]\nname = 'siem'\nkind = 'stdout'\n";
    config::parse(text, Path::new("trailspool.toml"), &|_| None).expect("a configuration")
}

fn open(disk: &FaultDisk, config: &config::Config) -> Result<Place, Box<dyn std::error::Error>> {
    let ledger = Arc::new(Ledger::open(disk.clone())?);
    let quarantine = Quarantine::open(disk.clone(), 1 << 20)?;
    let options = Options {
        max_bytes: 1 << 20,
        segment_bytes: 2048,
        max_record_bytes: 1024,
        compression: Compression::None,
        outputs: vec!["siem".into()],
    };
    let mut replayed = Ok(());
    let replay = &mut |object: ObjectId, fate, counts, end| {
        let day = LogKey::parse(&object.key).expect("a key").day();
        let entry = Entry { source: &object.source, day, key: &object.key, fate, counts };
        if replayed.is_ok() {
            replayed = ledger.replay(&entry, end);
        }
    };
    let (writer, spool, recovery) =
        crate::spool::open(disk.clone(), options, quarantine.clone(), ledger.checkpoint(), replay)?;
    replayed?;
    let whole = recovery.damaged == 0 && recovery.notes.is_empty();
    let remembered =
        Remembered::open(disk.clone(), &config.sources, (&spool, whole), ledger.checkpoint(), 7)?;
    Ok(Place { ledger, quarantine, spool, writer, remembered })
}

fn key(life: usize, object: usize) -> String {
    format!(
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/02/03/111122223333_CloudTrail_us-east-1_20260203T{life:02}{object:02}Z_0123456789abcdef.json.gz"
    )
}

fn record(number: u32) -> String {
    format!(
        r#"{{"eventName":"Run","eventID":"00000000-0000-0000-0000-{number:012}","n":"{}"}}"#,
        "x".repeat(150)
    )
}

fn body(numbers: &[u32]) -> Vec<u8> {
    let mut records: Vec<String> = numbers.iter().map(|number| record(*number)).collect();
    if numbers == BROKEN {
        records[1].truncate(40);
    }
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    let mut object = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    object.extend(miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 1));
    object.extend(crc32fast::hash(text.as_bytes()).to_le_bytes());
    object.extend((text.len() as u32).to_le_bytes());
    object
}

/// What an output got: each record with where it stood.
type Delivered = BTreeMap<String, BTreeSet<(String, u32)>>;

/// One life: collects what the ledger does not have, stops, and delivers everything. An error: the power is cut.
fn live(
    disk: &FaultDisk,
    config: &config::Config,
    life: usize,
    delivered: &mut Delivered,
) -> Result<(), Box<dyn std::error::Error>> {
    let Place { ledger, quarantine, spool, writer, remembered } = open(disk, config)?;
    let (jobs, work) = mpsc::channel();
    let queue = Queue::new(1, 64);
    let pass = Pass::new(Arc::new(SourceStatus::new("prod")), datetime!(2026-02-03 00:00));
    let mut answers = Vec::new();
    for (object, numbers) in LIVES[life].iter().enumerate() {
        let key = key(life, object);
        let log_key = LogKey::parse(&key).expect("a key");
        if ledger.contains("prod", log_key.day(), &key)? {
            continue;
        }
        let body = body(numbers);
        let ticket = queue.ticket(&pass, &log_key).expect("a new object");
        let id = ObjectId { source: "prod".into(), bucket: "b12".into(), key: key.as_str().into() };
        let wanted = Wanted { object: id, size: Some(body.len() as u64), day: log_key.day(), ticket };
        let (read, answer) = oneshot::channel();
        jobs.send(Job { wanted, body: BodyReader::of(&body), purpose: Purpose::Collect, read })?;
        answers.push(answer);
    }
    drop(jobs);
    // It is told to stop from the start, so that it waits for no disk that will not come back.
    let stop = Arc::new(AtomicBool::new(true));
    let parts = (writer, spool.clone());
    Storekeeper::new(config, parts, ledger, quarantine, remembered, (stop, Arc::default())).run(&work);

    let mut end = None;
    spool.reader("siem")?.read(&mut |object, index, record, cursor| {
        let record = String::from_utf8(record.to_vec()).expect("text");
        delivered.entry(record).or_default().insert((object.key.to_string(), index));
        end = Some(cursor);
        ControlFlow::Continue(())
    })?;
    if let Some(cursor) = end {
        spool.advance("siem", cursor);
    }
    spool.save("siem")?;
    match disk.is_cut() {
        true => Err("the power is cut".into()),
        false => Ok(()),
    }
}

fn check(disk: &FaultDisk, config: &config::Config, delivered: &Delivered, what: &str) {
    for number in 1..=RECORDS {
        let places = delivered.get(&record(number)).map_or(0, BTreeSet::len);
        assert_eq!(places, 1, "{what}: record {number} is kept from so many places");
    }
    assert_eq!(delivered.len(), RECORDS as usize, "{what}: nothing else is kept");
    let place = open(disk, config).expect("a disk with power");
    let counts = place.ledger.books("prod").counts;
    let records: usize =
        LIVES.iter().flat_map(|life| life.iter()).filter(|o| **o != BROKEN).map(|o| o.len()).sum();
    let expected = Counts {
        records: records as u64,
        kept: u64::from(RECORDS),
        duplicate: records as u64 - u64::from(RECORDS),
        ..Counts::default()
    };
    assert_eq!(counts, expected, "{what}");
    assert!(counts.balance());
}

#[test]
fn a_kept_record_is_kept_once_wherever_the_power_is_cut() {
    let config = config();
    let whole = FaultDisk::new().with_cuts(Cuts::Coarse);
    let mut delivered = Delivered::new();
    for life in 0..LIVES.len() {
        live(&whole, &config, life, &mut delivered).expect("no fault");
    }
    check(&whole, &config, &delivered, "without a cut");
    assert!(whole.list(crate::select::remembered::DIR).unwrap().len() > 1, "marks are saved");

    let steps = whole.steps();
    for cut in 0..steps {
        let other = if cut % 2 == 0 { Survive::Nothing } else { Survive::Everything };
        for survive in [Survive::Random(cut), other] {
            let mut disk = FaultDisk::new().with_cuts(Cuts::Coarse);
            disk.cut_after(cut);
            let mut delivered = Delivered::new();
            let mut life = 0;
            while life < LIVES.len() {
                match live(&disk, &config, life, &mut delivered) {
                    Ok(()) => life += 1,
                    // The same life again: what it had made durable is not collected twice.
                    Err(_) => disk = disk.reboot(survive),
                }
            }
            let disk = disk.reboot(survive);
            check(&disk, &config, &delivered, &format!("cut {cut}, {survive:?}"));
        }
    }
}

#[test]
fn objects_that_a_failing_disk_takes_back_are_no_originals_of_what_comes_after_them() {
    let config = config();
    for op in [Op::Write, Op::Sync, Op::Create, Op::Rename] {
        for nth in 0..20 {
            let disk = FaultDisk::new().with_cuts(Cuts::Coarse);
            let mut delivered = Delivered::new();
            for life in 0..LIVES.len() {
                if life == nth % LIVES.len() {
                    let skip = (nth / LIVES.len()) as u64;
                    disk.fail(Fault { op, errno: EIO, path: String::new(), skip, times: 1 });
                }
                // What failed comes again in another life of the same objects.
                for _ in 0..3 {
                    let _ = live(&disk, &config, life, &mut delivered);
                }
                disk.heal();
                live(&disk, &config, life, &mut delivered).expect("a healed disk");
            }
            check(&disk, &config, &delivered, &format!("{op:?} {nth}"));
        }
    }
}
