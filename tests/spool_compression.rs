//! `compression = "lz4"`: what it saves, and that a spool may hold both kinds of frames.

#[path = "common/fault_disk.rs"]
mod fault_disk;
#[path = "common/records.rs"]
#[allow(dead_code, unreachable_pub)]
mod records;

use std::ops::ControlFlow;

use fastrand::Rng;
use fault_disk::FaultDisk;
use records::Scene;
use trailspool::record::{Counts, ObjectFate, ObjectId};
use trailspool::spool::disk::Disk;
use trailspool::spool::{self, Compression, Cursor, Options, Position, Quarantine};

fn options(compression: Compression) -> Options {
    Options {
        max_bytes: 256 << 20,
        segment_bytes: 8 << 20,
        max_record_bytes: 1 << 20,
        compression,
        outputs: vec!["siem".into()],
    }
}

/// Objects of `count` records each, as CloudTrail writes them.
fn objects(count: usize, each: usize) -> Vec<Vec<Vec<u8>>> {
    let mut rng = Rng::with_seed(11);
    let day = time::macros::date!(2026 - 11 - 23);
    (0..count)
        .map(|n| {
            let scene = Scene::new(&mut rng, "111122223333", "eu-central-1", day, (n % 1440) as u32);
            (0..each).map(|_| scene.record(&mut rng).into_bytes()).collect()
        })
        .collect()
}

/// Appends the objects, and returns what is delivered behind `from`, and the cursor there.
fn run(disk: &FaultDisk, compression: Compression, objects: &[Vec<Vec<u8>>]) -> (Vec<Vec<u8>>, Cursor) {
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let start = Position::default();
    let (mut writer, spool, recovery) =
        spool::open(disk.clone(), options(compression), quarantine, start, &mut |_, _, _, _| {}).unwrap();
    assert_eq!((recovery.damaged, recovery.cut_bytes), (0, 0));
    for (n, records) in objects.iter().enumerate() {
        let key = format!(
            "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/23/\
             111122223333_CloudTrail_eu-central-1_20261123T1200Z_{n:016}.json.gz"
        );
        writer.begin(&ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() }).unwrap();
        for (index, record) in records.iter().enumerate() {
            writer.record(index as u32, record).unwrap();
        }
        let kept = records.len() as u64;
        writer.end(ObjectFate::Collected, &Counts { records: kept, kept, ..Counts::default() }).unwrap();
        if n % 100 == 99 {
            let _proof = writer.commit().unwrap();
        }
    }
    let _proof = writer.commit().unwrap();
    let (mut seen, mut last) = (Vec::new(), Cursor::default());
    // In parts, so that packed frames are entered in the middle.
    let mut reader = spool.reader("siem").unwrap();
    loop {
        let before = seen.len();
        reader
            .read(&mut |_, _, record, cursor| {
                if seen.len() == before + 7 {
                    return ControlFlow::Break(());
                }
                seen.push(record.to_vec());
                last = cursor;
                ControlFlow::Continue(())
            })
            .unwrap();
        if seen.len() == before {
            return (seen, last);
        }
    }
}

#[test]
fn lz4_writes_far_fewer_bytes_and_delivers_the_same() {
    for (what, objects) in
        [("200 objects of 5 records", objects(200, 5)), ("20 objects of 150 records", objects(20, 150))]
    {
        let expected: Vec<Vec<u8>> = objects.iter().flatten().cloned().collect();
        let mut written = Vec::new();
        for compression in [Compression::None, Compression::Lz4] {
            let disk = FaultDisk::new();
            let (seen, last) = run(&disk, compression, &objects);
            assert!(seen == expected, "{what}: byte for byte");
            assert_eq!(last.delivered, expected.len() as u64, "the books do not know of it");
            written.push(disk.written());
        }
        let plain: usize = expected.iter().map(Vec::len).sum();
        println!(
            "{what}: {plain} bytes of records; written without compression {}, with lz4 {} ({:.0} %)",
            written[0],
            written[1],
            100.0 * written[1] as f64 / written[0] as f64
        );
        assert!(written[1] * 2 < written[0], "{what}: {written:?}");
    }
}

#[test]
fn a_spool_holds_both_kinds_when_the_configuration_changes_and_changes_back() {
    let disk = FaultDisk::new();
    let mut expected = Vec::new();
    for (round, compression) in
        [Compression::None, Compression::Lz4, Compression::None, Compression::Lz4].into_iter().enumerate()
    {
        let objects = objects(3 + round, 4);
        expected.extend(objects.iter().flatten().cloned());
        let (seen, _) = run(&disk, compression, &objects);
        assert!(seen == expected, "round {round}");
    }
    // A version of trailspool that knows no packed frames must refuse their segments, not take them for damaged.
    for (name, _) in disk.list("spool").unwrap() {
        let bytes = disk.contents(&format!("spool/{name}")).unwrap();
        let packed = bytes.windows(5).any(|frame| frame[4] == 0x71 && frame[2..4] == [0, 0]);
        assert!(bytes[8] == 2 || !packed, "{name} has version {}", bytes[8]);
    }
    let versions: Vec<u8> = disk
        .list("spool")
        .unwrap()
        .iter()
        .map(|(name, _)| disk.contents(&format!("spool/{name}")).unwrap()[8])
        .collect();
    assert_eq!(versions, [1, 2], "what was begun with compression goes on without");
}
