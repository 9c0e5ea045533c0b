//! What the spool does with damage, with a full disk, with configuration that changes, and with threads.

#[path = "common/fault_disk.rs"]
mod fault_disk;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fault_disk::{FaultDisk, Op, Survive};
use trailspool::record::{Counts, ObjectFate, ObjectId};
use trailspool::spool::disk::{Disk, DiskFile};
use trailspool::spool::std_disk::StdDisk;
use trailspool::spool::{
    self, Compression, Cursor, Options, Position, Quarantine, Reader, Recovery, Spool, SpoolError, Writer,
};

const START: Position = Position { segment: 0, offset: 0 };

fn options(outputs: &[&str]) -> Options {
    Options {
        max_bytes: 64 * 1024,
        segment_bytes: 1024,
        max_record_bytes: 4096,
        compression: Compression::None,
        outputs: outputs.iter().map(|&name| name.into()).collect(),
    }
}

struct Open<D: Disk> {
    writer: Writer<D>,
    spool: Arc<Spool<D>>,
    recovery: Recovery,
    /// Keys of the objects that the ledger was told.
    told: Vec<String>,
}

fn open<D: Disk>(disk: &D, options: Options, replay_from: Position) -> Open<D> {
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let mut told = Vec::new();
    let mut on_object = |id: ObjectId, _, _, _| told.push(id.key.to_string());
    let (writer, spool, recovery) =
        spool::open(disk.clone(), options, quarantine, replay_from, &mut on_object).unwrap();
    Open { writer, spool, recovery, told }
}

fn object(key: &str) -> ObjectId {
    ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() }
}

fn kept(kept: u64) -> Counts {
    Counts { records: kept, kept, ..Counts::default() }
}

/// An object of records that say whose they are.
fn put<D: Disk>(writer: &mut Writer<D>, key: &str, records: u32) -> Result<(), SpoolError> {
    writer.begin(&object(key))?;
    for index in 0..records {
        writer.record(index, format!("{key}#{index}").as_bytes())?;
    }
    writer.end(ObjectFate::Collected, &kept(records.into()))
}

fn read_all<D: Disk>(reader: &mut Reader<D>) -> (Vec<String>, Cursor) {
    let (mut seen, mut last) = (Vec::new(), Cursor::default());
    reader
        .read(&mut |id, index, record, cursor| {
            assert_eq!(record, format!("{}#{index}", id.key).as_bytes(), "under its own name");
            seen.push(String::from_utf8(record.to_vec()).unwrap());
            last = cursor;
            ControlFlow::Continue(())
        })
        .unwrap();
    (seen, last)
}

fn segments(disk: &FaultDisk) -> Vec<String> {
    disk.list("spool").unwrap().into_iter().map(|(name, _)| format!("spool/{name}")).collect()
}

/// Objects `k0`, `k1`, … of three records in several segments, committed.
fn filled(disk: &FaultDisk, objects: usize) -> Vec<String> {
    let mut opened = open(disk, options(&["siem", "archive"]), START);
    let mut records = Vec::new();
    for n in 0..objects {
        put(&mut opened.writer, &format!("k{n}"), 3).unwrap();
        records.extend((0..3).map(|index| format!("k{n}#{index}")));
    }
    let _ = opened.writer.commit().unwrap();
    assert!(segments(disk).len() > 3);
    records
}

/// Where some bytes stand: segment and offset.
fn find(disk: &FaultDisk, bytes: &str) -> (String, usize) {
    let at = |path: &String| {
        disk.contents(path).unwrap().windows(bytes.len()).position(|window| window == bytes.as_bytes())
    };
    segments(disk).into_iter().find_map(|path| at(&path).map(|offset| (path, offset))).unwrap()
}

fn set_aside(disk: &FaultDisk) -> Vec<u8> {
    let quarantine = Quarantine::open(disk.clone(), 0).unwrap();
    let mut ids = Vec::new();
    quarantine.list(&mut |id, _| ids.push(id.to_owned())).unwrap();
    let mut raw = Vec::new();
    for id in ids {
        let mut take = |part: &[u8]| {
            raw.extend_from_slice(part);
            Ok(())
        };
        quarantine.read(&id, &mut take).unwrap();
    }
    raw
}

