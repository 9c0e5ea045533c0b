//! Damage inside of committed data: every byte of every segment flipped, segments cut at every length, blocks zeroed,
//! segments swapped and repeated. Each time the spool opens, every output comes to the end, what it gets is what was
//! written, in order and under its own name, and what it does not get is counted and set aside as raw bytes, or is not
//! told to the ledger and so collected again. Never a panic, never a loop. And so with bytes that the disk cannot read.
//! Guards against vector#25639, #25570, #25779 and #17644.

#[path = "common/fault_disk.rs"]
mod fault_disk;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use fault_disk::{FaultDisk, Survive};
use trailspool::record::{Counts, ObjectFate, ObjectId};
use trailspool::spool::disk::{Disk, DiskFile};
use trailspool::spool::{self, Compression, Opened, Options, Position, Quarantine, Reader, SpoolError};

const OUTPUTS: [&str; 2] = ["siem", "archive"];
/// Records of the whole log; a reader that visits more goes round in circles.
const RECORDS: usize = 3 * OBJECTS;
const OBJECTS: usize = 10;

fn options(compression: Compression) -> Options {
    Options {
        max_bytes: 64 * 1024,
        segment_bytes: 1024,
        max_record_bytes: 4096,
        compression,
        outputs: OUTPUTS.map(Box::from).to_vec(),
    }
}

/// What was written.
struct Log {
    disk: FaultDisk,
    compression: Compression,
    /// Key, index, bytes.
    records: Vec<(String, u32, Vec<u8>)>,
    /// Everything was durable before.
    passed: bool,
}