#[test]
fn rot_in_an_old_segment_costs_one_frame_and_its_bytes_are_set_aside_once() {
    let disk = FaultDisk::new();
    let mut expected = filled(&disk, 40);
    let (path, offset) = find(&disk, "k3#1");
    disk.flip(&path, offset, 1);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    assert_eq!((opened.recovery.damaged, opened.recovery.cut_bytes), (1, 0), "{:?}", opened.recovery);
    assert_eq!(opened.told.len(), 40, "its begin and end are good");
    expected.retain(|record| !record.starts_with("k3#"));
    for output in ["siem", "archive"] {
        let mut reader = opened.spool.reader(output).unwrap();
        let (seen, last) = read_all(&mut reader);
        assert_eq!(seen, expected);
        opened.spool.advance(output, last);
        assert_eq!(read_all(&mut reader).0, [""; 0], "never a loop");
        assert!(opened.spool.drained(output));
    }
    assert_eq!(opened.spool.damaged(), 2);
    assert_eq!(opened.spool.quarantine().totals().entries, 1, "both outputs mean the same damage");
    let raw = set_aside(&disk);
    assert!(raw.windows(4).any(|window| window == b"k3#2"));
}

#[test]
fn a_damaged_length_costs_the_rest_of_its_segment_and_no_later_one() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 40);
    let path = &segments(&disk)[1];
    // The segment's third frame, after its header (40) and two frames.
    let bytes = disk.contents(path).unwrap();
    let frame = |at: usize| at + 9 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let third = frame(frame(40));
    disk.flip(path, third + 1, 1);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    let (seen, _) = read_all(&mut opened.spool.reader("siem").unwrap());
    let lost: Vec<_> = expected.iter().filter(|record| !seen.contains(record)).collect();
    assert!(!lost.is_empty() && seen.len() > 80, "{}", seen.len());
    assert!(seen.is_sorted_by_key(|record| expected.iter().position(|known| known == record)));
    assert_eq!(seen.last(), expected.last());
    let raw = set_aside(&disk);
    for record in lost {
        assert!(raw.windows(record.len()).any(|window| window == record.as_bytes()), "{record} is set aside");
    }
}

#[test]
fn records_whose_begin_is_damaged_are_set_aside_and_the_object_is_not_collected() {
    let disk = FaultDisk::new();
    let mut expected = filled(&disk, 40);
    let (path, offset) = find(&disk, "k7");
    disk.flip(&path, offset, 2);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    assert!(opened.told.len() == 39 && !opened.told.iter().any(|key| key == "k7"));
    let (seen, _) = read_all(&mut opened.spool.reader("siem").unwrap());
    expected.retain(|record| !record.starts_with("k7#"));
    assert_eq!(seen, expected, "under no other object's name");
    let raw = set_aside(&disk);
    assert!(raw.windows(4).any(|window| window == b"k7#2"));
}

#[test]
fn rot_in_the_newest_segment_is_told_from_a_torn_end_by_who_has_been_there() {
    for passed in [false, true] {
        let disk = FaultDisk::new();
        let expected = filled(&disk, 40);
        let first = open(&disk, options(&["siem", "archive"]), START);
        let end = first.spool.committed();
        if passed {
            let (_, last) = read_all(&mut first.spool.reader("siem").unwrap());
            first.spool.advance("siem", last);
            first.spool.save("siem").unwrap();
        }
        drop(first);
        // The first object that is whole in the newest segment.
        let newest = segments(&disk).pop().unwrap();
        let bytes = disk.contents(&newest).unwrap();
        let (offset, hit) = (0..40)
            .filter_map(|n| {
                let text = format!("k{n}#0");
                Some((bytes.windows(text.len()).position(|window| window == text.as_bytes())?, n))
            })
            .min()
            .unwrap();
        disk.flip(&newest, offset, 1);
        let opened = open(&disk, options(&["siem", "archive"]), START);
        let (seen, _) = read_all(&mut opened.spool.reader("archive").unwrap());
        if passed {
            assert_eq!((opened.recovery.damaged, opened.spool.committed()), (1, end));
            assert_eq!(seen.len(), expected.len() - 3, "one frame is lost");
        } else {
            assert_eq!((opened.recovery.damaged, opened.told.len()), (0, hit), "the end was torn there");
            assert!(opened.recovery.cut_bytes > 0);
            assert_eq!(seen, expected[..3 * hit]);
        }
    }
}