/// A few segments. `passed`: an output has acknowledged everything, so that nothing can be taken for a torn end.
fn log(compression: Compression, passed: bool) -> Log {
    let disk = FaultDisk::new();
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let position = Position::default();
    let (mut writer, spool, _) =
        spool::open(disk.clone(), options(compression), quarantine, position, &mut |_, _, _, _| {}).unwrap();
    let mut records = Vec::new();
    for n in 0..OBJECTS {
        let key = format!("k{n}");
        writer
            .begin(&ObjectId { source: "prod".into(), bucket: "acme".into(), key: (&*key).into() })
            .unwrap();
        for index in 0..3 {
            let record = format!(r#"{{"of":"{key}","n":{index},"pad":"{}"}}"#, "pad ".repeat(9)).into_bytes();
            writer.record(index, &record).unwrap();
            records.push((key.clone(), index, record));
        }
        writer.end(ObjectFate::Collected, &Counts { records: 3, kept: 3, ..Counts::default() }).unwrap();
        let _proof = writer.commit().unwrap();
    }
    if passed {
        let mut last = None;
        let mut reader = spool.reader("archive").unwrap();
        reader
            .read(&mut |_, _, _, cursor| {
                last = Some(cursor);
                ControlFlow::Continue(())
            })
            .unwrap();
        spool.advance("archive", last.unwrap());
        spool.save("archive").unwrap();
    }
    Log { disk: disk.preview(Survive::Everything), compression, records, passed }
}

fn segments(disk: &FaultDisk) -> Vec<String> {
    let mut names: Vec<_> =
        disk.list("spool").unwrap().into_iter().map(|(name, _)| format!("spool/{name}")).collect();
    names.sort();
    names
}

/// Does `damage` to a copy of the log, and checks what must hold then. Returns whether anything was lost or set aside.
fn survives(log: &Log, what: &str, damage: impl FnOnce(&FaultDisk)) -> bool {
    let disk = log.disk.preview(Survive::Everything);
    damage(&disk);
    let before: BTreeSet<(String, Vec<u8>)> =
        segments(&disk).into_iter().map(|path| (path.clone(), disk.contents(&path).unwrap())).collect();
    let mut noticed = false;
    // Twice: what the first start does about it must be enough for the second.
    for start in 0..2 {
        let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
        let mut told = BTreeSet::new();
        let mut on_object =
            |id: ObjectId, _, _, _| assert!(told.insert(id.key.to_string()), "{what}: told twice");
        let opened = spool::open(
            disk.clone(),
            options(log.compression),
            quarantine.clone(),
            Position::default(),
            &mut on_object,
        );
        let (mut writer, spool, recovery) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut reader = spool.reader("siem").unwrap();
        let mut seen: Vec<(String, u32, Vec<u8>)> = Vec::new();
        reader
            .read(&mut |id, index, record, _| {
                assert!(seen.len() < 2 * RECORDS, "{what}: a loop");
                seen.push((id.key.to_string(), index, record.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        let mut left = log.records.iter();
        for record in &seen {
            assert!(
                left.any(|known| known == record),
                "{what}: {record:?} comes from nowhere, or out of order"
            );
        }
        let lost: Vec<_> = log.records.iter().filter(|record| !seen.contains(record)).collect();
        let counted = spool.damaged() > 0 && quarantine.totals().entries > 0;
        let noted = !recovery.notes.is_empty() || recovery.cut_bytes > 0 || recovery.damaged > 0;
        let from = lost.iter().filter(|(key, _, _)| told.contains(key)).count();
        assert!(
            from == 0 || counted || noted,
            "{what}: {from} records are lost without a word: {recovery:?}"
        );
        if start == 0 {
            noticed = !lost.is_empty() || counted || noted;
            is_set_aside(log, &before, &quarantine, what);
        }
        // And it goes on: the next object is delivered behind whatever is left.
        let key = format!("after {start}");
        writer
            .begin(&ObjectId { source: "prod".into(), bucket: "acme".into(), key: (&*key).into() })
            .unwrap();
        writer.record(0, b"{}").unwrap();
        writer.end(ObjectFate::Collected, &Counts { records: 1, kept: 1, ..Counts::default() }).unwrap();
        let _proof = writer.commit().unwrap();
        let mut last = None;
        reader
            .read(&mut |id, _, record, cursor| {
                assert_eq!((&*id.key, record), (&*key, &b"{}"[..]), "{what}: only what is new");
                last = Some(cursor);
                ControlFlow::Continue(())
            })
            .unwrap();
        let last = last.unwrap_or_else(|| panic!("{what}: nothing comes through any more"));
        spool.advance("siem", last);
        assert!(spool.drained("siem"), "{what}");
        if start == 0 {
            // The second start reads it all again.
            drop((reader, spool, writer));
            let mut expected = log.records.clone();
            expected.retain(|record| seen.contains(record));
            expected.push((key, 0, b"{}".to_vec()));
            return noticed & survives_again(&disk, log.compression, &expected, what);
        }
    }
    noticed
}

/// The second start finds what the first one left.
fn survives_again(
    disk: &FaultDisk,
    compression: Compression,
    expected: &[(String, u32, Vec<u8>)],
    what: &str,
) -> bool {
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let entries = quarantine.totals().entries;
    let from = Position::default();
    let (_writer, spool, _) =
        spool::open(disk.clone(), options(compression), quarantine.clone(), from, &mut |_, _, _, _| {})
            .unwrap();
    for output in OUTPUTS {
        let mut seen = Vec::new();
        spool
            .reader(output)
            .unwrap()
            .read(&mut |id, index, record, _| {
                assert!(seen.len() < 2 * RECORDS, "{what}: a loop");
                seen.push((id.key.to_string(), index, record.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(expected.ends_with(&seen), "{what}: {output} gets the same again");
    }
    assert_eq!(quarantine.totals().entries, entries, "{what}: the same damage is set aside once");
    true
}

/// What is in the quarantine are bytes of the segments as they were found.
fn is_set_aside(
    log: &Log,
    before: &BTreeSet<(String, Vec<u8>)>,
    quarantine: &Quarantine<FaultDisk>,
    what: &str,
) {
    let mut ids = Vec::new();
    quarantine.list(&mut |id, _| ids.push(id.to_owned())).unwrap();
    for id in ids {
        let mut raw = Vec::new();
        let mut take = |part: &[u8]| {
            raw.extend_from_slice(part);
            Ok(())
        };
        let stored = quarantine.read(&id, &mut take).unwrap();
        assert_eq!(&*stored.reason, "spool-damaged");
        let (path, offset) = stored.object.key.split_once('@').expect("a place");
        let offset: usize = offset.parse().unwrap();
        let (_, bytes) = before.iter().find(|(known, _)| known == path).expect("a segment");
        assert_eq!(raw, bytes[offset..offset + raw.len()], "{what}: {:?}", log.compression);
    }
}

fn everywhere(mut each: impl FnMut(&Log)) {
    for compression in [Compression::None, Compression::Lz4] {
        for passed in [false, true] {
            each(&log(compression, passed));
        }
    }
}

#[test]
fn a_flipped_bit_at_every_byte_is_found_and_costs_no_more_than_it_must() {
    let mut flips = 0;
    everywhere(|log| {
        for path in segments(&log.disk) {
            for offset in 0..log.disk.contents(&path).unwrap().len() {
                let mask = 1 << (offset % 8);
                let noticed =
                    survives(log, &format!("{path}@{offset}^{mask}"), |disk| disk.flip(&path, offset, mask));
                // The header of an old segment is not needed while those beside it are whole.
                assert!(noticed || offset < 40, "{path}@{offset}: a changed byte that nobody noticed");
                flips += 1;
            }
        }
    });
    println!("{flips} flipped bits");
    assert!(flips > 5000, "{flips}");
}

#[test]
fn a_segment_cut_at_every_length_loses_what_was_cut_and_says_so() {
    everywhere(|log| {
        for path in segments(&log.disk) {
            let bytes = log.disk.contents(&path).unwrap();
            for len in 0..bytes.len() {
                let noticed = survives(log, &format!("{path} cut to {len}"), |disk| {
                    disk.overwrite(&path, &bytes[..len])
                });
                assert!(noticed || !log.passed, "{path}: cut to {len}, and nobody noticed");
            }
        }
    });
}

#[test]
fn zeroed_blocks_are_set_aside() {
    const BLOCK: usize = 64;
    everywhere(|log| {
        for path in segments(&log.disk) {
            let bytes = log.disk.contents(&path).unwrap();
            for from in (0..bytes.len()).step_by(BLOCK) {
                let mut damaged = bytes.clone();
                damaged[from..bytes.len().min(from + BLOCK)].fill(0);
                assert!(
                    survives(log, &format!("{path} zeros at {from}"), |disk| disk.overwrite(&path, &damaged))
                );
            }
        }
    });
}

#[test]
fn swapped_and_repeated_segments_are_nobodys() {
    everywhere(|log| {
        let paths = segments(&log.disk);
        assert!(paths.len() >= 3);
        for (a, b) in
            (0..paths.len()).flat_map(|a| (0..paths.len()).map(move |b| (a, b))).filter(|(a, b)| a != b)
        {
            let (first, second) =
                (log.disk.contents(&paths[a]).unwrap(), log.disk.contents(&paths[b]).unwrap());
            survives(log, &format!("{a} and {b} swapped"), |disk| {
                disk.overwrite(&paths[a], &second);
                disk.overwrite(&paths[b], &first);
            });
            survives(log, &format!("{a} in the place of {b}"), |disk| disk.overwrite(&paths[b], &first));
        }
    });
}

#[test]
fn a_segment_of_noise_or_of_a_stranger_is_set_aside() {
    everywhere(|log| {
        let mut rng = fastrand::Rng::with_seed(7);
        for path in segments(&log.disk) {
            let len = log.disk.contents(&path).unwrap().len();
            let noise: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            survives(log, &format!("{path} is noise"), |disk| disk.overwrite(&path, &noise));
            survives(log, &format!("{path} is a lie"), |disk| {
                // Every length leads to the next.
                let lie: Vec<u8> = [0u8, 0, 0, 0, 0x2b, 0, 0, 0, 0].repeat(len / 9);
                disk.overwrite(&path, &lie);
            });
        }
        // A file that is named like a segment far ahead.
        survives(log, "a stranger", |disk| {
            disk.create("spool/00000000000000ff.seg").unwrap().write_at(0, &[7; 300]).unwrap();
        });
    });
}

fn start(
    disk: &FaultDisk,
    compression: Compression,
) -> Result<(Opened<FaultDisk>, Quarantine<FaultDisk>), SpoolError> {
    let quarantine = Quarantine::open(disk.clone(), 1 << 20).unwrap();
    let (options, from) = (options(compression), Position::default());
    let opened = spool::open(disk.clone(), options, quarantine.clone(), from, &mut |_, _, _, _| {})?;
    Ok((opened, quarantine))
}

/// Everything to the end of the log, and how often reading failed on the way.
fn persist(reader: &mut Reader<FaultDisk>, what: &str) -> (Vec<(String, u32, Vec<u8>)>, usize) {
    let (mut seen, mut failures) = (Vec::new(), 0);
    loop {
        let read = reader.read(&mut |id, index, record, _| {
            seen.push((id.key.to_string(), index, record.to_vec()));
            ControlFlow::Continue(())
        });
        match read {
            Ok(()) => return (seen, failures),
            Err(_) => failures += 1,
        }
        assert!(failures < 100, "{what}: it stands there for ever");
    }
}

#[test]
fn what_the_disk_cannot_read_is_tried_again_and_then_set_aside() {
    for compression in [Compression::None, Compression::Lz4] {
        let log = log(compression, true);
        let paths = segments(&log.disk);
        let (_, old) = paths.split_last().unwrap();
        for path in old {
            let bytes = log.disk.contents(path).unwrap();
            for at in (0..bytes.len()).step_by(3) {
                let what = format!("{path}@{at} cannot be read");
                let disk = log.disk.preview(Survive::Everything);
                disk.spoil(path, at as u64..at as u64 + 1);
                let ((_writer, spool, _), quarantine) =
                    start(&disk, compression).unwrap_or_else(|e| panic!("{what}: {e}"));
                let (seen, failures) = persist(&mut spool.reader("siem").unwrap(), &what);
                assert!(failures >= 4, "{what}: it is given up at once");
                let mut left = log.records.iter();
                assert!(seen.iter().all(|record| left.any(|known| known == record)), "{what}: {seen:?}");
                assert!(!seen.is_empty(), "{what}: the other segments are whole");
                let entries = quarantine.totals().entries;
                // Of the header only the checksum is needed: it is the seed of the first frame.
                assert_eq!(spool.damaged(), entries, "{what}");
                assert_eq!(entries > 0, at >= 36, "{what}");
                let mut ids = Vec::new();
                quarantine.list(&mut |id, _| ids.push(id.to_owned())).unwrap();
                for id in ids {
                    let mut raw = Vec::new();
                    let mut take = |part: &[u8]| {
                        raw.extend_from_slice(part);
                        Ok(())
                    };
                    let stored = quarantine.read(&id, &mut take).unwrap();
                    let (path, offset) = stored.object.key.split_once('@').expect("a place");
                    let offset: usize = offset.parse().unwrap();
                    let known = &log.disk.contents(path).unwrap()[offset..offset + raw.len()];
                    assert!(raw.iter().zip(known).all(|(raw, known)| [*known, 0].contains(raw)), "{what}");
                }
            }
        }
    }
}

#[test]
fn what_the_disk_cannot_read_for_a_while_is_not_given_up() {
    let log = log(Compression::None, true);
    for path in segments(&log.disk) {
        let disk = log.disk.preview(Survive::Everything);
        let ((_writer, spool, _), quarantine) = start(&disk, Compression::None).unwrap();
        disk.spoil(&path, 0..u64::MAX);
        let mut reader = spool.reader("siem").unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let read = reader.read(&mut |id, index, record, _| {
                seen.push((id.key.to_string(), index, record.to_vec()));
                ControlFlow::Continue(())
            });
            assert!(read.is_err());
        }
        disk.unspoil();
        let (rest, failures) = persist(&mut reader, &path);
        seen.extend(rest);
        assert_eq!((seen == log.records, failures), (true, 0), "{path}");
        assert_eq!((spool.damaged(), quarantine.totals().entries), (0, 0), "{path}");
    }
}

#[test]
fn nothing_is_cut_off_because_the_disk_cannot_read_it() {
    for passed in [false, true] {
        let log = log(Compression::None, passed);
        let newest = segments(&log.disk).pop().unwrap();
        for at in 0..log.disk.contents(&newest).unwrap().len() as u64 {
            let disk = log.disk.preview(Survive::Everything);
            disk.spoil(&newest, at..at + 1);
            // It may be told apart from the end of the log, or not: then there is no start.
            let started = start(&disk, Compression::None).map(drop);
            assert!(passed || started.is_err(), "{at}: the newest segment, and nobody was there yet");
            disk.unspoil();
            let ((_writer, spool, recovery), _) = start(&disk, Compression::None).unwrap();
            let (seen, _) = persist(&mut spool.reader("siem").unwrap(), "whole again");
            assert!(seen == log.records, "{at}: {recovery:?}");
        }
    }
}