#[test]
fn a_good_object_behind_a_torn_one_is_not_accepted() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    put(&mut opened.writer, "whole", 1).unwrap();
    put(&mut opened.writer, "torn", 1).unwrap();
    put(&mut opened.writer, "behind", 1).unwrap();
    let _ = opened.writer.commit().unwrap();
    let (path, offset) = find(&disk, "torn#0");
    disk.flip(&path, offset, 1);
    let opened = open(&disk, options(&["siem"]), START);
    assert_eq!(opened.told, ["whole"]);
    let again = open(&disk, options(&["siem"]), START);
    assert_eq!((again.told, again.recovery.cut_bytes), (vec!["whole".to_owned()], 0));
}

#[test]
fn a_damaged_header_or_a_missing_segment_costs_no_other_segment() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 40);
    let paths = segments(&disk);
    disk.flip(&paths[1], 20, 0xff);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    assert_eq!(opened.told.len(), 40);
    assert_eq!(read_all(&mut opened.spool.reader("siem").unwrap()).0, expected);
    drop(opened);

    disk.remove(&paths[2]).unwrap();
    let opened = open(&disk, options(&["siem", "archive"]), START);
    assert!(opened.recovery.notes[0].contains(&paths[2]), "{:?}", opened.recovery);
    let (seen, _) = read_all(&mut opened.spool.reader("siem").unwrap());
    assert!(seen.len() > 80 && seen.len() < 120 && seen.last() == expected.last());
}

#[test]
fn data_of_another_version_is_not_touched() {
    let disk = FaultDisk::new();
    filled(&disk, 20);
    let path = segments(&disk).remove(0);
    let mut bytes = disk.contents(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    disk.open(&path).unwrap().write_at(0, &bytes).unwrap();
    let quarantine = Quarantine::open(disk.clone(), 0).unwrap();
    match spool::open(disk.clone(), options(&["siem"]), quarantine, START, &mut |_, _, _, _| {}) {
        Err(SpoolError::Version { version: 9, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(disk.contents(&path).unwrap(), bytes);
}

#[test]
fn the_ledger_is_told_only_what_is_behind_its_checkpoint() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    let mut through = Vec::new();
    for n in 0..30 {
        put(&mut opened.writer, &format!("k{n}"), 5).unwrap();
        through.push(opened.writer.commit().unwrap().through);
    }
    for (n, &position) in through.iter().enumerate() {
        let told = open(&disk, options(&["siem"]), position).told;
        assert_eq!(told, (n + 1..30).map(|n| format!("k{n}")).collect::<Vec<_>>());
    }
}

#[test]
fn outputs_come_and_go() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 40);
    let mut opened = open(&disk, options(&["siem", "archive"]), START);
    for output in ["siem", "archive"] {
        let (_, last) = read_all(&mut opened.spool.reader(output).unwrap());
        opened.spool.advance(output, last);
        opened.spool.save(output).unwrap();
    }
    assert!(opened.writer.reclaim(opened.spool.committed()).unwrap() > 0);
    let left = segments(&disk).len();
    assert_eq!(left, 1);
    put(&mut opened.writer, "late", 2).unwrap();
    let _ = opened.writer.commit().unwrap();
    drop(opened);

    let opened = open(&disk, options(&["siem", "new"]), START);
    assert_eq!(disk.list("cursors").unwrap().len(), 2, "the configuration may yet be refused");
    assert_eq!(opened.spool.forget_other_outputs().unwrap(), ["archive"]);
    assert_eq!(disk.list("cursors").unwrap().len(), 1);
    assert_eq!(opened.spool.forget_other_outputs().unwrap(), [""; 0]);
    assert_eq!(opened.spool.cursor("siem").unwrap().delivered, 120);
    assert_eq!(read_all(&mut opened.spool.reader("siem").unwrap()).0, ["late#0", "late#1"]);
    let (seen, last) = read_all(&mut opened.spool.reader("new").unwrap());
    assert!(seen.ends_with(&["late#0".into(), "late#1".into()]) && seen.len() < expected.len());
    assert_eq!(last.delivered, seen.len() as u64);
    assert!(opened.spool.reader("archive").is_err());
}

/// Or a start that is refused for another reason would have cut off what was delivered.
#[test]
fn what_any_cursor_has_passed_is_rotten_and_not_torn() {
    let disk = FaultDisk::new();
    filled(&disk, 40);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    let (_, last) = read_all(&mut opened.spool.reader("archive").unwrap());
    opened.spool.advance("archive", last);
    opened.spool.save("archive").unwrap();
    let committed = opened.spool.committed();
    let (path, offset) = find(&disk, "k39#0");
    disk.flip(&path, offset, 1);
    let opened = open(&disk, options(&["siem"]), START);
    assert_eq!((opened.spool.committed(), opened.recovery.damaged), (committed, 1));
}

#[test]
fn a_damaged_cursor_sends_again_rather_than_losing() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 20);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    let (_, last) = read_all(&mut opened.spool.reader("siem").unwrap());
    opened.spool.advance("siem", last);
    opened.spool.save("siem").unwrap();
    disk.flip("cursors/siem.cur", 30, 1);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    assert!(opened.recovery.notes[0].contains("siem"), "{:?}", opened.recovery);
    assert_eq!(read_all(&mut opened.spool.reader("siem").unwrap()).0, expected);
}

#[test]
fn positions_never_come_again_even_when_the_segments_are_gone() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 40);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    let (_, last) = read_all(&mut opened.spool.reader("siem").unwrap());
    opened.spool.advance("siem", last);
    opened.spool.save("siem").unwrap();
    let checkpoint = opened.spool.committed();
    for path in segments(&disk) {
        disk.remove(&path).unwrap();
    }
    let mut opened = open(&disk, options(&["siem", "archive"]), checkpoint);
    assert!(opened.spool.committed() > checkpoint);
    put(&mut opened.writer, "after", 1).unwrap();
    assert!(opened.writer.commit().unwrap().through > checkpoint);
    for output in ["siem", "archive"] {
        assert_eq!(read_all(&mut opened.spool.reader(output).unwrap()).0, ["after#0"]);
    }
    assert_eq!(opened.spool.cursor("siem").unwrap().delivered, expected.len() as u64);
    let again = open(&disk, options(&["siem", "archive"]), checkpoint);
    assert_eq!(again.told, ["after"]);
    assert_eq!(again.recovery.damaged, 0);
}

#[test]
fn full_writes_nothing_and_ends_when_the_outputs_have_drained() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    let mut n = 0;
    let full = loop {
        if let Err(error) = put(&mut opened.writer, &format!("k{n}"), 1) {
            break error;
        }
        let _ = opened.writer.commit().unwrap();
        n += 1;
    };
    opened.writer.abort().unwrap();
    let before = disk.list("spool").unwrap();
    for _ in 0..3 {
        assert!(matches!(opened.writer.begin(&object(&"k".repeat(1000))), Err(SpoolError::Full)));
    }
    assert_eq!(disk.list("spool").unwrap(), before);
    assert!(matches!(full, SpoolError::Full), "{full}");
    assert!(opened.spool.used_bytes() <= 64 * 1024 && opened.spool.used_bytes() > 63 * 1024);

    // An output far away frees a segment while the storekeeper waits.
    assert_eq!(opened.writer.reclaim(opened.spool.committed()).unwrap(), 0);
    let spool = opened.spool.clone();
    let output = std::thread::spawn(move || {
        let (_, last) = read_all(&mut spool.reader("siem").unwrap());
        spool.advance("siem", last);
    });
    opened.writer.wait_for_room(Duration::from_secs(60));
    assert!(opened.writer.reclaim(opened.spool.committed()).unwrap() > 0);
    opened.writer.begin(&object("waits")).unwrap();
    output.join().unwrap();
}

#[test]
fn an_object_that_would_never_fit_is_refused_even_when_it_is_made_of_tiny_records() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    opened.writer.begin(&object("bomb")).unwrap();
    let error = (0..).find_map(|index| opened.writer.record(index, b"{}").err()).unwrap();
    assert!(matches!(error, SpoolError::TooLarge { .. }), "{error}");
    opened.writer.abort().unwrap();
    put(&mut opened.writer, "next", 1).unwrap();
    let _ = opened.writer.commit().unwrap();
    assert_eq!(read_all(&mut opened.spool.reader("siem").unwrap()).0, ["next#0"]);
}

#[test]
fn objects_without_records_hold_no_segments() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    let mut reader = opened.spool.reader("siem").unwrap();
    for n in 0..200 {
        put(&mut opened.writer, &format!("empty{n}"), 0).unwrap();
        let _ = opened.writer.commit().unwrap();
        read_all(&mut reader);
        assert!(opened.spool.drained("siem"));
        let _ = opened.writer.reclaim(opened.spool.committed()).unwrap();
        assert!(segments(&disk).len() <= 2);
    }
    assert!(opened.spool.committed().segment > 5);
}

#[test]
fn a_full_disk_in_the_middle_of_an_object_loses_and_repeats_nothing() {
    let disk = FaultDisk::new();
    let mut opened = open(&disk, options(&["siem"]), START);
    put(&mut opened.writer, "a", 3).unwrap();
    let _ = opened.writer.commit().unwrap();
    disk.set_capacity(Some(disk.used() + 700));
    let error = loop {
        if let Err(error) = put(&mut opened.writer, "b", 20) {
            break error;
        }
    };
    assert!(error.is_disk_full(), "{error}");
    assert!(
        matches!(opened.writer.begin(&object("c")), Err(SpoolError::Misuse(_))),
        "a rollback comes first"
    );
    opened.writer.rollback();
    assert_eq!(opened.writer.uncommitted().objects, 0);
    disk.set_capacity(None);
    put(&mut opened.writer, "b", 20).unwrap();
    let _ = opened.writer.commit().unwrap();
    let expected: Vec<String> =
        (0..3).map(|n| format!("a#{n}")).chain((0..20).map(|n| format!("b#{n}"))).collect();
    assert_eq!(read_all(&mut opened.spool.reader("siem").unwrap()).0, expected);
    let after = open(&disk.reboot(Survive::Nothing), options(&["siem"]), START);
    assert_eq!(after.told, ["a", "b"]);
    assert_eq!(read_all(&mut after.spool.reader("siem").unwrap()).0, expected);
}

#[test]
fn a_failed_read_leaves_the_reader_where_it_was() {
    let disk = FaultDisk::new();
    let expected = filled(&disk, 20);
    let opened = open(&disk, options(&["siem", "archive"]), START);
    let mut reader = opened.spool.reader("siem").unwrap();
    disk.fail_next(Op::Read, fault_disk::EIO);
    assert!(matches!(reader.read(&mut |_, _, _, _| ControlFlow::Continue(())), Err(SpoolError::Disk { .. })));
    assert_eq!(read_all(&mut reader).0, expected);
}

#[test]
fn the_books_are_checked_as_an_object_ends() {
    let disk = FaultDisk::new();
    let mut writer = open(&disk, options(&["siem"]), START).writer;
    writer.begin(&object("k")).unwrap();
    writer.record(0, b"{}").unwrap();
    for counts in [kept(2), Counts { records: 2, ..kept(1) }] {
        assert!(matches!(writer.end(ObjectFate::Collected, &counts), Err(SpoolError::Misuse(_))));
    }
    assert!(matches!(writer.begin(&object("l")), Err(SpoolError::Misuse(_))));
    assert!(matches!(writer.record(1, &[0; 5000]), Err(SpoolError::Misuse(_))));
    writer.end(ObjectFate::Collected, &kept(1)).unwrap();
    assert!(matches!(writer.record(1, b"{}"), Err(SpoolError::Misuse(_))));
    assert_eq!(writer.uncommitted().objects, 1);
}

#[test]
fn a_spool_too_small_for_its_segments_is_not_opened() {
    let disk = FaultDisk::new();
    let quarantine = Quarantine::open(disk.clone(), 0).unwrap();
    let small = Options { max_bytes: 9000, ..options(&["siem"]) };
    let opened = spool::open(disk.clone(), small, quarantine, START, &mut |_, _, _, _| {});
    assert!(matches!(opened.err(), Some(SpoolError::Options(_))));
    assert_eq!(disk.list("spool").unwrap(), []);
}

#[test]
fn small_objects_cost_few_bytes_of_flash() {
    let disk = FaultDisk::new();
    let mut options = options(&["siem"]);
    (options.segment_bytes, options.max_bytes) = (1 << 20, 8 << 20);
    let mut writer = open(&disk, options, START).writer;
    let record = [b'x'; 1000];
    let mut payload = 0;
    for n in 0..500 {
        writer.begin(&object(&format!("{}{n}", "k".repeat(130)))).unwrap();
        for index in 0..5 {
            writer.record(index, &record).unwrap();
            payload += record.len() as u64;
        }
        writer.end(ObjectFate::Collected, &kept(5)).unwrap();
    }
    let before = disk.written();
    let _ = writer.commit().unwrap();
    let ratio = disk.written() as f64 / payload as f64;
    assert!(before > 0 && ratio < 1.1, "{ratio}");
}

/// One thread writes, commits, aborts and reclaims; two read beside it, on real files.
#[test]
fn readers_in_other_threads_see_everything_once_in_order() {
    const OBJECTS: u32 = 600;
    let folder = tempfile::tempdir().unwrap();
    let disk = StdDisk::open(folder.path()).unwrap();
    let mut options = options(&["siem", "archive"]);
    (options.segment_bytes, options.max_bytes) = (8 * 1024, 48 * 1024);
    let Open { mut writer, spool, .. } = open(&disk, options.clone(), START);
    let output = |name: &'static str| {
        let spool = spool.clone();
        std::thread::spawn(move || {
            let mut reader = spool.reader(name).unwrap();
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| *last != format!("k{}#4", OBJECTS - 1)) {
                let (part, last) = read_all(&mut reader);
                if part.is_empty() {
                    std::thread::yield_now();
                    continue;
                }
                seen.extend(part);
                spool.advance(name, last);
                spool.save(name).unwrap();
            }
            seen
        })
    };
    let outputs = [output("siem"), output("archive")];
    for n in 0..OBJECTS {
        let key = format!("k{n}");
        while let Err(error) = put(&mut writer, &key, 5) {
            assert!(matches!(error, SpoolError::Full), "{error}");
            writer.abort().unwrap();
            let through = writer.commit().unwrap().through;
            writer.reclaim(through).unwrap();
            writer.wait_for_room(Duration::from_millis(5));
        }
        if n % 7 == 0 {
            writer.begin(&object("aborted")).unwrap_or_default();
            writer.abort().unwrap();
            let _ = writer.commit().unwrap();
        }
    }
    let _ = writer.commit().unwrap();
    let expected: Vec<String> = (0..OBJECTS).flat_map(|n| (0..5).map(move |i| format!("k{n}#{i}"))).collect();
    for output in outputs {
        assert!(output.join().unwrap() == expected);
    }
    assert!(writer.reclaim(spool.committed()).unwrap() > 0);
}
